"""Phantoms: pairs that differ only in a lesion, in [-1, 1], reproducible."""

import pytest
import torch

from course_lib.datasets.phantoms import LESION, phantoms


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_pair_differs_where_the_lesion_is_and_nowhere_else():
    drawn = phantoms(200, generator())
    apart = drawn.lesion - drawn.healthy
    assert apart.min() >= 0 and (apart[~drawn.spot] > 0).float().mean() < 0.01
    assert (apart.amax((1, 2, 3)) <= 2 * LESION + 1e-6).all()
    area = apart.sum((1, 2, 3)) / (2 * LESION)  # in pixels: a disc 1.6 to 2.24 pixels in radius
    assert (area > 0.9 * 3.14 * 1.6**2).all() and (area < 1.1 * 3.14 * 2.24**2).all()


def test_a_lesion_lies_where_lesions_may_lie():
    drawn = phantoms(200, generator())
    assert (drawn.spot & drawn.places).flatten(1).any(1).all()
    assert (drawn.healthy[drawn.places] < 1).all()  # never on the skull


def test_the_range_and_the_air_around():
    drawn = phantoms(50, generator())
    for images in (drawn.healthy, drawn.lesion):
        assert images.shape == (50, 1, 32, 32) and images.dtype == torch.float32
        assert images.min() == -1 and images.max() <= 1
        assert (images[..., 0, :] == -1).all() and (images[..., -1] == -1).all()


def test_the_generator_decides():
    one, same, other = (phantoms(3, generator(seed)).lesion for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("settings", [dict(count=0), dict(count=2, size=0), dict(count=0.5)])
def test_what_is_no_size_is_refused(settings):
    with pytest.raises(ValueError, match="whole number"):
        phantoms(**settings)
