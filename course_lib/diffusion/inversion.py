"""From data back to the noise that a sampler would have started from."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

import torch
from torch import Tensor

from course_lib.common.checks import require
from course_lib.diffusion.process import Diffusion, Network, for_network, solve
from course_lib.diffusion.samplers import Point, points, time_grid


@torch.no_grad()
def invert(
    process: Diffusion,
    network: Network,
    x0: Tensor,
    context: Tensor | None = None,
    steps: int = 20,
    spacing: str | Sequence[float] = "trailing",
    *,
    rounds: int = 1,
) -> Tensor:
    """The noise from which DDIM draws x0, by taking its steps backwards: (B, ...) like x0.

    A step from t to s uses the prediction at x_t, but backwards x_t is what we look for. So the
    first round asks the network at x_s instead, as is usual (Song et al. 2021, section 4.3), and
    each further round asks at the x_t that the last one found (Pan et al. 2023). Where this
    settles, the step is inverted exactly. It costs steps · rounds evaluations.

    >>> process, network = Diffusion("straight", "flow"), lambda x, timestep, context: 0 * x + 1
    >>> invert(process, network, torch.zeros(1, 2), steps=4)  # eps - x0 = 1 everywhere
    tensor([[1., 1.]])
    """
    require(x0.is_floating_point(), "x0", "floating-point data", x0)
    require(isinstance(rounds, Integral) and rounds > 0, "rounds", "1 or more", rounds)
    path = points(process.schedule, time_grid(process.schedule, steps, spacing))
    xs = x0
    for s, t in pairwise(reversed(path)):  # t is the noisier one
        xt = xs
        for _ in range(rounds):
            prediction = network(xt, for_network(t.timestep, xt), context)
            xt = step_back(process, prediction, xs, s, t)
        xs = xt
    return xs


def step_back(process: Diffusion, prediction: Tensor, xs: Tensor, s: Point, t: Point) -> Tensor:
    """x_t, if DDIM went from there to x_s with this prediction.

    Two equations, `xs = alpha_s * x0 + sigma_s * eps` and `prediction = a_t * x0 + b_t * eps`, give
    x0 and eps.
    """
    a, b = process.coefficients(t.alpha, t.sigma)
    require(s.alpha * b != s.sigma * a, "process", "one that keeps the noise in sight", process)
    x0, eps = solve(lambda alpha, sigma: (a, b), prediction, xs, s.alpha, s.sigma)
    return t.alpha * x0 + t.sigma * eps
