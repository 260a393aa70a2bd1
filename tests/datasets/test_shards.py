"""Shards that the tests write: each picture once per epoch, each stream from its own files."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image, features

from course_lib.datasets import shards
from course_lib.datasets.shards import Shards
from course_lib.recipes import make_recipe
from course_lib.training import Scale


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def png(level):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (level, level, level)).save(buffer, format="png")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Four shards with 3, 4, 5 and 6 pictures; picture n has grey level n and is called so."""
    number = iter(range(18))
    for shard in range(4):
        with tarfile.open(tmp_path / f"{shard:03}.tar", "w") as tar:
            add(tar, "readme.md", b"no sample")
            for _ in range(3 + shard):
                n = next(number)
                add(tar, f"a.b/{n:03}.png", png(n))
                add(tar, f"a.b/{n:03}.txt", f" grey {n}\n".encode())
    return tmp_path


def levels(data, indices):
    """The grey levels at these positions, after checking that the captions agree."""
    images, captions = data.batch(indices)
    seen = ((images.mean((1, 2, 3)) + 1) * 127.5).round().int().tolist()
    assert captions == [f"grey {level}" for level in seen]
    return seen


def test_every_picture_once_a_round_and_rounds_differ(folder):
    data = Shards(folder, size=8, batch_size=3)
    rounds = [levels(data, range(18 * n, 18 * n + 18)) for n in range(3)]
    assert all(sorted(each) == list(range(18)) for each in rounds)
    assert rounds[0] != rounds[1] != rounds[2]
    assert all(each != sorted(each) for each in rounds)


def test_a_position_says_which_picture_whoever_asks(folder):
    everything = levels(Shards(folder, 8, 2, streams=2), range(40))
    other = Shards(folder, 8, 2, streams=2)  # resumed: it has read nothing before
    assert levels(other, range(31, 37)) == everything[31:37]
    assert other.caption(5) == f"grey {everything[5]}"
    assert levels(Shards(folder, 8, 2, 2, seed=1), range(40)) != everything


def test_each_stream_opens_its_own_shards(folder, monkeypatch):
    opened = []
    real = shards.contents
    monkeypatch.setattr(shards, "contents", lambda path: opened.append(path.name) or real(path))
    data = Shards(folder, size=8, batch_size=4, streams=2)
    first = [data.find(i)[0].name for batch in (0, 2, 4) for i in range(4 * batch, 4 * batch + 4)]
    assert set(opened) == set(first) == {"000.tar", "002.tar"}
    second = [data.find(i)[0].name for batch in (1, 3, 5) for i in range(4 * batch, 4 * batch + 4)]
    assert set(second) == {"001.tar", "003.tar"}
    assert len(opened) == 4  # each table once


def test_pictures_are_read_as_a_folders_are(tmp_path):
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "x.PNG", buffer.getvalue())
        add(tar, "x.txt", b"\xef\xbb\xbfa ramp")
    images, captions = Shards(tmp_path, size=4).batch([0])
    wanted = torch.arange(48).view(4, 4, 3).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(images[0], wanted)
    assert captions == ["a ramp"]


def test_what_is_missing_or_damaged_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there are no shards, files such as 000\.tar, in"):
        Shards(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"4 shards in .* can't feed 5 streams"):
        Shards(folder, streams=5)
    path = folder / "000.tar"
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        third = tar.getmembers()[2].offset
    flipped = content[: third + 5] + b"\xff" + content[third + 6 :]  # a name in a header
    for damaged in (content[:2000], content[:third], flipped, b"not a tar", b""):
        path.write_bytes(damaged)
        with pytest.raises(OSError, match=r"cannot read the shard .*000\.tar: "):
            Shards(folder).batch([0])
    with tarfile.open(path, "w") as tar:
        add(tar, "b/sea.png", png(3))
    with pytest.raises(ValueError, match=r"b/sea\.png in .*000\.tar has no caption, b/sea\.txt"):
        Shards(folder).batch([0])
    for caption, words in ((b"\xff", r"sea\.txt in .*000\.tar is not UTF-8"), (b" \n", "blank")):
        with tarfile.open(path, "w") as tar:
            add(tar, "sea.png", png(3))
            add(tar, "sea.txt", caption)
        with pytest.raises(ValueError, match=words):
            Shards(folder).batch(range(18))
    with tarfile.open(path, "w") as tar:
        add(tar, "sea.png", png(3)[:40])
        add(tar, "sea.txt", b"the sea")
    with pytest.raises(OSError, match=r"cannot read the picture sea in .*000\.tar"):
        Shards(folder).batch(range(18))
    with tarfile.open(path, "w") as tar:
        add(tar, "notes.md", b"nothing to see")
    with pytest.raises(ValueError, match=r"the shard .*000\.tar holds no pictures"):
        Shards(folder).batch([0])


def shard(path, *names, level=3):
    """A shard of these files: captions, and pictures of a single grey level."""
    with tarfile.open(path, "w") as tar:
        for name in names:
            add(tar, name, b"a caption" if name.endswith(".txt") else png(level))


def test_names_go_up_to_their_last_dot(tmp_path):
    """Two versions of a picture, which WebDataset's rule of the first dot would mix up."""
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for level, name in ((3, "photo.v1"), (4, "photo.v2"), (5, "./more.files/photo.v1")):
            add(tar, f"{name}.png", png(level))
            add(tar, f"{name}.txt", f"grey {level}".encode())
    assert sorted(levels(Shards(tmp_path, 8), range(3))) == [3, 4, 5]


@pytest.mark.parametrize(
    ("name", "form", "feature"),
    [
        *(("x.avif", "AVIF", "avif"), ("x.jfif", "JPEG", "jpg"), ("x.jp2", "JPEG2000", "jpg_2000")),
        *(("x.tga", "TGA", "pil"), ("x.jpg_large", "JPEG", "jpg"), ("x", "PNG", "zlib")),
    ],
)
def test_what_pillow_can_open_is_a_picture_whatever_it_is_called(tmp_path, name, form, feature):
    if not features.check(feature):
        pytest.skip(f"this Pillow was built without {form}")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (100, 100, 100)).save(buffer, form)
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, name, buffer.getvalue())
        add(tar, "x.txt", b"grey")
    images, captions = Shards(tmp_path, 8).batch([0])
    assert captions == ["grey"]
    wanted = torch.full((1, 3, 8, 8), 100 / 127.5 - 1)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1 / 127.5)  # a level: some forms lose
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, name, buffer.getvalue())
    with pytest.raises(ValueError, match=rf"{name} in .*0\.tar has no caption, x\.txt"):
        Shards(tmp_path, 8).batch([0])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.png", "a.txt", "b.heic"], r"b\.heic in .*0\.tar has no caption, b\.txt"),
        (
            ["a.png", "a.txt", "a.mask.png"],
            r"a\.mask\.png in .*0\.tar has no caption, a\.mask\.txt",
        ),
        (["a.png", "a.txt", "inner.tar"], r"inner\.tar in .*0\.tar has no caption"),
        (["a.png", "a.txt", "b.txt"], r"b\.txt in .*0\.tar has no picture"),
        (["a.png", "a.txt", "./a.png"], r"a\.png in .*0\.tar is a second picture named a$"),
        (
            ["a.png", "a.txt", "b.png", "b.txt", "a.txt"],
            r"a\.txt in .*0\.tar is a second caption named a$",
        ),
        (["a.png", "a.jpg", "a.txt"], r"a\.jpg in .*0\.tar is a second picture named a$"),
    ],
)
def test_what_would_be_left_out_of_a_shard_is_named(tmp_path, names, words):
    shard(tmp_path / "0.tar", *names)
    with pytest.raises(ValueError, match=words):
        Shards(tmp_path, 8).batch([0])


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_shard_are_refused(tmp_path, type_):
    shard(tmp_path / "0.tar", "a.png", "a.txt", "b.txt")
    with tarfile.open(tmp_path / "0.tar", "a") as tar:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = type_, "a.png"
        tar.addfile(link)
    with pytest.raises(ValueError, match=r"b\.png in .*0\.tar is a link or a special file"):
        Shards(tmp_path, 8).batch([0])


def test_a_second_tar_at_the_end_of_the_first_is_refused(tmp_path):
    shard(tmp_path / "0.tar", "a.png", "a.txt")
    content = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(content + bytes(3 * 2**20))  # any number of zeros may follow
    assert Shards(tmp_path, 8).batch([0])[1] == ["a caption"]
    shard(tmp_path / "0.tar", "b.png", "b.txt")
    for between in (b"", bytes(3 * 2**20)):
        joined = content + between + (tmp_path / "0.tar").read_bytes()
        (tmp_path / "0.tar").write_bytes(joined)
        with pytest.raises(
            OSError, match=r"cannot read the shard .*0\.tar: there is more after its end"
        ):
            Shards(tmp_path, 8).batch([0])


def test_hidden_files_and_a_samples_other_files_are_left_out(tmp_path):
    names = "._a.png", "./._a.txt", ".thumbnails/a.png", "in/.hidden/b.png"
    shard(tmp_path / "0.tar", "./a.png", "a.txt", *names)
    with tarfile.open(tmp_path / "0.tar", "a") as tar:
        for name in ("a.json", "a.cls", "a.npy", "readme.md"):
            add(tar, name, b'{"width": 8}')
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    (tmp_path / "._0.tar").write_bytes(b"what macOS leaves")
    (tmp_path / "0_stats.json").write_text("{}")
    (tmp_path / "1.tar").mkdir()
    data = Shards(tmp_path, 8)
    assert [path.name for path in data.paths] == ["0.tar"]
    assert [sample.name for sample in data.contents(data.paths[0])] == ["a"]


@pytest.mark.parametrize("name", ["a.png", "more/a.avif", "more/1.tar", "1.tar.gz", "1.tgz"])
def test_pictures_and_archives_next_to_the_shards_are_named(tmp_path, name):
    shard(tmp_path / "0.TAR", "a.png", "a.txt")
    assert len(Shards(tmp_path).paths) == 1
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(png(3))
    with pytest.raises(ValueError, match=rf": {name} would be skipped: move it"):
        Shards(tmp_path)


def test_a_folder_of_both_kinds_is_refused(tmp_path):
    """Neither the pictures nor the shards are skipped silently."""
    for n in range(2):  # one for each of the recipe's batches a step
        shard(tmp_path / f"{n}.tar", "a.png", "a.txt")
    (tmp_path / "b.png").write_bytes(png(3))
    with pytest.raises(ValueError, match=r": b\.png would be skipped"):
        make_recipe("scenes-vae", tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b.png", "text": "grey 3"}')
    with pytest.raises(ValueError, match=r"metadata\.jsonl has no line for 0\.tar, 1\.tar"):
        make_recipe("scenes-vae", tmp_path)
    for n in range(2):
        (tmp_path / f"{n}.tar").unlink()
    assert make_recipe("scenes-vae", tmp_path).data.captions == ["grey 3"]


def test_a_recipe_learns_from_shards_and_goes_on_with_the_same_numbers(folder, tmp_path):
    losses = {}
    for name, stops in (("whole", [6]), ("halves", [3, 6])):
        for stop in stops:
            recipe = make_recipe("scenes-vae", folder)
            assert recipe.data.streams == 2 and recipe.data.batch_size == recipe.batch_size
            recipe.data.batch_size = recipe.batch_size = 4
            scale = Scale(accumulate=2)
            for step in recipe.begin(folder=tmp_path / name, steps=6, scale=scale, device="cpu"):
                losses[name, step.index] = step.loss
                if step.index == stop:
                    break
    assert all(losses["whole", n] == losses["halves", n] for n in range(1, 7))
