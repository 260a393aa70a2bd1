"""Toy sets: centred, of unit variance, in the right shape, reproducible."""

import pytest
import torch

from course_lib.datasets.toy import TOYS, checkerboard, gaussian_ring, ring_centres, two_circles


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", TOYS)
def test_centred_with_unit_variance(name):
    points = TOYS[name](40_000, seeded())
    assert points.shape == (40_000, 2)
    assert points.dtype == torch.float32
    # the standard error of a mean is 1/sqrt(40000) = 0.005; four of them
    assert points.mean(0).abs().max() < 0.02
    assert abs(points.var(0).mean() - 1) < 0.02


@pytest.mark.parametrize("name", TOYS)
def test_the_generator_decides(name):
    assert torch.equal(TOYS[name](50, seeded(1)), TOYS[name](50, seeded(1)))
    assert not torch.equal(TOYS[name](50, seeded(1)), TOYS[name](50, seeded(2)))
    assert TOYS[name](0, seeded()).shape == (0, 2)


def test_checkerboard_leaves_the_light_squares_empty():
    cell = (checkerboard(20_000, seeded()) * (16 / 12) ** 0.5 + 2).floor().long()
    assert (cell.sum(1) % 2 == 0).all()
    counts = torch.bincount(4 * cell[:, 0] + cell[:, 1], minlength=16)
    assert (counts > 0).sum() == 8
    assert counts[counts > 0].float().std() < 4 * 2500**0.5  # binomial spread around 2500


def test_two_circles_without_noise_have_two_radii_in_ratio_two():
    radii = two_circles(1000, seeded(), noise=0.0).norm(dim=1)
    inner, outer = radii.min(), radii.max()
    assert outer / inner == pytest.approx(2, abs=1e-3)
    assert ((radii - inner).abs() < 1e-3).logical_or((radii - outer).abs() < 1e-3).all()


def test_gaussian_ring_scatters_around_its_centres():
    points = gaussian_ring(20_000, seeded(), components=5, std=0.05)
    nearest = torch.cdist(points, ring_centres(5, 0.05)).min(1).values
    assert nearest.square().mean().sqrt() == pytest.approx(0.05 * 2**0.5, rel=0.05)
