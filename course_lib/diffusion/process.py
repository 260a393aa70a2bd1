"""The diffusion process: noising, what a network predicts, and the loss.

A prediction type is a pair of coefficients, `prediction = a * x0 + b * eps`. Together with
`xt = alpha * x0 + sigma * eps` that makes two equations, so one 2x2 solve recovers (x0, eps) from
any prediction.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.common.checks import like, one_or_each, require
from course_lib.common.registry import choose, resolve
from course_lib.diffusion.schedules import SCHEDULES, Path, Schedule, Time

Network = Callable[..., Tensor]  # prediction = network(x, timestep, context)
Coefficients = Callable[[Tensor, Tensor], tuple[Tensor | float, Tensor | float]]

PREDICTIONS: dict[str, Coefficients] = {  # (alpha, sigma) -> (a, b)
    "eps": lambda alpha, sigma: (0, 1),
    "x0": lambda alpha, sigma: (1, 0),
    "v": lambda alpha, sigma: (-sigma, alpha),
    "flow": lambda alpha, sigma: (-1, 1),
}

TIME_SAMPLING: dict[str, Callable[[int], Tensor]] = {  # batch size -> times in (0, 1]
    "uniform": lambda count: 1 - torch.rand(count, dtype=torch.float64),
    # Esser et al. 2024, section 3.1: more often in the middle, where the task is hardest
    "logit_normal": lambda count: torch.randn(count, dtype=torch.float64).sigmoid(),
    # Kingma et al. 2021, appendix I.1: one random offset, then evenly spaced
    "antithetic": lambda count: (
        1 - (torch.rand(1, dtype=torch.float64) + torch.arange(count) / count) % 1
    ),
}


def simple(process: "Diffusion", t: Time) -> Tensor:
    """The same weight at every time (Ho et al. 2020, eq. 14)."""
    return torch.ones(())


def min_snr(process: "Diffusion", t: Time) -> Tensor:
    """Weights the error of x0, which is sigma / det times the prediction's, by min(SNR, 5).

    Hang et al. 2023.
    """
    alpha, sigma = process.schedule(t)
    return (alpha / sigma).square().clamp(max=5) * (sigma / process.determinant(t)).square()


WEIGHTINGS = {"simple": simple, "min_snr": min_snr}


class Diffusion:
    """A schedule and a prediction type: all that training and sampling need to know.

    schedule:   "linear", "scaled_linear", "cosine", "straight", a Schedule, or your own function
                t -> (alpha, sigma)
    prediction: what the network predicts: "eps", "x0", "v" (Salimans & Ho 2022), "flow" = eps - x0,
                or your own function (alpha, sigma) -> (a, b), for a * x0 + b * eps
    Times t are floats in [0, 1], one for all or (B,); noisy data is (B, ...) in any shape.

    >>> process, x0, eps = Diffusion("straight", "flow"), torch.zeros(1, 2), torch.ones(1, 2)
    >>> process.add_noise(x0, 0.25, eps), process.target(x0, eps, 0.25)
    (tensor([[0.2500, 0.2500]]), tensor([[1., 1.]]))
    """

    def __init__(
        self, schedule: Schedule | Path | str = "linear", prediction: Coefficients | str = "eps"
    ):
        if not callable(schedule):
            schedule = choose("schedule", schedule, SCHEDULES)()
        self.schedule = schedule if isinstance(schedule, Schedule) else Schedule(schedule)
        self.prediction = prediction
        self.coefficients = resolve("prediction", prediction, PREDICTIONS)

    def __repr__(self) -> str:
        return f"Diffusion({self.schedule}, {self.prediction!r})"

    def at(self, t: Time, x: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at t, ready to multiply x: (B, 1, ...) in its dtype, on its device."""
        alpha, sigma = self.schedule(t)
        return broadcast(alpha, x).to(x), broadcast(sigma, x).to(x)

    def timestep(self, t: Time, x: Tensor) -> Tensor:
        """What the network receives instead of t: (B,)."""
        return for_network(self.schedule.timestep(t), x)

    def add_noise(self, x0: Tensor, t: Time, eps: Tensor) -> Tensor:
        """xt ~ q(xt | x0) (Ho et al. 2020, eq. 4)."""
        alpha, sigma = self.at(t, x0)
        return alpha * x0 + sigma * eps

    def target(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """The regression target: what the network should predict."""
        a, b = self.coefficients(*self.at(t, x0))
        return a * x0 + b * eps

    def x0_and_eps(self, prediction: Tensor, xt: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """(x0, eps) from the network's prediction, wherever `determinant` is not 0."""
        return solve(self.coefficients, prediction, xt, *self.at(t, xt))

    def determinant(self, t: Time) -> Tensor:
        """The determinant of the two equations: alpha for eps, -sigma for x0, and so on.

        ValueError if it is 0, because the prediction then doesn't determine x0 and eps.
        """
        alpha, sigma = self.schedule(t)
        a, b = self.coefficients(alpha, sigma)
        det = alpha * b - sigma * a
        require((det != 0).all(), "process", "one whose predictions give x0 and eps, as 'v'", self)
        return det

    def loss(
        self,
        network: Network,
        x0: Tensor,
        context: Tensor | None = None,
        t: Time | None = None,
        eps: Tensor | None = None,
        weighting: str | Callable[["Diffusion", Time], Tensor] = "simple",
        time_sampling: str | Callable[[int], Tensor] = "uniform",
    ) -> Tensor:
        """Mean squared error of the prediction at random times (Ho et al. 2020, eq. 14): a scalar.

        weighting:     "simple", "min_snr", or your own function (process, t) -> weights
        time_sampling: "uniform", "logit_normal", "antithetic", or your own: count -> times
        """
        weigh = resolve("weighting", weighting, WEIGHTINGS)
        draw = resolve("time sampling", time_sampling, TIME_SAMPLING)
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
        """The mean squared error of the network's prediction for each sample: (B,)."""
        require(x0.is_floating_point() and len(x0), "x0", "a batch of floating-point data", x0)
        eps = torch.randn_like(x0) if eps is None else eps
        require(like(eps, x0), "eps", f"noise {tuple(x0.shape)} on {x0.device}, as x0", eps)
        require(one_or_each(t, x0), "t", f"one time, or {len(x0)} for a batch of {len(x0)}", t)
        xt = self.add_noise(x0, t, eps)
        prediction = network(xt, self.timestep(t, xt), context)
        require(like(prediction, xt), "prediction", f"the shape {tuple(xt.shape)}", prediction)
        return (prediction - self.target(x0, eps, t)).square().flatten(1).mean(1)


def solve(
    coefficients: Coefficients,
    prediction: Tensor,
    xt: Tensor,
    alpha: Tensor | float,
    sigma: Tensor | float,
) -> tuple[Tensor, Tensor]:
    """(x0, eps) from `xt = alpha * x0 + sigma * eps` and `prediction = a * x0 + b * eps`.

    The determinant divides the coefficients instead of the data, because they are fewer numbers.
    """
    a, b = coefficients(alpha, sigma)
    det = alpha * b - sigma * a
    alpha, sigma, a, b = alpha / det, sigma / det, a / det, b / det
    return b * xt - sigma * prediction, alpha * prediction - a * xt


def broadcast(values: Tensor, x: Tensor) -> Tensor:
    """Reshapes one value per sample, (B,), or one for all, so that it multiplies x (B, ...)."""
    return values.reshape(-1, *[1] * (x.dim() - 1))


def for_network(timestep: Tensor | float, x: Tensor) -> Tensor:
    """The timestep in the form that networks expect: (B,), never in half precision."""
    to = dict(dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    if not isinstance(timestep, Tensor):
        return torch.full((len(x),), timestep, **to)
    return timestep.to(**to).flatten().expand(len(x))
