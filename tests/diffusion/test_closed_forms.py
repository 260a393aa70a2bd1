"""Gaussian data in 1, 2 and 16 dimensions, for which every number has a closed form."""

from itertools import pairwise
from math import e, log, pi

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.diffusion import (
    Diffusion,
    cosine,
    generators,
    initial_noise,
    linear,
    sample,
    straight,
)
from course_lib.diffusion.analytic import GaussianMixture
from course_lib.diffusion.likelihood import VARIANCES, posterior, variational_bound
from course_lib.diffusion.samplers import SAMPLERS, point, points, time_grid

SHORT = linear(timesteps=20, beta_start=0.01, beta_end=0.4)
DIMENSIONS = [1, 2, 16]


def gaussian(process, dimensions):
    """The exact network for N(m, diag(s²)), and m and s² (D,)."""
    mean = torch.linspace(-1, 1.5, dimensions, dtype=torch.float64)
    variance = torch.linspace(0.3, 2.0, dimensions, dtype=torch.float64) ** 2
    return GaussianMixture(process, mean[None], variance.diag()[None]), mean, variance


@pytest.mark.parametrize("schedule", [linear(), SHORT, cosine()])
def test_noising_step_by_step_is_noising_at_once(schedule):
    """x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) noise, a thousand times, and one formula."""
    times = [i / schedule.timesteps for i in range(schedule.timesteps + 1)]
    mean, variance = 1.0, 0.0
    for s, t in pairwise(points(schedule, times)):
        beta = VARIANCES["large"](t, s)
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
        assert mean == pytest.approx(t.alpha, rel=1e-12)  # 1000 roundings of 1e-16 each
        assert variance == pytest.approx(t.sigma**2, rel=1e-11)


@given(
    t=st.floats(0.05, 1), part=st.floats(0.05, 0.95), mean=st.floats(-2, 2), std=st.floats(0.1, 3)
)
@pytest.mark.parametrize("schedule", [linear(), cosine(), straight()])
def test_the_posterior_is_bayes_rule_for_gaussians(schedule, t, part, mean, std):
    """q(x_s | x_t, x_0) q(x_t | x_0) = q(x_t | x_s) q(x_s | x_0), as densities at three points."""
    process = Diffusion(schedule, "v")
    t = float(schedule.snap(torch.tensor(t, dtype=torch.float64), torch.ceil))
    s = float(schedule.snap(torch.tensor(t * part, dtype=torch.float64), torch.ceil))
    if not 0 < s < t:
        return
    t, s = points(schedule, [t, s])
    x0, xs, xt = (torch.tensor([[v]], dtype=torch.float64) for v in (mean, std, mean - std))

    def density(x, m, var):
        return float(-((x - m) ** 2 / var + log(2 * pi * var)) / 2)

    centre, spread = posterior(process, x0, xt, t.t, s.t)
    left = density(xs, centre, spread) + density(xt, t.alpha * x0, t.sigma**2)
    ratio = t.alpha / s.alpha
    right = density(xt, ratio * xs, VARIANCES["large"](t, s))
    right += density(xs, s.alpha * x0, s.sigma**2)
    assert left == pytest.approx(right, rel=1e-6, abs=1e-6)


def bound_by_hand(process, data, taken=None):
    """The bound's terms L_T, ..., L_0, each the mean over the data, in nats: (T + 1, D).

    data (D,): the variances of the data; the prior is q(x_T). taken: the variances of the reverse
    steps, from the noisiest; by default the true ones, which are returned with the terms, (T, D).
    """
    times = time_grid(process.schedule, process.schedule.timesteps)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    top = point(process.schedule, 1.0)
    terms, true = [-(top.sigma**2 / (top.alpha**2 * data + top.sigma**2)).log() / 2], []
    for n, (t, s) in enumerate(pairwise(points(process.schedule, times))):
        unknown = data * t.sigma**2 / (t.alpha**2 * data + t.sigma**2)  # Var[x0 | xt]
        weight, tilde = posterior(process, one, zero, t.t, s.t)  # of x0 in the mean, and beta~
        missed = weight.item() ** 2 * unknown  # the mean's squared error for want of x0
        true.append(tilde + missed)
        v = true[-1] if taken is None else torch.full_like(data, taken[n])
        if s.t > 0:
            terms.append((tilde / v - 1 - (tilde / v).log() + missed / v) / 2)
        else:
            terms.append(((2 * pi * v).log() + missed / v) / 2)
    return torch.stack(terms), torch.stack(true)


def entropy(data):
    """The mean of -log p(x0), in nats, for each dimension."""
    return (2 * pi * e * data).log() / 2


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_with_the_true_reverse_and_prior_the_bound_is_the_likelihood(dimensions):
    process = Diffusion(SHORT, "v")
    _, _, data = gaussian(process, dimensions)
    terms, _ = bound_by_hand(process, data)
    torch.testing.assert_close(terms.sum(0), entropy(data), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_what_beta_and_the_normal_prior_cost_has_a_closed_form(dimensions, variance):
    """The gap is KL(true variance || the one taken) for each step, plus KL(q(x_T) || N(0, 1))."""
    process = Diffusion(SHORT, "v")
    network, mean, data = gaussian(process, dimensions)
    steps = pairwise(point(SHORT, t) for t in time_grid(SHORT, SHORT.timesteps))
    taken = [VARIANCES[variance](*each) for each in steps]
    taken[-1] = taken[-1] or taken[-2]  # beta~ is 0 at the last step, which borrows
    terms, true = bound_by_hand(process, data, taken)
    ratio = true / torch.tensor(taken, dtype=torch.float64)[:, None]  # (T, D)
    gap = ((ratio - 1 - ratio.log()) / 2).sum(0)
    torch.testing.assert_close(terms.sum(0), entropy(data) + gap, rtol=1e-10, atol=1e-10)

    top = point(SHORT, 1.0)
    end = top.alpha**2 * data + top.sigma**2  # the variance of x_T
    prior = (end + (top.alpha * mean) ** 2 - 1 - end.log()) / 2
    expected = (entropy(data) + gap + prior).mean().item()
    x0 = network.sample(20_000, torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    bound = variational_bound(process, network, x0, variance=variance, colours=None)
    nats = torch.stack([bits * log(2) for _, bits in bound]).sum(0)  # (B,)
    error = nats.std().item() / len(nats) ** 0.5
    assert abs(nats.mean().item() - expected) < 4 * error
    assert 4 * error < 0.1  # nats: so the line above says something


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dimensions", DIMENSIONS)
@pytest.mark.parametrize("make", [linear, cosine, straight])
def test_every_sampler_reaches_the_data(make, dimensions, sampler):
    """Mean and standard deviation of each dimension, and no correlation between any two."""
    process = Diffusion(make(), "v")
    network, mean, variance = gaussian(process, dimensions)
    count = 4000
    noise = initial_noise(generators(range(count)), (dimensions,)).double()
    torch.manual_seed(0)
    steps = 100 if sampler in ("heun", "dpm++2m") else 500  # of second order, of first
    x0 = sample(process, network, noise, steps=steps, sampler=sampler)
    std = variance.sqrt()
    # 4.5 standard errors of 4000 draws, for up to 32 numbers, and 2 % for the finite steps
    room = 4.5 / count**0.5
    assert ((x0.mean(0) - mean).abs() < (room + 0.02) * std.clamp(min=1)).all()
    assert ((x0.std(0) / std - 1).abs() < room / 2**0.5 + 0.02).all()
    if dimensions > 1:
        correlation = torch.corrcoef(x0.T) - torch.eye(dimensions)
        assert correlation.abs().max() < room
