"""`progress(1)`, the last line of chapter 01: which of its exercises you have solved.

`course progress` shows all chapters, and `course progress --reset` starts over. An exercise is
solved when `check` accepts one of the reader's own cells; running the solution doesn't count.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from course_lib.common.paths import ROOT
from course_lib.teaching.check import MARKS, exercises
from course_lib.teaching.solved import solved

NOTEBOOKS = ROOT / "notebooks"
TITLE = re.compile(r"# (\d+[a-z]?) · (.+)")
HEADING = re.compile(r"### Exercise (\d+[a-z]?\.\d+) · (\w+) · ([★☆]+) · (\d+ minutes?)")


@dataclass(frozen=True)
class Heading:
    """An exercise, with its heading in the chapter."""

    number: str
    kind: str = ""
    stars: str = ""
    minutes: str = ""


def progress(chapter: int | str) -> None:
    """Print which exercises of a chapter are solved. It never raises an error."""
    try:
        print("\n".join(table(str(chapter).zfill(2))))
    except (ValueError, TypeError, OverflowError, OSError) as error:
        print(f"✗ {' '.join(str(error).split())}")


def table(chapter: str) -> Iterator[str]:
    """A line for the chapter ("01", "15a"), one for each exercise, and how many are solved."""
    title, headings = chapter_page(chapter)
    done = solved()
    yield f"{chapter} · {title}" if title else f"chapter {chapter}"
    for each in headings:
        state = "right" if each.number in done else "not attempted"
        words = "solved" if each.number in done else "not yet"
        yield f"{MARKS[state]} {each.number}  {each.kind:9}{each.stars}  {words}"
    count = sum(each.number in done for each in headings)
    yield f"{count} of {len(headings)} solved. All chapters: `course progress` in a terminal."


def overview() -> Iterator[str]:
    """A line for each chapter and the total: what `course progress` prints."""
    done, found, total = solved(), 0, 0
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]*_*.ipynb")):
        chapter = path.stem.partition("_")[0]
        title, headings = chapter_page(chapter)
        marks = [MARKS["right" if each.number in done else "not attempted"] for each in headings]
        count = marks.count(MARKS["right"])
        found, total = found + count, total + len(marks)
        name = f"{chapter} · {title}"
        yield f"{name:37} {' '.join(marks):12} {count} of {len(marks)}"
    yield f"{found} of {total} exercises solved"


def chapter_page(chapter: str) -> tuple[str, list[Heading]]:
    """The chapter's title and its exercises in order; ValueError if it has none.

    The exercises are those with a check; their headings are read from the notebook, if it is there.
    """
    cells = [text for path in NOTEBOOKS.glob(f"{chapter}_*.ipynb") for text in prose(path)]
    titles = [found.group(2).strip() for text in cells if (found := TITLE.match(text))]
    found = [HEADING.match(text) for text in cells]
    known = {each[1]: Heading(*each.groups()) for each in found if each}
    numbers = exercises(f"{chapter.removeprefix('0')}.1")
    return "".join(titles[:1]), [known.get(number, Heading(number)) for number in numbers]


def prose(path: Path) -> list[str]:
    """The Markdown cells of a notebook; none if it can't be read."""
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    except (ValueError, KeyError, TypeError):
        return []
