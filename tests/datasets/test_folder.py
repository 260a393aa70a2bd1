"""One's own pictures: read right, refused clearly, and usable in place of `Scenes`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

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
    with pytest.raises(ValueError, match=r"2 pictures have no caption: black\.bmp, more"):
        CaptionedFolder(folder)
    write(folder, **{" ": "red.png"})
    with pytest.raises(ValueError, match=r"line 1: red\.png has an empty caption"):
        CaptionedFolder(folder)


@pytest.mark.parametrize("line", ["{not json", '"a string"', '{"file_name": "red.png", "text": 3}'])
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
    """Pillow would cut their numbers off, and show nearly all of them white."""
    ramp = np.linspace(0, 1 if dtype == "float32" else 65535, 64).reshape(8, 8).astype(dtype)
    path = tmp_path / "ramp.tiff"
    Image.fromarray(ramp).save(path)
    with pytest.raises(OSError, match=r"ramp\.tiff: it has more than 8 bits a channel \(mode "):
        read_picture(path, path, 8)
