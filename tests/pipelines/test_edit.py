"""Outpainting: what stays, and that it is inpainting; the rest is in test_text_to_image.py."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.common import devices
from course_lib.pipelines import inpaint, outpaint

CAPTIONS = ["a red circle", "a blue square"]


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(devices, "fast_precision", lambda device: "no")


def pictures(height, width):
    draw = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, height, width, generator=draw) * 2 - 1


@pytest.mark.parametrize(
    ("size", "place", "corner"),
    [
        ((20, 12), {}, (6, 10)),  # the middle
        ((21, 32), {}, (5, 0)),
        ((9, 14), dict(top=0, left=18), (0, 18)),  # the upper right corner
        ((9, 14), dict(left=3), (11, 3)),
    ],
)
def test_the_pictures_stay_and_all_else_is_painted(toy_pipeline, size, place, corner):
    """To the last bit, as inpainting around them does."""
    images, (height, width), (top, left) = pictures(*size), size, corner
    new = outpaint(toy_pipeline, images, CAPTIONS, steps=2, **place)
    assert new.shape == (2, 3, 32, 32)
    assert torch.equal(new[..., top : top + height, left : left + width], images)

    mask = torch.ones(1, 1, 32, 32)
    mask[..., top : top + height, left : left + width] = 0
    edges = (left, 32 - width - left, top, 32 - height - top)
    canvas = F.pad(images, edges, mode="replicate")
    assert torch.equal(new, inpaint(toy_pipeline, canvas, mask, CAPTIONS, steps=2))
    assert (new - canvas).abs()[mask.bool().expand_as(new)].mean() > 0.01


def test_pictures_of_full_size_have_nothing_around_them(toy_pipeline):
    images = pictures(32, 32)
    assert torch.equal(outpaint(toy_pipeline, images, CAPTIONS, steps=1), images)


@pytest.mark.parametrize(
    ("images", "place", "line"),
    [
        (pictures(33, 8), {}, r"expected floats \(B, 3, H, W\) of at most 32 × 32 pixels, got \(2"),
        (pictures(8, 8)[0], {}, r"images to outpaint: .*got \(3, 8, 8\)"),
        (pictures(8, 8).byte(), {}, "torch.uint8"),
        (pictures(8, 8)[:1], {}, r"images are \(1, 3, 32, 32\), expected \(2, 3, 32, 32\)"),
        (pictures(8, 8), dict(top=-1), "top: expected a whole number of pixels from 0 to 24, got"),
        (pictures(8, 8), dict(left=25), "left: expected a whole number .*, got 25"),
        (pictures(8, 8), dict(left=0.5), "left: expected a whole number .*, got 0.5"),
    ],
)
def test_what_it_refuses(toy_pipeline, images, place, line):
    with pytest.raises(ValueError, match=line):
        outpaint(toy_pipeline, images, CAPTIONS, **place)
