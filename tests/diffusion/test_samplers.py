"""Samplers: the step's identities, orders of accuracy, generators, pitfalls and refusals.

test_sampler_parity.py tests the agreement with diffusers.
"""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.diffusion import (
    SCHEDULES,
    Diffusion,
    Gaussian,
    cosine,
    generators,
    initial_noise,
    linear,
    point,
    points,
    sample,
    scaled_linear,
    step,
    straight,
    time_grid,
    trajectory,
    zero_terminal_snr,
)
from course_lib.diffusion.process import PREDICTIONS
from course_lib.diffusion.samplers import SAMPLERS, SPACINGS, step_std

ALL_SCHEDULES = [linear, scaled_linear, cosine, straight, lambda: straight(3.0)]
ALL_SCHEDULES += [lambda: zero_terminal_snr(linear())]
f64 = partial(torch.tensor, dtype=torch.float64)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shrink(x, timestep, context):
    return 0.3 * x  # no sine or matmul: these round differently in another batch


# The step


def test_with_eta_1_the_step_is_ddpms_posterior():
    """Ho et al. 2020, eq. 7, from the betas."""
    schedule, (x0, eps, noise) = linear(), (randn(5, seed=i) for i in range(3))
    for i in (1, 2, 500, 999):
        beta, alpha = schedule.betas[i], schedule.alphas[i]
        bar, bar_before = schedule.alpha_bars[i], schedule.alpha_bars[i - 1]
        xt = bar.sqrt() * x0 + (1 - bar).sqrt() * eps
        mean = (
            bar_before.sqrt() * beta / (1 - bar) * x0
            + alpha.sqrt() * (1 - bar_before) / (1 - bar) * xt
        )
        variance = (1 - bar_before) / (1 - bar) * beta
        t, s = points(schedule, [(i + 1) / 1000, i / 1000])
        ours = step(x0, eps, t, s, eta=1, noise=noise)
        torch.testing.assert_close(ours, mean + variance.sqrt() * noise, rtol=1e-9, atol=1e-9)
        assert step_std(t, s, 1) ** 2 == pytest.approx(variance.item(), rel=1e-9)


def test_beta_tilde_needs_float64():
    """A pitfall: with float32 tables it is off by some 1e-5, with ours by nothing."""
    schedule = linear()
    bars = schedule.alpha_bars.float()
    single = (1 - bars[1]) / (1 - bars[2]) * schedule.betas[2].float()
    double = step_std(point(schedule, 0.003), point(schedule, 0.002), 1) ** 2
    assert 1e-6 < abs(single.item() / double - 1) < 1e-3
    exact = (1 - 0.9999 * (1 - schedule.betas[1].item())) / (1 - schedule.alpha_bars[2].item())
    assert double == pytest.approx(exact * schedule.betas[2].item(), rel=1e-11)


def test_with_eta_0_the_step_is_ddims():
    """Song et al. 2021, eq. 12 with sigma_t = 0."""
    schedule, x0, eps = linear(), randn(5), randn(5, seed=1)
    bar, bar_s = schedule.alpha_bars[799], schedule.alpha_bars[399]
    xt = bar.sqrt() * x0 + (1 - bar).sqrt() * eps
    by_hand = bar_s.sqrt() * (xt - (1 - bar).sqrt() * eps) / bar.sqrt() + (1 - bar_s).sqrt() * eps
    torch.testing.assert_close(step(x0, eps, point(schedule, 0.8), point(schedule, 0.4)), by_hand)


@given(t=st.floats(0.02, 1), part=st.floats(0.01, 0.99))
def test_on_the_straight_path_the_step_is_eulers(t, part):
    s, x0, eps = t * part, randn(5), randn(5, seed=1)
    xt = (1 - t) * x0 + t * eps
    euler = xt + (s - t) * (eps - x0)
    torch.testing.assert_close(step(x0, eps, point(straight(), t), point(straight(), s)), euler)


@pytest.mark.parametrize("make", ALL_SCHEDULES)
@given(t=st.floats(0.01, 1), part=st.floats(0, 0.999), eta=st.floats(0, 1))
def test_every_eta_keeps_the_marginals(make, t, part, eta):
    """x_s given x0 has mean alpha_s x0 and variance sigma_s² for all eta (Song et al., lemma 1)."""
    t, s = points(make(), [t, t * part])
    from_eps = step(f64(0.0), f64(1.0), t, s, eta).item()
    std = step_std(t, s, eta)
    assert from_eps**2 + std**2 == pytest.approx(s.sigma**2, rel=1e-9, abs=1e-15)
    assert step(f64(1.0), f64(0.0), t, s, eta).item() == s.alpha


@pytest.mark.parametrize("make", ALL_SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_step_to_the_clean_end_returns_x0(make, eta):
    x0, eps, noise = randn(5), randn(5, seed=1), randn(5, seed=2)
    last = step(x0, eps, point(make(), 0.05), point(make(), 0.0), eta, noise)
    assert torch.equal(last, x0)


# Times


def test_the_spacings_of_lin_et_al_table_2():
    def steps_of(spacing, n):
        return [round(1000 * t) for t in time_grid(linear(), n, spacing)]

    assert steps_of("leading", 10) == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0]
    assert steps_of("trailing", 10) == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert steps_of("linspace", 10) == [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1, 0]
    assert time_grid(straight(), 4) == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("make", [linear, straight])
@given(steps=st.integers(1, 1000))
def test_times_fall_from_noise_to_clean(spacing, make, steps):
    times = time_grid(make(), steps, spacing)
    assert len(times) == steps + 1 and times[-1] == 0
    assert all(s < t for t, s in pairwise(times))
    if spacing != "leading":
        assert times[0] == 1


@given(steps=st.integers(1, 50), start=st.floats(0.1, 1))
def test_start_squeezes_the_times(steps, start):
    times = time_grid(linear(), steps, start=start)
    assert len(times) == steps + 1 and times[0] == pytest.approx(start, abs=0.5e-3 + 1e-9)
    assert all(round(1000 * t) == pytest.approx(1000 * t) for t in times)


@pytest.mark.parametrize(
    ("spacing", "indices"),
    [
        ("leading", [750, 500, 250, 0]),
        ("trailing", [999, 749, 499, 249]),
        ("linspace", [999, 666, 333, 0]),
    ],
)
def test_the_network_is_told_the_tables_indices(spacing, indices):
    seen = []

    def network(x, timestep, context):
        seen.append(timestep)
        return x

    sample(Diffusion("linear", "v"), network, randn(2, 3), steps=4, spacing=spacing)
    assert [t.tolist() for t in seen] == [[i, i] for i in indices]


# Trajectories


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_network_that_knows_the_picture_finds_it(schedule, prediction, sampler):
    process, x0 = Diffusion(schedule, prediction), randn(2, 3, 4, 4)

    def network(x, timestep, context):
        t = process.schedule.time(timestep)
        alpha, sigma = process.at(t, x)
        return process.target(x0, (x - alpha * x0) / sigma, t)

    start = 0.9 if (schedule, prediction) == ("straight", "eps") else 1.0
    for spacing in SPACINGS:
        for steps in (1, 2, 7):
            found = sample(
                process, network, randn(2, 3, 4, 4, seed=1), None, steps, sampler, spacing,
                start=start,
            )  # fmt: skip
            torch.testing.assert_close(found, x0, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_path_runs_from_the_noise_to_x0(sampler):
    process, noise = Diffusion("cosine", "v"), randn(2, 3)
    gens = generators([1, 2])
    *path, x0 = trajectory(process, shrink, noise, steps=5, sampler=sampler, generators=gens)
    assert len(path) == 5 and torch.equal(path[0], noise)
    again = sample(process, shrink, noise, steps=5, sampler=sampler, generators=generators([1, 2]))
    assert torch.equal(x0, again)
    assert torch.equal(noise, randn(2, 3))  # the caller's noise is left alone


@pytest.mark.parametrize(
    ("sampler", "calls"),
    [(name, {"heun": 11, "edm": 10}.get(name, 6)) for name in SAMPLERS],
)
def test_calls_of_the_network(sampler, calls):
    count = []
    network = lambda x, t, c: count.append(c) or x  # noqa: E731
    sample(Diffusion("straight", "flow"), network, randn(2, 3), "words", 6, sampler)
    assert count == ["words"] * calls


def gaussian_flow(process, network, x1):
    """The end point of the exact probability-flow ODE from x1, for one-dimensional N(m, c) data."""
    alpha, sigma = process.schedule(1.0)
    m, c = network.means[0], network.variances[0]
    return m + (c / (alpha**2 * c + sigma**2)).sqrt() * (x1 - alpha * m)


@pytest.mark.parametrize("make", [cosine, straight])
@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("heun", 2), ("dpm++2m", 2)])
def test_orders_of_accuracy(make, sampler, order):
    """Halving the step length divides the error by 2 or by 4, on data with a known solution."""
    schedule = make(**({"timesteps": 10**6} if make is cosine else {}))  # no entry to snap to
    process = Diffusion(schedule, "flow")
    network = Gaussian(process, f64([0.5]), 0.3)
    noise = randn(200, 1)
    # away from both ends, where the multistep's uneven log-SNR steps spoil the ratio
    times = {n: torch.linspace(0.8, 0.2, n + 1).double().tolist() for n in (40, 80)}
    errors = {}
    for n, spacing in times.items():
        x = sample(process, network, noise, sampler=sampler, spacing=spacing)
        t, s = points(schedule, [0.8, 0.2])
        c = 0.3
        scale = ((s.alpha**2 * c + s.sigma**2) / (t.alpha**2 * c + t.sigma**2)) ** 0.5
        exact = s.alpha * 0.5 + scale * (noise - t.alpha * 0.5)
        errors[n] = (x - exact).abs().max().item()
    assert errors[40] / errors[80] == pytest.approx(2**order, rel=0.2)


@pytest.mark.parametrize("make", [linear, cosine, straight])
def test_second_order_beats_first_on_a_whole_path(make):
    process = Diffusion(make(), "v")
    network, noise = Gaussian(process, f64([0.5]), 0.3), randn(500, 1)
    exact = gaussian_flow(process, network, noise)
    error = {
        name: (sample(process, network, noise, steps=20, sampler=name) - exact).abs().max().item()
        for name in ("ddim", "heun", "dpm++2m")
    }
    assert error["heun"] < error["ddim"] / 2 and error["dpm++2m"] < error["ddim"] / 2


def test_ancestral_sampling_has_the_variance_it_should():
    """For data N(0, 1) every step is linear in x, so we can compute the variance by hand."""
    process, n = Diffusion("linear", "eps"), 40_000
    network = Gaussian(process, torch.zeros(1).double(), 1.0)
    var = 1.0
    for t, s in pairwise(points(process.schedule, time_grid(process.schedule, 10))):
        kept = step(f64(t.alpha), f64(t.sigma), t, s, eta=1).item()  # E[x0|x] = alpha x
        var = kept**2 * var + step_std(t, s, 1) ** 2
    torch.manual_seed(0)
    x0 = sample(process, network, randn(n, 1), steps=10, sampler="ancestral")
    assert x0.var().item() == pytest.approx(var, rel=5 * (2 / n) ** 0.5)  # 5 standard errors
    assert var < 0.95  # beta~ is too small a variance for such data, and ten steps show it


def test_ancestral_is_ddim_with_eta_1():
    process, noise = Diffusion("linear", "v"), randn(2, 3)
    run = lambda **kw: sample(process, shrink, noise, generators=generators([3, 4]), **kw)  # noqa: E731
    assert torch.equal(run(sampler="ancestral"), run(sampler="ddim", eta=1.0))
    assert torch.equal(run(sampler="ancestral", eta=0.0), run(sampler="ddim"))
    assert not torch.equal(run(sampler="ancestral"), run(sampler="ddim"))


def test_euler_ancestral_is_ancestral():
    """The same sampler twice: down to a lower noise level and up again is DDPM's posterior."""
    for schedule in (linear(), straight(), zero_terminal_snr(cosine())):
        process, noise = Diffusion(schedule, "v"), randn(2, 3)
        ours, theirs = (
            list(trajectory(process, shrink, noise, sampler=name, generators=generators([3, 4])))
            for name in ("euler_ancestral", "ancestral")
        )
        torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-9, atol=1e-9)


def test_the_sde_solver_is_second_order_and_ancestral_is_its_first():
    """Lu et al. 2022: with x0 kept constant over a step the SDE's solution is DDPM's posterior."""
    process, noise = Diffusion("cosine", "v"), randn(2, 3)
    run = partial(sample, process, shrink, noise, steps=2)  # its second step ends in clean data
    first, second = (
        run(sampler=s, generators=generators([3, 4])) for s in ("dpm++2m_sde", "ancestral")
    )
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


def test_a_raised_noise_level_lies_between_a_tables_entries():
    """EDM's churn: sigma / alpha grows by the factor, and the timestep becomes fractional."""
    for make in (linear, cosine, straight):
        t = point(make(), 0.5)
        hat = t.noisier(1.2)
        assert hat.sigma / hat.alpha == pytest.approx(1.2 * t.sigma / t.alpha, rel=1e-9)
        assert t.timestep < hat.timestep and hat.timestep % 1 > 1e-3
        assert point(make(), 0.99).noisier(1e99).t == pytest.approx(
            1, abs=1e-12
        )  # never beyond the schedule's end
        assert t.schedule.time_at(t.log_snr) == pytest.approx(0.5, abs=1e-12)


def test_edm_without_churn_is_heuns_method_in_the_noise_level():
    process, noise = Diffusion("scaled_linear", "x0"), randn(1, 4)
    network = lambda x, timestep, context: x.sin()  # noqa: E731
    own = partial(SAMPLERS["edm"], gamma=0.0)
    path = points(process.schedule, time_grid(process.schedule, 4))
    levels = [p.sigma / p.alpha for p in path]
    y = noise / path[0].alpha  # Karras et al. 2022, algorithm 1 with s(t) = 1, sigma(t) = t
    slope = lambda y, p, level: (y - (p.alpha * y).sin()) / level  # noqa: E731
    for (t, s), (level, next_level) in zip(pairwise(path), pairwise(levels), strict=True):
        d = slope(y, t, level)
        y_s = y + (next_level - level) * d
        if next_level > 0:
            y_s = y + (next_level - level) * (d + slope(y_s, s, next_level)) / 2
        y = y_s
    torch.testing.assert_close(sample(process, network, noise, steps=4, sampler=own), y)


def test_a_sampler_of_ones_own():
    """Any such function: here Euler's method, which on the straight path is DDIM."""
    seen = []

    def euler(predict, x, t, s, history, noise):
        history.append(t.t)
        seen.append((history[:], noise().shape))
        x0, eps = predict(x, t)
        return x + (s.t - t.t) * (eps - x0)

    process, noise = Diffusion("straight", "flow"), randn(2, 3)
    ours = sample(process, shrink, noise, steps=4, sampler=euler)
    torch.testing.assert_close(ours, sample(process, shrink, noise, steps=4, sampler="ddim"))
    assert seen[-1] == ([1.0, 0.75, 0.5, 0.25], (2, 3))
    some = partial(SAMPLERS["ddim"], eta=0.5)  # a library's, with a setting of its own
    assert torch.equal(
        *(
            sample(process, shrink, noise, generators=generators([1, 2]), **how)
            for how in ({"sampler": some}, {"eta": 0.5})
        )
    )


class Broken(RuntimeError):
    """Raised inside a network."""


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_from_trajectory_to_the_network_there_are_at_most_four_frames(sampler):
    """The frames in a traceback between the reader's loop and a network that fails."""

    def network(x, timestep, context):
        raise Broken

    with pytest.raises(Broken) as raised:
        for _ in trajectory(Diffusion("straight", "flow"), network, randn(1, 2), sampler=sampler):
            pass
    names = [frame.name for frame in raised.traceback]
    assert names[-1] == "network" and len(names[1:-1]) <= 4, names


def test_dpmpp_2m_by_hand():
    """Lu et al. 2022, algorithm 2, with their alpha, sigma, lambda, h and r."""
    process, noise = Diffusion("scaled_linear", "x0"), randn(4)[None]
    network = lambda x, timestep, context: x.sin()  # noqa: E731
    times = time_grid(process.schedule, 4)
    x, before = noise, None
    lam = [process.schedule.log_snr(t) / 2 for t in times]
    for i, (t, s) in enumerate(pairwise(times)):
        (_, sigma_t), (alpha_s, sigma_s) = process.schedule(t), process.schedule(s)
        x0 = x.sin()
        guess, h = x0, lam[i + 1] - lam[i]
        if i > 0 and s > 0:
            r = (lam[i] - lam[i - 1]) / h
            guess = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        x = sigma_s / sigma_t * x - alpha_s * ((-h).exp() - 1) * guess
        before = x0
    torch.testing.assert_close(sample(process, network, noise, steps=4, sampler="dpm++2m"), x)


def test_heun_by_hand():
    process, noise = Diffusion("straight", "flow"), randn(4)[None]
    network = lambda x, timestep, context: x.sin() * timestep[:, None] / 1000  # noqa: E731
    x = noise
    for t, s in pairwise([1.0, 0.5, 0.0]):
        v = x.sin() * t
        euler = x + (s - t) * v
        x = x + (s - t) * (v + euler.sin() * s) / 2 if s > 0 else euler
    torch.testing.assert_close(sample(process, network, noise, steps=2, sampler="heun"), x)


def test_heun_straightens_curved_paths():
    """x / (alpha + sigma) moves on the straight path, at time u = sigma / (alpha + sigma)."""
    curved, flat = Diffusion("cosine", "flow"), Diffusion("straight", "flow")
    schedule = curved.schedule
    times = time_grid(schedule, 6)
    us = [(lambda a, s: (s / (a + s)).item())(*schedule(t)) for t in times]
    t_of = dict(zip([round(u, 9) for u in us], times, strict=True))

    def network(x, timestep, context):
        return (x * timestep[:, None] / 1000).cos()

    def flat_network(x, timestep, context):
        t = t_of[round(timestep[0].item() / 1000, 9)]
        return network(x * sum(schedule(t)), curved.timestep(t, x), context)

    noise = randn(3, 2)
    expected = sample(curved, network, noise * sum(schedule(1.0)), sampler="heun", spacing=times)
    ours = sample(flat, flat_network, noise, sampler="heun", spacing=us)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_zero_terminal_snr_is_sampled_from_pure_noise(sampler):
    process = Diffusion(zero_terminal_snr(scaled_linear()), "v")
    network = Gaussian(process, f64([0.5]), 0.3)
    torch.manual_seed(0)
    x0 = sample(process, network, randn(20_000, 1), steps=100, sampler=sampler)
    # 5 standard errors are 0.02; the rest is what 100 steps of first order miss
    assert x0.mean().item() == pytest.approx(0.5, abs=0.02)
    assert x0.var().item() == pytest.approx(0.3, abs=0.05)


# Clipping


def test_clipping_bounds_x0_and_moves_eps_along():
    process, seen = Diffusion("linear", "eps"), []

    def guess(x0):
        seen.append(x0)
        return x0.clamp(-1, 1)

    noise = randn(2, 50)
    *path, x0 = trajectory(process, shrink, noise, steps=4, clip=guess)
    assert seen[0].abs().max() > 1 >= x0.abs().max()
    t, s = points(process.schedule, [1.0, 0.75])
    clipped = seen[0].clamp(-1, 1)
    eps = (noise - t.alpha * clipped) / t.sigma
    torch.testing.assert_close(path[1], step(clipped, eps, t, s))
    assert torch.equal(x0, sample(process, shrink, noise, steps=4, clip=1.0))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_known_part_can_be_held_through_clip(sampler):
    """Inpainting: the known part of x0 is restored at every step, and stays exact."""
    process, known, mask = Diffusion("straight", "flow"), randn(2, 4, seed=5), f64([1, 1, 0, 0])
    hold = lambda x0: torch.where(mask.bool(), known, x0)  # noqa: E731
    x0 = sample(process, shrink, randn(2, 4), sampler=sampler, clip=hold)
    torch.testing.assert_close(x0[:, :2], known[:, :2])
    assert not torch.isclose(x0[:, 2:], known[:, 2:]).any()


# Randomness


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(sampler):
    process = Diffusion("linear", "v")

    def draw(seeds):
        gens = generators(seeds)
        noise = initial_noise(gens, (3, 8, 8))
        return sample(process, shrink, noise, steps=6, sampler=sampler, generators=gens)

    together = draw([7, 8, 9])
    assert torch.equal(together[1:2], draw([8])) and torch.equal(together[[2, 0]], draw([9, 7]))
    assert not torch.equal(together[0], together[1])


def test_the_noise_is_the_same_in_every_dtype():
    process, shape = Diffusion("linear", "v"), (3, 4, 4)
    path = {
        dtype: list(
            trajectory(
                process,
                shrink,
                initial_noise(generators([1, 2]), shape).to(dtype),
                sampler="ancestral",
                generators=generators([3, 4]),
            )
        )
        for dtype in (torch.float32, torch.float64, torch.float16)
    }
    for x64, x32, x16 in zip(
        path[torch.float64], path[torch.float32], path[torch.float16], strict=True
    ):
        assert x32.dtype == torch.float32 and x16.dtype == torch.float16
        torch.testing.assert_close(x32.double(), x64, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(x16.double(), x64, rtol=0.1, atol=0.05)


def test_every_seed_has_noise_of_its_own():
    last = 2**32 - 1
    a, b, c = initial_noise(generators([0, 1, last]), (5,))
    assert not (a.equal(b) or a.equal(c) or b.equal(c))
    assert c.equal(torch.randn(5, generator=torch.Generator().manual_seed(last)))
    wrapped = (torch.Generator().manual_seed(seed) for seed in (2**32, -1))
    first, end = (torch.randn(5, generator=each) for each in wrapped)
    assert first.equal(a) and end.equal(c)  # torch's own: why these two are refused
    for seed in (2**32, -1, 0.5):
        with pytest.raises(ValueError, match=rf"from 0 to {last}; got {seed}"):
            generators([0, seed])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_torchs_default_dtype_changes_no_sample(sampler):
    """A float32 network refuses any other input, so no step computes in float64."""
    torch.manual_seed(0)
    process, layer = Diffusion("cosine", "v"), torch.nn.Linear(5, 5)

    def draw():
        gens = generators([1, 2])
        noise = initial_noise(gens, (5,))
        network = lambda x, timestep, context: layer(x) + timestep[:, None].to(x) / 1000  # noqa: E731
        return sample(process, network, noise, steps=4, sampler=sampler, generators=gens).detach()

    expected = draw()
    torch.set_default_dtype(torch.float64)
    try:
        assert draw().equal(expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_without_generators_torchs_own_seed_decides():
    process, noise = Diffusion("linear", "v"), randn(2, 3)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(sample(process, shrink, noise, sampler="ancestral"))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_initial_noise_is_standard_normal():
    noise = initial_noise(generators(range(4)), (3, 32, 32))
    assert noise.shape == (4, 3, 32, 32)
    assert noise.mean().item() == pytest.approx(0, abs=5 / noise.numel() ** 0.5)
    assert noise.var().item() == pytest.approx(1, abs=5 * (2 / noise.numel()) ** 0.5)


# Where and how it runs


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_number_leaves_the_device(sampler):
    """On the meta device there are no values, so any code that reads x fails."""
    noise = torch.zeros(2, 3, device="meta")
    x0 = sample(Diffusion("cosine", "eps"), shrink, noise, sampler=sampler)
    assert x0.device.type == "meta" and x0.shape == (2, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_gpu_draws_the_same(sampler):
    def draw(device):
        gens = generators([1, 2])
        noise = initial_noise(gens, (3, 8, 8)).to(device)
        process = Diffusion("straight", "flow")
        return sample(process, shrink, noise, sampler=sampler, generators=gens)

    torch.testing.assert_close(draw("cuda").cpu(), draw("cpu"))


def test_gradients_are_off_inside_and_left_alone_outside():
    modes = []

    def network(x, timestep, context):
        modes.append(torch.is_grad_enabled())
        return weight * x

    weight = torch.ones((), requires_grad=True)
    path = trajectory(Diffusion("straight", "flow"), network, randn(1, 2), steps=3)
    for x in path:
        assert torch.is_grad_enabled() and not x.requires_grad
        (weight * 2).backward()  # a caller may train between the steps
    with torch.no_grad():
        for _ in trajectory(Diffusion("straight", "flow"), network, randn(1, 2), steps=3):
            assert not torch.is_grad_enabled()
    half_way = trajectory(Diffusion("straight", "flow"), network, randn(1, 2), steps=3)
    next(half_way), next(half_way)
    half_way.close()
    assert torch.is_grad_enabled() and modes == [False] * 7


def test_a_half_precision_prediction_does_not_change_the_datas_dtype():
    network = lambda x, t, c: (0.3 * x).bfloat16()  # noqa: E731
    path = trajectory(Diffusion("straight", "flow"), network, randn(1, 2).float(), steps=3)
    assert {x.dtype for x in path} == {torch.float32}


# Refusals: all at the call, before the first step


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sampler": "dimm"}, "unknown sampler 'dimm'; did you mean 'ddim'"),
        ({"spacing": "trailling"}, "unknown spacing 'trailling'; did you mean 'trailing'"),
        ({"steps": 0}, "steps: expected a whole number, at least 1, got 0"),
        ({"steps": -3}, "steps: expected a whole number, at least 1, got -3"),
        ({"steps": 2.5}, "steps: expected a whole number, at least 1, got 2.5"),
        (
            {"steps": 1001},
            "times: expected two or more that fall on Table.*, got 1001 steps",
        ),
        ({"steps": 20, "start": 0.01}, "times: expected .*, got 20 steps"),
        ({"start": 0.0}, r"start: expected a time in \(0, 1\], got 0.0"),
        ({"start": 1.2}, r"start: expected a time in \(0, 1\], got 1.2"),
        ({"eta": 1.5}, r"eta: expected a number in \[0, 1\], got 1.5"),
        ({"eta": -0.5}, r"eta: expected .*, got -0.5"),
        (
            {"eta": 0.5, "sampler": "heun"},
            "eta: expected none, except for ddim, ancestral, got 0.5",
        ),
        (
            {"eta": 1.0, "sampler": "dpm++2m"},
            "eta: expected none, except .*, got 1.0",
        ),
        (
            {"generators": generators([1, 2, 3])},
            "generators: expected 2, one per sample, got 3",
        ),
        ({"spacing": [0.5, 0.7]}, "times: expected two or more that fall"),
        ({"spacing": [0.5]}, "times: expected two or more"),
        ({"spacing": [1.5, 0.5]}, r"t: expected a time in \[0, 1\]"),
        ({"clip": -1.0}, "clip: expected a bound above 0 or function, got -1.0"),
    ],
)
def test_nonsense_is_refused_before_the_first_step(kwargs, message):
    with pytest.raises(ValueError, match=message):
        trajectory(Diffusion("linear", "eps"), shrink, randn(2, 3), **kwargs)


def test_an_eps_network_cannot_start_where_there_is_no_signal():
    for schedule in (straight(), zero_terminal_snr(linear())):
        process = Diffusion(schedule, "eps")
        with pytest.raises(ValueError, match=r"process: expected .* got Diffusion\(.*, 'eps'\)"):
            trajectory(process, shrink, randn(2, 3))
        assert sample(process, shrink, randn(2, 3), spacing="leading").isfinite().all()


def test_integer_noise_and_answers_of_another_shape_are_refused():
    process = Diffusion("straight", "flow")
    with pytest.raises(ValueError, match="noise: expected floating-point noise"):
        trajectory(process, shrink, torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"prediction: expected the shape \(2, 3\), got \(2, 1\)"):
        sample(process, lambda x, t, c: x[:, :1], randn(2, 3))
