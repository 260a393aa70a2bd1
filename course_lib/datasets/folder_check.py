"""What to know about a folder of your own pictures before anything trains on it.

    for finding in check_folder("my_pictures"):
        print(finding)

or `course check-data my_pictures`. Each finding is one line: a fact, such as the sizes; a "note",
something to look at; or something to "fix", because training refuses the folder as long as it is
there. Every picture is decoded once.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from course_lib.common.checks import whole_numbers
from course_lib.datasets.duplicates import checksums, near_duplicates
from course_lib.datasets.findings import (
    Finding,
    Picture,
    about_captions,
    about_copies,
    about_files,
    about_split,
    some,
)
from course_lib.datasets.folder import opened, square, unlisted
from course_lib.datasets.metadata import lines_of, read_line
from course_lib.datasets.shards import shards_in

KINDS = "fact", "note", "fix"
ORIENTATION = 0x0112  # EXIF's tag
COLOURS = {"1": "grey", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette", "RGBA": "RGB"}


def check_folder(
    folder: str | Path,
    size: int = 64,
    tokenizer: Callable[[list[str]], Any] | None = None,
    column: str = "text",
    watch: Callable[[list], Iterable] = iter,
) -> list[Finding]:
    """Findings about a folder with metadata.jsonl: facts first, then notes, then what to fix.

    size: of the square, in pixels, that training sees.
    tokenizer: makes a tokenizer from the captions, such as `Tokenizer.train`; then captions that
        are too long for it are found as well.
    watch: what shows the progress, such as tqdm.
    Raises FileNotFoundError for a missing folder or metadata, ValueError for a folder of shards.

    >>> check_folder("my_pictures")  # doctest: +SKIP
    [Finding(kind='fact', text='pictures: 240, each with a caption', names=()), ...]
    """
    whole_numbers(1, size=size)
    folder = Path(folder)
    if not (folder / "metadata.jsonl").exists() and folder.is_dir() and shards_in(folder):
        raise ValueError(f"{folder} holds shards: check the pictures before you pack them")
    entries, wrong = read_entries(folder, column)
    pictures, unreadable = look_at(folder, entries, size, watch)
    findings = [*refused(folder, entries, wrong, unreadable)]
    if pictures:
        pixels = torch.from_numpy(np.stack([p.pixels for p in pictures])).permute(0, 3, 1, 2)
        group, sums = near_duplicates(pixels), checksums(pixels)
        findings += [*about_files(pictures, size), *about_captions(pictures, tokenizer)]
        findings += [*about_copies(pictures, group, sums), *about_split(pictures, group, sums)]
    return sorted(findings, key=lambda finding: KINDS.index(finding.kind))


def ready(findings: Iterable[Finding]) -> bool:
    """Whether there is nothing to fix.

    >>> ready([Finding("fact", "pictures: 240, each with a caption")])
    True
    """
    return not any(finding.kind == "fix" for finding in findings)


def read_entries(folder: Path, column: str) -> tuple[list[tuple[Path, str]], list[str]]:
    """(path, caption) of every line that can be used, and what is wrong with the others."""
    entries, wrong = [], []
    for number, line in lines_of(folder):
        try:
            entries.append(read_line(folder, number, line, column))
        except (OSError, ValueError) as error:
            wrong.append(str(error).removeprefix(f"{folder / 'metadata.jsonl'}, "))
    return entries, wrong


def look_at(folder: Path, entries: list, size: int, watch) -> tuple[list[Picture], list[str]]:
    """The pictures, and the names of those that can't be read, with the reason."""
    pictures, unreadable = [], []
    for path, caption in watch(entries):
        name = (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
        try:
            with warnings.catch_warnings(action="ignore"), opened(path, name) as image:
                pictures.append(look(name, caption, image, size))
        except OSError as error:
            reason = str(error.__cause__).replace(str(path), path.name)
            unreadable.append(f"{name} ({reason})")
    return pictures, unreadable


def look(name: str, caption: str, image: Image.Image, size: int) -> Picture:
    animated = image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: phones' JPEG
    pixels = square(image, size)
    turn = image.getexif().get(ORIENTATION, 1)
    width, height = reversed(image.size) if turn in (5, 6, 7, 8) else image.size
    colours = COLOURS.get(image.mode, image.mode)
    clear = image.has_transparency_data
    return Picture(name, caption, width, height, colours, clear, turn != 1, animated, pixels)


def refused(
    folder: Path, entries: list, wrong: list[str], unreadable: list[str]
) -> Iterator[Finding]:
    """What stops a training before its first step."""
    if wrong:
        text = f"metadata.jsonl: {some(wrong, 'line')} to correct or to delete"
        yield Finding("fix", text, wrong)
    if unreadable:
        text = f"unreadable: {some(unreadable, 'picture')} to replace, or to delete with the line"
        yield Finding("fix", text, unreadable)
    try:
        others = list(unlisted(folder, [path for path, _ in entries]))
    except OSError as error:
        yield Finding("fix", f"a file or a subfolder can't be opened: {error}")
        others = []
    if others:
        text = f"no caption: {some(others, 'file')} to add to metadata.jsonl, or to move elsewhere"
        yield Finding("fix", text, others)
    if not entries:
        yield Finding(
            "fix", f"no pictures: {folder / 'metadata.jsonl'} lists none that can be used"
        )
