"""`course edition`: the course for students, for lecturers, and for Colab, all from the chapters.

student    no solutions, nothing shown that answers an exercise, and a package without references
nbgrader   a course for nbgrader, with hidden tests
lecturer   solutions, with timing and common errors beside each exercise, and a PDF of answers
colab      each chapter begins with a cell that installs the course
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_lib.authoring import experiments, keyless
from course_lib.authoring import lecturer as notes
from course_lib.authoring import nbgrader as for_nbgrader
from course_lib.authoring.form import code_digest
from course_lib.common.files import make_folder
from course_lib.common.paths import ROOT
from course_lib.teaching.recorded_cases import FOLDER as RECORDED_CASES

PARTS = (
    *("README.md", "LICENSE", "Makefile", "pyproject.toml", "constraints.txt", "environment.yml"),
    *("course_lib", "notebooks", "data/README.md", "data/hero.png"),
    *("data/checkpoints", "data/emoji", "data/molecules", "data/textures"),
)
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.tmp")


def student(out: Path) -> None:
    """The course without its answers: `check` there compares with recorded outcomes."""
    refuse_recorded()
    copy_course(out)
    (out / "notebooks" / "lecturers.md").unlink(missing_ok=True)  # it has the concept test's key
    shutil.rmtree(out / "course_lib" / "exercises")
    keyless.write(out / "course_lib" / "exercises")
    rewrite(out, without_solutions)
    for page in out.glob("*.md"):
        page.write_text(with_links_that_exist(page.read_text("utf-8"), out), "utf-8")


def lecturer(out: Path) -> None:
    """The whole course, with what a lecturer needs beside each exercise, and `answers.pdf`."""
    refuse_recorded()
    copy_course(out)
    rewrite(out, notes.with_notes)
    notes.write_answers(ROOT / "notebooks", out / "answers.pdf")


def nbgrader(out: Path) -> None:
    """A course for nbgrader; it grades where the full course is installed."""
    refuse_recorded()
    for_nbgrader.write(make_empty(out))


def colab(out: Path, source: str) -> None:
    """The chapters alone, each with a first code cell that fetches the course from that address."""
    make_empty(out)
    shutil.copytree(ROOT / "notebooks", out / "notebooks", ignore=LEFT_OUT)
    rewrite(out, lambda notebook: with_install_cell(notebook, source))


# ---- files -------------------------------------------------------------------------------------


def make_empty(out: Path) -> Path:
    """The folder, made if need be; ValueError if something is in it."""
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: name a new folder")
    return make_folder(out)


def copy_course(out: Path) -> None:
    """A copy of what readers need: no tests, no git, none of the reader's own data."""
    make_empty(out)
    for part in PARTS:
        target = out / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=LEFT_OUT)
        else:
            shutil.copyfile(ROOT / part, target)


def rewrite(out: Path, change: Callable[[NotebookNode], NotebookNode]) -> None:
    """Change every chapter in `out`; its outputs stay those of its code."""
    for path in sorted((out / "notebooks").glob("*.ipynb")):
        notebook = change(nbformat.read(path, as_version=4))
        notebook.metadata["course"] = {"code_digest": code_digest(notebook)}
        nbformat.write(notebook, path)


def with_links_that_exist(text: str, folder: Path) -> str:
    """A page without links to what is not in this edition; their words stay.

    >>> with_links_that_exist("see [the tests](no/such.py) and [a page](https://a.org)", Path("."))
    'see the tests and [a page](https://a.org)'
    """

    def kept(link: re.Match) -> str:
        target = link[2].partition("#")[0]
        there = not target or "://" in target or (folder / target).exists()
        return link[0] if there else link[1]

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", kept, text)


def refuse_recorded() -> None:
    if RECORDED_CASES.exists():
        raise ValueError("this is a student edition, without the key that other editions need")


# ---- notebooks ---------------------------------------------------------------------------------


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


NO_SOLUTIONS = "This edition has no solutions; your lecturer has them."


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """The chapter as a student gets it; later cells never need an answer, so it runs as before."""
    notebook.cells = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    experiments.hide(notebook.cells)
    for cell in notebook.cells:
        if "exercise" in tags(cell):
            cell.outputs, cell.execution_count = [], None
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"The solution is [^.]*\.", NO_SOLUTIONS, cell.source)
    return notebook


INSTALL = """# On Colab: fetch the course, install what it needs, and go to its notebooks
import os
import sys

if not os.path.isdir("/content/course"):
    !git clone --quiet --depth 1 {source} /content/course
    %pip install --quiet --editable /content/course
sys.path.insert(0, "/content/course")
%cd -q /content/course/notebooks"""


def with_install_cell(notebook: NotebookNode, source: str) -> NotebookNode:
    """The chapter with the cell that installs the course, below its title."""
    cell = nbformat.v4.new_code_cell(INSTALL.format(source=source), id="install")
    notebook.cells.insert(1, cell)
    return notebook
