"""The parts of chapter 15c: which digits are chosen, how sources are mixed, what is measured."""

import pytest
import torch

from course_lib.datasets.digits import digits
from course_lib.diffusion import GaussianMixture
from course_lib.teaching.augmentation import (
    NULL,
    PROCESS,
    accuracy,
    batches,
    copies,
    distances,
    few_digits,
    first_of_each,
    right_digit,
    synthesize,
    train_classifier,
)

TEST = digits(8, "test")


def test_few_digits_are_as_many_of_each_and_none_is_held_out():
    images, labels = few_digits(7, seed=3)
    assert labels.bincount().tolist() == [7] * 10
    assert (torch.cdist(images.flatten(1), TEST[0].flatten(1)) > 0).all()
    few = few_digits(2, seed=3)
    found = first_of_each((images, labels), 2)
    assert torch.equal(found[0], few[0]) and torch.equal(found[1], few[1])
    assert not torch.equal(few_digits(7, seed=4)[0], images)


def test_every_source_has_an_equal_share_however_large_it_is():
    """Equation 15c.2, with a share of one half."""
    small = torch.full((3, 1, 8, 8), -1.0), torch.zeros(3, dtype=torch.long)
    large = torch.full((900, 1, 8, 8), 1.0), torch.ones(900, dtype=torch.long)
    torch.manual_seed(0)
    images, labels = batches(small, large, size=64)(0)
    assert labels.bincount().tolist() == [32, 32]
    assert torch.equal(images[:, 0, 0, 0], 2.0 * labels - 1)
    changed, _ = batches(small, change=lambda x: -x)(0)
    assert (changed == 1).all()


def test_a_run_of_one_seed_repeats():
    batch = batches(few_digits(5, 0))
    first, second = (train_classifier(batch, seed=1, steps=3) for _ in range(2))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    other = train_classifier(batch, seed=2, steps=3)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_a_classifier_learns_the_digits_that_it_was_given():
    data = few_digits(5, 0)
    assert accuracy(train_classifier(batches(data), 0, steps=100), data) > 0.95


def test_copies_are_found_and_unseen_real_digits_are_none():
    images, labels = few_digits(20, 0)
    noise = torch.Generator().manual_seed(0)
    near = images + 0.02 * torch.randn(images.shape, generator=noise)
    assert copies(images, images, TEST[0]) == 1.0
    assert copies(near, images, TEST[0]) == 1.0
    assert copies(TEST[0], images, TEST[0]) <= 0.02
    assert distances(near, images).median() == pytest.approx(0.02, rel=0.2)
    assert right_digit((near, labels)) == 1.0
    assert right_digit((near, (labels + 1) % 10)) == 0.0
    assert right_digit(TEST) > 0.97


def test_the_model_that_minimises_the_loss_draws_copies():
    """Equation 15c.3: the optimal network for the training digits returns them."""
    images, _ = few_digits(5, 0)
    points = GaussianMixture(PROCESS, images.flatten(1), torch.zeros(len(images)))
    drawn, _ = synthesize(lambda x, timestep, context: points(x, timestep), 3)
    assert (distances(drawn, images) < 0.02).float().mean() > 0.9


def test_synthetic_digits_differ_by_seed_and_class_zero_is_not_null():
    seen = []

    def network(x, timestep, context):
        seen.append(context)
        return 0 * x

    first, labels = synthesize(network, 2, seed=0)
    second, _ = synthesize(network, 2, seed=1)
    assert labels.bincount().tolist() == [2] * 10 and first.abs().max() <= 1
    assert not torch.equal(first, second)
    assert all(torch.equal(context, labels) for context in seen)
    seen.clear()
    synthesize(network, 2, scale=2.0)
    assert torch.equal(seen[0], torch.cat([labels, torch.full_like(labels, NULL)]))
