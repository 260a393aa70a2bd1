"""Schedules: the papers' formulas, agreement with diffusers, the time axis, refusals."""

from math import inf, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.diffusion import (
    SCHEDULES,
    cosine,
    linear,
    scaled_linear,
    straight,
    zero_terminal_snr,
)
from course_lib.diffusion.schedules import Straight, Table
from tests.parity import agree

TABLES = {"linear": linear, "scaled_linear": scaled_linear, "cosine": cosine}
ALL = [*SCHEDULES.values(), lambda: straight(shift=4.0), lambda: zero_terminal_snr(linear())]
ALL += [lambda: linear(timesteps=7)]
times = st.floats(0, 1)


def entries(schedule):
    return torch.arange(1, schedule.timesteps + 1, dtype=torch.float64) / schedule.timesteps


@pytest.mark.parametrize("name", TABLES)
def test_a_tables_entries_are_the_clean_end_and_then_the_alpha_bars(name):
    schedule = TABLES[name]()
    alpha, sigma = schedule(torch.cat([torch.zeros(1), entries(schedule)]).double())
    assert alpha[0] == 1 and sigma[0] == 0
    # 1 - alpha_bar loses digits to cancellation: 1e-16 out of 1e-4
    torch.testing.assert_close(alpha[1:].square(), schedule.alpha_bars, rtol=1e-12, atol=0)
    torch.testing.assert_close(sigma[1:].square(), 1 - schedule.alpha_bars, rtol=1e-12, atol=0)


def test_linear_betas_are_the_papers():
    schedule = linear()
    assert schedule.betas[0] == 1e-4 and schedule.betas[-1] == 0.02
    by_hand = 1.0
    for i in range(1000):
        by_hand *= 1 - (1e-4 + (0.02 - 1e-4) * i / 999)
    assert schedule.alpha_bars[-1].item() == pytest.approx(by_hand, rel=1e-10)
    assert by_hand == pytest.approx(4.04e-5, rel=1e-2)  # what DDPM leaves of the signal's power


def test_stable_diffusions_table_keeps_signal_at_its_noisiest():
    schedule = scaled_linear()
    assert schedule.betas[0].item() == pytest.approx(0.00085)
    assert schedule.betas[-1].item() == pytest.approx(0.012)
    assert schedule.alpha_bars[-1].item() == pytest.approx(0.0047, abs=5e-5)  # Lin et al. 2024
    assert schedule.alpha_bars[0].item() == pytest.approx(0.99915)


def test_cosine_follows_its_curve_until_the_cap():
    schedule = cosine()
    t = entries(schedule)
    curve = ((t + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
    curve = curve / torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2, dtype=t.dtype)) ** 2
    torch.testing.assert_close(schedule.alpha_bars[:-1], curve[:-1], rtol=1e-9, atol=0)
    assert schedule.betas[-1] == 0.999 and schedule.betas[-2] < 0.999
    assert schedule.alpha_bars[-1].item() == pytest.approx(2.4e-9, rel=0.02)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (linear, {"beta_schedule": "linear"}),
        (
            scaled_linear,
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        ),
        (cosine, {"beta_schedule": "squaredcos_cap_v2"}),
    ],
)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_tables_equal_diffusers(ours, theirs, zero_snr):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(rescale_betas_zero_snr=zero_snr, **theirs)
    schedule = zero_terminal_snr(ours()) if zero_snr else ours()
    # theirs is float32: 1000 products accumulate 1e-6 (relative), the last one's cancellation more
    torch.testing.assert_close(
        scheduler.alphas_cumprod.double(), schedule.alpha_bars, rtol=2e-5, atol=1e-8
    )
    agree(schedule.alpha_bars, scheduler.alphas_cumprod, 1e-5 if zero_snr else 1e-6)


def test_straight_is_flow_matchings_path():
    alpha, sigma = straight()(torch.tensor([0.0, 0.25, 1.0]))
    assert alpha.tolist() == [1, 0.75, 0] and sigma.tolist() == [0, 0.25, 1]


@pytest.mark.parametrize("make", ALL)
def test_ends(make):
    schedule = make()
    assert tuple(schedule(0.0)) == (1, 0) and schedule.log_snr(0.0) == inf
    assert schedule(1.0)[1] > 0.99 or schedule.timesteps == 7
    if schedule(1.0)[0] == 0:
        assert schedule.log_snr(1.0) == -inf


@pytest.mark.parametrize("make", ALL)
@given(t=times)
def test_log_snr_belongs_to_alpha_and_sigma(make, t):
    schedule = make()
    alpha, sigma = schedule(t)
    if alpha > 1e-100 and sigma > 1e-100:
        expected = 2 * (alpha.log() - sigma.log())
        torch.testing.assert_close(schedule.log_snr(t), expected, rtol=1e-6, atol=1e-6)
    if not isinstance(schedule, Straight):
        assert (alpha**2 + sigma**2).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("make", ALL)
def test_noise_grows_with_time_without_jumps(make):
    schedule = make()
    t = torch.linspace(0, 1, 30_001, dtype=torch.float64)
    alpha, sigma = schedule(t)
    assert (sigma.diff() >= 0).all() and (alpha.diff() <= 0).all()
    assert (schedule.log_snr(t).diff() < 0).all()
    # the steepest place of all is the fall into a first entry or out of a last one, within 1 / T
    assert sigma.diff().max() < 0.05 and alpha.diff().abs().max() < 0.05


@given(i=st.integers(1, 998), w=st.floats(0, 1))
def test_between_entries_log_snr_is_linear(i, w):
    schedule = linear()
    low, high = schedule.log_snrs[i], schedule.log_snrs[i + 1]
    log_snr = schedule.log_snr((i + w) / 1000)
    assert log_snr.item() == pytest.approx((low + w * (high - low)).item(), abs=1e-9)


def test_towards_an_infinite_log_snr_the_smaller_ratio_is_linear():
    schedule = zero_terminal_snr(linear())
    ratio = lambda t: (schedule(t)[1] / schedule(t)[0]).item()  # noqa: E731
    assert ratio(0.25e-3) == pytest.approx(ratio(1e-3) / 4)
    assert 1 / ratio(1 - 0.25e-3) == pytest.approx(1 / ratio(1 - 1e-3) / 4, rel=1e-6)


@pytest.mark.parametrize("make", ALL)
@given(t=times)
def test_the_networks_timestep_runs_both_ways(make, t):
    schedule = make()
    assert schedule.time(schedule.timestep(t)).item() == pytest.approx(t, abs=1e-12)


def test_the_networks_timestep_is_that_of_published_checkpoints():
    assert linear().timestep(1.0) == 999 and linear().timestep(1 / 1000) == 0
    assert linear(timesteps=100).timestep(1.0) == 99
    assert linear().timestep(torch.tensor([0.5, 0.0])).tolist() == [499, -1]
    assert straight().timestep(torch.tensor([0.25])).tolist() == [250]
    # every index comes out whole in the networks' float32
    indices = linear().timestep(entries(linear())).float()
    assert indices.tolist() == list(range(1000))


def test_snap():
    t = torch.tensor([0.0, 0.24, 0.26, 0.51, 1.0], dtype=torch.float64)
    assert linear(timesteps=4).snap(t).tolist() == [0.25, 0.25, 0.25, 0.5, 1]
    assert linear(timesteps=4).snap(t, torch.ceil).tolist() == [0.25, 0.25, 0.5, 0.75, 1]
    assert straight().snap(t).tolist() == t.tolist()


@pytest.mark.parametrize("make", [linear, scaled_linear, cosine])
def test_zero_terminal_snr(make):
    before, after = make(), zero_terminal_snr(make())
    assert after.alpha_bars[-1] == 0 and after.betas[-1] == 1
    assert after.alpha_bars[0].item() == pytest.approx(before.alpha_bars[0].item(), rel=1e-12)
    root, rescaled = before.alpha_bars.sqrt(), after.alpha_bars.sqrt()
    slope = rescaled.diff() / root.diff()
    torch.testing.assert_close(slope, torch.full_like(slope, slope[0]), rtol=1e-6, atol=0)
    assert zero_terminal_snr(after) is after
    assert isinstance(zero_terminal_snr(straight()), type(straight()))


def test_all_is_float64_on_the_cpu_whatever_comes_in():
    for t in (0.5, torch.tensor(0.5), torch.rand(3, dtype=torch.float16)):
        alpha, sigma = linear()(t)
        assert alpha.dtype == sigma.dtype == torch.float64
        assert alpha.shape == torch.as_tensor(t).shape


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("t", [-0.01, 1.001, 500.0, float("nan"), torch.tensor([0.5, 2.0])])
def test_times_outside_are_refused(make, t):
    for method in ("__call__", "log_snr", "timestep", "snap"):
        with pytest.raises(ValueError, match=r"t: expected a time in \[0, 1\]"):
            getattr(make(), method)(t)


def test_the_end_of_a_shifted_path_is_a_time():
    """Rounding must not push a timestep of 1000 beyond t = 1."""
    for shift in torch.arange(0.05, 10, 0.05).tolist():
        path = straight(shift)
        assert path.time(path.timestep(1.0)) <= 1
        path(path.time(path.timestep(1.0)))


def test_an_index_is_not_a_time():
    with pytest.raises(ValueError, match=r"not an index, got .*torch.int64"):
        linear()(torch.tensor([0, 1]))


@pytest.mark.parametrize("make", [linear, scaled_linear, cosine])
def test_empty_tables_are_refused(make):
    with pytest.raises(ValueError, match="timesteps: expected at least 1, got 0"):
        make(timesteps=0)


@pytest.mark.parametrize("betas", [[0.1, 0.0], [0.1, 1.5], [[0.1]], [float("nan")]])
def test_impossible_betas_are_refused(betas):
    with pytest.raises(ValueError, match="betas: expected a vector"):
        Table(torch.tensor(betas))


@pytest.mark.parametrize("shift", [0.5, 1.0, 6.0])
def test_a_shift_lowers_the_log_snr_by_the_same_everywhere(shift):
    """Esser et al. 2024, eq. 23: sigma / alpha is multiplied by the shift at every t."""
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    lowered = straight()(t)[1] / straight()(t)[0] * shift
    alpha, sigma = straight(shift)(t)
    torch.testing.assert_close(sigma / alpha, lowered)
    torch.testing.assert_close(alpha + sigma, torch.ones_like(t))
    torch.testing.assert_close(straight(shift).log_snr(t), straight().log_snr(t) - 2 * log(shift))
    assert [float(x) for x in straight(shift)(0.0)] == [1, 0]
    assert [float(x) for x in straight(shift)(1.0)] == [0, 1]
    torch.testing.assert_close(straight(shift).timestep(t), 1000 * sigma)
    torch.testing.assert_close(straight(shift).time(1000 * sigma), t)


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan")])
def test_impossible_shifts_are_refused(shift):
    with pytest.raises(ValueError, match="shift: expected a positive number"):
        straight(shift)
