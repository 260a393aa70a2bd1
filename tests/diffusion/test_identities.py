"""The identities of the process for random schedules, shapes, times and dtypes.

Every bound counts roundings: each of the operations below has an error of half its dtype's eps,
relative to its inputs. So a bound includes what a sum loses by cancellation.
"""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.diffusion import (
    Diffusion,
    cosine,
    linear,
    points,
    posterior,
    scaled_linear,
    step,
    straight,
    zero_terminal_snr,
)
from course_lib.diffusion.process import PREDICTIONS

ALL = [linear(), scaled_linear(), cosine(), straight(), straight(3.0), linear(7)]
ALL += [zero_terminal_snr(linear())]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
TINY = torch.finfo(torch.float64).eps
inner_times = st.floats(1e-3, 0.999)  # both ends are singular for one prediction or another
shapes = st.tuples(st.integers(0, 5), st.lists(st.integers(1, 4), max_size=3)).map(
    lambda drawn: (drawn[0], *drawn[1])
)


@st.composite
def noised(draw):
    """A schedule, data and noise of one shape and dtype, and a time for each sample or for all."""
    shape, dtype = draw(shapes), draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x0, eps = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    each = st.lists(inner_times, min_size=len(x0), max_size=len(x0)).map(torch.tensor)
    return draw(st.sampled_from(ALL)), x0, eps, draw(inner_times | each)


def assert_within(ours, exact, bound):
    assert ours.shape == exact.shape
    assert ((ours.double() - exact.double()).abs() <= bound).all()


def sizes(process, x0, eps, t):
    """|a|, |b|, alpha, sigma, and what enters xt and the prediction: |alpha x0| + |sigma eps|, …"""
    alpha, sigma = (c.double() for c in process.at(t, x0))
    a, b = (torch.as_tensor(c).double().abs() for c in process.coefficients(alpha, sigma))
    x0, eps = x0.double().abs(), eps.double().abs()
    return a, b, alpha, sigma, alpha * x0 + sigma * eps, a * x0 + b * eps


def solved_bounds(process, x0, eps, t):
    """How far the solved (x0, eps) may be from the x0 and eps that made xt and the prediction.

    Nine roundings: three in xt or the prediction, three in the determinant, and a product, a
    difference and a quotient. The condition number enters as one over the determinant.
    """
    a, b, alpha, sigma, xt, predicted = sizes(process, x0, eps, t)
    det = process.determinant(t).abs().reshape(-1, *[1] * (x0.dim() - 1))
    unit = 9 / 2 * torch.finfo(x0.dtype).eps * 1.1  # a tenth for products of roundings
    return unit * (b * xt + sigma * predicted) / det, unit * (alpha * predicted + a * xt) / det


@pytest.mark.parametrize("prediction", PREDICTIONS)
@given(drawn=noised())
def test_noising_predicting_and_solving_come_back(prediction, drawn):
    schedule, x0, eps, t = drawn
    process = Diffusion(schedule, prediction)
    xt = process.add_noise(x0, t, eps)
    x0_, eps_ = process.x0_and_eps(process.target(x0, eps, t), xt, t)
    x0_bound, eps_bound = solved_bounds(process, x0, eps, t)
    assert x0_.dtype == eps_.dtype == xt.dtype == x0.dtype
    assert_within(x0_, x0, x0_bound)
    assert_within(eps_, eps, eps_bound)
    # and forth: noising again adds three roundings on either side
    alpha, sigma = (c.double() for c in process.at(t, x0))
    again = 3 * torch.finfo(x0.dtype).eps * 1.1 * (alpha * x0.abs() + sigma * eps.abs())
    bound = (alpha * x0_bound + sigma * eps_bound) * 1.1 + again
    assert_within(process.add_noise(x0_, t, eps_), xt, bound)


@pytest.mark.parametrize("other", PREDICTIONS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@given(drawn=noised())
def test_every_prediction_follows_from_every_other(prediction, other, drawn):
    schedule, x0, eps, t = drawn
    process, wanted = Diffusion(schedule, prediction), Diffusion(schedule, other)
    xt = process.add_noise(x0, t, eps)
    converted = wanted.target(*process.x0_and_eps(process.target(x0, eps, t), xt, t), t)
    x0_bound, eps_bound = solved_bounds(process, x0, eps, t)
    a, b, *_, predicted = sizes(wanted, x0, eps, t)
    bound = (a * x0_bound + b * eps_bound) * 1.1 + 3 * torch.finfo(x0.dtype).eps * 1.1 * predicted
    assert_within(converted, wanted.target(x0, eps, t), bound)


@given(
    schedule=st.sampled_from(ALL),
    times=st.lists(st.floats(0, 1, width=16), min_size=1, max_size=6),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16]),
)
def test_times_of_any_shape_and_dtype_are_answered_one_by_one(schedule, times, dtype):
    """log-SNR = log(alpha² / sigma²) for each; the values of half precision are in all three."""
    t = torch.tensor(times, dtype=dtype).view(-1, 1)
    (alpha, sigma), log_snr = schedule(t), schedule.log_snr(t)
    assert alpha.shape == sigma.shape == log_snr.shape == t.shape
    alone = torch.tensor([[*schedule(s), schedule.log_snr(s)] for s in times], dtype=torch.float64)
    few = 16 / 2 * TINY  # roundings, of numbers near 1 or of the log-SNR's size
    close = partial(torch.testing.assert_close, rtol=few, atol=few)
    close(torch.cat([alpha, sigma, log_snr], 1), alone)
    inside = (alpha > 0) & (sigma > 0)
    close(log_snr[inside], 2 * (alpha.log() - sigma.log())[inside])


parts = st.floats(0.01, 0.99)


@given(drawn=noised(), t=inner_times, part=parts)
def test_the_posterior_is_the_textbooks(drawn, t, part):
    """Ho et al. 2020, eqs. 6 and 7, for any two times (Kingma et al. 2021, appendix A)."""
    schedule, x0, eps, _ = drawn
    process, (at_t, at_s) = Diffusion(schedule), points(schedule, [t, t * part])
    xt = process.add_noise(x0, t, eps)
    mean, variance = posterior(process, x0, xt, t, t * part)
    unit, x0, xt = torch.finfo(x0.dtype).eps, x0.double(), xt.double()
    alpha = at_t.alpha / at_s.alpha
    between = at_t.sigma**2 - (alpha * at_s.sigma) ** 2  # the variance of x_t given x_s
    of_xt = alpha * at_s.sigma**2 / at_t.sigma**2
    of_x0 = at_s.alpha * between / at_t.sigma**2
    assert variance == pytest.approx(between * at_s.sigma**2 / at_t.sigma**2, abs=8 / 2 * TINY)
    # ours says at_s.alpha * x0 + root * (xt - at_t.alpha * x0) / at_t.sigma: six roundings, and
    # what the root of at_s.sigma² - std², a difference in float64, has lost
    root, entered = of_xt * at_t.sigma, (xt.abs() + at_t.alpha * x0.abs()) / at_t.sigma
    lost = 8 / 2 * TINY * at_s.sigma**2 / root * entered
    bound = 6 / 2 * unit * 1.1 * (at_s.alpha * x0.abs() + root * entered) + lost
    assert_within(mean, of_x0 * x0 + of_xt * xt, bound)


@given(drawn=noised(), t=inner_times, part=parts)
def test_with_eta_1_a_step_is_a_draw_from_the_posterior(drawn, t, part):
    """DDIM at eta = 1 (Song et al. 2021, eq. 16) is DDPM's reverse step."""
    schedule, x0, eps, _ = drawn
    process, (at_t, at_s) = Diffusion(schedule), points(schedule, [t, t * part])
    xt, noise = process.add_noise(x0, t, eps), eps.flip(0)
    mean, variance = posterior(process, x0, xt, t, t * part)
    ours = step(x0, eps, at_t, at_s, 1.0, noise)
    unit, x0, eps, noise = torch.finfo(x0.dtype).eps, x0.double(), eps.double(), noise.double()
    # the posterior reads eps back from xt: three roundings in xt, three after it; then in either
    # three products and two sums
    of_eps = at_t.alpha / at_s.alpha * at_s.sigma**2 / at_t.sigma
    read = 2 * (at_t.alpha * x0.abs() + at_t.sigma * eps.abs()) / at_t.sigma
    entered = at_s.alpha * x0.abs() + of_eps * read + variance**0.5 * noise.abs()
    assert_within(ours, mean.double() + variance**0.5 * noise, 11 / 2 * unit * 1.1 * entered)
