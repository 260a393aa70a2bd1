"""`make`, as on a fresh machine: a fake Python logs the commands that it receives."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or sys.platform == "win32", reason="needs make and sh"
)

# Answers -c with $FITS, --version with a version, makes a .venv that holds itself, logs the rest.
PYTHON = r"""#!/bin/sh
case "$1 $2" in
  "-c "*) exit ${FITS:-0} ;;
  "--version "*) echo "Python ${VERSION:-3.12.7}" ;;
  "-m venv")
    rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python
    echo "VIRTUAL_ENV='$(pwd -P)/.venv'" > .venv/bin/activate; echo "made .venv" >> log ;;
  "-m pip") shift 2; case "$*" in --version) exit ;; esac
    echo "pip $*, held to $PIP_CONSTRAINT" >> log; exit ${PIP:-0} ;;
  *) echo "$*" >> log ;;
esac
"""


@pytest.fixture
def course(tmp_path):
    """A copy of the set-up files in a folder with a space in its name."""
    folder = tmp_path / "my course"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (tmp_path / "python3").write_text(PYTHON)
    (tmp_path / "python3").chmod(0o755)
    return folder


def make(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "WHEELS", "ARGS")}
    path = f"{folder.parent}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in kept.items() if not k.startswith("MAKE")}  # we may run under make
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=kept | {"PATH": path} | env,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def log(folder: Path) -> list[str]:
    """The commands since the last call."""
    lines = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
    (folder / "log").unlink(missing_ok=True)
    return lines


INSTALL, HELD = "pip --disable-pip-version-check install", ", held to constraints.txt"
LAB, DEMO = "-m course_lib.cli lab", "-m course_lib.cli demo"


def test_the_second_run_skips_what_is_installed(course):
    assert make(course, "lab").returncode == 0
    assert log(course) == ["made .venv", f"{INSTALL} -e .{HELD}", LAB]
    make(course, "demo", "ARGS=--seed 3")
    assert log(course) == [f"{DEMO} --seed 3"]
    make(course, "test")
    assert log(course)[0] == f"{INSTALL} -e .[dev]{HELD}"
    make(course, "test")
    assert [line.split()[1] for line in log(course)] == ["ruff", "ruff", "pytest"]


def test_a_change_of_the_lists_installs_again_into_the_same_folder(course):
    make(course, "lab")
    log(course)
    later = (course / ".venv/lab.stamp").stat().st_mtime + 5
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(course / name, (later, later))
    make(course, "lab")
    assert log(course) == [f"{INSTALL} -e .{HELD}", LAB]


def test_a_failed_install_is_tried_again(course):
    assert make(course, "lab", PIP="1").returncode != 0
    log(course)
    make(course, "lab")
    assert log(course) == [f"{INSTALL} -e .{HELD}", LAB]


def test_a_moved_folder_gets_a_new_venv(course):
    make(course, "lab")
    moved = course.rename(course.parent / "our course")
    log(moved)
    make(moved, "lab")
    assert log(moved) == ["made .venv", f"{INSTALL} -e .{HELD}", LAB]


def test_wheels_are_taken_from_the_folder_alone(course):
    wheels = course.parent / "usb stick"
    missing = make(course, "lab", f"WHEELS={wheels}")
    assert missing.returncode != 0
    assert f"WHEELS: no folder {wheels}" in missing.stderr
    wheels.mkdir()
    make(course, "lab", f"WHEELS={wheels}")
    source = f"--no-index --find-links {wheels}"
    assert f"{INSTALL} {source} -e .{HELD}" in log(course)


def test_the_wheelhouse_holds_all_of_it(course):
    make(course, "wheelhouse")
    download = "pip --disable-pip-version-check download --only-binary=:all: -d wheels"
    npm = "-m course_lib.authoring.playground.packages wheels"
    assert log(course) == ["made .venv", f"{download} setuptools .[dev]{HELD}", npm]


def test_the_playground_needs_its_extra_and_no_network(course):
    wheels = course.parent / "usb stick"
    wheels.mkdir()
    make(course, "play", f"WHEELS={wheels}", "ARGS=--port 0")
    source = f"--no-index --find-links {wheels}"
    play = f"-m course_lib.cli play --npm {wheels} --port 0"
    assert log(course) == ["made .venv", f"{INSTALL} {source} -e .[onnx]{HELD}", play]


def test_a_python_too_old_is_one_clear_line(course):
    refused = make(course, "lab", f"PYTHON={course.parent}/python3", FITS="1", VERSION="3.9.2")
    assert refused.returncode != 0
    line = refused.stderr.splitlines()[0]
    assert line.startswith("The course needs Python 3.11, 3.12 or 3.13")
    assert "python3 is Python 3.9.2;" in line
    assert "make lab PYTHON=" in line
    assert log(course) == []


def test_the_versions_that_fit():
    """The Makefile's one-liner, run by this Python."""
    line = re.search(r"FITS = (.*?\n.*?)\n", (ROOT / "Makefile").read_text()).group(1)
    for named, highest in ((False, 13), (True, 99)):
        code = line.replace("\\\n", "").replace("$(if $(PYTHON),99,13)", str(highest))
        for minor in (9, 10, 11, 12, 13, 14):
            fake = f"import sys; sys.version_info = (3, {minor}, 1)\n{code}"
            status = subprocess.run([sys.executable, "-S", "-c", fake]).returncode
            assert (status == 0) == (11 <= minor <= (14 if named else 13))


def test_ci_is_make_test():
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert script.splitlines()[-1] == "make test"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
