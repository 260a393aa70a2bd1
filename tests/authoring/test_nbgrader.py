"""The nbgrader edition, from `generate_assignment` to `generate_feedback`."""

import os
import re
import subprocess
import sys

import nbformat
import pytest

from course_lib.authoring import attempts
from course_lib.authoring.nbgrader import CONFIG, assignment, write_assignment
from course_lib.common.paths import ROOT
from tests.authoring.submissions import RIGHT

NAME = "00_start_here"
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PATH = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # for its alembic
MISTAKES = {  # one right, one planted misconception, one wrong letter
    "0.1": RIGHT["0.1"],
    "0.2": "def add_noise(x0, eps, t):\n    return x0 + t * eps",
    "0.3": 'my_answer = "b"',
}


def read(path):
    return nbformat.read(path, as_version=4)


def short(notebook):
    """The chapter with its exercises, and of the rest only the cells that they need."""
    sources = [cell.source if cell.cell_type == "code" else "" for cell in notebook.cells]
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    asked = [i for i, tag in enumerate(tags) if {"exercise", "solution"} & set(tag)]
    kept = {i for place in asked for i in attempts.needed(sources, place)}
    kept |= {i for i, cell in enumerate(notebook.cells) if cell.source.startswith("### Exercise")}
    notebook.cells = [cell for i, cell in enumerate(notebook.cells) if i in kept]
    return notebook


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_exercise_becomes_an_answer_and_a_test(path):
    count = sum("exercise" in cell.metadata.get("tags", []) for cell in read(path).cells)
    cells = assignment(read(path)).cells
    marks = [cell.metadata.nbgrader for cell in cells if "nbgrader" in cell.metadata]
    assert [mark.solution for mark in marks] == [True, False] * count
    assert [mark.grade and mark.points in (1, 2, 3) for mark in marks] == [False, True] * count
    names = {mark.grade_id for mark in marks}
    assert len(names) == 2 * count and all(re.fullmatch(r"[\w-]+", name) for name in names)
    assert not any("solution" in cell.metadata.get("tags", []) for cell in cells)
    for cell in cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            compile(cell.source, "answer", "exec")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course with one short chapter, released, and three students' submissions graded."""
    folder = tmp_path_factory.mktemp("nbgrader")
    (folder / "nbgrader_config.py").write_text(CONFIG)
    write_assignment(folder, NAME, short(read(ROOT / "notebooks" / f"{NAME}.ipynb")))
    run(folder, "generate_assignment", NAME)
    for student, answers in {"blank": {}, "right": RIGHT, "mistaken": MISTAKES}.items():
        notebook = read(folder / "release" / NAME / f"{NAME}.ipynb")
        for cell in notebook.cells:
            for number, source in answers.items():
                if (
                    f'check("{number}"' in cell.source
                    and "answer-" in cell.metadata.nbgrader.grade_id
                ):
                    check = cell.source.rpartition("\n")[2]
                    cell.source = f"{source}\n\n{check}"
        (folder / "submitted" / student / NAME).mkdir(parents=True)
        nbformat.write(notebook, folder / "submitted" / student / NAME / f"{NAME}.ipynb")
    run(folder, "autograde", NAME)
    run(folder, "generate_feedback", NAME)
    return folder


def run(folder, *command):
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": PATH},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_the_released_chapter_has_no_solutions_and_no_tests(course):
    text = (course / "release" / NAME / f"{NAME}.ipynb").read_text("utf-8")
    assert "127.5" not in text.split("### Exercise 0.1")[-1].split("### Exercise 0.2")[0]
    assert "examine(" not in text and "BEGIN SOLUTION" not in text
    assert 'check(\\"0.1\\", to_signed)' in text


def test_the_scores_are_those_that_the_answers_deserve(course, monkeypatch):
    monkeypatch.setenv("PATH", PATH)
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        scores, most = {}, {}
        for student in ("blank", "right", "mistaken"):
            submission = book.find_submission(NAME, student)
            scores[student], most[student] = submission.score, submission.max_score
        points = [c.max_score for c in book.find_notebook(NAME, NAME).grade_cells]
    assert scores == {"blank": 0, "right": sum(points), "mistaken": points[0]}
    assert set(most.values()) == {sum(points)}


def test_feedback_tells_what_was_wrong(course):
    page = (course / "feedback" / "mistaken" / NAME / f"{NAME}.html").read_text("utf-8")
    assert "The picture keeps its full strength" in page
