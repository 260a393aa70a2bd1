"""Your own pictures with captions: a folder of images and one file, `metadata.jsonl`.

    my_pictures/metadata.jsonl      {"file_name": "cat.jpg", "text": "a grey cat on a sofa"}
    my_pictures/cat.jpg             {"file_name": "trip/sea.png", "text": "the sea at dusk"}
    my_pictures/trip/sea.png        ...

This is the convention of Hugging Face's image folders. A `CaptionedFolder` has the methods of
`Scenes`, `batch` and `caption` by endless index, so a recipe accepts one instead:

    recipe = ScenesVAE(CaptionedFolder("my_pictures"))

or, from the command line, `course train scenes-vae --data my_pictures`.

`course check-data my_pictures` looks for what would spoil a training (see `folder_check`). A tenth
of the pictures is held out, and no training sees it or a copy of it (see `duplicates`).

No data is skipped silently: a picture or an archive without a line in the metadata is an error
that names it. Only these are skipped: hidden files and folders (`._cat.jpg`, `.thumbnails`), the
samples that a training writes into its own folder, and files that are neither pictures nor
archives.
"""

import copy
import mimetypes
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps

from course_lib.common.checks import whole_numbers
from course_lib.datasets.duplicates import checksums, held_out, near_duplicates
from course_lib.datasets.metadata import lines_of, read_line
from course_lib.datasets.order import endless

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


class CaptionedFolder:
    """Pictures cropped to a centred square, resized and kept in memory, with their captions.

    Everything is read and checked at the start, so that no training fails half-way.
    Raises FileNotFoundError for a missing folder, metadata or picture; OSError for a picture that
    can't be read; ValueError for metadata in another format, or that leaves a picture out.
    """

    def __init__(self, folder: str | Path, size: int = 64, column: str = "text", seed: int = 0):
        if size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {size}")
        folder = Path(folder)
        entries = [read_line(folder, *line, column) for line in lines_of(folder)]
        self.paths = [path for path, _ in entries]
        if others := unlisted_files(folder, self.paths):
            raise ValueError(f"{folder}: metadata.jsonl has no line for {others}")
        if not entries:
            raise ValueError(f"{folder / 'metadata.jsonl'} lists no pictures")
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

    def split(self) -> tuple["CaptionedFolder", "CaptionedFolder"]:
        """What training sees, and a held-out tenth without near duplicates of it.

        Of fewer than 20 pictures none is held out: the second part is then empty.
        """
        chosen = held_out(near_duplicates(self.pixels), checksums(self.pixels))
        return self._take(~chosen), self._take(chosen)

    def _take(self, which: np.ndarray) -> "CaptionedFolder":
        part, rows = copy.copy(self), which.nonzero()[0]
        part.pixels = self.pixels[rows]
        part.paths, part.captions = ([of[i] for i in rows] for of in (self.paths, self.captions))
        return part


def unlisted_files(folder: Path, taken: Iterable[Path]) -> str:
    """The names of up to 3 pictures and archives in a folder that aren't in `taken`, or ""."""
    others = list(unlisted(folder, taken))
    return ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")


def unlisted(folder: Path, taken: Iterable[Path]) -> Iterator[str]:
    """The names of all of them."""
    taken = {_identity(path) for path in taken}
    for path in visible(folder):
        if _identity(path) not in taken and holds_pictures(path.name, partial(path.open, "rb")):
            yield path.relative_to(folder).as_posix()


def _identity(path: Path) -> tuple[int, int]:
    """Equal for all paths to one file, such as a link, `more/../cat.jpg`, or CAT.JPG (Windows)."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def visible(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files in a folder and its subfolders, except hidden ones and a training's samples."""
    above = (*above, folder.resolve())  # a link may point back to one of these
    for path in sorted(folder.iterdir()):
        if hidden(path.name) or _drawn(path):
            continue
        if path.is_dir() and path.resolve() not in above:
            yield from visible(path, above)
        elif path.is_file():
            yield path


def hidden(name: str) -> bool:
    """Whether a part of the path begins with a dot: `.thumbnails/cat.jpg`."""
    return re.search(r"(^|/)\.[^./]", name) is not None


def _drawn(path: Path) -> bool:
    """Whether this picture is a training's sample: `step_000250.png` next to the training's log."""
    return bool(re.fullmatch(r"step_\d+\.png", path.name)) and (path.parent / "log.jsonl").is_file()


def holds_pictures(name: str, open_file: Callable[[], BinaryIO]) -> bool:
    """Whether a file is a picture or an archive: its name says so, or Pillow can open it.

    The name is enough, because `cat.heic`, which Pillow can't read, must not be skipped silently.
    """
    name = name.lower()
    kind = mimetypes.guess_type(name)[0] or ""
    pillow = Image.registered_extensions().get(Path(name).suffix) in Image.OPEN
    if pillow or kind.startswith("image/") or name.endswith(ARCHIVES):
        return True
    if kind.startswith("text/") or kind == "application/json":
        return False
    with open_file() as file:
        try:
            Image.open(file)
        except Image.DecompressionBombError:
            return True
        except Exception:  # Pillow's readers raise various errors for a file that isn't theirs
            return False
        return True


def read_picture(file: Path | BinaryIO, name: str | Path, size: int) -> np.ndarray:
    """One picture, upright, with transparent parts white: (size, size, 3) uint8.

    If it has several frames or pages, the first.
    """
    with opened(file, name) as image:
        return square(image, size)


@contextmanager
def opened(file: Path | BinaryIO, name: str | Path) -> Iterator[Image.Image]:
    """A picture to work with; whatever goes wrong then is an OSError that names it."""
    try:
        with Image.open(file) as image:
            yield image
    except Exception as error:  # Pillow's readers raise various errors for a damaged file
        raise OSError(f"cannot read the picture {name}: {error}") from error


def square(image: Image.Image, size: int) -> np.ndarray:
    """Its middle square, as `read_picture` returns it."""
    if image.mode[0] in "IF":  # Pillow would clip such numbers instead of scaling them
        raise ValueError(f"it has more than 8 bits a channel (mode {image.mode})")
    image = ImageOps.exif_transpose(image).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.array(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))
