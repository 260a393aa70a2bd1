"""`check_folder` finds what it should, names it, and calls ready just what training accepts."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.datasets import folder_check
from course_lib.datasets.findings import Finding
from course_lib.datasets.folder import CaptionedFolder
from course_lib.datasets.folder_check import check_folder, ready
from course_lib.models import Tokenizer


def noise(seed: int, width: int = 64, height: int = 64, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def add(folder, name, caption, picture=None):
    """A line in metadata.jsonl and, if given, the picture: an array or what Pillow saves."""
    if picture is not None:
        image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
        image.save(folder / name)
    with open(folder / "metadata.jsonl", "a") as metadata:
        metadata.write(json.dumps({"file_name": name, "text": caption}) + "\n")


@pytest.fixture
def folder(tmp_path):
    """Twenty different pictures in order: nothing to note but that they are few."""
    things = "apple bear cat dog egg frog goat hat iron jar "
    things += "kite lamp moon nest owl pear quilt rose sun tree"
    for seed, thing in enumerate(things.split()):
        add(tmp_path, f"{thing}.png", f"a red {thing}", noise(seed))
    return tmp_path


def lines(folder, **options) -> list[str]:
    return [str(finding) for finding in check_folder(folder, **options)]


def line(folder, start: str, **options) -> str:
    """The one line that starts so."""
    (found,) = [line for line in lines(folder, **options) if line.startswith(start)]
    return found


def test_what_is_said_of_a_folder_in_order(folder):
    held_out = sorted(text.split()[-1] for text in CaptionedFolder(folder).split()[1].captions)
    assert lines(folder, tokenizer=Tokenizer.train) == [
        "pictures: 20, each with a caption",
        "sizes: 64 × 64 to 64 × 64 pixels; training sees 64 × 64; width / height: 1.00 to 1.00",
        "colours: 20 RGB",
        "captions: 3 to 3 words, 3.0 on average; 20 different captions",
        "words: 22 different ones; 20 occur only once: apple; bear; cat; dog; egg; and 15 more",
        "tokens: 5 to 5 in a caption, with its start and end; the model reads 24",
        "split: 18 pictures to train on, 2 held out; copies are on the same side",
        "note: few pictures: with fewer than 200, a model soon knows them by heart; add more",
        "note: words of held-out captions alone: 2; training can't teach them: "
        + "; ".join(held_out),
    ]


def test_sizes_and_shapes(folder):
    add(folder, "wide.png", "wide", noise(20, 300, 100))
    add(folder, "tall.png", "tall", noise(21, 80, 100))
    add(folder, "tiny.png", "tiny", noise(22, 40, 32))
    said = line(folder, "sizes")
    assert said.startswith("sizes: 40 × 32 to 300 × 100 pixels") and "0.80 to 3.00" in said
    assert line(folder, "not square") == "not square: 3 pictures; training sees the middle"
    assert line(folder, "note: cut off").endswith("crop them where it matters: wide.png")
    assert line(folder, "note: enlarged").startswith("note: enlarged: 1 picture with a side under")
    assert "enlarged: 21 pictures" in line(folder, "note: enlarged", size=65)


def test_modes_transparency_rotation_and_frames(folder):
    add(folder, "grey.png", "grey", Image.fromarray(noise(30)).convert("L"))
    add(folder, "palette.gif", "palette", Image.fromarray(noise(31)).convert("P"))
    add(folder, "print.jpg", "print", Image.fromarray(noise(32)).convert("CMYK"))
    add(folder, "clear.png", "clear", noise(33, channels=4))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(noise(34, 90, 60)).save(folder / "turned.jpg", exif=exif)
    add(folder, "turned.jpg", "turned")
    frames = [Image.fromarray(noise(seed)) for seed in (35, 36)]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    add(folder, "film.gif", "film")
    assert line(folder, "colours") == "colours: 22 RGB, 2 palette, 1 grey, 1 CMYK"
    assert line(folder, "transparent") == "transparent: 1 picture; white is put behind"
    assert line(folder, "turned") == "turned: 1 picture; made upright, as the EXIF data says"
    assert line(folder, "sizes").endswith("width / height: 0.67 to 1.00")  # upright: 60 by 90
    assert line(folder, "note: several").endswith("training sees the first: film.gif")


def test_captions_tokens_and_words(folder):
    add(folder, "long.png", " ".join(["a red cat"] * 9), noise(40))
    said = line(folder, "fix: too long", tokenizer=Tokenizer.train)
    assert said == "fix: too long: 1 caption of over 24 tokens to shorten: long.png (29 tokens)"
    assert "tokens: 5 to 29 in" in line(folder, "tokens", tokenizer=Tokenizer.train)
    with pytest.raises(ValueError, match=r"at most 24 tokens .* got 29"):  # as training does
        Tokenizer.train(CaptionedFolder(folder).captions)(" ".join(["a red cat"] * 9))
    for seed in (41, 42, 43):
        add(folder, f"{seed}.png", "the same \x1b[31m thing", noise(seed))
    said = line(folder, "note: one caption for many")
    assert "3 pictures have 'the same ?[31m thing'" in said  # no command to the terminal


def test_copies(folder):
    near = Image.fromarray(noise(0)).point(lambda level: level * 0.95)
    add(folder, "near.png", "darker", near)
    Image.fromarray(noise(1)).save(folder / "again.bmp")
    add(folder, "again.bmp", "a brown bear")
    said = line(folder, "note: exact copies")
    assert said.startswith("note: exact copies: 1 of") and said.endswith(": bear.png = again.bmp")
    said = line(folder, "note: near duplicates: 2 pictures in 1 group")
    assert said.endswith(": apple.png ~ near.png") and "similarity above 0.98" in said
    said = line(folder, "note: copies with different captions")
    assert said.endswith("bear.png 'a red bear' / again.bmp 'a brown bear'")


def test_the_split_is_that_of_training(folder):
    for seed in range(50, 80):
        add(folder, f"{seed}.png", f"number {seed}", noise(seed))
    train, held_out = CaptionedFolder(folder).split()
    assert f"split: {len(train)} pictures to train on, {len(held_out)} held" in line(folder, "spl")
    assert (len(train), len(held_out)) == (45, 5)


def test_nineteen_pictures_hold_nothing_out(folder):
    text = (folder / "metadata.jsonl").read_text().splitlines()
    (folder / "metadata.jsonl").write_text("\n".join(text[:19]))
    for entry in map(json.loads, text[19:]):
        (folder / entry["file_name"]).unlink()
    assert "nothing is held out" in line(folder, "note: split")


# What training refuses


def damage(folder, name="cat.png"):
    (folder / name).write_bytes((folder / name).read_bytes()[:60])


def rewrite(folder, old: bytes, new: bytes):
    path = folder / "metadata.jsonl"
    path.write_bytes(path.read_bytes().replace(old, new))


DEEP = Image.fromarray(np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16))
SPOILT = {  # how -> (what is done, the line)
    "damaged": (damage, r"unreadable: 1 picture to replace, or .*: cat\.png \("),
    "empty": (lambda f: (f / "cat.png").write_bytes(b""), r"unreadable: 1 picture .*: cat\.png \("),
    "16 bits": (lambda f: add(f, "x.png", "x", DEEP), r"unreadable: .*x\.png \(it has more than 8"),
    "missing": (lambda f: (f / "cat.png").unlink(), r"metadata.*1 line .*line 3: there is no file"),
    "a folder": (lambda f: add(f, ".", "x"), r"metadata.*: line 21: there is no file"),
    "no caption": (lambda f: rewrite(f, b"a red cat", b" "), r"line 3: cat\.png has an empty capt"),
    "no JSON": (lambda f: rewrite(f, b'"text": "a red cat"', b"}"), r"line 3: expected such as"),
    "Latin-1": (lambda f: rewrite(f, b"red cat", b"caf\xe9"), r"line 3: it is not UTF-8 text"),
    "a surrogate": (
        lambda f: rewrite(f, b"red cat", b"\\ud83d"),
        r"line 3: .* half of a character",
    ),
    "NUL": (lambda f: rewrite(f, b"cat.png", b"c\\u0000t.png"), r"line 3: "),
    "a long name": (lambda f: rewrite(f, b"cat.png", b"c" * 999), r"line 3: File name too long"),
    "no line": (
        lambda f: Image.new("RGB", (8, 8)).save(f / "more.png"),
        r"no caption: 1 file to add to metadata\.jsonl, or to move elsewhere: more\.png$",
    ),
    "heic": (lambda f: (f / "cat.heic").write_bytes(b"x"), r"no caption: 1 file .*: cat\.heic$"),
    "an archive": (lambda f: (f / "a.zip").write_bytes(b"x"), r"no caption: 1 file .*: a\.zip$"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_training_refuses_is_named_and_to_be_fixed(folder, how):
    spoil, told = SPOILT[how]
    CaptionedFolder(folder)
    assert ready(check_folder(folder))
    spoil(folder)
    with pytest.raises((OSError, ValueError)):
        CaptionedFolder(folder)
    findings = check_folder(folder)
    assert not ready(findings)
    fixes = [finding for finding in findings if finding.kind == "fix"]
    assert findings[-len(fixes) :] == fixes  # they come last
    (match,) = [str(finding) for finding in fixes if re.search(told, str(finding))]
    assert match.startswith("fix: ") and len(match.splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\x00" * 99, bytes(range(256)) * 9, "ü{".encode("utf-16"), b"[" * 10**5],
    ids=["empty", "blank", "zeros", "all bytes", "UTF-16", "too deep"],
)
def test_nonsense_for_metadata_is_answered_in_lines(folder, content):
    (folder / "metadata.jsonl").write_bytes(content)
    findings = check_folder(folder)
    assert not ready(findings) and all(len(str(f).splitlines()) == 1 for f in findings)
    assert "no pictures" in str(findings[-1]) and len(str(findings[-1])) < 300


def test_what_is_missing_and_shards_are_refused_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        check_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no metadata\.jsonl, with lines such as"):
        check_folder(tmp_path)
    (tmp_path / "000.tar").touch()
    with pytest.raises(ValueError, match="holds shards: check the pictures before you pack them"):
        check_folder(tmp_path)
    with pytest.raises(ValueError, match="size must be a whole number, at least 1; got 0"):
        check_folder(tmp_path, size=0)


def test_huge_pictures_are_named_and_bombs_are_refused(folder, monkeypatch):
    add(folder, "large.png", "large", noise(60, 100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9000)
    findings = check_folder(folder)
    assert ready(findings) and any(f.text.startswith("huge: 1 picture") for f in findings)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4500)
    assert "unreadable: 1 picture" in line(folder, "fix") and "bomb" in line(folder, "fix")


def test_a_folder_that_may_not_be_opened_is_told(folder, monkeypatch):
    def closed(*_):
        raise PermissionError(13, "Permission denied", "my_pictures/secret")

    monkeypatch.setattr(folder_check, "unlisted", closed)
    assert line(folder, "fix").startswith("fix: a file or a subfolder can't be opened: ")


def test_links_and_subfolders_are_followed_and_hidden_files_left_out(folder):
    (folder / "more").mkdir()
    add(folder, "more/zebra.png", "a striped zebra", noise(70))
    (folder / "link.png").symlink_to(folder / "more" / "zebra.png")
    (folder / "more" / "up").symlink_to(folder)
    (folder / "._zebra.png").write_bytes(b"x")
    findings = check_folder(folder)
    assert ready(findings) and findings[0].text == "pictures: 21, each with a caption"


def test_every_picture_is_opened_once_and_watched(folder, monkeypatch):
    opened, watched = [], []
    real = folder_check.opened
    monkeypatch.setattr(folder_check, "opened", lambda *a: opened.append(a[1]) or real(*a))
    check_folder(folder, watch=lambda entries: (watched.append(len(entries)), entries)[1])
    assert watched == [20] and len(opened) == len(set(opened)) == 20


def test_a_line_names_five_files_or_all():
    finding = Finding("note", "enlarged: 7 pictures", [f"{n}.png" for n in range(7)])
    few, every = finding.line(), finding.line(None)
    assert few == "note: enlarged: 7 pictures: 0.png; 1.png; 2.png; 3.png; 4.png; and 2 more"
    assert every.count(".png") == 7 and "more" not in every
    assert Finding("fact", "x", ["a\nb\x1b[2J"]).line() == "x: a b?[2J"


def test_pictures_keep_their_captions_when_split(folder):
    data = CaptionedFolder(folder)
    by_path = dict(zip(data.paths, zip(data.captions, data.pixels, strict=True), strict=True))
    parts = data.split()
    assert sorted(parts[0].paths + parts[1].paths) == sorted(data.paths)
    for part in parts:
        for path, caption, pixels in zip(part.paths, part.captions, part.pixels, strict=True):
            assert by_path[path][0] == caption and torch.equal(by_path[path][1], pixels)
        images, captions = part.batch(range(len(part)))
        assert sorted(captions) == sorted(part.captions) and images.shape[1:] == (3, 64, 64)
