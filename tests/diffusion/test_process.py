"""The process: four prediction types as coefficients, the 2x2 solve, and the loss by definition."""

from math import cos, log, pi, tan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.diffusion import (
    SCHEDULES,
    Diffusion,
    Gaussian,
    linear,
    sample,
    straight,
    zero_terminal_snr,
)
from course_lib.diffusion.process import PREDICTIONS, TIME_SAMPLING

EVERY = [(s, prediction) for s in SCHEDULES for prediction in PREDICTIONS]


def data(seed=0, shape=(4, 3, 8, 8), dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=g, dtype=dtype) for _ in range(2)]


def nothing(x, timestep, context):
    return torch.zeros_like(x)


@pytest.mark.parametrize(("schedule", "prediction"), EVERY)
@given(t=st.lists(st.floats(0.001, 0.999), min_size=4, max_size=4))
def test_solving_recovers_what_noising_put_together(schedule, prediction, t):
    process, (x0, eps) = Diffusion(schedule, prediction), data(shape=(4, 5))
    t = torch.tensor(t, dtype=torch.float64)
    xt = process.add_noise(x0, t, eps)
    x0_, eps_ = process.x0_and_eps(process.target(x0, eps, t), xt, t)
    # 1 / determinant, at most 1 / 4.9e-5 (cosine's last alpha), times float64's 1e-16
    torch.testing.assert_close(x0_, x0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(eps_, eps, rtol=1e-9, atol=1e-9)


def test_predictions_are_what_their_papers_say():
    (x0, eps), t = data(), torch.tensor([0.1, 0.4, 0.7, 1.0], dtype=torch.float64)
    for schedule in (linear(), straight()):
        alpha, sigma = (y.view(4, 1, 1, 1) for y in schedule(t))
        predictions = {name: Diffusion(schedule, name).target(x0, eps, t) for name in PREDICTIONS}
        assert torch.equal(predictions["eps"], eps) and torch.equal(predictions["x0"], x0)
        assert torch.equal(predictions["flow"], eps - x0)
        torch.testing.assert_close(predictions["v"], alpha * eps - sigma * x0)


def test_flow_is_the_velocity_of_the_straight_path():
    (x0, eps), process = data(), Diffusion("straight", "flow")
    path = lambda t: process.add_noise(x0, t, eps)  # noqa: E731
    velocity = (path(0.6) - path(0.4)) / 0.2
    torch.testing.assert_close(velocity, process.target(x0, eps, 0.5))


def test_v_is_the_velocity_along_the_circle():
    """With alpha = cos(phi), sigma = sin(phi), v = dx / dphi (Salimans & Ho 2022)."""
    (x0, eps), process = data(), Diffusion("cosine", "v")
    sin = [process.schedule(t)[1].asin() for t in (0.4999, 0.5001)]
    x = [process.add_noise(x0, t, eps) for t in (0.4999, 0.5001)]
    slope = (x[1] - x[0]) / (sin[1] - sin[0])
    torch.testing.assert_close(slope, process.target(x0, eps, 0.5), rtol=1e-5, atol=1e-5)


def test_noising_by_hand():
    (x0, eps), process = data(), Diffusion("linear")
    alpha_bar = linear().alpha_bars[299]
    expected = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
    torch.testing.assert_close(process.add_noise(x0, 0.3, eps), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(process.add_noise(x0, 0.0, eps), x0)


def test_variance_preserving_noising_preserves_the_variance():
    x0, eps = data(shape=(64, 3, 16, 16))
    for name in ("linear", "cosine", "scaled_linear"):
        for t in (0.1, 0.5, 0.9):
            var = Diffusion(name).add_noise(x0, t, eps).var().item()
            assert var == pytest.approx(1, abs=5 * (2 / x0.numel()) ** 0.5)  # 5 standard errors


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 3, 8, 8), (4, 2, 3, 4, 5)])
def test_each_sample_has_its_own_time_in_any_shape(shape):
    (x0, eps), process = data(shape=shape), Diffusion("straight", "flow")
    t = torch.tensor([0.0, 0.25, 0.5, 1.0])
    together = process.add_noise(x0, t, eps)
    for i in range(4):
        assert torch.equal(together[i], process.add_noise(x0, t[i].item(), eps)[i])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_are_kept(dtype):
    (x0, eps), process = data(dtype=dtype), Diffusion("linear", "v")
    xt = process.add_noise(x0, torch.rand(4), eps)
    assert xt.dtype == dtype and process.x0_and_eps(eps, xt, 0.5)[0].dtype == dtype
    timestep = process.timestep(1.0, x0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert timestep.dtype == wide and timestep.tolist() == [999] * 4  # bfloat16 would say 1000


def test_coefficients_are_float64_until_they_are_cast():
    x = torch.zeros(1, 1)
    for t in (1 / 1000, 0.5, 1.0):
        alpha, sigma = Diffusion("linear").at(t, x)
        index = round(1000 * t) - 1
        alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000).double(), 0)[index]
        assert alpha.item() == pytest.approx(alpha_bar.sqrt().item(), rel=1e-6)
        assert sigma.item() == pytest.approx((1 - alpha_bar).sqrt().item(), rel=1e-6)


# The loss


def test_the_loss_is_the_mean_square_of_the_predictions_error():
    (x0, eps), t = data(), torch.tensor([0.1, 0.4, 0.7, 1.0])
    for schedule, prediction in EVERY:
        process, seen = Diffusion(schedule, prediction), {}

        def network(x, timestep, context, seen=seen):
            seen.update(x=x, timestep=timestep, context=context)
            return x / 2

        loss = process.loss(network, x0, context="caption", t=t, eps=eps)
        xt = process.add_noise(x0, t, eps)
        expected = (xt / 2 - process.target(x0, eps, t)).square().mean()
        torch.testing.assert_close(loss, expected)
        assert loss.shape == () and torch.equal(seen["x"], xt) and seen["context"] == "caption"
        assert seen["timestep"].tolist() == process.schedule.timestep(t).tolist()


@pytest.mark.parametrize(("schedule", "prediction"), EVERY)
def test_min_snr_is_a_clamped_snr_on_the_error_of_x0(schedule, prediction):
    """Hang et al. 2023: whatever the prediction, the weighted loss is min(SNR, 5) |x0 - x0^|²."""
    process, (x0, eps) = Diffusion(schedule, prediction), data(shape=(1, 50))
    for t in (0.01, 0.2, 0.5, 0.9):
        network = lambda x, timestep, context: x.sin()  # noqa: E731
        loss = process.loss(network, x0, t=t, eps=eps, weighting="min_snr")
        xt = process.add_noise(x0, t, eps)
        guess, _ = process.x0_and_eps(xt.sin(), xt, t)
        expected = process.schedule.log_snr(t).exp().clamp(max=5) * (guess - x0).square().mean()
        torch.testing.assert_close(loss, expected, rtol=1e-8, atol=0)


def test_min_snrs_published_weights():
    for prediction, published in {
        "eps": lambda snr: min(snr, 5) / snr,
        "v": lambda snr: min(snr, 5) / (snr + 1),
        "x0": lambda snr: min(snr, 5),
    }.items():
        for t in (0.05, 0.3, 0.8):
            process = Diffusion("linear", prediction)
            x0, eps = data(shape=(1, 9))
            plain = process.loss(nothing, x0, t=t, eps=eps)
            loss = process.loss(nothing, x0, t=t, eps=eps, weighting="min_snr")
            snr = process.schedule.log_snr(t).exp().item()
            assert (loss / plain).item() == pytest.approx(published(snr), rel=1e-9)


def test_the_loss_draws_a_tables_entries_evenly():
    torch.manual_seed(0)
    process, seen = Diffusion(linear(timesteps=10)), []
    process.loss(lambda x, t, c: seen.append(t) or x, torch.zeros(20_000, 1))
    counts = torch.bincount(seen[0].long())
    assert torch.equal(seen[0], seen[0].round()) and len(counts) == 10
    assert (counts - 2000).abs().max() < 5 * (20_000 * 0.1 * 0.9) ** 0.5  # 5 standard errors


def test_the_same_seed_draws_the_same_loss():
    x0, _ = data()
    losses = [torch.manual_seed(5) and Diffusion("cosine").loss(nothing, x0) for _ in range(2)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", TIME_SAMPLING)
def test_times_lie_inside(name):
    torch.manual_seed(0)
    t = TIME_SAMPLING[name](10_000)
    assert t.dtype == torch.float64 and t.shape == (10_000,) and 0 < t.min() <= t.max() <= 1
    assert t.mean().item() == pytest.approx(0.5, abs=5 * 0.29 / 100)


def test_logit_normal_times_are_logit_normal():
    torch.manual_seed(0)
    logits = TIME_SAMPLING["logit_normal"](20_000).logit()
    assert logits.mean().item() == pytest.approx(0, abs=5 / 20_000**0.5)
    assert logits.std().item() == pytest.approx(1, abs=5 / 40_000**0.5)


def test_antithetic_times_are_evenly_spaced_and_uniform():
    torch.manual_seed(0)
    t = TIME_SAMPLING["antithetic"](8).sort().values
    torch.testing.assert_close(t.diff(), torch.full((7,), 1 / 8, dtype=t.dtype))
    firsts = torch.stack([TIME_SAMPLING["antithetic"](3)[0] for _ in range(4000)])
    assert firsts.mean().item() == pytest.approx(0.5, abs=5 * 0.29 / 4000**0.5)
    assert firsts.var().item() == pytest.approx(1 / 12, rel=0.1)


def test_gradients_reach_the_network_and_only_it():
    weight, x0 = torch.ones((), requires_grad=True), data()[0].float()
    loss = Diffusion("straight", "flow").loss(lambda x, t, c: weight * x, x0)
    loss.backward()
    assert weight.grad is not None and weight.grad != 0


# A reader's own schedule, prediction, weighting and times


def test_a_schedule_of_ones_own():
    """The quarter circle: alpha = cos, sigma = sin (Albergo & Vanden-Eijnden 2023)."""
    own = Diffusion(lambda t: ((t * pi / 2).cos(), (t * pi / 2).sin()), "v")
    x0, eps = data()
    expected = (x0 + eps) / 2**0.5
    torch.testing.assert_close(own.add_noise(x0, 0.5, eps), expected)
    assert own.schedule.log_snr(0.25).item() == pytest.approx(-2 * log(tan(pi / 8)), rel=1e-12)
    assert own.timestep(0.25, x0).tolist() == [250] * 4
    # the best v is 0 for standard normal data, and DDIM turns by a 20th of a right angle
    exact, noise = Gaussian(own, torch.zeros(5).double(), 1.0), x0[0, 0, :, :5]
    torch.testing.assert_close(sample(own, exact, noise), cos(pi / 40) ** 20 * noise)


def test_a_prediction_of_ones_own():
    """x0 + eps, which is none of the four."""
    process, (x0, eps) = Diffusion("cosine", lambda alpha, sigma: (1, 1)), data()
    assert torch.equal(process.target(x0, eps, 0.3), x0 + eps)
    xt = process.add_noise(x0, 0.3, eps)
    for ours, theirs in zip(process.x0_and_eps(x0 + eps, xt, 0.3), (x0, eps), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_weighting_and_times_of_ones_own():
    (x0, eps), process = data(), Diffusion("cosine", "v")
    middle, double = (
        lambda count: torch.full((count,), 0.5),
        lambda process, t: 2 * torch.as_tensor(t),
    )
    ours = process.loss(nothing, x0, eps=eps, weighting=double, time_sampling=middle)
    torch.testing.assert_close(ours, process.loss(nothing, x0, eps=eps, t=0.5))


# Refusals


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="unknown schedule 'liner'; did you mean 'linear'"):
        Diffusion("liner")
    with pytest.raises(ValueError, match=r"unknown prediction 'velocity'.*known: eps, x0, v, flow"):
        Diffusion("linear", "velocity")
    with pytest.raises(ValueError, match="unknown weighting 'min-snr'; did you mean 'min_snr'"):
        Diffusion().loss(nothing, data()[0], weighting="min-snr")
    with pytest.raises(ValueError, match="unknown time sampling 'unifrm'"):
        Diffusion().loss(nothing, data()[0], time_sampling="unifrm")


@pytest.mark.parametrize("schedule", [straight(), zero_terminal_snr(linear())])
def test_an_eps_prediction_has_no_x0_in_pure_noise(schedule):
    x, eps = data()
    with pytest.raises(ValueError, match=r"process: expected .*, got Diffusion\(.*, 'eps'\)"):
        Diffusion(schedule, "eps").determinant(torch.tensor([0.5, 1.0]))
    for prediction in ("x0", "v", "flow"):
        x0, _ = Diffusion(schedule, prediction).x0_and_eps(eps, x, 1.0)
        assert x0.isfinite().all()


def test_an_x0_prediction_has_no_eps_in_clean_data():
    x, _ = data()
    with pytest.raises(ValueError, match=r"process: .*, got Diffusion\(Straight.*, 'x0'\)"):
        Diffusion("straight", "x0").determinant(torch.tensor([0.5, 0.5, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"process: .*, got Diffusion\(Straight.*, 'x0'\)"):
        Diffusion("straight", "x0").loss(nothing, x, t=0.0, weighting="min_snr")


@pytest.mark.parametrize("t", [-0.1, 1.5, torch.tensor([0.1, 0.2, 0.3, 7.0])])
def test_times_outside_are_refused(t):
    (x0, eps), process = data(), Diffusion()
    for call in (
        lambda: process.add_noise(x0, t, eps),
        lambda: process.target(x0, eps, t),
        lambda: process.x0_and_eps(x0, eps, t),
        lambda: process.loss(nothing, x0, t=t),
    ):
        with pytest.raises(ValueError, match=r"t: expected a time in \[0, 1\]"):
            call()


def test_shapes_and_dtypes_are_checked():
    x0, eps = data()
    process = Diffusion()
    loss = lambda x0, **kwargs: process.loss(nothing, x0, **kwargs)  # noqa: E731
    with pytest.raises(ValueError, match=r"eps: expected .*\(4, 3, 8, 8\) .*, got \(2, 3, 8, 8\)"):
        loss(x0, t=0.5, eps=eps[:2])
    for t in (torch.rand(3), torch.rand(4, 1)):
        with pytest.raises(
            ValueError, match=r"t: expected one time, or 4 for a batch of 4, got \("
        ):
            loss(x0, t=t)
    with pytest.raises(ValueError, match=r"x0: expected .*floating-point data, got .*torch.uint8"):
        loss(torch.zeros(4, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"x0: expected a batch .*, got \(0, 3, 8, 8\)"):
        loss(x0[:0])
    with pytest.raises(
        ValueError, match=r"prediction: expected .*\(4, 3, 8, 8\), got \(4, 1, 8, 8"
    ):
        process.loss(lambda x, t, c: x[:, :1], x0)
