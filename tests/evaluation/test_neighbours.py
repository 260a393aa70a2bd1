"""Nearest training pictures: copies are found exactly, and the order is that of sorting."""

import pytest
import torch

from course_lib.evaluation.neighbours import nearest_neighbours


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_copy_has_distance_zero():
    training = random(300, 3, 8, 8)
    distances, indices = nearest_neighbours(training[[5, 250]], training)
    assert indices.tolist() == [[5], [250]]
    assert distances.tolist() == [[0], [0]]


def test_a_copy_is_told_from_what_is_nearly_one():
    """One number in 12,288 is off by one of 256 levels: less than the rounding of products."""
    images = random(60, 3, 64, 64)
    nearly = images.clone()
    nearly[:, 0, 0, 0] += 1 / 127.5
    distances, indices = nearest_neighbours(images, torch.cat([nearly, images]), k=2)
    assert indices[:, 0].tolist() == list(range(60, 120)) and (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 0).all()


def test_distance_is_per_pixel():
    distances, _ = nearest_neighbours(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5))
    assert distances.item() == 0.5


def test_agrees_with_sorting_in_any_chunks():
    images, training = random(7, 1, 6, 6, seed=1), random(50, 1, 6, 6, seed=2)
    slow = (images[:, None] - training).square().mean((2, 3, 4)).sqrt().sort(1)
    for chunk in (1, 3, 100):
        distances, indices = nearest_neighbours(images, training, k=3, chunk=chunk)
        assert indices.tolist() == slow.indices[:, :3].tolist()
        assert torch.allclose(distances, slow.values[:, :3])


def test_refusals():
    with pytest.raises(ValueError, match="different shapes"):
        nearest_neighbours(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="k is 3, expected 1 to 2"):
        nearest_neighbours(torch.zeros(1, 4), torch.zeros(2, 4), k=3)
