"""The variational bound on -log p(x0), term by term (Ho et al. 2020, section 3).

    terms = dict(variational_bound(process, network, images))     # t -> (B,), in bits per dimension
    bits = sum(terms.values())

L_T, at t = 1, measures how much of the data is left in the noise. L_{t-1} measures how far each
step of the network is from the true posterior. L_0, listed at t = 0, is the cost of encoding x0
in the last step.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import log, sqrt

import torch
from torch import Tensor

from course_lib.common.checks import is_finite, require
from course_lib.common.registry import choose
from course_lib.diffusion.noise import noise_source
from course_lib.diffusion.process import Diffusion, Network
from course_lib.diffusion.samplers import (
    Point,
    Predict,
    eps_from_x0,
    points,
    predictor,
    step,
    step_std,
    time_grid,
)


def beta_tilde(t: Point, s: Point) -> float:
    """The variance of q(x_s | x_t, x_0), which is exact for the step if x0 is known (eq. 7)."""
    return step_std(t, s, eta=1.0) ** 2


def beta(t: Point, s: Point) -> float:
    """The variance of q(x_t | x_s), which is exact for the step if the data is N(0, 1)."""
    return t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2


VARIANCES = {"small": beta_tilde, "large": beta}


def posterior(
    process: Diffusion, x0: Tensor, xt: Tensor, t: float, s: float
) -> tuple[Tensor, float]:
    """Mean and variance of q(x_s | x_t, x_0), s < t (eqs. 6 and 7, for any schedule).

    >>> mean, variance = posterior(Diffusion("linear"), torch.zeros(2), torch.ones(2), 0.5, 0.4)
    """
    t, s = points(process.schedule, [t, s])
    return posterior_mean(x0, xt, t, s), beta_tilde(t, s)


def posterior_mean(x0: Tensor, xt: Tensor, t: Point, s: Point) -> Tensor:
    """The mean of q(x_s | x_t, x_0)."""
    return step(x0, eps_from_x0(x0, xt, t), t, s, eta=1.0)


def variational_bound(
    process: Diffusion,
    network: Network,
    x0: Tensor,
    context: Tensor | None = None,
    steps: int | None = None,
    variance: str = "large",
    colours: int | None = 256,
    clip: float | Callable[[Tensor], Tensor] | None = None,
    generators: Sequence[torch.Generator] | None = None,
) -> Iterator[tuple[float, Tensor]]:
    """Yields (t, bits per dimension (B,)) for L_T, ..., L_1, L_0: steps + 1 terms.

    steps:    each is one call of the network; by default the schedule's number of timesteps
    variance: that of the network's steps, "large" (beta) or "small" (beta~)
    colours:  x0 takes this many evenly spaced values in [-1, 1], and L_0 is the probability of
              its value (eq. 13); None for continuous data, where L_0 is a density

    >>> network = lambda x, timestep, context: x  # predicts the noise
    >>> terms = dict(variational_bound(Diffusion("linear"), network, torch.zeros(2, 3), steps=4))
    >>> bits = sum(terms.values())  # (2,)
    """
    spread = choose("variance", variance, VARIANCES)
    ok = is_finite(x0) and (colours is None or (x0.abs() <= 1).all())
    require(ok, "x0", "finite floats, with colours in [-1, 1]", x0)
    steps = process.schedule.timesteps if steps is None else steps
    require(steps != 1 or variance == "large", "steps", "2 or more with the small variance", steps)
    noise = noise_source(x0, generators)
    times = time_grid(process.schedule, steps)
    process.determinant(torch.tensor(times[:-1], dtype=torch.float64))
    predict = predictor(process, network, context, clip)
    return terms(predict, x0, points(process.schedule, times), spread, colours, noise)


@torch.no_grad()
def terms(
    predict: Predict,
    x0: Tensor,
    points: Sequence[Point],
    spread: Callable[[Point, Point], float],
    colours: int | None,
    noise: Callable[[], Tensor],
) -> Iterator[tuple[float, Tensor]]:
    """(t, bits per dimension (B,)) for each term of the bound, from the noisy end to the clean."""
    top = points[0]
    yield top.t, bits(kl(top.alpha * x0, top.sigma**2, torch.zeros_like(x0), 1.0))  # L_T
    for t, s in pairwise(points):
        xt = t.alpha * x0 + t.sigma * noise()
        mean = posterior_mean(predict(xt, t)[0], xt, t, s)
        if s.sigma > 0:
            true_mean = posterior_mean(x0, xt, t, s)
            yield s.t, bits(kl(true_mean, beta_tilde(t, s), mean, spread(t, s)))
        else:
            # beta~ is 0 here, so use that of the previous step, as the paper's code does
            var = spread(t, s) or spread(points[-3], t)
            yield s.t, bits(-log_density(x0, mean, sqrt(var), colours))  # L_0


def kl(mean: Tensor, var: float, other_mean: Tensor, other_var: float) -> Tensor:
    """KL(N(mean, var) || N(other_mean, other_var)), for each dimension, in nats."""
    ratio = var / other_var
    return (ratio - 1 - log(ratio) + (mean - other_mean).square() / other_var) / 2


def log_density(x0: Tensor, mean: Tensor, std: float, colours: int | None) -> Tensor:
    """log N(x0; mean, std²) for each dimension, or its integral's log over x0's colour bin."""
    normal = torch.distributions.Normal(mean.cpu().double(), std)
    x0_ = x0.cpu().double()
    if colours is None:
        return normal.log_prob(x0_).to(x0)
    half = 1 / (colours - 1)
    upper = normal.cdf(x0_ + half).masked_fill(x0_ > 1 - half, 1)
    lower = normal.cdf(x0_ - half).masked_fill(x0_ < half - 1, 0)
    return (upper - lower).clamp(min=1e-12).log().to(x0)


def bits(nats: Tensor) -> Tensor:
    """The mean over all dimensions of each sample, in bits: (B,)."""
    return nats.flatten(1).mean(1) / log(2)
