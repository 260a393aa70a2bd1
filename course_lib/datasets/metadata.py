"""The file `metadata.jsonl` of a reader's own pictures: on each line a picture and its caption."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

EXAMPLE = '{"file_name": "cat.jpg", "text": "a grey cat"}'


def lines_of(folder: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of metadata.jsonl that aren't blank, with their numbers from 1."""
    metadata = folder / "metadata.jsonl"
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not metadata.is_file():
        raise FileNotFoundError(f"{folder} has no metadata.jsonl, with lines such as {EXAMPLE}")
    lines = metadata.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def read_line(folder: Path, number: int, line: bytes, column: str = "text") -> tuple[Path, str]:
    """The picture and the caption of a line; an error names the line."""
    metadata = folder / "metadata.jsonl"
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{metadata}, line {number}: it is not UTF-8 text: {error}") from None
    try:
        entry = json.loads(text)
        name, caption = entry["file_name"], entry[column].strip()
        path = folder / name
        (name + caption).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(
            f"{metadata}, line {number}: {half!r} is half of a character (a lone surrogate)"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        expected = EXAMPLE.replace('"text"', f'"{column}"')
        raise ValueError(
            f"{metadata}, line {number}: expected such as {expected}, got {text[:80]!r}"
        ) from None
    if not caption:
        raise ValueError(f"{metadata}, line {number}: {path.name} has an empty caption")
    try:
        is_there = path.is_file()
    except OSError as error:  # too long a name, or a folder that may not be opened
        raise OSError(f"{metadata}, line {number}: {error.strerror}: {path}") from None
    if not is_there:
        raise FileNotFoundError(f"{metadata}, line {number}: there is no file {path}")
    return path, caption
