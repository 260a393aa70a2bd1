"""From noise to a picture: one step, four samplers, one trajectory.

A sampler decides which (x0, eps) a step believes in; the step from time t to s < t is the same
for all. Deterministic (eta = 0) on the straight schedule it is Euler's method for flow matching.

    *path, x0 = trajectory(process, network, noise, context, steps=20, sampler="dpm++2m")
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from course_lib.common.checks import alike, floating, whole_numbers
from course_lib.common.registry import choose
from course_lib.diffusion.noise import fresh_noise, one_each
from course_lib.diffusion.process import (
    TARGETS,
    Diffusion,
    Network,
    for_network,
    solve,
)
from course_lib.diffusion.schedules import Schedule


class Level(NamedTuple):
    """All that a step needs to know about a time, in Python's float64."""

    t: float
    alpha: float
    sigma: float
    log_snr: float
    timestep: float  # what the network is told


def levels(schedule: Schedule, times: Sequence[float]) -> list[Level]:
    t = torch.tensor(times, dtype=torch.float64)
    columns = (t, *schedule(t), schedule.log_snr(t), schedule.timestep(t))
    return [Level(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def level(schedule: Schedule, t: float) -> Level:
    return levels(schedule, [t])[0]


def step_std(now: Level, then: Level, eta: float) -> float:
    """The standard deviation of a step's fresh noise (Song et al. 2021, eq. 16).

    Its square is DDPM's beta~ at eta = 1.
    """
    alpha, sigma, alpha_s, sigma_s = now.alpha, now.sigma, then.alpha, then.sigma
    return eta * sigma_s / sigma * sqrt(max(sigma**2 - (alpha / alpha_s * sigma_s) ** 2, 0))


def step(x0: Tensor, eps: Tensor, now: Level, then: Level, eta: float = 0.0, noise=0.0) -> Tensor:
    """One step from level `now` to the cleaner `then` (Song et al. 2021, eq. 12).

    eta = 1 is DDPM's posterior, eta = 0 is DDIM; to the clean level it returns x0.
    """
    alike("eps", eps, "x0", x0)
    if isinstance(noise, Tensor):
        alike("noise", noise, "x0", x0)
    std = step_std(now, then, eta)
    mean = then.alpha * x0 + sqrt(max(then.sigma**2 - std**2, 0)) * eps
    return mean + std * noise if std else mean


# A sampler names the (x0, eps) to step with. It may ask `predict(x, level)`, one call of the
# network, and keep what it likes in `past`, a list that belongs to the trajectory.

Pair = tuple[Tensor, Tensor]  # (x0, eps)
Predict = Callable[[Tensor, Level], Pair]


def plain(predict: Predict, x: Tensor, now: Level, then: Level, past: list) -> Pair:
    """Believe the network: DDIM (Song et al. 2021), and with eta = 1 DDPM (Ho et al. 2020)."""
    return predict(x, now)


def heun(predict: Predict, x: Tensor, now: Level, then: Level, past: list) -> Pair:
    """Heun's second-order step (Karras et al. 2022, algorithm 1): two calls of the network.

    Divided by alpha + sigma every path is straight, with slope eps - x0: average the slopes.
    """
    x0, eps = predict(x, now)
    if then.sigma == 0:
        return x0, eps
    x0_s, eps_s = predict(step(x0, eps, now, then), then)
    slope = (eps - x0 + eps_s - x0_s) / 2
    return solve(TARGETS["flow"], slope, x, now.alpha, now.sigma)


def dpmpp_2m(predict: Predict, x: Tensor, now: Level, then: Level, past: list) -> Pair:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): x0 extrapolated along the log-SNR.

    The first step, the one after pure noise and the one to the clean end are first order.
    """
    x0, eps = predict(x, now)
    past.append((x0, now.log_snr))
    if len(past) == 1 or then.sigma == 0:
        return x0, eps
    x0_before, before = past.pop(0)
    x0 = x0 + (then.log_snr - now.log_snr) / (now.log_snr - before) / 2 * (x0 - x0_before)
    return x0, eps_given(x0, x, now)


def eps_given(x0: Tensor, xt: Tensor, now: Level) -> Tensor:
    return (xt - now.alpha * x0) / now.sigma


SAMPLERS = {  # name -> (which pair, eta unless one is given)
    "ancestral": (plain, 1.0),
    "ddim": (plain, 0.0),
    "heun": (heun, 0.0),
    "dpm++2m": (dpmpp_2m, 0.0),
}

SPACINGS = {  # (steps, T) -> falling times in units of 1 / T
    "leading": lambda steps, T: torch.arange(steps, dtype=torch.float64).flip(0) * (T // steps) + 1,
    "trailing": lambda steps, T: T - torch.arange(steps, dtype=torch.float64) * T / steps,
    "linspace": lambda steps, T: torch.linspace(T, 1, steps, dtype=torch.float64),
}


def time_grid(
    schedule: Schedule, steps: int, spacing: str = "trailing", start: float = 1.0
) -> list[float]:
    """The steps + 1 times of a trajectory, from noise to 0 (Lin et al. 2024, table 2).

    On a table the times are entries. "leading" never visits t = 1, "trailing" and "linspace" do.
    start < 1 squeezes them into [0, start], for a picture that is noised only that far.
    """
    place = choose("spacing", spacing, SPACINGS)
    whole_numbers(1, steps=steps)
    if not 0 < start <= 1:
        raise ValueError(f"start must lie in (0, 1], got {start}")
    T = schedule.timesteps
    times = [*schedule.snap(start * place(steps, T) / T).tolist(), 0.0]
    if any(s >= t for t, s in pairwise(times)):
        raise ValueError(f"{steps} steps from t={start:g} need more times than {schedule} has")
    return times


def trajectory(
    process: Diffusion,
    network: Network,
    noise: Tensor,
    context: Tensor | None = None,
    steps: int = 20,
    sampler: str = "ddim",
    spacing: str | Sequence[float] = "trailing",
    *,
    start: float = 1.0,
    eta: float | None = None,
    clip: float | Callable[[Tensor], Tensor] | None = None,
    generators: Sequence[torch.Generator] | None = None,
) -> Iterator[Tensor]:
    """Yields x_t from the noise (first) to the finished x0 (last): steps + 1 tensors.

    noise:      (B, ...), of variance 1; or, for start < 1, data noised to the first of the times,
                `time_grid(...)[0]`, which for "leading" lies a little before `start`
    spacing:    "leading", "trailing", "linspace", or the falling times themselves
    eta:        0 deterministic ... 1 as random as DDPM; by default 1 for "ancestral", else 0
    clip:       bound on |x0|, or a function x0 -> x0; eps follows, so that x_t stays what it was
    generators: one for each sample, which then gets the same noise in any batch
    """
    pair, usual_eta = choose("sampler", sampler, SAMPLERS)
    eta = usual_eta if eta is None else eta
    floating("noise", noise)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    if eta > 0 and pair is not plain:
        raise ValueError(f"{sampler} is deterministic: eta must be 0, got {eta}")
    if clip is not None and not callable(clip) and not clip > 0:
        raise ValueError(f"clip must be a positive bound or a function, got {clip}")
    if generators is not None:
        one_each(generators, noise)
    by_name = isinstance(spacing, str)
    times = time_grid(process.schedule, steps, spacing, start) if by_name else list(spacing)
    if len(times) < 2 or any(s >= t for t, s in pairwise(times)):
        raise ValueError(f"times must fall, and be at least two; got {times}")
    process.determinant(torch.tensor(times[:-1], dtype=torch.float64))
    predict = predictor(process, network, context, clip)
    return walk(predict, noise, levels(process.schedule, times), pair, eta, generators)


@torch.no_grad()  # as a decorator it holds only while the generator runs, not between yields
def walk(predict, x, levels, pair, eta, generators) -> Iterator[Tensor]:
    past = []
    yield x
    for now, then in pairwise(levels):
        x0, eps = pair(predict, x, now, then, past)
        noise = fresh_noise(x, generators) if step_std(now, then, eta) > 0 else 0.0
        x = step(x0, eps, now, then, eta, noise)
        yield x


def sample(process: Diffusion, network: Network, noise: Tensor, *args, **kwargs) -> Tensor:
    """The end of the `trajectory` with these arguments: x0."""
    for x in trajectory(process, network, noise, *args, **kwargs):
        x0 = x
    return x0


def predictor(process: Diffusion, network: Network, context: Tensor | None, clip) -> Predict:
    """(x, level) -> (x0, eps), by one call of the network."""

    def predict(x: Tensor, now: Level) -> Pair:
        answer = network(x, for_network(now.timestep, x), context)
        alike("the network's answer", answer, "its input", x)
        x0, eps = solve(process.row, answer.to(x.dtype), x, now.alpha, now.sigma)
        if clip is None:
            return x0, eps
        x0 = clip(x0) if callable(clip) else x0.clamp(-clip, clip)
        return x0, eps_given(x0, x, now)

    return predict
