"""What the emoji show: one line of `data/emoji/concepts.jsonl` for each concept.

The pictures of a studio are one file, a contact sheet: concept n of the list stands at place n,
row by row. Who drew them, and under which licence, is in `data/emoji/README.md`.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from course_lib.common.paths import EMOJI

SIZE = 64  # pixels
STUDIOS = ("Twemoji", "Noto", "Fluent", "Blob")
COMMON = STUDIOS[:3]  # have drawn every concept; "Blob", Noto's older hand, is kept apart
SPLITS = ("train", "new pairs", "new concepts")


@dataclass(frozen=True)
class Concept:
    """What a picture shows, whoever drew it.

    name: "red apple"; phrase: the name in a sentence, "a red apple"; keywords: further words for
    it; emoji: the character; group, subgroup: Unicode's, "food & drink" and "fruit".
    family: the same for near duplicates, such as a man and a woman at the same work. A family is
        trained on or held out as one.
    gender: "man", "woman" or "person" where the family has a choice of them, else None.
    studios: those that have drawn it.
    """

    name: str
    phrase: str
    keywords: tuple[str, ...]
    emoji: str
    group: str
    subgroup: str
    family: str
    gender: str | None
    studios: tuple[str, ...]


def split_of(concept: Concept, studio: str) -> str:
    """The split of a picture: of each studio a tenth of the families is held out ("new pairs"),
    never by two studios, so that training shows the concept in another hand; a twentieth is held
    out by all ("new concepts")."""
    place = zlib.crc32(concept.family.encode()) % 100
    if place < 5:
        return "new concepts"
    return "new pairs" if (place - 5) // 10 == STUDIOS.index(studio) else "train"


@cache
def concepts() -> tuple[Concept, ...]:
    """All of them, in Unicode's order."""
    lines = map(json.loads, read("concepts.jsonl").decode().splitlines())
    pairs = ("keywords", "studios")
    return tuple(Concept(**line | {name: tuple(line[name]) for name in pairs}) for line in lines)


@cache
def pictures(studio: str) -> np.ndarray:
    """A studio's pictures in the order of the concepts: (N, 64, 64, 3) uint8; white where none."""
    path = EMOJI / sheet_of(studio)
    read(path.name)
    with Image.open(path) as image:
        tiles = np.array(image.convert("RGB"))  # (rows · 64, columns · 64, 3)
    rows, columns = tiles.shape[0] // SIZE, tiles.shape[1] // SIZE
    tiles = tiles.reshape(rows, SIZE, columns, SIZE, 3).swapaxes(1, 2)
    return tiles.reshape(-1, SIZE, SIZE, 3)[: len(concepts())]


def sheet_of(studio: str) -> str:
    return f"{studio.lower()}.webp"


def read(name: str, folder: Path = EMOJI) -> bytes:
    """A file of the data set, as the list of checksums has it; OSError if missing, else
    ValueError."""
    path = folder / name
    try:
        content = path.read_bytes()
        sums = checksums(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no file {error.filename}: bring data/emoji back from the course's repository"
        ) from None
    if hashlib.sha256(content).hexdigest() != sums.get(name):
        raise ValueError(
            f"{path} does not match its checksum: bring data/emoji back from the course's "
            "repository"
        )
    return content


def checksums(folder: Path = EMOJI) -> dict[str, str]:
    """SHA-256 of each file, by name."""
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}
