"""From noise to data: one step, seven samplers, one trajectory.

    *path, x0 = trajectory(process, network, noise, context, steps=20, sampler="dpm++2m")

A sampler is a function `(predict, x, t, s, history, noise) -> x_s` that takes x from the point t
of the schedule to the cleaner point s. `predict(x, t)` calls the network once and returns
(x0, eps). `noise()` draws fresh standard normal noise. `history` is a list, empty at first, in
which a multistep sampler keeps what it needs. You can pass any such function as `sampler`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import exp, inf, log, sqrt
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from course_lib.common.checks import like, require
from course_lib.common.registry import choose, resolve
from course_lib.diffusion.noise import noise_source
from course_lib.diffusion.process import PREDICTIONS, Diffusion, Network, for_network, solve
from course_lib.diffusion.schedules import Schedule


class Point(NamedTuple):
    """A point of a schedule: all that a step needs to know about a time, as Python floats."""

    t: float
    alpha: float
    sigma: float
    log_snr: float
    timestep: float  # what the network receives
    schedule: Schedule

    @property
    def edm_sigma(self) -> float:
        """sigma / alpha, the noise level of Karras et al. 2022; infinite in pure noise."""
        return self.sigma / self.alpha if self.alpha else inf

    def noisier(self, factor: float) -> "Point":
        """The point where sigma / alpha is `factor` times as large, at most the noisy end."""
        return point(self.schedule, self.schedule.time_at(self.log_snr - 2 * log(factor)))


def points(schedule: Schedule, times: Sequence[float]) -> list[Point]:
    """The schedule's points at these times.

    >>> from course_lib.diffusion import straight
    >>> [p.sigma for p in points(straight(), [1.0, 0.5, 0.0])]
    [1.0, 0.5, 0.0]
    """
    t = torch.tensor(times, dtype=torch.float64)
    columns = (t, *schedule(t), schedule.log_snr(t), schedule.timestep(t))
    rows = zip(*(c.tolist() for c in columns), strict=True)
    return [Point(*row, schedule) for row in rows]


def point(schedule: Schedule, t: float) -> Point:
    """The schedule's point at time t.

    >>> from course_lib.diffusion import linear
    >>> point(linear(), 0.5).timestep
    499.0
    """
    return points(schedule, [t])[0]


def step_std(t: Point, s: Point, eta: float) -> float:
    """The standard deviation of a step's fresh noise (Song et al. 2021, eq. 16).

    For eta = 1 its square is DDPM's beta~.
    """
    return eta * s.sigma / t.sigma * sqrt(max(t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2, 0))


def step(
    x0: Tensor, eps: Tensor, t: Point, s: Point, eta: float = 0.0, noise: Tensor | float = 0.0
) -> Tensor:
    """One step from t to the cleaner s (Song et al. 2021, eq. 12).

    eta = 1 samples from DDPM's posterior. eta = 0 is DDIM, which on the straight schedule is the
    Euler step of flow matching. At the clean end it returns x0.

    >>> from course_lib.diffusion import straight
    >>> step(torch.zeros(2), torch.ones(2), *points(straight(), [0.5, 0.25]))
    tensor([0.2500, 0.2500])
    """
    std = step_std(t, s, eta)
    return s.alpha * x0 + sqrt(max(s.sigma**2 - std**2, 0)) * eps + std * noise


def eps_from_x0(x0: Tensor, xt: Tensor, t: Point) -> Tensor:
    """The noise in xt if the data in it is x0."""
    return (xt - t.alpha * x0) / t.sigma


# The samplers

Predict = Callable[..., tuple[Tensor, Tensor]]  # (x, t) -> (x0, eps); see `few_steps` for (x, t, s)
Noise = Callable[[], Tensor]
Sampler = Callable[[Predict, Tensor, Point, Point, list, Noise], Tensor]


def ddim(
    predict: Predict, x: Tensor, t: Point, s: Point, history: list, noise: Noise, eta: float = 0.0
) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12); eta = 1 is DDPM's ancestral sampler (Ho et al. 2020)."""
    x0, eps = predict(x, t)
    return step(x0, eps, t, s, eta, noise() if eta * s.sigma > 0 else 0.0)


ancestral = partial(ddim, eta=1.0)


def euler_ancestral(
    predict: Predict, x: Tensor, t: Point, s: Point, history: list, noise: Noise
) -> Tensor:
    """An Euler step below the noise level of s, then fresh noise up to it (k-diffusion).

    With sigma / alpha as the time, the slope of the ODE is eps. Given the same noise, this is the
    same step as `ancestral`.
    """
    x0, eps = predict(x, t)
    if s.sigma == 0:
        return x0
    down = s.edm_sigma * (s.edm_sigma / t.edm_sigma)
    up = sqrt(s.edm_sigma**2 - down**2)
    return s.alpha * (x0 + down * eps + up * noise())


def heun(predict: Predict, x: Tensor, t: Point, s: Point, history: list, noise: Noise) -> Tensor:
    """Heun's second-order step (Karras et al. 2022, algorithm 1): two calls of the network.

    Divided by alpha + sigma, every path is straight, with slope eps - x0. The slopes at both ends
    are averaged.
    """
    x0, eps = predict(x, t)
    x_s = step(x0, eps, t, s)
    if s.sigma == 0:
        return x_s
    x0_s, eps_s = predict(x_s, s)
    slope = (eps - x0 + eps_s - x0_s) / 2
    return step(*solve(PREDICTIONS["flow"], slope, x, t.alpha, t.sigma), t, s)


def edm(
    predict: Predict,
    x: Tensor,
    t: Point,
    s: Point,
    history: list,
    noise: Noise,
    gamma: float = sqrt(2) - 1,
    s_min: float = 0.0,
    s_max: float = inf,
    s_noise: float = 1.0,
) -> Tensor:
    """EDM's stochastic sampler (Karras et al. 2022, algorithm 2): add noise, then a Heun step.

    gamma: min(S_churn / N, sqrt(2) - 1) in the paper, used for noise levels in [s_min, s_max]
    The raised noise level, (1 + gamma) times the level at t, is usually between two entries of a
    table, so the network receives a fractional timestep. No level is raised beyond the schedule's
    noisy end, so the step from pure noise adds no noise.
    """
    churn = gamma > 0 and s_min <= t.edm_sigma <= s_max and t.t < 1
    hat = t.noisier(1 + gamma) if churn else t  # the point of the raised noise level
    if churn:
        kept = hat.alpha / t.alpha
        x = kept * x + sqrt(hat.sigma**2 - (kept * t.sigma) ** 2) * s_noise * noise()
    x0, eps = predict(x, hat)
    x_s = step(x0, eps, hat, s)  # Euler's step: eps is the slope along the noise level
    if s.sigma == 0 or hat.alpha == 0:
        return x_s
    _, eps_s = predict(x_s, s)
    return x_s + s.alpha * (s.edm_sigma - hat.edm_sigma) * (eps_s - eps) / 2


def dpmpp_2m(
    predict: Predict, x: Tensor, t: Point, s: Point, history: list, noise: Noise
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one call of the network."""
    x0, _ = predict(x, t)
    x0 = extrapolated(x0, t, s, history)
    h = (s.log_snr - t.log_snr) / 2
    return s.sigma / t.sigma * x + s.alpha * (1 - exp(-h)) * x0


def dpmpp_2m_sde(
    predict: Predict, x: Tensor, t: Point, s: Point, history: list, noise: Noise
) -> Tensor:
    """DPM-Solver++(2M) with fresh noise: SDE-DPM-Solver++(2M) (Lu et al. 2022, appendix B)."""
    x0, _ = predict(x, t)
    x0 = extrapolated(x0, t, s, history)
    if s.sigma == 0:
        return x0
    h = (s.log_snr - t.log_snr) / 2
    mean = s.sigma / t.sigma * exp(-h) * x + s.alpha * (1 - exp(-2 * h)) * x0
    return mean + s.sigma * sqrt(1 - exp(-2 * h)) * noise()


def extrapolated(x0: Tensor, t: Point, s: Point, history: list) -> Tensor:
    """x0 half-way from t to s: a line in log-SNR through the current and the previous prediction.

    The first step, the step after pure noise and the step to the clean end are first order.
    """
    history.append((x0, t.log_snr))
    if len(history) == 1 or s.sigma == 0:
        return x0
    before, log_snr = history.pop(0)
    return x0 + (s.log_snr - t.log_snr) / (t.log_snr - log_snr) / 2 * (x0 - before)


SAMPLERS: dict[str, Sampler] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "edm": edm,
    "dpm++2m": dpmpp_2m,
    "dpm++2m_sde": dpmpp_2m_sde,
}


# The times, and the trajectory

SPACINGS = {  # (steps, T) -> falling times in units of 1 / T
    "leading": lambda steps, T: torch.arange(steps, dtype=torch.float64).flip(0) * (T // steps) + 1,
    "trailing": lambda steps, T: T - torch.arange(steps, dtype=torch.float64) * T / steps,
    "linspace": lambda steps, T: torch.linspace(T, 1, steps, dtype=torch.float64),
}


def time_grid(
    schedule: Schedule,
    steps: int,
    spacing: str | Sequence[float] = "trailing",
    start: float = 1.0,
) -> list[float]:
    """The steps + 1 times of a trajectory, from noise to 0 (Lin et al. 2024, table 2).

    On a table the times are entries. "trailing" and "linspace" start at t = 1, and "leading" never
    reaches it. `spacing` may also be the falling times themselves. start < 1 compresses the times
    into [0, start], for data that was noised only that far.

    >>> from course_lib.diffusion import linear
    >>> time_grid(linear(), 4)
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    require(isinstance(steps, Integral) and steps > 0, "steps", "a whole number, at least 1", steps)
    require(0 < start <= 1, "start", "a time in (0, 1]", start)
    times, T = list(spacing), schedule.timesteps
    if isinstance(spacing, str):
        place = choose("spacing", spacing, SPACINGS)
        times = [*schedule.snap(start * place(steps, T) / T).tolist(), 0.0]
    falling = len(times) > 1 and all(s < t for t, s in pairwise(times))
    require(falling, "times", f"two or more that fall on {schedule}", f"{len(times) - 1} steps")
    return times


def trajectory(
    process: Diffusion,
    network: Network,
    noise: Tensor,
    context: Tensor | None = None,
    steps: int = 20,
    sampler: str | Sampler = "ddim",
    spacing: str | Sequence[float] = "trailing",
    *,
    start: float = 1.0,
    eta: float | None = None,
    clip: float | Callable[[Tensor], Tensor] | None = None,
    generators: Sequence[torch.Generator] | None = None,
) -> Iterator[Tensor]:
    """Yields x_t from the noise (first) to the finished x0 (last): steps + 1 tensors.

    noise:      (B, ...), of variance 1; for start < 1, data noised to the first of the times,
                `time_grid(...)[0]`, which for "leading" is a little below `start`
    sampler:    a name in `SAMPLERS`, or your own function
    spacing:    "leading", "trailing", "linspace", or the falling times themselves
    eta:        for "ddim" and "ancestral", from 0 (deterministic) to 1 (as random as DDPM)
    clip:       bound on |x0|, or a function x0 -> x0; eps is adjusted so that x_t stays the same
    generators: one for each sample, which then gets the same noise in a batch of any size

    >>> process, network = Diffusion("straight", "flow"), lambda x, timestep, context: x
    >>> *path, x0 = trajectory(process, network, torch.ones(1, 2), steps=2)
    >>> path, x0
    ([tensor([[1., 1.]]), tensor([[0.5000, 0.5000]])], tensor([[0.2500, 0.2500]]))
    """
    run = resolve("sampler", sampler, SAMPLERS)
    require(eta is None or run in (ddim, ancestral), "eta", "none, except for ddim, ancestral", eta)
    require(eta is None or 0 <= eta <= 1, "eta", "a number in [0, 1]", eta)
    require(noise.is_floating_point(), "noise", "floating-point noise", noise)
    run = run if eta is None else partial(ddim, eta=eta)
    times = time_grid(process.schedule, steps, spacing, start)
    process.determinant(torch.tensor(times[:-1], dtype=torch.float64))
    predict = predictor(process, network, context, clip)
    path = points(process.schedule, times)
    return walk(run, predict, noise, path, noise_source(noise, generators))


def walk(
    sampler: Sampler,
    predict: Predict,
    x: Tensor,
    points: Sequence[Point],
    noise: Noise,
) -> Iterator[Tensor]:
    """Runs the sampler from point to point, with gradients off only while it computes a step."""
    history = []
    yield x
    for t, s in pairwise(points):
        with torch.no_grad():
            x = sampler(predict, x, t, s, history, noise)
        yield x


def predictor(
    process: Diffusion,
    network: Network,
    context: Tensor | None,
    clip: float | Callable[[Tensor], Tensor] | None,
) -> Predict:
    """The function (x, t) -> (x0, eps) that calls the network once; (x, t, s) for intervals."""
    require(clip is None or callable(clip) or clip > 0, "clip", "a bound above 0 or function", clip)

    def predict(x: Tensor, t: Point, *end: Point) -> tuple[Tensor, Tensor]:
        timestep = for_network(t.timestep, x)  # (B,)
        for s in end:  # for a network that also receives where the step ends
            timestep = torch.stack([timestep, for_network(s.timestep, x)], 1)  # (B, 2)
        prediction = network(x, timestep, context)
        require(like(prediction, x), "prediction", f"the shape {tuple(x.shape)}", prediction)
        x0, eps = solve(process.coefficients, prediction.to(x.dtype), x, t.alpha, t.sigma)
        if clip is None:
            return x0, eps
        x0 = clip(x0) if callable(clip) else x0.clamp(-clip, clip)
        return x0, eps_from_x0(x0, x, t)

    return predict


def sample(process: Diffusion, network: Network, noise: Tensor, *args, **kwargs) -> Tensor:
    """x0, the end of the `trajectory` with these arguments.

    >>> network = lambda x, timestep, context: x  # predicts the noise
    >>> sample(Diffusion("linear", "eps"), network, torch.ones(1, 2), steps=10).shape
    torch.Size([1, 2])
    """
    for x in trajectory(process, network, noise, *args, **kwargs):
        x0 = x
    return x0
