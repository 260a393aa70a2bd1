"""Distances: closed forms, a second, slow computation, floors, refusals."""

import numpy as np
import pytest
import scipy.linalg
import torch

from course_lib.evaluation.distances import (
    floor,
    frechet_distance,
    kernel_distance,
    precision_recall,
)


def normal(n, d, seed, mean=0.0, std=1.0):
    noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + std * noise


def whitened(n, d, seed):
    """Features with mean 0 and covariance 1 up to rounding."""
    x = normal(n, d, seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def test_frechet_is_the_formula_for_gaussians_of_known_moments():
    a, b = whitened(50, 4, 0), whitened(70, 4, 1)
    scale, shift = torch.tensor([1.0, 2.0, 0.5, 3.0]), torch.tensor([1.0, -2.0, 0.0, 0.5])
    # diagonal covariances: |shift|² + sum (scale_a - scale_b)²
    expected = shift.square().sum() + (scale - 1).square().sum()
    assert frechet_distance(a, b * scale + shift) == pytest.approx(expected.item(), rel=1e-9)


def test_frechet_agrees_with_scipys_matrix_square_root():
    a = normal(60, 8, 0) @ normal(8, 8, 1)
    b = normal(40, 8, 2) @ normal(8, 8, 3) + 1
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_a_set_with_itself_is_zero_even_if_it_lies_in_a_plane():
    a = normal(30, 3, 0) @ normal(3, 64, 1)  # rank 3 in 64 dimensions
    assert abs(frechet_distance(a.float(), a.float())) < 1e-5 * a.var(0).sum()


def test_frechet_is_symmetric_and_ignores_the_order():
    a, b = normal(30, 5, 0), normal(50, 5, 1, std=2)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b.flip(0), a), rel=1e-9)


def test_frechet_shrinks_with_more_pictures():
    few = frechet_distance(normal(50, 16, 0), normal(50, 16, 1))
    many = frechet_distance(normal(2000, 16, 0), normal(2000, 16, 1))
    assert few > 10 * many > 0  # its bias goes as 1/n


def test_kernel_distance_is_the_mean_over_pairs():
    a, b = normal(6, 3, 0), normal(5, 3, 1)

    def k(x, y):
        return ((x @ y) / 3 + 1).item() ** 3

    def among(x):
        return np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])

    expected = among(a) + among(b) - 2 * np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_is_unbiased():
    scores = [kernel_distance(normal(20, 4, 2 * s), normal(20, 4, 2 * s + 1)) for s in range(400)]
    # around zero within four standard errors of the mean, although each set is tiny
    assert abs(np.mean(scores)) < 4 * np.std(scores) / 20
    assert min(scores) < 0
    assert kernel_distance(normal(200, 4, 0), normal(200, 4, 1, mean=0.5)) > 0.2


def slow_share_inside(points, others, k):
    """Without torch: is a point within the k-th neighbour's distance of any other?"""
    inside = 0
    for point in points:
        for i, centre in enumerate(others):
            rest = np.delete(others, i, axis=0)
            radius = np.sort(np.linalg.norm(rest - centre, axis=1))[k - 1]
            if np.linalg.norm(point - centre) <= radius:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_count_what_lies_in_the_others_balls(k):
    real, generated = normal(40, 2, 0), normal(30, 2, 1, mean=0.5, std=0.7)
    expected = (
        slow_share_inside(generated.numpy(), real.numpy(), k),
        slow_share_inside(real.numpy(), generated.numpy(), k),
    )
    assert precision_recall(real, generated, k) == pytest.approx(expected)
    assert precision_recall(generated, real, k) == pytest.approx(expected[::-1])


def test_a_lost_mode_costs_recall_and_an_invented_one_precision():
    left, right = normal(200, 2, 0), normal(200, 2, 1, mean=50)
    both = torch.cat([left, right])
    precision, recall = precision_recall(both, normal(400, 2, 2))
    assert precision > 0.9 and 0.4 < recall <= 0.5
    precision, recall = precision_recall(normal(400, 2, 2), both)
    assert 0.4 < precision <= 0.5 and recall > 0.9


def test_precision_and_recall_of_a_set_with_itself_and_with_copies_of_one():
    real = normal(50, 3, 0)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real[:1].repeat(20, 1)) == (1.0, 0.02)  # itself, and no other


def test_precision_and_recall_need_more_than_k():
    for k, few in ((3, 3), (0, 5)):
        with pytest.raises(ValueError, match=f"k is {k}, expected at least 1 and less than 8 and"):
            precision_recall(normal(8, 2, 0), normal(few, 2, 1), k)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_the_floor_is_far_below_a_shift_and_repeatable(distance):
    real = normal(400, 6, 0)
    mean, spread = floor(distance, real, 200)
    assert (mean, spread) == floor(distance, real, 200)
    assert distance(normal(200, 6, 1, mean=0.5), real[:200]) > mean + 10 * spread
    assert distance(normal(200, 6, 2), real[:200]) < mean + 6 * spread


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, precision_recall])
def test_refusals(distance):
    good = torch.zeros(3, 4)
    for bad in (torch.zeros(3, 5), torch.zeros(1, 4), torch.zeros(3, 4, 1)):
        with pytest.raises(ValueError, match=r"features are .*, expected \(N, D\) and \(M, D\)"):
            distance(good, bad)
    with pytest.raises(ValueError, match="not all finite"):
        distance(good, good / 0)


@pytest.mark.parametrize("count", [1, 9, 10])
def test_the_floor_needs_two_on_either_side(count):
    with pytest.raises(ValueError, match=f"count is {count}, expected 2 to 8 of 10"):
        floor(frechet_distance, normal(10, 2, 0), count)
