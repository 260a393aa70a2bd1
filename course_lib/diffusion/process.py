"""The diffusion process: noising, what a network answers, and the loss.

A target is a row of two coefficients, `answer = a * x0 + b * eps`. Together with
`xt = alpha * x0 + sigma * eps` that makes two equations, and one 2x2 solve recovers (x0, eps)
from any answer.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.common.checks import alike, floating, some
from course_lib.common.registry import choose
from course_lib.diffusion.schedules import SCHEDULES, Schedule, Time, as_time

Network = Callable[..., Tensor]  # answer = network(x, timestep, context)

TARGETS = {  # (alpha, sigma) -> (a, b)
    "eps": lambda alpha, sigma: (0, 1),
    "x0": lambda alpha, sigma: (1, 0),
    "v": lambda alpha, sigma: (-sigma, alpha),
    "flow": lambda alpha, sigma: (-1, 1),
}

TIMES = {  # batch size -> times in (0, 1]
    "uniform": lambda count: 1 - torch.rand(count, dtype=torch.float64),
    # Esser et al. 2024, section 3.1: more often in the middle, where the path is hard to guess
    "logit_normal": lambda count: torch.randn(count, dtype=torch.float64).sigmoid(),
    # Kingma et al. 2021, appendix I.1: one random offset, then evenly spaced
    "antithetic": lambda count: (
        1 - (torch.rand(1, dtype=torch.float64) + torch.arange(count) / count) % 1
    ),
}


def simple(process: "Diffusion", t: Time) -> Tensor:
    """Every time weighs the same (Ho et al. 2020, eq. 14)."""
    return torch.ones(())


def min_snr(process: "Diffusion", t: Time) -> Tensor:
    """min(SNR, 5) on the error of x0 (Hang et al. 2023), which is sigma / det of the answer's."""
    alpha, sigma = process.schedule(t)
    return (alpha / sigma).square().clamp(max=5) * (sigma / process.determinant(t)).square()


WEIGHTINGS = {"simple": simple, "min_snr": min_snr}


class Diffusion:
    """A schedule and a target: all that training and sampling need to know.

    schedule: a Schedule or the name of one ("linear", "scaled_linear", "cosine", "straight")
    target:   what the network answers: "eps", "x0", "v" (Salimans & Ho 2022) or "flow" = eps - x0
    Times t are floats in [0, 1], one for all or (B,); noisy data is (B, ...) in any shape.
    """

    def __init__(self, schedule: Schedule | str = "linear", target: str = "eps"):
        by_name = isinstance(schedule, str)
        self.schedule = choose("schedule", schedule, SCHEDULES)() if by_name else schedule
        self.row = choose("target", target, TARGETS)
        self.target = target

    def at(self, t: Time, x: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at t, ready to multiply x: (B, 1, ...) in its dtype, on its device."""
        floating("x", x)
        alpha, sigma = self.schedule(t)
        return broadcast(alpha, x).to(x), broadcast(sigma, x).to(x)

    def timestep(self, t: Time, x: Tensor) -> Tensor:
        """What the network is told instead of t: (B,)."""
        return for_network(self.schedule.timestep(t), x)

    def add_noise(self, x0: Tensor, t: Time, eps: Tensor) -> Tensor:
        """xt ~ q(xt | x0) (Ho et al. 2020, eq. 4)."""
        alike("eps", eps, "x0", x0)
        alpha, sigma = self.at(t, x0)
        return alpha * x0 + sigma * eps

    def answer(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """What a perfect network would answer, had it seen x0 and eps."""
        alike("eps", eps, "x0", x0)
        a, b = self.row(*self.at(t, x0))
        return a * x0 + b * eps

    def split(self, answer: Tensor, xt: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """(x0, eps) from the network's answer; ValueError where the answer does not fix them."""
        alike("answer", answer, "xt", xt)
        self.determinant(t)
        return solve(self.row, answer, xt, *self.at(t, xt))

    def determinant(self, t: Time) -> Tensor:
        """Of the two equations: alpha for eps, -sigma for x0, alpha² + sigma² for v, ...

        ValueError where it is 0, since the answer then says nothing about x0 or about eps.
        """
        t = as_time(t)
        alpha, sigma = self.schedule(t)
        a, b = self.row(alpha, sigma)
        det = alpha * b - sigma * a
        if (det == 0).any():
            lost, gone = ("x0", "alpha") if self.target == "eps" else ("eps", "sigma")
            raise ValueError(
                f"{lost} cannot be had from an {self.target!r} answer where {gone} = 0, and "
                f"{self.schedule} reaches that at t={t[det == 0][0]:g}; "
                "the targets 'v' and 'flow' work everywhere"
            )
        return det

    def loss(
        self,
        network: Network,
        x0: Tensor,
        context: Tensor | None = None,
        t: Time | None = None,
        eps: Tensor | None = None,
        weighting: str = "simple",
        times: str = "uniform",
    ) -> Tensor:
        """Mean squared error of the answer at random times (Ho et al. 2020, eq. 14): a scalar.

        weighting: "simple" or "min_snr"; times: "uniform", "logit_normal" or "antithetic".
        """
        weigh = choose("weighting", weighting, WEIGHTINGS)
        draw = choose("distribution of times", times, TIMES)
        some("x0", x0)
        t = self.schedule.snap(draw(len(x0)), torch.ceil) if t is None else t
        errors = self.errors(network, x0, context, t, eps)
        return (weigh(self, t).to(errors) * errors).mean()

    def errors(
        self,
        network: Network,
        x0: Tensor,
        context: Tensor | None,
        t: Time,
        eps: Tensor | None = None,
    ) -> Tensor:
        """The mean squared error of the network's answer for each sample: (B,)."""
        eps = torch.randn_like(x0) if eps is None else eps
        xt = self.add_noise(x0, t, eps)
        answer = network(xt, self.timestep(t, xt), context)
        alike("the network's answer", answer, "its input", xt)
        return (answer - self.answer(x0, eps, t)).square().flatten(1).mean(1)


def solve(row: Callable, answer: Tensor, xt: Tensor, alpha, sigma) -> tuple[Tensor, Tensor]:
    """(x0, eps) from `xt = alpha * x0 + sigma * eps` and `answer = a * x0 + b * eps`.

    The coefficients are divided by the determinant, and not the data: they are fewer numbers.
    """
    a, b = row(alpha, sigma)
    det = alpha * b - sigma * a
    alpha, sigma, a, b = alpha / det, sigma / det, a / det, b / det
    return b * xt - sigma * answer, alpha * answer - a * xt


def broadcast(values: Tensor, x: Tensor) -> Tensor:
    """One value for each sample, (B,), or one for all, shaped to multiply x of (B, ...)."""
    if values.dim() > 1 or (values.dim() == 1 and len(values) not in (1, len(x))):
        raise ValueError(
            f"one value or {len(x)} needed for a batch of {len(x)}, got {tuple(values.shape)}"
        )
    return values.reshape(-1, *[1] * (x.dim() - 1))


def for_network(timestep: Tensor | float, x: Tensor) -> Tensor:
    """The timestep as networks take it: one for each sample, never in half precision."""
    to = dict(dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    if not isinstance(timestep, Tensor):
        return torch.full((len(x),), timestep, **to)
    return broadcast(timestep.to(**to), x).flatten().expand(len(x))
