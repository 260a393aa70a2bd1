"""Every notebook is a finished chapter in canonical form, executed with its current code.

nbval, which `make test` runs on the same files, tests that the code works.
"""

import re

import nbformat
import pytest

import course_lib.exercises  # noqa: F401  they register themselves
from course_lib.authoring.chapter import EXERCISE, faults
from course_lib.authoring.form import ROOT
from course_lib.teaching.check import examine, exercises

WITNESS = "checked = []\ncheck = lambda *args: checked.append(args)\n"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path, tag):
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def asked(path):
    notebook = nbformat.read(path, as_version=4)
    return [found.group(1) for cell in notebook.cells if (found := EXERCISE.match(cell.source))]


def test_the_first_and_the_last_chapter_are_here():
    assert {"00_start_here", "09_latent_diffusion"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_chapter_is_finished(path):
    assert faults(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_asked_has_a_check_and_every_check_is_asked(path):
    chapter = path.stem.partition("_")[0].removeprefix("0")
    assert asked(path) == list(exercises(f"{chapter}.1"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_later_cells_do_not_need_the_readers_answers(path):
    """Definitions in an exercise are only used in its own cell and its solution."""
    notebook = nbformat.read(path, as_version=4)
    answers, rest = [], []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            own = {"exercise", "solution"} & set(cell.metadata.get("tags", []))
            (answers if own else rest).append(cell.source)
    defined = re.findall(r"^(?:def |class )?(\w+)(?:\(| = )", "\n".join(answers), re.MULTILINE)
    for name in set(defined) - {"check"}:
        assert not re.search(rf"(?<![\w.]){name}\b", "\n".join(rest)), name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_solutions_pass_and_stubs_are_not_attempted_as_code(path):
    """Runs each cell's function by itself, so the stored outputs don't depend on luck."""
    for tag, status in (("exercise", "not attempted"), ("solution", "right")):
        for source in cells(path, tag):
            given = {}
            exec("import torch\nimport torch.nn.functional as F\n" + WITNESS + source, given)
            assert [examine(*args).status for args in given["checked"]] == [status], source
