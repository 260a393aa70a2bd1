"""Chapter 03's derivations, checked numerically: the variance of a step, the ODE, Euler steps."""

from itertools import pairwise

import pytest
import torch

from course_lib.diffusion import (
    Diffusion,
    Gaussian,
    GaussianMixture,
    cosine,
    linear,
    point,
    points,
    sample,
    step,
    straight,
    time_grid,
    trajectory,
)
from course_lib.diffusion.samplers import dpmpp_2m, step_std
from course_lib.exercises.ch03 import EXERCISES, ddim_step, ddpm_step, look_ahead, tilde, walk_back


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def hills(process):
    """Two Gaussians on a line."""
    return GaussianMixture(process, f64([-1.0], [0.8]), f64(0.04, 0.16), f64(0.4, 0.6))


def cumulative(network, x, t):
    """The probability of p_t below x."""
    alpha, sigma = (float(value) for value in network.process.schedule(t))
    spread = (alpha**2 * network.variances[:, 0] + sigma**2).sqrt()
    share = torch.special.ndtr((x - alpha * network.means[:, 0]) / spread)  # (B, K)
    return (network.log_weights.exp() * share).sum(1)


@pytest.mark.parametrize("index", [1, 4, 9])
def test_the_variance_of_a_step_back_by_brute_force(index):
    """(3.2): q(x_{t-1} | x_t) of a mixture, from Bayes' rule on a grid."""
    table = linear(10, 0.02, 0.5)
    process = Diffusion(table)
    network, xt = hills(process), f64([0.3])
    t, s = (index + 1) / 10, index / 10
    grid = torch.linspace(-6, 6, 20_001, dtype=torch.float64)[:, None]
    beta = table.betas[index]
    log_q = network.log_likelihood(grid, s) - (xt - (1 - beta).sqrt() * grid)[:, 0] ** 2 / 2 / beta
    weights = log_q.softmax(0)[:, None]
    mean = (weights * grid).sum()
    variance = (weights * (grid - mean) ** 2).sum()

    bar, before = table.alpha_bars[index], table.alpha_bars[index - 1]
    x0_process = Diffusion(table, "x0")  # its minimum loss is the variance of x0 given xt
    spread = hills(x0_process).minimum_loss(xt, t)
    expected = tilde(beta, bar, before) + (before.sqrt() * beta / (1 - bar)) ** 2 * spread
    torch.testing.assert_close(variance, expected.squeeze(), rtol=1e-6, atol=1e-9)
    eps = network.eps(xt, t)
    by_step = ddpm_step(xt, eps, beta, bar, before, 0.0)
    torch.testing.assert_close(mean, by_step.squeeze(), rtol=1e-6, atol=1e-9)  # (3.1)


def test_beta_tilde_is_right_for_a_point_and_beta_for_a_normal():
    """(3.2) at its two ends (Ho et al. 2020, section 3.2)."""
    table = linear()
    for index in (1, 10, 500, 999):
        beta, bar, before = table.betas[index], table.alpha_bars[index], table.alpha_bars[index - 1]
        t, s = (index + 1) / 1000, index / 1000
        std = step_std(point(table, t), point(table, s), 1)
        assert std**2 == pytest.approx(tilde(beta, bar, before).item(), rel=1e-9)
        spread = Gaussian(Diffusion(table, "x0"), f64(0.0), 1.0).minimum_loss(f64([0.7]), t)
        total = tilde(beta, bar, before) + (before.sqrt() * beta / (1 - bar)) ** 2 * spread
        assert total.item() == pytest.approx(beta.item(), rel=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_the_steps_of_the_exercises_are_the_librarys(eta):
    """(3.3) and (3.4), and with eta = 1 also (3.1)."""
    xt, eps, noise = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()
    table = linear()
    for times in ([1.0, 0.5], [0.3, 0.299], [0.001, 0.0]):
        t, s = points(table, times)
        x0 = (xt - t.sigma * eps) / t.alpha
        ours = ddim_step(xt, eps, t.alpha, t.sigma, s.alpha, s.sigma, eta, noise)
        torch.testing.assert_close(ours, step(x0, eps, t, s, eta, noise))
    if eta == 1:
        beta, bar, before = table.betas[299], table.alpha_bars[299], table.alpha_bars[298]
        ours = ddpm_step(xt, eps, beta, bar, before, noise)
        t, s = points(table, [0.3, 0.299])
        x0 = (xt - t.sigma * eps) / t.alpha
        torch.testing.assert_close(ours, step(x0, eps, t, s, 1, noise), rtol=1e-9, atol=1e-9)


def test_the_ode_carries_every_share_of_the_points_along():
    """(3.5): in one dimension, the probability below a path is constant, so F_t(x_t) is."""
    process = Diffusion("linear", "eps")
    network = hills(process)
    x1 = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    times = [*torch.linspace(1, 0.001, 1500, dtype=torch.float64).tolist(), 0.0]
    path = list(trajectory(process, network, x1, sampler="heun", spacing=times))
    start = cumulative(network, x1, 1.0)
    for i in (400, 1000, 1400, 1500):
        torch.testing.assert_close(cumulative(network, path[i], times[i]), start, atol=2e-4, rtol=0)


@pytest.mark.parametrize("make", [cosine, straight])
def test_the_velocity_is_the_slope_of_the_paths(make):
    """(3.5) on one Gaussian, whose paths are known: x_t = alpha m + std_t z with z fixed."""
    schedule, m, c, z = make(), 0.5, 0.3, 1.7

    def place(t):
        alpha, sigma = (float(value) for value in schedule(t))
        return alpha * m + (alpha**2 * c + sigma**2) ** 0.5 * z

    network = Gaussian(Diffusion(schedule, "v"), f64(m), c)
    h = 1e-4
    for t in (0.2505, 0.5005, 0.8005):  # between two entries of a table
        slope = (place(t + h) - place(t - h)) / (2 * h)
        (a, s), (b, r) = (map(float, schedule(t + d)) for d in (h, -h))
        x = f64([place(t)])
        velocity = (a - b) / (2 * h) * network.x0(x, t) + (s - r) / (2 * h) * network.eps(x, t)
        assert velocity.item() == pytest.approx(slope, rel=1e-5)


def test_ddims_step_is_eulers_in_three_variables():
    """(3.6), and the same step in terms of x / (alpha + sigma) and of x / sigma."""
    x0, eps = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).double()
    for make in (linear, cosine, straight):
        t, s = points(make(), [0.7, 0.3])
        xt, xs = t.alpha * x0 + t.sigma * eps, step(x0, eps, t, s)
        rho, rho_s = t.sigma / t.alpha, s.sigma / s.alpha
        torch.testing.assert_close(xs / s.alpha, xt / t.alpha + (rho_s - rho) * eps)
        both, both_s = t.alpha + t.sigma, s.alpha + s.sigma
        u, u_s = t.sigma / both, s.sigma / both_s
        torch.testing.assert_close(xs / both_s, xt / both + (u_s - u) * (eps - x0))
        inverse, inverse_s = t.alpha / t.sigma, s.alpha / s.sigma
        torch.testing.assert_close(xs / s.sigma, xt / t.sigma + (inverse_s - inverse) * x0)


def test_the_integral_over_the_log_snr():
    """(3.8) for one Gaussian, along its known path, with the trapezium rule."""
    schedule, m, c, z = cosine(), 0.5, 0.3, 1.7
    network = Gaussian(Diffusion(schedule, "x0"), f64(m), c)
    times = torch.linspace(0.8, 0.3, 5001, dtype=torch.float64)
    alpha, sigma = schedule(times)
    half = schedule.log_snr(times) / 2
    x = (alpha * m + (alpha**2 * c + sigma**2).sqrt() * z)[:, None]
    integral = torch.trapezoid(half.exp() * network.x0(x, times)[:, 0], half)
    ours = sigma[-1] / sigma[0] * x[0, 0] + sigma[-1] * integral
    torch.testing.assert_close(ours, x[-1, 0], rtol=1e-6, atol=1e-6)


def test_looking_ahead_is_what_dpm_solver_steps_with():
    """(3.9)"""
    schedule = linear()
    before, t, s = points(schedule, [0.9, 0.6, 0.35])
    x, guess, older = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double()
    history = [(older, before.log_snr)]
    library = dpmpp_2m(lambda x, t: (guess, None), x, t, s, history, None)
    ours = look_ahead(guess, older, before.log_snr, t.log_snr, s.log_snr)
    eps = (x - t.alpha * ours) / t.sigma
    torch.testing.assert_close(library, step(ours, eps, t, s), rtol=1e-9, atol=1e-9)


def test_the_loop_of_the_exercise_is_ddim():
    process = Diffusion("linear", "eps")
    x, bars = torch.randn(3, 2), process.schedule.alpha_bars.float()
    ours = walk_back(lambda x, i: x.tanh(), x, bars, [999, 749, 499, 249])
    theirs = sample(process, lambda x, t, c: x.tanh(), x, steps=4)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_with_its_own_variance_a_gaussian_is_sampled_exactly_in_two_steps():
    """(3.2) for steps of any length: what the chapter's figure shows as a flat line."""
    schedule, c = linear(), 0.25
    variance = 1.0
    for t, s in pairwise(points(schedule, time_grid(schedule, 2))):
        total = t.alpha**2 * c + t.sigma**2
        added = t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2
        std = step_std(t, s, 1)
        kept = s.alpha * t.alpha * c / total
        kept += (s.sigma**2 - std**2) ** 0.5 * t.sigma / total
        spread = c * t.sigma**2 / total  # of x0 given xt
        variance = kept**2 * variance + std**2
        variance += (s.alpha * added / t.sigma**2) ** 2 * spread
    assert variance == pytest.approx(c, rel=1e-4)  # 1e-4: at t = 1 a trace of data is left


@pytest.mark.parametrize("process", [Diffusion(linear(), "eps"), Diffusion(straight(), "flow")])
@pytest.mark.parametrize("t", [0.1, 0.45, 0.8])
def test_the_score_and_the_velocity_say_what_x0_and_eps_say(process, t):
    """Tweedie's formula and the table of four forms, on the exact mixture.

    The slopes of alpha and sigma are taken between t ± 1e-5, within one entry of the table.
    """
    network, x = hills(process), torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    x0, eps, score = network.x0(x, t), network.eps(x, t), network.score(x, t)
    alpha, sigma = process.schedule(t)
    torch.testing.assert_close(x0, (x + sigma**2 * score) / alpha, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(eps, -sigma * score, rtol=1e-9, atol=1e-9)
    ends = [process.schedule(t + h) for h in (-1e-5, 1e-5)]
    d_alpha, d_sigma = ((late - early) / 2e-5 for early, late in zip(*ends, strict=True))
    velocity, det = d_alpha * x0 + d_sigma * eps, alpha * d_sigma - sigma * d_alpha
    torch.testing.assert_close(x0, (d_sigma * x - sigma * velocity) / det, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(eps, (alpha * velocity - d_alpha * x) / det, rtol=1e-8, atol=1e-8)
    f, g2 = d_alpha / alpha, 2 * sigma * (d_sigma - d_alpha / alpha * sigma)
    torch.testing.assert_close(velocity, f * x - g2 / 2 * score, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("number", "mistake", "says"),
    [
        (4, "the ratio stays", "That was the ratio before."),
        (2, "only the growth of the ratio", "Multiply it by the ratio that was there before."),
        (16, "DDIM left at 50 calls", "DDIM also gets 100 calls"),
        (0.125, "upside down", "upside down"),
    ],
)
def test_each_wrong_ratio_is_told_its_own_mistake(number, mistake, says):
    """3.5: errors C / N and D / N², 0.04 and 0.01 at 50 calls."""
    first, second = 0.04 / 2, 0.01 / 4
    expected = {4: 0.04 / 0.01, 2: (first / second) / (0.04 / 0.01), 16: 0.04 / second}
    assert number == pytest.approx(expected.get(number, second / first))  # where it comes from
    verdict = EXERCISES["3.5"].examine(number)
    assert (verdict.status, verdict.misconception) == ("wrong", mistake)
    assert says in verdict.message
