"""Shifts and rotations: exact for whole pixels, and within the limits."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.datasets import augment
from course_lib.datasets.augment import shift_and_rotate, vary
from course_lib.datasets.digits import digits

IMAGES = digits(8, "test")[0][:20]


@pytest.fixture
def drawn(monkeypatch):
    """Fixes the random shifts (right, down) and the angle, as shares of their limits."""

    def draw(right, down, angle):
        draws = {3: torch.tensor([right, down]).reshape(1, 2, 1), 1: torch.tensor([angle])}
        values = {dims: (each + 1) / 2 for dims, each in draws.items()}
        rand = lambda count, *rest: values[1 + len(rest)].expand(count, *rest)  # noqa: E731
        monkeypatch.setattr(augment.torch, "rand", rand)

    return draw


def test_without_limits_nothing_changes():
    torch.testing.assert_close(shift_and_rotate(IMAGES, 0, 0), IMAGES)


@pytest.mark.parametrize("right, down", [(1.0, 0.0), (0.0, -1.0), (-0.5, 1.0)])
def test_whole_pixels_are_moved_exactly_and_background_comes_in(drawn, right, down):
    drawn(right, down, 0.0)
    x, y = int(2 * right), int(2 * down)  # the image is read that far to the right and below
    expected = F.pad(IMAGES, (-x, x, -y, y), value=-1.0)
    torch.testing.assert_close(shift_and_rotate(IMAGES, pixels=2), expected, atol=1e-5, rtol=0)


def test_a_right_angle_is_a_rotation_of_the_grid(drawn):
    drawn(0.0, 0.0, 1.0)
    turned = shift_and_rotate(IMAGES, 0, 90)
    torch.testing.assert_close(turned, IMAGES.rot90(1, dims=(2, 3)), atol=1e-5, rtol=0)


def test_each_image_gets_its_own_change_and_stays_in_range():
    torch.manual_seed(0)
    same = IMAGES[:1].expand(50, -1, -1, -1)
    changed = shift_and_rotate(same)
    assert (changed[0] - changed[1]).abs().max() > 0.1
    assert changed.min() >= -1 - 1e-6 and changed.max() <= 1 + 1e-6
    moved = shift_and_rotate(same, degrees=0) + 1  # the centre of mass moves by at most a pixel
    across = torch.arange(8.0)
    centre = (moved.sum((1, 2)) * across).sum(1) / moved.sum((1, 2, 3))
    start = ((same[:1] + 1).sum((1, 2)) * across).sum() / (same[:1] + 1).sum()
    assert (centre - start).abs().max() < 1.01 and (centre - start).abs().max() > 0.5


@pytest.mark.parametrize(
    "images, settings, line",
    [
        (torch.zeros(2, 1, 8, 6), {}, "images"),
        (torch.zeros(8, 8), {}, "images"),
        (IMAGES, {"pixels": -1}, "pixels"),
        (IMAGES, {"degrees": -1}, "degrees"),
    ],
)
def test_refusals(images, settings, line):
    with pytest.raises(ValueError, match=line):
        shift_and_rotate(images, **settings)


# Drawings on white

NONE = dict(shift=0, scale=0, degrees=0, colour=0, blur=0, noise=0)


def test_a_drawing_that_is_not_varied_stays():
    images = IMAGES.repeat(1, 3, 1, 1)
    torch.testing.assert_close(vary(images, **NONE), images)


@pytest.mark.parametrize("which", ["shift", "scale", "degrees", "colour", "blur"])
def test_white_stays_white_and_each_change_is_one(which):
    size = {"shift": 0.2, "scale": 0.3, "degrees": 20, "colour": 0.2, "blur": 1}[which]
    drawing = torch.ones(8, 3, 32, 32)
    drawing[:, :, 10:20, 12:18] = torch.tensor([-0.5, 0.2, 0.6])[:, None, None]
    torch.manual_seed(0)
    varied = vary(drawing, **NONE | {which: size})
    assert not torch.equal(varied[0], drawing[0]) and not varied.isnan().any()
    assert (varied[:, :, :2] == 1).all() and varied.abs().max() <= 1
    if which != "blur":  # each picture in its own way
        assert len({tuple(picture.flatten().tolist()) for picture in varied}) == 8


def test_a_blur_is_a_mean_of_nine_and_noise_is_as_strong_as_asked():
    torch.testing.assert_close(
        vary(IMAGES, **NONE | {"blur": 1})[..., 1:-1, 1:-1], F.avg_pool2d(IMAGES, 3, stride=1)
    )
    grey = torch.zeros(2000, 1, 8, 8)
    torch.manual_seed(0)
    spread = vary(grey, **NONE | {"noise": 0.1}).std((1, 2, 3))  # uniform between 0 and 0.1
    assert spread.mean() == pytest.approx(0.05, abs=0.002) and spread.max() < 0.13


def test_drawings_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="square"):
        vary(torch.ones(2, 3, 8, 9))
