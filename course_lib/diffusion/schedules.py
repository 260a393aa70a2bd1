"""Noise schedules: how much data and how much noise there is at time t.

A schedule is a function t -> (alpha, sigma) for `xt = alpha * x0 + sigma * eps`, with t from
0 (clean) to 1 (noise). Everything here is float64 on the CPU; the caller casts the numbers.

    linear, scaled_linear, cosine    tables of betas (DDPM, Stable Diffusion, improved DDPM)
    straight                         (1 - t, t), which is flow matching
    zero_terminal_snr                a table rescaled to end in pure noise
    Schedule(function)               one of your own
"""

from bisect import bisect_left
from collections.abc import Callable
from math import inf, pi

import torch
from torch import Tensor

from course_lib.common.checks import require

Time = Tensor | float
Path = Callable[[Tensor], tuple[Tensor, Tensor]]  # t -> (alpha, sigma), float64


class Schedule:
    """t in [0, 1] -> (alpha, sigma), from a function of your own.

    >>> quarter_circle = Schedule(lambda t: ((t * pi / 2).cos(), (t * pi / 2).sin()))
    >>> alpha, sigma = quarter_circle(0.5)
    """

    timesteps = 1000  # the network's timestep runs from 0 to this while t runs from 0 to 1

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, t: Time) -> tuple[Tensor, Tensor]:
        return self.path(as_time(t))

    def log_snr(self, t: Time) -> Tensor:
        """log(alpha² / sigma²): +inf at the clean end, -inf in pure noise."""
        alpha, sigma = self(t)
        return 2 * (alpha.log() - sigma.log())

    def time_at(self, log_snr: float) -> float:
        """The time at which the log-SNR falls to this value; 1 if it never does."""
        steps = 2**48
        return bisect_left(range(steps), -log_snr, key=lambda i: -self.log_snr(i / steps)) / steps

    def timestep(self, t: Time) -> Tensor:
        """What published networks receive instead of t."""
        return self.timesteps * as_time(t)

    def time(self, timestep: Time) -> Tensor:
        """The inverse of `timestep`."""
        return as_time(torch.as_tensor(timestep).cpu().double() / self.timesteps)

    def snap(self, t: Time, rounding: Callable[[Tensor], Tensor] = torch.round) -> Tensor:
        """The time of a table's entry nearest to t; a continuous schedule has every t."""
        return as_time(t)


class Table(Schedule):
    """A table of betas (Ho et al. 2020): `betas`, `alphas`, `alpha_bars`, each (T,).

    The clean end precedes the table as an extra entry: time (i + 1) / T is the 0-based entry i,
    and networks receive i = T t - 1. Between entries the log-SNR is linear in t. Where it becomes
    infinite (at the clean end, or at a last entry of pure noise), the smaller of sigma/alpha and
    alpha/sigma falls linearly to 0.

    >>> alpha, sigma = Table(torch.tensor([0.19, 0.36]))(0.5)  # after the first of two steps
    >>> print(f"{alpha:.2f} {sigma:.2f}")
    0.90 0.44
    """

    def __init__(self, betas: Tensor):
        self.betas = b = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
        ok = b.dim() == 1 and len(b) and b[0] < 1 and ((b > 0) & (b <= 1)).all()
        require(ok, "betas", "a vector of numbers in (0, 1], the first below 1", b)
        self.timesteps = len(self.betas)
        self.alphas = 1 - self.betas
        self.alpha_bars = self.alphas.cumprod(0)
        log_snrs = self.alpha_bars.log() - (1 - self.alpha_bars).log()
        self.log_snrs = torch.cat([torch.tensor([inf], dtype=torch.float64), log_snrs])  # (T + 1,)

    def __call__(self, t: Time) -> tuple[Tensor, Tensor]:
        log_snr = self.log_snr(t)
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()  # alpha² + sigma² = 1

    def log_snr(self, t: Time) -> Tensor:
        position = self.timesteps * as_time(t)
        i = position.long().clamp(max=self.timesteps - 1)
        w, cleaner, noisier = position - i, self.log_snrs[i], self.log_snrs[i + 1]
        log_snr = cleaner + w * (noisier - cleaner)
        log_snr = torch.where(noisier == -inf, cleaner + 2 * (1 - w).log(), log_snr)
        return torch.where(cleaner == inf, noisier - 2 * w.log(), log_snr)

    def timestep(self, t: Time) -> Tensor:
        return self.timesteps * as_time(t) - 1

    def time(self, timestep: Time) -> Tensor:
        return super().time(torch.as_tensor(timestep).cpu().double() + 1)

    def snap(self, t: Time, rounding: Callable[[Tensor], Tensor] = torch.round) -> Tensor:
        return rounding(self.timesteps * as_time(t)).clamp(min=1) / self.timesteps

    def __repr__(self) -> str:
        return f"Table(T={self.timesteps}, betas {self.betas[0]:.3g} ... {self.betas[-1]:.3g})"


class Straight(Schedule):
    """The straight path of flow matching (Lipman et al. 2023; Liu et al. 2023): (1 - t, t).

    shift > 1 spends more of the time at high noise, where the layout is decided: sigma is
    shift t / (1 + (shift - 1) t) (Esser et al. 2024, eq. 23). The more redundant the data, the
    more noise it takes to hide it. Networks receive 1000 sigma.
    """

    def __init__(self, shift: float = 1.0):
        require(shift > 0, "shift", "a positive number", shift)
        self.shift = shift

    def __call__(self, t: Time) -> tuple[Tensor, Tensor]:
        sigma = shifted(as_time(t), self.shift)
        return 1 - sigma, sigma

    def timestep(self, t: Time) -> Tensor:
        return self.timesteps * self(t)[1]

    def time(self, timestep: Time) -> Tensor:
        return shifted(super().time(timestep), 1 / self.shift).clamp(max=1)  # 1 + 2e-16 otherwise

    def __repr__(self) -> str:
        return f"Straight(shift={self.shift:g})"


def shifted(t: Tensor, shift: float) -> Tensor:
    """Keeps 0 and 1; in between, sigma / alpha is `shift` times t / (1 - t)."""
    return shift * t / (1 + (shift - 1) * t)


def linear(timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Table:
    """DDPM's linear betas (Ho et al. 2020, section 4).

    >>> linear().betas[[0, -1]].tolist()
    [0.0001, 0.02]
    """
    return Table(spaced(timesteps, beta_start, beta_end))


def scaled_linear(
    timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> Table:
    """Stable Diffusion's betas, whose square roots are linear (CompVis calls this "linear").

    >>> alpha, sigma = scaled_linear()(1.0)  # some signal is left at the noisy end
    >>> print(f"{alpha:.3f} {sigma:.3f}")
    0.068 0.998
    """
    return Table(spaced(timesteps, beta_start**0.5, beta_end**0.5).square())


def cosine(timesteps: int = 1000) -> Table:
    """Squared-cosine alpha_bars (Nichol & Dhariwal 2021, eq. 17), betas capped at 0.999.

    >>> print(f"{cosine().alpha_bars[499]:.3f}")  # half-way, half of the power is signal
    0.494
    """
    u = spaced(timesteps, 0.0, 1.0, extra=1)
    alpha_bars = ((u + 0.008) / 1.008 * pi / 2).cos().square()
    return Table((1 - alpha_bars[1:] / alpha_bars[:-1]).clamp(max=0.999))


def straight(shift: float = 1.0) -> Straight:
    """Flow matching's straight path: alpha = 1 - t, sigma = t, unless shifted.

    >>> [float(x) for x in straight()(0.25)]
    [0.75, 0.25]
    """
    return Straight(shift)


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """The schedule rescaled to end in pure noise (Lin et al. 2024, algorithm 1).

    sqrt(alpha_bar) is shifted so that the last is 0 and scaled so that the first stays the same.
    A schedule that already ends in pure noise is returned unchanged.

    >>> float(zero_terminal_snr(scaled_linear())(1.0)[0])
    0.0
    """
    if schedule(1.0)[0] == 0:
        return schedule
    roots = schedule.alpha_bars.sqrt()
    alpha_bars = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])).square()
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bars[:-1]])
    return Table(1 - alpha_bars / before)


def spaced(timesteps: int, start: float, end: float, extra: int = 0) -> Tensor:
    """timesteps (+ extra) evenly spaced float64 numbers."""
    require(timesteps >= 1, "timesteps", "at least 1", timesteps)
    return torch.linspace(start, end, timesteps + extra, dtype=torch.float64)


def as_time(t: Time) -> Tensor:
    """t as float64 on the CPU, which every schedule relies on."""
    require(getattr(t, "dtype", torch.float64).is_floating_point, "t", "a float, not an index", t)
    t = torch.as_tensor(t, dtype=torch.float64, device="cpu")
    require(((t >= 0) & (t <= 1)).all(), "t", "a time in [0, 1], from clean to noise", t)
    return t


SCHEDULES = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "straight": straight,
}
