"""More captioned pictures than memory holds: tar files, which are read as they are needed.

    shards/000.tar      cat.jpg   cat.txt   trip/sea.png   trip/sea.txt   ...
    shards/001.tar      ...

This is WebDataset's convention (Aizman et al. 2019): a picture and its caption, a .txt file, share
a name up to the last dot. `Shards` has the methods of `CaptionedFolder`, so you only need
`course train scenes-vae --data shards`.

No data is skipped silently. These are errors that name the file: a picture without a caption, a
caption without a picture, two files of the same name, a link, a second tar appended to the first,
and a picture or an archive next to the shards. Only hidden files and files of other kinds are
skipped.

The shards are divided among as many `streams` as a training has batches per step. Positions go to
the streams in turn, one batch at a time, so each of several processes opens its own shards. The
position alone determines the picture, so a resumed training continues where it stopped.
"""

import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from course_lib.common.checks import whole_numbers
from course_lib.datasets.folder import hidden, holds_pictures, read_picture, unlisted_files
from course_lib.datasets.order import positions, shuffled


class Sample(NamedTuple):
    """Where a picture and its caption are in a shard: (start, size) in bytes."""

    name: str
    picture: tuple[int, int]
    caption: tuple[int, int]


class Shards:
    """The pictures and captions of all `*.tar` in a folder, by endless position.

    In each epoch, a stream's shards and the pictures in each are shuffled again. Raises
    FileNotFoundError if there are no shards, and ValueError for fewer shards than streams or for
    pictures next to the shards. Reading a shard raises OSError if it or a picture is damaged, and
    ValueError for data that would be skipped, such as a picture without a caption.
    """

    def __init__(
        self, folder: str | Path, size: int = 64, batch_size: int = 64, streams: int = 1, seed=0
    ):
        for name, value in {"size": size, "batch_size": batch_size, "streams": streams}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.paths = shards_in(folder)
        if not self.paths:
            raise FileNotFoundError(f"there are no shards, files such as 000.tar, in {folder}")
        if len(self.paths) < streams:
            raise ValueError(f"{len(self.paths)} shards in {folder} can't feed {streams} streams")
        if others := unlisted_files(Path(folder), self.paths):
            raise ValueError(
                f"{folder}: {others} would be skipped: move it out of the folder of shards"
            )
        self.size, self.batch_size, self.streams = size, batch_size, streams
        whole_numbers(0, seed=seed)
        self.seed = seed
        self.contents = cache(contents)  # headers are read only once, pictures when requested

    def find(self, index: int) -> tuple[Path, Sample]:
        """The shard and the sample at a position."""
        (index,) = positions([index])
        batch, place = divmod(index, self.batch_size)
        turn, stream = divmod(batch, self.streams)
        shards = [(path, self.contents(path)) for path in self.paths[stream :: self.streams]]
        total = sum(len(samples) for _, samples in shards)
        epoch, rest = divmod(turn * self.batch_size + place, total)
        for which in shuffled(len(shards), self.seed, stream, epoch):
            path, samples = shards[which]
            if rest < len(samples):
                break
            rest -= len(samples)
        return path, samples[shuffled(len(samples), self.seed, stream, epoch, int(which))[rest]]

    def caption(self, index: int) -> str:
        """The caption at a position."""
        path, sample = self.find(index)
        try:
            caption = read(path, *sample.caption).decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise ValueError(f"{sample.name}.txt in {path} is not UTF-8 text") from None
        if not caption:
            raise ValueError(f"{sample.name} in {path} has a blank caption")
        return caption

    def batch(self, indices: Iterable[int]) -> tuple[torch.Tensor, list[str]]:
        """Pictures (B, 3, size, size) in [-1, 1] and captions, at these positions."""
        indices, pictures = positions(indices), []
        for path, sample in map(self.find, indices):
            name = f"{sample.name} in {path}"
            pictures.append(read_picture(BytesIO(read(path, *sample.picture)), name, self.size))
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)  # uint8
        return pixels.float() / 127.5 - 1, [self.caption(index) for index in indices]


def shards_in(folder: str | Path) -> list[Path]:
    """The tar files in a folder, in order."""
    files = filter(Path.is_file, Path(folder).glob("*"))
    return sorted(p for p in files if p.suffix.lower() == ".tar" and not hidden(p.name))


def contents(path: Path) -> list[Sample]:
    """The samples of a shard, in its order, read from the headers alone."""
    pictures, captions = {}, {}  # "trip/sea" -> ("trip/sea.png", (start, size))
    for name, place, open_file in _files(path):
        stem, suffix = posixpath.splitext(name)
        is_caption = suffix.lower() == ".txt"
        if is_caption or holds_pictures(name, open_file):
            known = captions if is_caption else pictures
            if stem in known:
                kind = "caption" if is_caption else "picture"
                raise ValueError(f"{name} in {path} is a second {kind} named {stem}")
            known[stem] = name, place
    for stem, (name, _) in pictures.items():
        if stem not in captions or not captions[stem][1][1]:
            raise ValueError(f"{name} in {path} has no caption, {stem}.txt")
    for stem, (name, _) in captions.items():
        if stem not in pictures:
            raise ValueError(f"{name} in {path} has no picture")
    if not pictures:
        raise ValueError(f"the shard {path} holds no pictures")
    return [Sample(stem, place, captions[stem][1]) for stem, (_, place) in pictures.items()]


def _files(path: Path) -> Iterator[tuple]:
    """For each visible file in a shard: its name, its (start, size) and a function to open it."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name, place = posixpath.normpath(member.name), (member.offset_data, member.size)
                if member.isdir() or hidden(name):
                    continue
                if not member.isfile() or member.issparse():
                    raise ValueError(
                        f"{name} in {path} is a link or a special file: pack the files themselves "
                        "(tar --dereference --hard-dereference)"
                    )
                if sum(place) > path.stat().st_size:
                    raise tarfile.ReadError("unexpected end of data")
                yield name, place, partial(tar.extractfile, member)
            _check_end(path, tar.offset)
    except tarfile.TarError as error:
        raise OSError(f"cannot read the shard {path}: {error}") from error


def _check_end(path: Path, end: int) -> None:
    """ReadError unless the shard ends here, with at least one block of zeros."""
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end mark where its last file ends")
        while block := file.read(2**20):
            if block.strip(b"\0"):
                raise tarfile.ReadError("there is more after its end mark, such as a second tar")


def read(path: Path, start: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(size)
