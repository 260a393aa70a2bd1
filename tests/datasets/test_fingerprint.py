"""A fingerprint depends on everything that a training uses, and on nothing else."""

import json
import os
import shutil
import tarfile

import pytest
from PIL import Image

from course_lib.datasets.fingerprint import fingerprint
from course_lib.datasets.folder import CaptionedFolder
from course_lib.datasets.shards import Shards

ENTRIES = [("sea.bmp", "the sea"), ("trip/sand.bmp", "the sand")]


def write_metadata(folder, entries):
    lines = [json.dumps({"file_name": name, "text": text}) for name, text in entries]
    (folder / "metadata.jsonl").write_text("\n".join(lines))


@pytest.fixture
def folder(tmp_path):
    """one/train, with two pictures and captions, one of them in a subfolder."""
    folder = tmp_path / "one/train"
    (folder / "trip").mkdir(parents=True)
    for (name, _), colour in zip(ENTRIES, ("blue", "yellow"), strict=True):
        Image.new("RGB", (16, 16), colour).save(folder / name)
    write_metadata(folder, ENTRIES)
    return folder


def change_pixel(folder):
    """Only the content, in place: the uncompressed file keeps its size, and here its dates."""
    path = folder / "sea.bmp"
    content, dates = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))


def rename(folder):
    (folder / "sea.bmp").rename(folder / "ocean.bmp")
    write_metadata(folder, [("ocean.bmp", "the sea"), ENTRIES[1]])


def exchange(folder):
    sea, sand = (folder / name for name, _ in ENTRIES)
    sea.rename(folder / "x"), sand.rename(sea), (folder / "x").rename(sand)


CHANGES = {
    "a pixel": change_pixel,
    "a name": rename,
    "two pictures' places": exchange,
    "a caption": lambda f: write_metadata(f, [("sea.bmp", "the Sea"), ENTRIES[1]]),
    "captions that trade pictures": lambda f: write_metadata(
        f, [("sea.bmp", "the sand"), ("trip/sand.bmp", "the sea")]
    ),
    "the order": lambda f: write_metadata(f, ENTRIES[::-1]),
    "one picture less": lambda f: ((f / "sea.bmp").unlink(), write_metadata(f, ENTRIES[1:])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_in_place_changes_it(folder, change):
    before = fingerprint(CaptionedFolder(folder, 8))
    CHANGES[change](folder)
    assert fingerprint(CaptionedFolder(folder, 8)) != before


def test_a_copy_elsewhere_has_the_same(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/notes.txt").write_text("not part of the data")
    one, other = (fingerprint(CaptionedFolder(f, 8)) for f in (folder, tmp_path / "copy"))
    assert one == other


def shard(folder, target):
    """The folder's pictures as a tar file: a picture and a caption for each entry."""
    target.parent.mkdir(exist_ok=True)
    with tarfile.open(target, "w") as tar:
        for name, text in ENTRIES:
            (folder / name).with_suffix(".txt").write_text(text)
            for suffix in (".bmp", ".txt"):
                tar.add((folder / name).with_suffix(suffix), name.removesuffix(".bmp") + suffix)


def test_shards_are_told_apart_by_every_byte(folder, tmp_path):
    shard(folder, tmp_path / "shards/000.tar")
    before = fingerprint(Shards(tmp_path / "shards", 8))
    shutil.copytree(tmp_path / "shards", tmp_path / "copy")
    assert fingerprint(Shards(tmp_path / "copy", 8)) == before
    change_pixel(folder)
    shard(folder, tmp_path / "shards/000.tar")
    assert fingerprint(Shards(tmp_path / "shards", 8)) != before
    (tmp_path / "copy/000.tar").rename(tmp_path / "copy/001.tar")  # shards have an order, by name
    assert fingerprint(Shards(tmp_path / "copy", 8)) != before
