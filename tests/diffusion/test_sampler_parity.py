"""The samplers compared with diffusers' schedulers, on toy networks, in float64.

diffusers' tables are float32; with ours, it must agree up to rounding. Where the two differ by
design, the tests say so: our previous time is always the list's next entry, and eps is computed
again after clipping.
"""

from functools import partial
from itertools import pairwise
from math import inf, sqrt

import numpy as np
import pytest
import torch

from course_lib.diffusion import (
    DDPM,
    SAMPLERS,
    Diffusion,
    cosine,
    generators,
    initial_noise,
    linear,
    sample,
    scaled_linear,
    straight,
    time_grid,
    trajectory,
    zero_terminal_snr,
)
from tests.parity import agree

diffusers = pytest.importorskip("diffusers")

SHAPE = (3, 4, 4)
THEIR_PREDICTION = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
TABLES = {
    "linear": (linear, {"beta_schedule": "linear"}),
    "scaled_linear": (
        scaled_linear,
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ),
    "cosine": (cosine, {"beta_schedule": "squaredcos_cap_v2"}),
}


@pytest.fixture(autouse=True)
def float32_noise(monkeypatch):
    """Our noise is drawn in float32, so that it is the same for every dtype; so is theirs here."""

    def randn_tensor(shape, generator, device=None, dtype=None, layout=None):
        return torch.stack([torch.randn(shape[1:], generator=g) for g in generator]).to(dtype)

    modules = "ddim", "ddpm", "euler_ancestral_discrete", "dpmsolver_multistep"
    for module in (f"scheduling_{name}" for name in modules):
        monkeypatch.setattr(f"diffusers.schedulers.{module}.randn_tensor", randn_tensor)


def network(x, timestep, context=None):
    return (2 * x + timestep.view(-1, 1, 1, 1) / 500).sin()


def noise():
    return initial_noise(generators([1, 2]), SHAPE).double()


def theirs(scheduler, steps, seeds=(3, 4), **kwargs):
    """diffusers' loop: the path, noise first."""
    if steps is not None:
        scheduler.set_timesteps(steps)
    gens = {"generator": generators(seeds)} if seeds else {}
    x = noise() * scheduler.init_noise_sigma
    path = [x]
    for t in scheduler.timesteps:
        predicted = network(x, t.double().expand(len(x)))
        x = scheduler.step(predicted, t, x, **gens, **kwargs).prev_sample
        path.append(x)
    return path


def with_our_table(scheduler, schedule):
    scheduler.alphas_cumprod = schedule.alpha_bars
    scheduler.betas, scheduler.alphas = schedule.betas, schedule.alphas
    return scheduler


def ours(process, **kwargs):
    return list(trajectory(process, network, noise(), generators=generators([3, 4]), **kwargs))


def assert_same_path(a, b, tolerance=1e-9):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        agree(x, y, tolerance)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 20, 50, 64, 333, 500, 999, 1000])
def test_spacings(spacing, steps):
    for scheduler in (diffusers.DDIMScheduler, diffusers.DDPMScheduler):
        scheduler = scheduler(timestep_spacing=spacing)
        scheduler.set_timesteps(steps)
        indices = [round(1000 * t) - 1 for t in time_grid(linear(), steps, spacing)[:-1]]
        if spacing == "linspace" and steps == 1:
            assert (indices, scheduler.timesteps.tolist()) == ([999], [0])  # theirs starts clean
            continue
        # np.arange over fractions may give theirs one time too many, below the first entry
        their_indices = scheduler.timesteps.tolist()[:steps]
        if spacing != "linspace":
            assert indices == their_indices
        for i, j, exact in zip(
            indices, their_indices, np.linspace(999, 0, steps), strict=True
        ):  # half-way between two entries, rounding to even means t in ours, the index in theirs
            assert i == j or (spacing, abs(i - j), exact % 1) == ("linspace", 1, 0.5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction", THEIR_PREDICTION)
@pytest.mark.parametrize("table", TABLES)
def test_ddim(table, prediction, eta):
    make, their_table = TABLES[table]
    scheduler = diffusers.DDIMScheduler(
        **their_table,
        prediction_type=THEIR_PREDICTION[prediction],
        clip_sample=False,
        timestep_spacing="trailing",
    )
    expected = theirs(with_our_table(scheduler, make()), 10, eta=eta)
    assert_same_path(ours(Diffusion(make(), prediction), steps=10, eta=eta), expected)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("clip", [False, True])
def test_ddim_spaced_and_clipped(spacing, clip):
    scheduler = diffusers.DDIMScheduler(clip_sample=clip, timestep_spacing=spacing)
    expected = theirs(
        with_our_table(scheduler, linear()), 20, eta=0.3, use_clipped_model_output=clip
    )
    process = Diffusion("linear", "eps")
    path = ours(process, steps=20, spacing=spacing, eta=0.3, clip=1.0 if clip else None)
    assert_same_path(path, expected)


def test_ddim_out_of_the_box():
    """With diffusers' own float32 tables, the difference is due to these."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    path = ours(Diffusion("linear", "eps"), steps=10)
    assert_same_path(path, theirs(scheduler, 10), tolerance=1e-3)


def test_stable_diffusions_ddim_settings():
    """Leading spacing shifted by one, ending at the first entry instead of the clean end."""
    scheduler = diffusers.DDIMScheduler(
        **TABLES["scaled_linear"][1],
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    schedule = scaled_linear()
    scheduler.final_alpha_cumprod = schedule.alpha_bars[0]
    expected = theirs(with_our_table(scheduler, schedule), 20)
    times = [t + 1 / 1000 for t in time_grid(schedule, 20, "leading")]
    assert_same_path(ours(Diffusion(schedule, "eps"), spacing=times), expected)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_zero_terminal_snr(sampler):
    scheduler = {"ddim": diffusers.DDIMScheduler, "ancestral": diffusers.DDPMScheduler}[sampler](
        **TABLES["scaled_linear"][1],
        prediction_type="v_prediction",
        clip_sample=False,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    schedule = zero_terminal_snr(scaled_linear())
    expected = theirs(with_our_table(scheduler, schedule), 10)
    assert_same_path(ours(Diffusion(schedule, "v"), steps=10, sampler=sampler), expected)


@pytest.mark.parametrize(("spacing", "steps"), [("leading", 10), ("trailing", 7), ("linspace", 10)])
@pytest.mark.parametrize("prediction", THEIR_PREDICTION)
@pytest.mark.parametrize("clip", [False, True])
def test_ancestral_is_their_ddpm(prediction, spacing, steps, clip):
    """DDPMScheduler's previous time is the list's next entry, as ours, so n need not divide T."""
    scheduler = diffusers.DDPMScheduler(
        prediction_type=THEIR_PREDICTION[prediction], clip_sample=clip, timestep_spacing=spacing
    )
    expected = theirs(with_our_table(scheduler, linear()), steps)
    path = ours(
        Diffusion("linear", prediction),
        steps=steps,
        spacing=spacing,
        sampler="ancestral",
        clip=1.0 if clip else None,
    )
    assert_same_path(path, expected)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_algorithm_2_with_both_variances(variance):
    """The paper's module, all of its 50 steps, with noise from equal seeds."""
    ddpm = DDPM(network, timesteps=50, beta_end=0.2).double()
    path = list(ddpm.trajectory((2, *SHAPE), variance=variance, generators=generators([3, 4])))
    scheduler = diffusers.DDPMScheduler(
        50,
        beta_end=0.2,
        clip_sample=False,
        variance_type=f"fixed_{variance}",
        timestep_spacing="trailing",
    )
    scheduler = with_our_table(scheduler, ddpm.process.schedule)
    gens = generators([3, 4])
    x = initial_noise(gens, SHAPE).double()
    expected = [x]
    for t in range(49, -1, -1):
        predicted = network(x, torch.tensor([float(t)] * 2))
        x = scheduler.step(predicted, t, x, generator=gens).prev_sample
        expected.append(x)
    assert_same_path(path, expected, tolerance=1e-6)  # the module's tables are float32


def test_where_their_ddim_and_ddpm_disagree_ours_follows_the_list():
    """Their DDIM steps to t - T // n (diffusers' open issues 11347 and 12633)."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    expected = theirs(with_our_table(scheduler, linear()), 7)
    path = ours(Diffusion("linear", "eps"), steps=7)
    assert (path[1] - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", THEIR_PREDICTION)
def test_dpmpp_2m(prediction, spacing, steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **TABLES["scaled_linear"][1],
        prediction_type=THEIR_PREDICTION[prediction],
        timestep_spacing=spacing,
        final_sigmas_type="zero",
    )
    expected = theirs(with_our_table(scheduler, scaled_linear()), steps, seeds=())
    their_times = [(i + 1) / 1000 for i in scheduler.timesteps.tolist()] + [0.0]
    process = Diffusion("scaled_linear", prediction)
    if spacing == "trailing":  # for the other two theirs cuts a list of n + 1
        assert their_times == pytest.approx(time_grid(process.schedule, steps))
    path = ours(process, sampler="dpm++2m", spacing=their_times)
    assert_same_path(path, expected, tolerance=2e-5)  # their sigmas are float32


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_euler_ancestral(prediction, spacing):
    """Theirs uses x / alpha, whose noise level is sigma / alpha."""
    scheduler = diffusers.EulerAncestralDiscreteScheduler(
        **TABLES["scaled_linear"][1],
        prediction_type=THEIR_PREDICTION[prediction],
        timestep_spacing=spacing,
    )
    scheduler = with_our_table(scheduler, scaled_linear())
    scheduler.set_timesteps(10)
    times = [(i + 1) / 1000 for i in scheduler.timesteps.tolist()] + [0.0]
    if spacing != "linspace":  # theirs has fractional timesteps there
        assert times == pytest.approx(time_grid(scaled_linear(), 10, spacing))
    alphas, gens = scaled_linear()(torch.tensor(times, dtype=torch.float64))[0], generators([3, 4])
    x = noise() / alphas[0]
    expected = [noise()]
    for t, alpha in zip(scheduler.timesteps, alphas[1:], strict=True):
        predicted = network(scheduler.scale_model_input(x, t), t.double().expand(len(x)))
        x = scheduler.step(predicted, t, x, generator=gens).prev_sample
        expected.append(alpha * x)
    process = Diffusion("scaled_linear", prediction)
    path = ours(process, sampler="euler_ancestral", spacing=times)
    assert_same_path(path, expected, tolerance=2e-5)  # their sigmas are float32


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("prediction", THEIR_PREDICTION)
def test_dpmpp_2m_sde(prediction, steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **TABLES["scaled_linear"][1],
        algorithm_type="sde-dpmsolver++",
        prediction_type=THEIR_PREDICTION[prediction],
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    expected = theirs(with_our_table(scheduler, scaled_linear()), steps)
    path = ours(Diffusion("scaled_linear", prediction), sampler="dpm++2m_sde", steps=steps)
    assert_same_path(path, expected, tolerance=2e-5)  # their sigmas are float32


def algorithm_2(denoiser, x, sigmas, noise, s_churn, s_min, s_max, s_noise):
    """EDM's stochastic sampler, line by line (Karras et al. 2022, algorithm 2): the path."""
    N, path = len(sigmas) - 1, [x]
    for t, t_next in pairwise(sigmas):
        gamma = min(s_churn / N, sqrt(2) - 1) if s_min <= t <= s_max else 0
        t_hat = t + gamma * t
        if gamma > 0:
            x = x + (t_hat**2 - t**2) ** 0.5 * s_noise * noise()
        d = (x - denoiser(x, t_hat)) / t_hat
        x_next = x + (t_next - t_hat) * d
        if t_next != 0:
            d_next = (x_next - denoiser(x_next, t_next)) / t_next
            x_next = x + (t_next - t_hat) * (d / 2 + d_next / 2)
        x = x_next
        path.append(x)
    return path


@pytest.mark.parametrize(("s_churn", "s_min", "s_max"), [(2, 0, inf), (80, 0.05, 5), (0, 0, inf)])
@pytest.mark.parametrize("table", TABLES)
def test_edm(table, s_churn, s_min, s_max):
    """The raised noise level is between entries; diffusers gives it the same timestep."""
    make, their_table = TABLES[table]
    scheduler = diffusers.EulerDiscreteScheduler(**their_table)
    process, steps = Diffusion(make(), "eps"), 10
    times = [0.95, *time_grid(process.schedule, steps)[1:]]  # nothing is raised beyond the end
    alpha, sigma = process.schedule(torch.tensor(times, dtype=torch.float64))
    alpha_bars = process.schedule.alpha_bars
    log_sigmas = ((1 - alpha_bars) / alpha_bars).sqrt().log().numpy()

    def denoiser(x, level):
        size = (1 + level**2) ** 0.5  # the network sees alpha times x, of variance 1
        timestep = scheduler._sigma_to_t(np.array([level]), log_sigmas).item()
        return x - level * network(x / size, torch.full((2,), timestep, dtype=x.dtype))

    gens = generators([3, 4])
    drawn = lambda: initial_noise(gens, SHAPE).double()  # noqa: E731
    sigmas = (sigma / alpha).tolist()
    expected = algorithm_2(
        denoiser, noise() / alpha[0], sigmas, drawn, s_churn, s_min, s_max, 1.003
    )
    own = partial(
        SAMPLERS["edm"],
        gamma=min(s_churn / steps, sqrt(2) - 1),
        s_min=s_min,
        s_max=s_max,
        s_noise=1.003,
    )
    path = ours(process, sampler=own, spacing=times)
    assert_same_path(path, [a * x for a, x in zip(alpha, expected, strict=True)])


def test_dpmpp_2m_on_the_straight_path():
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(10)
    expected = []
    x = noise()
    times = scheduler.sigmas.double().tolist()
    expected.append(x)
    for t, s in zip(scheduler.timesteps, times[:-1], strict=True):
        predicted = network(x, torch.tensor([1000 * s] * 2))  # their timestep is rounded to a whole
        x = scheduler.step(predicted, t, x).prev_sample
        expected.append(x)
    path = ours(Diffusion("straight", "flow"), sampler="dpm++2m", spacing=times)
    assert_same_path(path, expected, tolerance=2e-5)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_flow_matching_euler(steps):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.init_noise_sigma = 1.0
    expected = theirs(scheduler, steps, seeds=())
    path = ours(Diffusion("straight", "flow"), steps=steps, spacing="linspace")
    assert_same_path(path, expected, tolerance=1e-5)  # their sigmas and steps are float32


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_euler_trailing(shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.init_noise_sigma = 1.0
    # of sigmas given they shift each once; of their own, twice (diffusers issue 13243)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8))
    path = ours(Diffusion(straight(shift), "flow"), steps=8)
    assert_same_path(path, theirs(scheduler, None, seeds=()), tolerance=1e-5)


def test_flow_matching_heun():
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=1.0)
    scheduler.init_noise_sigma = 1.0
    expected = theirs(scheduler, 6, seeds=())
    path = ours(Diffusion("straight", "flow"), steps=6, spacing="linspace", sampler="heun")
    # theirs yields each step's Euler guess too
    assert_same_path(path[:-1], expected[0:-1:2], tolerance=1e-5)
    agree(path[-1], expected[-1], 1e-5)


def test_all_deterministic_samplers_meet_in_the_limit():
    """Both solve the same ODE, so with many steps they end at the same x0."""
    process, start = Diffusion("scaled_linear", "v"), noise()
    smooth = lambda x, timestep, context=None: 0.5 * x.tanh()  # noqa: E731
    ends = [
        sample(process, smooth, start, steps=500, sampler=name)
        for name in ("ddim", "heun", "dpm++2m")
    ]
    scheduler = diffusers.HeunDiscreteScheduler(
        **TABLES["scaled_linear"][1], prediction_type="v_prediction", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(500)
    x = start * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(smooth(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    for end in (*ends, x):
        # DDIM's error at 500 steps; the second-order ones are closer
        torch.testing.assert_close(end, ends[1], rtol=1e-2, atol=1e-2)
