"""Your own pictures with captions: a folder of images and one file, `metadata.jsonl`.

    my_pictures/metadata.jsonl      {"file_name": "cat.jpg", "text": "a grey cat on a sofa"}
    my_pictures/cat.jpg             {"file_name": "trip/sea.png", "text": "the sea at dusk"}
    my_pictures/trip/sea.png        ...

is the convention of Hugging Face's image folders. A `CaptionedFolder` offers what `Scenes` offers,
`batch` and `caption` by endless index, so a recipe takes one in its place:

    recipe = ScenesVAE(CaptionedFolder("my_pictures"))

or, from the command line, `course train scenes-vae --data my_pictures`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps

from course_lib.datasets.order import endless
from course_lib.refusals import whole_numbers

EXAMPLE = '{"file_name": "cat.jpg", "text": "a grey cat"}'
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


class CaptionedFolder:
    """Pictures cropped to a centred square, resized and kept in memory; captions as written.

    Everything is read and checked at once, so that no training fails half way.
    Raises FileNotFoundError for a missing folder, metadata or picture; OSError for a picture that
    can't be read; ValueError for metadata that isn't as above, or pictures without a caption.
    """

    def __init__(self, folder: str | Path, size: int = 64, column: str = "text", seed: int = 0):
        if size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {size}")
        folder = Path(folder)
        entries = list(_entries(folder, column))
        self.paths = [path for path, _ in entries]
        _refuse_uncaptioned(folder, set(self.paths))
        pictures = [read_picture(path, path, size) for path in self.paths]  # each (size, size, 3)
        self.pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)  # uint8
        self.captions = [caption for _, caption in entries]
        whole_numbers(0, seed=seed)
        self.size, self.seed = size, seed

    def __len__(self) -> int:
        return len(self.captions)

    def caption(self, index: int) -> str:
        """The caption at a position of the endless shuffled list."""
        return self.captions[endless([index], len(self), self.seed)[0]]

    def batch(self, indices: Iterable[int]) -> tuple[torch.Tensor, list[str]]:
        """Pictures (B, 3, size, size) in [-1, 1] and captions, at positions of the endless list."""
        chosen = endless(indices, len(self), self.seed)
        return self.pixels[chosen].float() / 127.5 - 1, [self.captions[i] for i in chosen]


def _entries(folder: Path, column: str):
    """(path, caption) of every line of the metadata."""
    metadata = folder / "metadata.jsonl"
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not metadata.is_file():
        raise FileNotFoundError(f"{folder} has no metadata.jsonl, with lines such as {EXAMPLE}")
    try:
        lines = metadata.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{metadata} is not UTF-8 text: {error}") from None
    for number, line in ((n, line) for n, line in enumerate(lines, 1) if line.strip()):
        try:
            entry = json.loads(line)
            path, caption = folder / entry["file_name"], entry[column].strip()
        except (ValueError, KeyError, TypeError, AttributeError):
            expected = EXAMPLE.replace('"text"', f'"{column}"')
            raise ValueError(
                f"{metadata}, line {number}: expected such as {expected}, got {line[:80]!r}"
            ) from None
        if not caption:
            raise ValueError(f"{metadata}, line {number}: {path.name} has an empty caption")
        if not path.is_file():
            raise FileNotFoundError(f"{metadata}, line {number}: there is no file {path}")
        yield path, caption


def _refuse_uncaptioned(folder: Path, captioned: set[Path]):
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    forgotten = [str(p.relative_to(folder)) for p in pictures if p not in captioned]
    if forgotten:
        some = ", ".join(forgotten[:3]) + (", …" if len(forgotten) > 3 else "")
        raise ValueError(f"{folder}: {len(forgotten)} pictures have no caption: {some}")
    if not captioned:
        raise ValueError(f"{folder / 'metadata.jsonl'} lists no pictures")


def read_picture(file: Path | BinaryIO, name: str | Path, size: int) -> np.ndarray:
    """One picture, upright, on white where transparent: (size, size, 3) uint8."""
    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # Pillow would cut such numbers off, not scale them
                raise ValueError(f"it has more than 8 bits a channel (mode {image.mode})")
            image = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise OSError(f"cannot read the picture {name}: {error}") from error
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.array(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))
