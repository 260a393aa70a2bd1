"""The reader's own pictures: read correctly, refused clearly, and usable instead of `Scenes`."""

import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image, features

from course_lib.datasets.folder import CaptionedFolder, read_picture


@pytest.fixture
def folder(tmp_path):
    """Four plain pictures of different sizes and kinds, one in a subfolder."""
    (tmp_path / "more").mkdir()
    Image.new("RGB", (80, 60), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("RGB", (64, 64), (0, 0, 255)).save(tmp_path / "more" / "blue.png")
    Image.new("L", (20, 90), 0).save(tmp_path / "black.bmp")
    Image.new("RGBA", (70, 70), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    write(tmp_path, red="red.png", blue="more/blue.png", black="black.bmp", clear="clear.png")
    return tmp_path


def write(folder, column="text", **captions):
    lines = [json.dumps({"file_name": name, column: text}) for text, name in captions.items()]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")


def colours(data):
    images, captions = data.batch(range(len(data)))
    return {text: image.mean((1, 2)).tolist() for image, text in zip(images, captions, strict=True)}


def test_pictures_and_their_captions(folder):
    data = CaptionedFolder(folder, size=32)
    images, captions = data.batch(range(4))
    assert images.shape == (4, 3, 32, 32) and images.dtype == torch.float32
    assert sorted(captions) == ["black", "blue", "clear", "red"]
    seen = colours(data)
    assert seen["red"] == [1, -1, -1] and seen["blue"] == [-1, -1, 1]
    assert seen["black"] == [-1, -1, -1]
    assert seen["clear"] == [1, 1, 1]  # transparent pictures stand on white


def test_it_is_endless_and_goes_by_position_like_scenes(folder):
    data = CaptionedFolder(folder)
    images, captions = data.batch(range(6, 10))
    assert [data.caption(i) for i in range(6, 10)] == captions
    assert torch.equal(data.batch([8])[0][0], images[2])
    assert sorted(data.batch(range(4, 8))[1]) == ["black", "blue", "clear", "red"]


def test_the_middle_square_is_kept_upright(tmp_path):
    wide = Image.new("RGB", (90, 30), (0, 255, 0))
    wide.paste((255, 0, 0), (0, 0, 30, 30))  # cut off on the left
    wide.save(tmp_path / "wide.png")
    turned = Image.new("RGB", (32, 32), (0, 0, 0))
    turned.paste((255, 255, 255), (0, 0, 32, 16))  # white above, until turned by its EXIF tag
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    write(tmp_path, wide="wide.png", turned="turned.png")
    data = CaptionedFolder(tmp_path, size=32)
    pictures = dict(zip(*reversed(data.batch(range(2))), strict=True))
    assert pictures["wide"].mean((1, 2)).tolist() == pytest.approx([-1, 1, -1], abs=0.01)
    assert pictures["turned"][:, 20:].mean() == 1 and pictures["turned"][:, :12].mean() == -1


def test_another_column(folder):
    write(folder, "caption", red="red.png", b="more/blue.png", c="black.bmp", d="clear.png")
    assert "red" in CaptionedFolder(folder, column="caption").captions
    with pytest.raises(
        ValueError, match=r'line 1: expected such as .*"text".*, got \'\{"file_name'
    ):
        CaptionedFolder(folder)


def test_missing_things_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        CaptionedFolder(tmp_path / "nowhere")
    (folder / "red.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"line 1: there is no file .*red\.png"):
        CaptionedFolder(folder)
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no metadata\.jsonl, with lines such as"):
        CaptionedFolder(folder)


def test_pictures_without_a_caption_are_named(folder):
    write(folder, red="red.png", clear="clear.png")
    with pytest.raises(ValueError, match=r"metadata\.jsonl has no line for black\.bmp, more/blue"):
        CaptionedFolder(folder)
    write(folder, **{" ": "red.png"})
    with pytest.raises(ValueError, match=r"line 1: red\.png has an empty caption"):
        CaptionedFolder(folder)


def encoded(form):
    """A grey picture of 8 by 8 pixels as a file of that format."""
    if not features.check({"AVIF": "avif", "JPEG2000": "jpg_2000"}.get(form, "pil")):
        pytest.skip(f"this Pillow was built without {form}")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (100, 100, 100)).save(buffer, form)
    return buffer.getvalue()


FORMS = [
    *(("x.avif", "AVIF"), ("x.jfif", "JPEG"), ("x.jp2", "JPEG2000"), ("x.pcx", "PCX")),
    *(
        ("x.tga", "TGA"),
        ("x.final.PNG", "PNG"),
        ("x.jpg_large", "JPEG"),
        ("x.bin", "PNG"),
        ("x", "PNG"),
    ),
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_what_pillow_can_open_is_a_picture_whatever_it_is_called(folder, name, form):
    (folder / "more" / name).write_bytes(encoded(form))
    with pytest.raises(ValueError, match=rf"metadata\.jsonl has no line for more/{name}$"):
        CaptionedFolder(folder)
    with open(folder / "metadata.jsonl", "a") as metadata:
        metadata.write(json.dumps({"file_name": f"more/{name}", "text": "grey"}))
    seen = colours(CaptionedFolder(folder, size=8))["grey"]
    assert seen == pytest.approx(3 * [100 / 127.5 - 1], abs=1 / 127.5)  # a level: some forms lose


@pytest.mark.parametrize("name", ["x.heic", "x.png", "000.tar", "more/x.TAR.GZ", "old.zip"])
def test_pictures_that_pillow_cannot_open_and_archives_are_named(folder, name):
    (folder / name).write_bytes(b"neither this nor that")
    with pytest.raises(ValueError, match=rf"metadata\.jsonl has no line for {name}$"):
        CaptionedFolder(folder)


def test_of_many_that_were_forgotten_three_are_named(folder):
    write(folder)
    with pytest.raises(ValueError, match=r"black\.bmp, clear\.png, more/blue\.png and 1 more$"):
        CaptionedFolder(folder)


def test_what_is_always_left_out(folder):
    """Hidden files, samples that a training writes into its folder, and other kinds of files."""
    picture = (folder / "red.png").read_bytes()
    hidden = "._red.png", ".thumbnails/red.png", "more/.ipynb_checkpoints/blue-checkpoint.png"
    drawn = "outputs/scenes-vae/step_000250.png", "step_001000.png"
    for name in hidden + drawn:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture)
    for place in (folder, folder / "outputs" / "scenes-vae"):
        (place / "log.jsonl").write_text('{"step": 1, "loss": 0.5}')
    others = (
        "README.md",
        "red.txt",
        "more/table.csv",
        "LICENSE",
        "Thumbs.db",
        "x.npy",
        "x.bin",
        "notes.pdf",
    )
    for name in others:
        (folder / name).write_text("no picture")
    assert len(CaptionedFolder(folder)) == 4
    (folder / "log.jsonl").unlink()
    with pytest.raises(ValueError, match=r"no line for step_001000\.png$"):
        CaptionedFolder(folder)


def test_a_hidden_picture_that_is_listed_is_read(folder):
    (folder / "red.png").rename(folder / ".red.png")
    write(folder, red=".red.png", blue="more/blue.png", black="black.bmp", clear="clear.png")
    assert colours(CaptionedFolder(folder))["red"] == [1, -1, -1]


def test_folders_named_like_pictures_hold_pictures(folder):
    (folder / "cat.png").mkdir()
    (folder / "000.tar").mkdir()
    assert len(CaptionedFolder(folder)) == 4
    (folder / "red.png").rename(folder / "cat.png" / "red.png")
    write(folder, blue="more/blue.png", black="black.bmp", clear="clear.png")
    with pytest.raises(ValueError, match=r"no line for cat\.png/red\.png$"):
        CaptionedFolder(folder)
    with open(folder / "metadata.jsonl", "a") as metadata:
        metadata.write('{"file_name": "cat.png/red.png", "text": "red"}')
    assert colours(CaptionedFolder(folder))["red"] == [1, -1, -1]


def test_a_picture_may_be_listed_by_any_path_and_more_than_once(folder):
    absolute = str(folder / "clear.png")
    write(folder, red="more/../red.png", blue="./more/blue.png", black="black.bmp", clear=absolute)
    with open(folder / "metadata.jsonl", "a") as metadata:
        metadata.write('{"file_name": "more/../more/../red.png", "text": "scarlet"}')
    seen = colours(CaptionedFolder(folder))
    assert seen.keys() == {"red", "scarlet", "blue", "black", "clear"}
    assert seen["red"] == seen["scarlet"] == [1, -1, -1]


@pytest.mark.skipif(os.name == "nt", reason="links need permission there")
def test_links_are_followed_and_may_lead_in_circles(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Image.new("RGB", (8, 8)).save(elsewhere / "far.png")
    (folder / "more" / "up").symlink_to(folder)
    (folder / "more" / "same.png").symlink_to(folder / "red.png")  # has its line
    (folder / "lost.png").symlink_to(folder / "nowhere.png")
    assert len(CaptionedFolder(folder)) == 4
    (folder / "away").symlink_to(elsewhere)
    with pytest.raises(ValueError, match=r"no line for away/far\.png$"):
        CaptionedFolder(folder)


@pytest.mark.parametrize("entry", [("\\ud83d", "a cat"), ("red.png", "a \\ude00 cat")])
def test_half_a_character_is_refused_with_its_line(folder, entry):
    """JSON can contain half of an emoji, which can't be encoded as UTF-8 and no tokenizer reads."""
    name, text = entry
    (folder / "metadata.jsonl").write_text(f'\n\n{{"file_name": "{name}", "text": "{text}"}}')
    half = r"metadata\.jsonl, line 3: '.u(d83d|de00)' is half of a character"
    with pytest.raises(ValueError, match=half):
        CaptionedFolder(folder)
    whole = '{"file_name": "red.png", "text": "a \\ud83d\\ude00 cat"}'
    (folder / "metadata.jsonl").write_text(whole)
    for other in ("black.bmp", "clear.png", "more/blue.png"):
        (folder / other).unlink()
    assert CaptionedFolder(folder).captions == ["a \N{GRINNING FACE} cat"]


BROKEN = ["{not json", '"a string"', '{"file_name": "red.png", "text": 3}', "[" * 10**5]


@pytest.mark.parametrize("line", BROKEN, ids=["no JSON", "no object", "no caption", "too deep"])
def test_broken_metadata_is_quoted(folder, line):
    (folder / "metadata.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match="line 2: expected such as"):
        CaptionedFolder(folder)


def test_an_empty_list_is_refused(tmp_path):
    (tmp_path / "metadata.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"metadata\.jsonl lists no pictures"):
        CaptionedFolder(tmp_path)


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_damaged_picture_is_named(folder, keep):
    path = folder / "red.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(OSError, match=r"cannot read the picture .*red\.png"):
        CaptionedFolder(folder)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_pictures_of_more_than_8_bits_are_refused(tmp_path, dtype):
    """Pillow would clip their values, and show nearly all of them white."""
    ramp = np.linspace(0, 1 if dtype == "float32" else 65535, 64).reshape(8, 8).astype(dtype)
    path = tmp_path / "ramp.tiff"
    Image.fromarray(ramp).save(path)
    with pytest.raises(OSError, match=r"ramp\.tiff: it has more than 8 bits a channel \(mode "):
        read_picture(path, path, 8)
