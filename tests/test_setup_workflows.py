"""The workflow files: the systems and Pythons that are promised, and nothing outside the pins."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands(path: Path) -> list[str]:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_the_tests_run_on_three_systems_with_three_pythons():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert [name.partition("-")[0] for name in matrix["system"]] == ["ubuntu", "macos", "windows"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]


def test_the_workflow_tests_what_make_test_does():
    recipe = re.search(r"^test:.*?\n\n", (ROOT / "Makefile").read_text(), re.M | re.S)[0]
    ours = recipe.replace("\\\n", "").replace("$(RUN)", "python -m").split()
    theirs = " ".join(commands(ROOT / ".github/workflows/tests.yml")).split()
    assert "pytest" in ours
    tests = "pytest -n 2 --dist loadfile tests notebooks/"
    for command in ("ruff check", "ruff format --check", tests):
        assert command in " ".join(ours) and command in " ".join(theirs)
    assert [word for word in ours if word.startswith("--")] == [
        word for word in theirs[theirs.index("ruff") :] if word.startswith("--")
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_installs_are_held_to_the_constraints(path):
    installs = [command for command in commands(path) if "pip install" in command]
    assert installs and all("-c constraints.txt" in command for command in installs)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actionlint_finds_nothing(path):
    if not shutil.which("actionlint"):
        pytest.skip("actionlint is not installed: a program of its own, written in Go")
    checked = subprocess.run(["actionlint", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
