"""Captioned pictures too many for memory: tar files, read by position and never all at once.

    shards/000.tar      cat.jpg   cat.txt   trip/sea.png   trip/sea.txt   ...
    shards/001.tar      ...

is WebDataset's convention (Aizman et al. 2019): files that share a name up to its dot belong
together, a picture and, as .txt, its caption. `Shards` offers what `CaptionedFolder` offers, so
`course train scenes-vae --data shards` is all there is to it.

The shards are dealt to as many `streams` as a training has batches a step, and the positions, a
batch at a time, to the streams in turn. So of several processes each opens shards of its own; and
since a position alone says which picture it is, a resumed training goes on where it ended.
"""

import tarfile
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from course_lib.common.checks import whole_numbers
from course_lib.datasets.folder import SUFFIXES, read_picture
from course_lib.datasets.order import positions, shuffled


class Sample(NamedTuple):
    """Where a picture and its caption lie in a shard: (start, size) in bytes."""

    name: str
    picture: tuple[int, int]
    caption: tuple[int, int]


class Shards:
    """The pictures and captions of all `*.tar` in a folder, by endless position.

    In each round a stream's shards, and the pictures in each, come in another order. Raises
    FileNotFoundError where there are no shards, ValueError for fewer shards than streams; once a
    shard is read, OSError if it or a picture is damaged, ValueError for a missing caption.
    """

    def __init__(
        self, folder: str | Path, size: int = 64, batch_size: int = 64, streams: int = 1, seed=0
    ):
        for name, value in {"size": size, "batch_size": batch_size, "streams": streams}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.paths = sorted(Path(folder).glob("*.tar"))
        if not self.paths:
            raise FileNotFoundError(f"there are no shards, files such as 000.tar, in {folder}")
        if len(self.paths) < streams:
            raise ValueError(f"{len(self.paths)} shards in {folder} can't feed {streams} streams")
        self.size, self.batch_size, self.streams = size, batch_size, streams
        whole_numbers(0, seed=seed)
        self.seed = seed
        self.contents = cache(contents)  # headers are read once, pictures whenever they are wanted

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


def contents(path: Path) -> list[Sample]:
    """The samples of a shard, in its order, from the headers alone."""
    files = defaultdict(dict)  # "trip/sea" -> {".png": (start, size), ".txt": (start, size)}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                folder, slash, name = member.name.rpartition("/")
                stem, dot, suffix = name.partition(".")
                place = member.offset_data, member.size
                files[folder + slash + stem][dot + suffix.lower()] = place
                if sum(place) > path.stat().st_size:
                    raise tarfile.ReadError("unexpected end of data")
            if read(path, tar.offset, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end mark where its last file ends")
    except tarfile.TarError as error:
        raise OSError(f"cannot read the shard {path}: {error}") from error
    samples = []
    for name, parts in files.items():
        picture = next((parts[suffix] for suffix in parts if suffix in SUFFIXES), None)
        if picture and not parts.get(".txt", (0, 0))[1]:
            raise ValueError(f"{name} in {path} has no caption, {name}.txt")
        if picture:
            samples.append(Sample(name, picture, parts[".txt"]))
    if not samples:
        raise ValueError(f"the shard {path} holds no pictures")
    return samples


def read(path: Path, start: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(size)
