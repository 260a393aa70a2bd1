"""Who made the data and the models that ship, and under which licences.

The only list is in data/: each table of data/README.md and of data/FOLDER/README.md that has the
columns "who made it" and "licence". `course card credits` prints them as one statement.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from course_lib.common.paths import ROOT

COLUMNS = "what it is", "who made it", "licence"
LINK = re.compile(r"\[([^]]*)\]\(([^)]*)\)")  # [text](target)


@dataclass(frozen=True)
class Work:
    """A work that someone made. names: its files, or the data set; folder: "" for data/ itself.

    texts: the files that hold its licences in full.
    """

    folder: str
    names: tuple[str, ...]
    what: str
    who: str
    licence: str
    texts: tuple[Path, ...]


def works(data: Path = ROOT / "data") -> list[Work]:
    """All works that the READMEs in data/ list.

    Raises ValueError for a folder with a README that lists none and that data/README.md doesn't
    name, for an empty cell, and for a licence whose text isn't there.

    >>> {"emoji", "molecules"} <= {work.folder for work in works()}
    True
    """
    found = read_works(data / "README.md", "")
    named = {name for work in found for name in work.names}
    for page in sorted(data.glob("*/README.md")):
        own = read_works(page, page.parent.name)
        if not own and page.parent.name not in named:
            raise ValueError(
                f"{page}: expected a table with the columns 'who made it' and 'licence', got none; "
                "whoever copies this folder must know whom to credit"
            )
        found += own
    return found


def works_of(name: str) -> list[Work]:
    """The works behind a data set: those in its folder, or those that carry its name.

    >>> [work.licence for work in works_of("digits")]
    ['CC BY 4.0']
    """
    return [work for work in works() if name == work.folder or name in work.names]


def read_works(page: Path, folder: str) -> list[Work]:
    """The rows of a page's tables of works."""
    found, header = [], None
    for line in page.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            header = None
            continue
        inside = line.strip().removeprefix("|").removesuffix("|")
        cells = [cell.strip() for cell in inside.split("|")]
        if header is None:
            header = cells
        elif set(COLUMNS) <= set(header) and not set(line) <= set("|-: "):
            found.append(work_of(dict(zip(header, cells, strict=True)), cells[0], page, folder))
    return found


def work_of(row: dict[str, str], first: str, page: Path, folder: str) -> Work:
    what, who, licence = (row[column] for column in COLUMNS)
    texts = tuple((page.parent / target).resolve() for _, target in LINK.findall(licence))
    if not (what and who and texts and all(text.is_file() for text in texts)):
        raise ValueError(
            f"{page}, row {first}: expected who made it and a licence with a link to its text, "
            f"got {who!r} and {licence!r}"
        )
    return Work(folder, tuple(re.findall("`(.+?)`", first)), what, who, plain(licence), texts)


def plain(text: str) -> str:
    """Markdown without its links."""
    return LINK.sub(r"\1", text)


def credits(data: Path = ROOT / "data") -> str:
    """One statement, in Markdown: every work, who made it, its licence, who learned from it.

    >>> "Microsoft" in credits()
    True
    """
    texts = sorted({text for work in works(data) for text in work.texts})
    return "\n".join(
        [
            "# Credits",
            "",
            "The data that ships with the course or that its models learned from, and the models.",
            'If you publish pictures, a model or a copy, name those in the column "who made it".',
            "",
            *credits_table(data),
            "",
            "The licences in full:",
            "",
            *(f"- {text.relative_to(data.resolve().parent).as_posix()}" for text in texts),
        ]
    )


def credits_table(data: Path = ROOT / "data") -> list[str]:
    """The lines of the statement's table."""
    rows = ["| files or data | what it is | who made it | licence | models that learned from it |"]
    rows.append("|---|---|---|---|---|")
    for work in works(data):
        names, models = (
            ", ".join(f"`{name}`" for name in each)
            for each in (work.names, learned_from(work, data))
        )
        rows.append(
            f"| {names} | {plain(work.what)} | {work.who} | {work.licence} | {models or 'none'} |"
        )
    return rows


def learned_from(work: Work, data: Path) -> list[str]:
    """The shipped models that were trained on this work: their names start with the data set's."""
    models = sorted(path.stem for path in data.glob("checkpoints/*.safetensors"))
    return [name for name in models if name.split("-")[0] in {work.folder, *work.names}]
