"""torch's threads wait briefly for each other wherever the course starts Python."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib import SHORT_WAITS, TORCH_FIRST

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = """
from nbformat.v4 import new_code_cell, new_notebook
from course_lib.authoring.notebooks import execute
execute(new_notebook(cells=[new_code_cell("import torch")]))
"""
NAMES = ("OMP_WAIT_POLICY", *SHORT_WAITS, TORCH_FIRST)
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's OpenMP runtime")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """A Python process with only these of the variables set."""
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(
        [sys.executable, *arguments], env=kept | environment, cwd=ROOT,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def settings(first: str = "pass", **environment: str) -> dict[str, str]:
    """The variables after importing course_lib, after running `first`."""
    code = f"{first}\nimport os, course_lib\nfor n in {NAMES}: print(n, os.environ.get(n))"
    pairs = map(str.split, python("-c", code, **environment).stdout.splitlines())
    return {name: value for name, value in pairs if value != "None"}


def test_the_package_sets_short_waits():
    assert settings() == SHORT_WAITS


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"])
def test_what_the_user_set_stays(name):
    assert settings(**{name: "0"}) == {name: "0"}


def test_after_torch_it_says_so_instead():
    late = settings("import sys; sys.modules['torch'] = sys")
    assert late == {TORCH_FIRST: "1"}


@linux
@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import course_lib, torch"),
        ("-m", "course_lib.cli", "cost", "no-such-recipe"),
        ("-c", NOTEBOOK),
        ("-m", "pytest", "--collect-only", "-s", "tests/test_gpu.py"),
        ("-m", "tests.benchmarks.bench", "no-such-part"),
    ],
    ids=["package", "command", "notebook", "pytest", "bench"],
)
def test_the_runtime_read_them(arguments):
    """libgomp itself prints the settings that it has read."""
    told = python(*arguments, OMP_DISPLAY_ENV="verbose").stderr
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", told)) == {"2000"}
