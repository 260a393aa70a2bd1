"""What students have submitted: the notebooks, their chapters and their code."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from course_lib.common.paths import ROOT

MOST_NOTEBOOK = 20 << 20  # bytes
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*_*.ipynb"))
CHECK = re.compile(r"\bcheck\(\s*[\"'](\d+[a-z]?\.\d+)[\"'](?:\s*,\s*(\w+)\s*\))?")


class Refused(Exception):
    """A submission, or its process, can't be graded; the message says why in one line."""


def submissions(folder: Path) -> list[tuple[str, Path]]:
    """Pairs of a student and a notebook: folders or notebooks named after the students."""
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            notebooks = sorted(p for p in entry.rglob("*.ipynb") if ".ipynb_" not in str(p))
            found += [(printable(entry.name), path) for path in notebooks]
        elif entry.suffix == ".ipynb":
            found.append((printable(entry.stem), entry))
    if not found:
        raise ValueError(f"{folder} holds no notebooks, and no folders with notebooks")
    return found


def printable(text: str) -> str:
    """A text in one line, without control characters, which a terminal would execute."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def read_cells(path: Path) -> list[str]:
    """The code cells of a notebook, without solutions; Refused if it isn't a notebook."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_NOTEBOOK:
        raise Refused(f"is no file of at most {MOST_NOTEBOOK >> 20} MB")
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        tags = [cell.get("metadata", {}).get("tags", []) for cell in code]
        asked = [cell for cell, tag in zip(code, tags, strict=True) if "solution" not in tag]
        return ["".join(cell["source"]) for cell in asked]
    except OSError as error:
        raise Refused(f"can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("is not a notebook") from None


def chapter_of(path: Path, cells: Sequence[str]) -> str:
    """The chapter, for example "02", from the file's name or the numbers of its exercises."""
    named = [stem for stem in CHAPTERS if stem in path.stem]
    numbers = [found[1].partition(".")[0].zfill(2) for found in CHECK.finditer("\n".join(cells))]
    known = [stem.partition("_")[0] for stem in named or CHAPTERS if named or numbers]
    found = [each for each in known if named or each == numbers[0]]
    if not found:
        raise Refused("is no chapter of this course")
    return found[0]


def answer_names() -> dict[str, str]:
    """The names of the answers in the chapters: {"2.1": "bits_per_dimension", ...}."""
    found = {}
    for stem in CHAPTERS:
        text = "\n".join(read_cells(ROOT / "notebooks" / f"{stem}.ipynb"))
        found |= {each[1]: each[2] for each in CHECK.finditer(text) if each[2]}
    return found


def read_bytes(path: Path) -> bytes:
    small = path.is_file() and not path.is_symlink() and path.stat().st_size <= MOST_NOTEBOOK
    return path.name.encode() + b"\0" + (path.read_bytes() if small else b"")
