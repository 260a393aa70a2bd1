"""The nbgrader edition: a course for `nbgrader generate_assignment`, `autograde` and
`generate_feedback` (version 0.9).

Each chapter is an assignment. An exercise's cell contains the solution between nbgrader's marks,
and nbgrader replaces it; the cell below contains the hidden test. The points are the exercise's
stars. nbgrader runs submissions without a sandbox; for code that you don't trust, use
`course grade`.
"""

import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_lib.authoring import experiments
from course_lib.authoring.lecturer import HEADING
from course_lib.common.paths import ROOT

CONFIG = '''"""Configuration of nbgrader for the course."""

c = get_config()  # noqa: F821  nbgrader defines it
c.CourseDirectory.course_id = "course"
c.ExecutePreprocessor.timeout = 180  # seconds for a cell; by default 30
c.ClearSolutions.code_stub = {"python": "# (your answer goes above)"}
'''
ANSWER = """{stub}
### BEGIN SOLUTION
{solution}
### END SOLUTION


{check}"""
TEST = """# Exercise {number}: {points} of the points
### BEGIN HIDDEN TESTS
import course_lib.exercises
from course_lib.teaching.check import examine

verdict = examine("{number}", {answer})
assert verdict.status == "right", f"{{verdict.status}}{{verdict.message}}"
### END HIDDEN TESTS"""


def write(out: Path) -> None:
    """Write the course: its configuration, and a source for each chapter."""
    (out / "nbgrader_config.py").write_text(CONFIG)
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        write_assignment(out, path.stem, nbformat.read(path, as_version=4))


def write_assignment(out: Path, name: str, notebook: NotebookNode) -> None:
    """A chapter as `source/NAME/NAME.ipynb`, with the figure and the table of symbols it shows."""
    folder = out / "source" / name
    (folder / "figures").mkdir(parents=True)
    shutil.copy(ROOT / "notebooks" / "figures" / f"{name}.png", folder / "figures")
    for page in ("notation", "own_pictures", "my_samples_are_bad"):  # chapters link to them
        shutil.copy(ROOT / "notebooks" / f"{page}.md", folder)
    nbformat.write(assignment(notebook), folder / f"{name}.ipynb")


def assignment(notebook: NotebookNode) -> NotebookNode:
    """The chapter with nbgrader's marks; each exercise and its solution become two cells."""
    experiments.hide(notebook.cells)
    cells, heading = [], None
    following = [*notebook.cells[1:], None]
    for cell, solution in zip(notebook.cells, following, strict=True):
        heading = HEADING.match(cell.source) or heading
        tags = cell.metadata.get("tags", [])
        if "exercise" in tags:
            cells += graded(cell, solution, heading[1], heading[3].count("★"))
        elif "solution" not in tags:
            cells.append(cell)
    notebook.cells = cells
    return notebook


def graded(
    exercise: NotebookNode, solution: NotebookNode, number: str, points: int
) -> list[NotebookNode]:
    """The cell for the student's answer, and the cell that grades it."""
    name = number.replace(".", "-")  # nbgrader's ids have no dots
    stub, check = split(exercise.source, number)
    right, _ = split(solution.source.removeprefix("# Solution").strip(), number)
    answer = re.match(r"check\([^,]*,\s*(.*)\)$", check)[1]
    exercise.source = ANSWER.format(stub=stub, solution=right, check=check)
    exercise.outputs, exercise.execution_count = [], None
    exercise.metadata["nbgrader"] = marks(f"answer-{name}", solution=True)
    test = nbformat.v4.new_code_cell(
        TEST.format(number=number, points=points, answer=answer),
        id=f"test-{name}",
    )
    test.metadata["nbgrader"] = marks(f"test-{name}", grade=True, locked=True, points=points)
    return [exercise, test]


def split(source: str, number: str) -> tuple[str, str]:
    """A cell without its last line, which is the call of `check`, and that line."""
    code, _, check = source.rpartition(f'check("{number}"')
    return code.strip(), f'check("{number}"{check}'


def marks(name: str, **kind: object) -> dict[str, object]:
    """What nbgrader stores with a cell."""
    plain = {"grade": False, "solution": False, "locked": False, "task": False}
    return plain | {"schema_version": 3, "cell_type": "code", "grade_id": name} | kind
