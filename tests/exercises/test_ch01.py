"""Chapter 01's equations, compared with the library in float64, without random numbers."""

from math import log

import pytest
import torch
import torch.nn.functional as F

from course_lib.diffusion import (
    DDPM,
    SCHEDULES,
    Diffusion,
    GaussianMixture,
    cosine,
    linear,
    points,
    posterior,
    scaled_linear,
    straight,
)
from course_lib.exercises.ch01 import half_life, jump_on, step_back, walk_to

TABLES = [linear, scaled_linear, cosine]


@pytest.mark.parametrize("make", TABLES)
def test_a_tables_step_shrinks_by_the_root_and_adds_beta(make):
    """(1.1): from one level of the library's table to the next."""
    table = make()
    for i in (0, 1, 500, 998, 999):
        s, t = points(table, [i / 1000, (i + 1) / 1000])
        kept, beta = t.alpha / s.alpha, table.betas[i].item()
        assert kept == pytest.approx((1 - beta) ** 0.5, rel=1e-9)
        assert t.sigma**2 - (kept * s.sigma) ** 2 == pytest.approx(beta, rel=1e-6)


@pytest.mark.parametrize("make", TABLES)
def test_steps_one_by_one_lead_where_the_jump_leads(make):
    """(1.2): mean and variance after each single step, compared with the library's jump."""
    table, ddpm = make(), DDPM(None)
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    mean, variance = 1.0, 0.0  # of x0 = 1
    for i, beta in enumerate(table.betas.tolist()):
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
        if i in (0, 1, 99, 500, 998, 999):
            process, t = Diffusion(table), (i + 1) / 1000
            assert process.add_noise(one, t, zero).item() == pytest.approx(mean, rel=1e-9)
            noise = process.add_noise(zero, t, one).item()
            assert noise**2 == pytest.approx(variance, rel=1e-9)
            if make is linear:
                index = torch.tensor([i])
                assert ddpm.add_noise(one, index, zero).item() == pytest.approx(mean, rel=1e-6)
                assert ddpm.add_noise(zero, index, one).item() == pytest.approx(noise, rel=1e-6)


def test_a_mixture_stays_a_mixture():
    """(1.3): the library's density at t is torch's, with means alpha m, variance alpha² s² + σ²."""
    d, process = torch.distributions, Diffusion("linear")
    means = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    weights = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15]).double()
    mixture = GaussianMixture(process, means, torch.full((5,), 0.04).double(), weights)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(1)).double()
    for t in (0.0, 0.1, 0.5, 1.0):
        alpha, sigma = process.schedule(t)
        std = (alpha**2 * 0.04 + sigma**2).sqrt().expand(5, 2)
        each = d.Independent(d.Normal(alpha * means, std), 1)
        expected = d.MixtureSameFamily(d.Categorical(weights), each).log_prob(x)
        torch.testing.assert_close(mixture.log_likelihood(x, t), expected)


@pytest.mark.parametrize("make", TABLES)
def test_alpha_and_sigma_from_the_log_snr(make):
    """(1.4), its second half: the variance-preserving case."""
    t = torch.linspace(0.001, 1, 100, dtype=torch.float64)
    (alpha, sigma), log_snr = make()(t), make().log_snr(t)
    torch.testing.assert_close(alpha**2, 1 / (1 + (-log_snr).exp()))
    torch.testing.assert_close(sigma**2, 1 / (1 + log_snr.exp()))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("log_snr", [-3.0, 0.0, 2.0])
def test_equal_log_snr_is_the_same_picture(name, log_snr):
    """(1.5): divided by sqrt(alpha² + sigma²), only the log-SNR matters."""
    schedule, low, high = SCHEDULES[name](), 0.0, 1.0
    for _ in range(60):
        t = (low + high) / 2
        low, high = (t, high) if schedule.log_snr(t) > log_snr else (low, t)
    x0, eps = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    alpha, sigma = schedule(t)
    ours = Diffusion(schedule).add_noise(x0, t, eps) / (alpha**2 + sigma**2).sqrt()
    shares = torch.tensor([log_snr, -log_snr]).double().sigmoid().sqrt()
    torch.testing.assert_close(ours, shares[0] * x0 + shares[1] * eps, rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", [2, 4, 8])
def test_averaging_blocks_raises_the_log_snr(k):
    """(1.6): the mean of k × k keeps a flat picture, and its noise has 1 / k² of the variance."""
    pixels = torch.eye(k * k, dtype=torch.float64).view(-1, 1, k, k)  # noise in one pixel each
    weights = F.avg_pool2d(pixels, k).flatten()
    assert weights.sum() == pytest.approx(1)
    alpha, sigma = straight()(0.3)
    raised = 2 * (alpha / (sigma * weights.square().sum().sqrt())).log()
    assert (raised - straight().log_snr(0.3)).item() == pytest.approx(2 * log(k))
    hidden = straight(shift=k).log_snr(0.3) + 2 * log(k)  # the library's correction
    assert hidden.item() == pytest.approx(straight().log_snr(0.3).item())


def test_the_exercises_references_are_the_librarys():
    table, t, s = linear(), 0.7, 0.4
    betas, gen = table.betas, torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 4, generator=gen).double()
    xt = Diffusion(table).add_noise(x0, t, eps)
    torch.testing.assert_close(jump_on(x0, betas, 0, 700, eps), xt)
    noises = torch.zeros(700, 3, 4).double()
    torch.testing.assert_close(walk_to(x0, betas[:700], noises), table(t)[0] * x0)
    mean, variance = step_back(x0, xt, *table(s), *table(t))
    ours, spread = posterior(Diffusion(table), x0, xt, t, s)
    torch.testing.assert_close(mean, ours)
    assert variance.item() == pytest.approx(spread)
    n = half_life(torch.tensor([0.02])).item()
    assert (1 - 0.02) ** (n / 2) == pytest.approx(0.5)
