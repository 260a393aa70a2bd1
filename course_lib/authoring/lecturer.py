"""The lecturer edition: beside each exercise its common errors, and a PDF of all answers.

Nothing is written twice: times come from the chapters' headings, common errors are the messages of
the misconceptions, and the questions are those of the chapter.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import nbformat
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from nbformat import NotebookNode

import course_lib.exercises  # noqa: F401  they register themselves
from course_lib.authoring.chapter import EXERCISE
from course_lib.teaching.answers import told
from course_lib.teaching.check import EXERCISES, Choice, Code, Exercise, Number, Target

HEADING = re.compile(r"### Exercise (\d+[a-z]?\.\d+) · (\w+) · ([★☆]+) · (\d+) minutes?")
QUESTION = re.compile(r"\*\*\d+\.\*\* (.*?)\s*<details>", re.DOTALL)
DURATIONS = re.compile(r"\*(Reading [^*]*?) · difficulty")


def errors(exercise: Exercise) -> list[tuple[str, str]]:
    """The common errors: a name in words, and the message for the reader."""
    match exercise:
        case Choice(right, why):
            return [(f"({letter})", text) for letter, text in why.items() if letter != right]
        case Number():
            known = exercise.misconceptions.items()
            return [(in_words(name), f"{value:.6g}: {text}") for name, (value, text) in known]
        case Code() | Target():
            return [(in_words(each.__name__), told(each)) for each in exercise.misconceptions]
    return []


def in_words(name: str) -> str:
    """A function's or class's name as words.

    >>> in_words("mean_over_all_pairs"), in_words("ScaledTwice")
    ('mean over all pairs', 'scaled twice')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).replace("_", " ").lower()


# ---- notebooks ---------------------------------------------------------------------------------


def with_notes(notebook: NotebookNode) -> NotebookNode:
    """The chapter with a plan below its title and common errors below each solution."""
    cells, number = [], None
    for i, cell in enumerate(notebook.cells):
        cells.append(cell)
        number = found[1] if (found := HEADING.match(cell.source)) else number
        if i == 0:
            cells.append(note("plan", plan(notebook)))
        if "solution" in cell.metadata.get("tags", []) and number in EXERCISES:
            cells.append(note(f"errors-{number.replace('.', '-')}", common_errors(number)))
    notebook.cells = cells
    return notebook


def note(name: str, text: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(text, id=f"lecturer-{name}")


def plan(notebook: NotebookNode) -> str:
    """Timing, a table of the exercises, and questions for the class."""
    durations = DURATIONS.search(notebook.cells[0].source)
    rows = [f for cell in notebook.cells if (f := HEADING.match(cell.source))]
    minutes = sum(int(row[4]) for row in rows)
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    asked = prose[prose.find("## Check yourself") :]
    lines = [
        "## For the lecturer",
        f"{durations[1] if durations else 'Reading'} · exercises {minutes} minutes",
        "",
        "| exercise | kind | difficulty | minutes | known errors |",
        "|---|---|---|---|---|",
        *(f"| {r[1]} | {r[2]} | {r[3]} | {r[4]} | {count(r[1])} |" for r in rows),
        "",
        "Questions for the class, with answers under *Check yourself*:",
        "",
        *(f"- {' '.join(question.split())}" for question in QUESTION.findall(asked)),
    ]
    return "\n".join(lines)


def count(number: str) -> int:
    return len(errors(EXERCISES[number])) if number in EXERCISES else 0


def common_errors(number: str) -> str:
    """A folded list, below the solution."""
    found = errors(EXERCISES[number])
    items = [f"- **{name}**: {text}" for name, text in found] or ["None is known."]
    head = f"<details><summary>For the lecturer: common errors in {number}</summary>"
    return "\n".join([head, "", *items, "", "</details>"])


# ---- a PDF of answers --------------------------------------------------------------------------

WIDTH, LINES = 92, 66  # of a page, in characters and lines


def write_answers(folder: Path, path: Path) -> None:
    """All answers of the chapters in `folder`, as pages of text."""
    with PdfPages(path, metadata={"Title": "Answers", "CreationDate": None}) as pdf:
        for chapter in sorted(folder.glob("[0-9]*.ipynb")):
            lines = list(answers(nbformat.read(chapter, as_version=4)))
            for start in range(0, len(lines), LINES):
                pdf.savefig(page(lines[start : start + LINES]))


def answers(notebook: NotebookNode) -> Iterator[str]:
    """A chapter's title, and for each exercise its question, solution and common errors."""
    yield notebook.cells[0].source.split("\n")[0].removeprefix("# ")
    number = None
    for cell in notebook.cells:
        if EXERCISE.match(cell.source):
            number = EXERCISE.match(cell.source)[1]
            question = cell.source.partition("<details>")[0].replace("### ", "").strip()
            yield from ["", "-" * WIDTH, *wrapped(question), ""]
        elif "solution" in cell.metadata.get("tags", []) and number in EXERCISES:
            yield from (f"    {line}" for line in cell.source.split("\n"))
            yield ""
            exercise = EXERCISES[number]
            if isinstance(exercise, Choice):
                yield from wrapped(f"({exercise.right}) {exercise.why[exercise.right]}")
            elif not isinstance(exercise, Target):
                yield from wrapped(exercise.well_done)
            for name, text in errors(exercise):
                yield from wrapped(f"- {name}: {text}")


def wrapped(text: str) -> list[str]:
    lines = [
        textwrap.wrap(line, WIDTH, subsequent_indent="  ") or [""] for line in text.split("\n")
    ]
    return [line for each in lines for line in each]


def page(lines: list[str]) -> Figure:
    """An A4 page of text."""
    figure = Figure(figsize=(8.27, 11.69))
    text = "\n".join(line[: WIDTH + 14].replace("$", r"\$") for line in lines)
    figure.text(0.07, 0.95, text, family="monospace", size=8, va="top", linespacing=1.35)
    return figure
