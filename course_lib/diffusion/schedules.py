"""Noise schedules: how much data and how much noise there is at time t.

A schedule is a callable t -> (alpha, sigma) for `xt = alpha * x0 + sigma * eps`, with t from
0 (clean) to 1 (noise). All of it is float64 on the CPU; whoever uses the numbers casts them.

    linear, scaled_linear, cosine    tables of betas (DDPM, Stable Diffusion, improved DDPM)
    straight                         (1 - t, t), which is flow matching
    zero_terminal_snr                a table rescaled to end in pure noise
"""

from collections.abc import Callable
from math import inf, pi

import torch
from torch import Tensor

Time = Tensor | float


class Schedule:
    """t in [0, 1] -> (alpha, sigma). Here variance preserving: alpha² + sigma² = 1."""

    timesteps = 1000  # how many steps of the network's clock make one unit of t

    def __call__(self, t: Time) -> tuple[Tensor, Tensor]:
        log_snr = self.log_snr(t)
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()

    def log_snr(self, t: Time) -> Tensor:
        """log(alpha² / sigma²): +inf at the clean end, -inf in pure noise."""
        raise NotImplementedError

    def timestep(self, t: Time) -> Tensor:
        """t on the clock that published networks are trained with."""
        return self.timesteps * as_time(t)

    def time(self, timestep: Time) -> Tensor:
        """The inverse of `timestep`."""
        return as_time(torch.as_tensor(timestep).cpu().double() / self.timesteps)

    def snap(self, t: Time, rounding: Callable[[Tensor], Tensor] = torch.round) -> Tensor:
        """The time of a table's entry nearest to t; a continuous schedule has every t."""
        return as_time(t)


class Table(Schedule):
    """A table of betas (Ho et al. 2020): `betas`, `alphas`, `alpha_bars`, each (T,).

    The clean end is a level of its own, put in front: time (i + 1) / T is 0-based entry i, and
    networks are told i = T t - 1. Between entries the log-SNR is linear in t; towards an infinite
    one (the clean end, or a last entry of pure noise) the smaller of sigma/alpha and alpha/sigma
    falls linearly to 0.
    """

    def __init__(self, betas: Tensor):
        self.betas = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
        inside = (self.betas > 0) & (self.betas <= 1)
        if self.betas.dim() != 1 or not len(self.betas) or not inside.all():
            got = f"{tuple(self.betas.shape)} with {int((~inside).sum())} outside"
            raise ValueError(f"betas must be a vector of numbers in (0, 1], got {got}")
        if self.betas[0] == 1:
            raise ValueError("the first beta must be below 1, else no time has any signal; got 1")
        self.timesteps = len(self.betas)
        self.alphas = 1 - self.betas
        self.alpha_bars = self.alphas.cumprod(0)
        log_snrs = self.alpha_bars.log() - (1 - self.alpha_bars).log()
        self.levels = torch.cat([torch.tensor([inf], dtype=torch.float64), log_snrs])  # (T + 1,)

    def log_snr(self, t: Time) -> Tensor:
        position = self.timesteps * as_time(t)
        i = position.long().clamp(max=self.timesteps - 1)
        w, cleaner, noisier = position - i, self.levels[i], self.levels[i + 1]
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

    shift > 1 spends more of the time on the noisy end, where the layout is decided, by
    sigma = shift t / (1 + (shift - 1) t) (Esser et al. 2024, eq. 23): data in which many numbers
    tell the same thing can be read through more noise. Networks are told 1000 sigma.
    """

    def __init__(self, shift: float = 1.0):
        if not shift > 0:
            raise ValueError(f"shift must be positive, got {shift}")
        self.shift = shift

    def __call__(self, t: Time) -> tuple[Tensor, Tensor]:
        sigma = shifted(as_time(t), self.shift)
        return 1 - sigma, sigma

    def log_snr(self, t: Time) -> Tensor:
        alpha, sigma = self(t)
        return 2 * (alpha.log() - sigma.log())

    def timestep(self, t: Time) -> Tensor:
        return self.timesteps * self(t)[1]

    def time(self, timestep: Time) -> Tensor:
        return shifted(super().time(timestep), 1 / self.shift).clamp(max=1)  # but for rounding

    def __repr__(self) -> str:
        return f"Straight(shift={self.shift:g})"


def shifted(t: Tensor, shift: float) -> Tensor:
    """0 and 1 stay; between them sigma / alpha is `shift` times t / (1 - t)."""
    return shift * t / (1 + (shift - 1) * t)


def linear(timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Table:
    """DDPM's linear betas (Ho et al. 2020, section 4)."""
    return Table(spaced(timesteps, beta_start, beta_end))


def scaled_linear(
    timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> Table:
    """Stable Diffusion's betas, linear in their square root (CompVis calls this one "linear")."""
    return Table(spaced(timesteps, beta_start**0.5, beta_end**0.5).square())


def cosine(timesteps: int = 1000) -> Table:
    """Squared-cosine alpha_bars (Nichol & Dhariwal 2021, eq. 17), betas capped at 0.999."""
    u = spaced(timesteps, 0.0, 1.0, extra=1)
    alpha_bars = ((u + 0.008) / 1.008 * pi / 2).cos().square()
    return Table((1 - alpha_bars[1:] / alpha_bars[:-1]).clamp(max=0.999))


def straight(shift: float = 1.0) -> Straight:
    """Flow matching's straight path: alpha = 1 - t, sigma = t, unless shifted."""
    return Straight(shift)


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """The schedule rescaled to end in pure noise (Lin et al. 2024, algorithm 1).

    sqrt(alpha_bar) is shifted so that the last is 0 and scaled so that the first stays. A schedule
    that ends there already is returned as it is.
    """
    if schedule(1.0)[0] == 0:
        return schedule
    roots = schedule.alpha_bars.sqrt()
    alpha_bars = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])).square()
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bars[:-1]])
    return Table(1 - alpha_bars / before)


def spaced(timesteps: int, start: float, end: float, extra: int = 0) -> Tensor:
    """timesteps (+ extra) evenly spaced float64 numbers; ValueError if timesteps < 1."""
    if timesteps < 1:
        raise ValueError(f"timesteps must be at least 1, got {timesteps}")
    return torch.linspace(start, end, timesteps + extra, dtype=torch.float64)


def as_time(t: Time) -> Tensor:
    """t as float64 on the CPU; ValueError for integer tensors and for t outside [0, 1]."""
    if isinstance(t, Tensor) and not t.is_floating_point():
        raise ValueError(f"t is a time in [0, 1], so a float; got {t.dtype} (is it an index?)")
    t = torch.as_tensor(t, dtype=torch.float64, device="cpu")
    if not ((t >= 0) & (t <= 1)).all():
        raise ValueError(
            f"t must lie in [0, 1] (0 clean, 1 noise), got {t.min():g} ... {t.max():g}"
        )
    return t


SCHEDULES = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "straight": straight,
}
