"""Memorisation: a denoiser that knows its training points by heart, and all that follows."""

import pytest
import torch

from course_lib.diffusion import Diffusion, sample
from course_lib.evaluation.memorisation import (
    copy_threshold,
    denoising_errors,
    distance_ratio,
)
from course_lib.evaluation.roc import roc

PROCESS = Diffusion("straight", "eps")


def points(count, dim=8, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def by_heart(training):
    """The optimal denoiser of these points: E[x0 | xt] is their mean, weighted by a Gaussian."""

    def network(x, timestep, context):
        alpha, sigma = PROCESS.at(timestep.cpu() / 1000, x)
        far = torch.cdist(x, alpha[:1] * training).square() / (2 * sigma[:1] ** 2)
        x0 = (-far).softmax(1) @ training
        return (x - alpha * x0) / sigma

    return network


def test_what_is_known_by_heart_is_drawn_as_a_copy_and_the_ratio_says_so():
    training, held_out = points(30), points(200, seed=1)
    times = [0.98, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.02, 0.0]
    drawn = sample(PROCESS, by_heart(training), points(50, seed=2), spacing=times)
    limit = copy_threshold(held_out, training)
    assert (distance_ratio(drawn, training) < 1e-3).float().mean() > 0.9
    assert (distance_ratio(held_out, training) < limit).float().mean() <= 0.01
    assert 0.3 < limit < 1


def test_the_ratio_by_hand_and_blind_to_what_occurs_twice():
    training = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 9.0]])
    images = torch.tensor([[1.0, 0.0], [4.0, 0.0], [0.0, 5.0]])
    torch.testing.assert_close(distance_ratio(images, training), torch.tensor([1 / 3, 0.0, 0.8]))
    twice = torch.cat([training, training[1:2]])
    assert distance_ratio(images[1:2], twice).item() == 1
    assert distance_ratio(images[1:2], training).item() == 0


def test_members_are_betrayed_at_low_noise_and_hidden_at_high_noise():
    """Near t = 0 the error of another point is (alpha / sigma)² · its distance to the nearest."""
    training, others = points(30), points(40, seed=1)
    network, t = by_heart(training), 0.05
    ratio = ((1 - t) / t) ** 2
    nearest = torch.cdist(others, training).amin(1).square() / 8
    errors = denoising_errors(PROCESS, network, others, [t])
    torch.testing.assert_close(errors, ratio * nearest, rtol=0.5, atol=0)
    members = denoising_errors(PROCESS, network, training, [t])
    assert members.max() < 1e-3 and roc(-members, -errors).auc == 1
    late = [denoising_errors(PROCESS, network, x, [0.999]) for x in (training, others)]
    assert abs(roc(-late[0], -late[1]).auc - 0.5) < 0.2


def test_the_gain_by_the_caption_sees_members_that_the_error_alone_does_not():
    """Half of all points are easy: for them the empty caption is already good enough."""
    scale = torch.tensor([0.1, 3.0]).repeat(20)[:, None]
    training, others = scale * points(40), scale * points(40, seed=1)

    def network(x, timestep, context):  # recalls a point by its caption, or else predicts 0
        alpha, sigma = PROCESS.at(timestep.cpu() / 1000, x)
        known = context[:, 0] >= 0
        x0 = torch.where(known[:, None], training[context[:, 0].clamp(min=0)], 0 * x)
        return (x - alpha * x0) / sigma

    def errors(x, context):
        return denoising_errors(PROCESS, network, x, [0.5], context)

    caption, empty = torch.arange(40)[:, None], torch.full((40, 1), -1)
    blind = [errors(x, empty) for x in (training, others)]
    assert abs(roc(-blind[0], -blind[1]).auc - 0.5) < 0.15
    gain = [e - errors(x, caption) for e, x in zip(blind, (training, others), strict=True)]
    assert (gain[0] > 0).all() and roc(*gain).auc > 0.7


def test_the_error_is_the_same_in_a_batch_of_any_size():
    images, network = points(6), by_heart(points(30, seed=3))
    together = denoising_errors(PROCESS, network, images, [0.3, 0.6], seed=5)
    alone = [denoising_errors(PROCESS, network, x[None], [0.3, 0.6], seed=5) for x in images]
    torch.testing.assert_close(torch.cat(alone), together)
    each = [denoising_errors(PROCESS, network, images, [t]) for t in (0.3,)]
    assert (each[0] - denoising_errors(PROCESS, network, images, [0.3], seed=1)).abs().max() > 0


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: distance_ratio(points(2), points(1)), "training: expected two pictures or more"),
        (lambda: copy_threshold(points(2), points(3), 2.0), "share: expected a share in [0, 1]"),
        (lambda: denoising_errors(PROCESS, None, points(2), []), "times: expected at least one"),
    ],
)
def test_refusals(call, told):
    with pytest.raises(ValueError) as refusal:
        call()
    assert told in str(refusal.value)
