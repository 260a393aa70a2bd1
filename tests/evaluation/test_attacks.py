"""Attacks: known pictures come out as they must."""

import pytest
import torch

from course_lib.evaluation.attacks import add_noise, crop, jpeg, resize, rotate


def pictures(channels=3, size=16):
    wave = torch.linspace(0, 3, size).sin()
    return (wave[:, None] * wave).expand(2, channels, size, size).clone()


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_loses_more_at_lower_quality(channels):
    images = pictures(channels)
    errors = [(jpeg(images, q) - images).square().mean().sqrt() for q in (95, 50, 5)]
    assert errors[0] < errors[1] < errors[2] < 0.3 and errors[0] < 0.02
    assert jpeg(images, 50).shape == images.shape and jpeg(images, 50).abs().max() <= 1


def test_what_changes_nothing_changes_nothing():
    images = pictures()
    for same in (crop(images, 1.0), resize(images, 1.0), rotate(images, 0), add_noise(images, 0.0)):
        torch.testing.assert_close(same, images)
    flat = torch.full((1, 3, 16, 16), 0.25)
    for same in (crop(flat, 0.7), resize(flat, 0.4), rotate(flat, 33)):
        torch.testing.assert_close(same, flat)


def test_a_crop_enlarges_the_middle():
    """A ramp keeps its middle and gets flatter by the share that is kept."""
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    cropped = crop(ramp, 0.5)[0, 0, 0]
    slopes = cropped.diff()[4:-4] / (ramp[0, 0, 0, 1] - ramp[0, 0, 0, 0])
    torch.testing.assert_close(slopes, torch.full_like(slopes, 0.5), atol=1e-4, rtol=0)
    assert abs(cropped.mean()) < 1e-5


def test_resizing_removes_the_finest_stripes():
    stripes = torch.tensor([-1.0, 1.0]).repeat(8).expand(1, 1, 16, 16)
    assert resize(stripes, 0.5).abs().max() < 0.5 < stripes.abs().min()


def test_quarter_turns_are_those_of_torch():
    images = pictures() + torch.linspace(0, 0.2, 16)  # no symmetry
    for turns in range(4):
        torch.testing.assert_close(
            rotate(images, 90 * turns), images.rot90(turns, (2, 3)), atol=1e-4, rtol=0
        )


def test_noise_has_its_standard_deviation_and_its_seed():
    grey = torch.zeros(2, 3, 32, 32)
    assert add_noise(grey, 0.1).std().item() == pytest.approx(0.1, rel=0.03)
    assert torch.equal(add_noise(grey, 0.1), add_noise(grey, 0.1))
    assert not torch.equal(add_noise(grey, 0.1), add_noise(grey, 0.1, seed=1))
    assert add_noise(grey, 9.0).abs().max() == 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: jpeg(pictures(), 0), "quality: expected 1 to 95, got 0"),
        (lambda: crop(pictures(), 0.0), "side: expected a share in (0, 1], got 0.0"),
        (lambda: resize(pictures(), 1.5), "side: expected a share"),
        (lambda: add_noise(pictures(), -1.0), "std: expected 0 or more"),
    ],
)
def test_refusals(call, told):
    with pytest.raises(ValueError) as refusal:
        call()
    assert told in str(refusal.value)
