"""Few steps: networks that predict the average velocity over a whole interval of time.

On the straight path xt = (1 - t) x0 + t eps the velocity is dx/dt = eps - x0. A few large steps
follow it badly where the marginal path is curved. A step from t to the cleaner s lands exactly on
the path if it takes the average velocity u over the interval instead:

    x_s = x_t - (t - s) u(x_t, t, s)

Displacements add up, so for any m between t and s

    (t - s) u(x_t, t, s) = (t - m) u(x_t, t, m) + (m - s) u(x_m, m, s)

and every method here trains a network on that. They differ in m and in who takes the two steps:

    consistency distillation   s = 0; the teacher steps to a nearby m, the student from there to 0
    shortcut                   m is half-way; the student takes both steps
    mean flow                  m -> t, where the sum becomes a derivative

A velocity here is a function u(x, t, s), with times (B,); `average` makes one from a network whose
timestep is (B, 2), where a step starts and where it ends, and `instant` from an ordinary one. The
path has no shift, so t is sigma: a shift only chooses other times on the same path.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from course_lib.common.checks import like, require
from course_lib.diffusion.process import Network, broadcast
from course_lib.diffusion.samplers import Noise, Point, Predict, point, step
from course_lib.diffusion.schedules import Schedule

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x, t, s) -> u, times (B,) with t >= s


def instant(network: Network, context: Tensor | None = None) -> Velocity:
    """The velocity at the start of the step, from a network that predicts "flow"."""
    return lambda x, t, s: network(x, Schedule.timesteps * t, context)


def average(network: Network, context: Tensor | None = None) -> Velocity:
    """The average velocity over the step, from a network whose timestep is (B, 2)."""
    return lambda x, t, s: network(x, Schedule.timesteps * torch.stack([t, s], 1), context)


def midpoint(velocity: Velocity) -> Velocity:
    """The average velocity of a second-order step: the velocity half-way, where Euler would be.

    >>> falling = lambda x, t, s: t[:, None]
    >>> midpoint(falling)(torch.zeros(1, 1), torch.ones(1), torch.zeros(1))  # exact: ∫ t dt = 1/2
    tensor([[0.5000]])
    """

    def average_velocity(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        m = (t + s) / 2
        return velocity(x - broadcast(t - m, x) * velocity(x, t, m), m, s)

    return average_velocity


def two_steps(first: Velocity, second: Velocity, x: Tensor, t: Tensor, m: Tensor, s: Tensor):
    """The average velocity from t to s of two steps, through m: (B, ...), for t > s.

    Frans et al. 2024, eq. 5, for steps of any length; with s = 0 and `first` the teacher, the
    target of consistency distillation (Song et al. 2023, eq. 7).

    >>> halves = torch.ones(1), torch.ones(1) / 2, torch.zeros(1)
    >>> falling = lambda x, t, s: t[:, None]  # the velocity at the start of each step
    >>> two_steps(falling, falling, torch.zeros(1, 1), *halves)
    tensor([[0.7500]])
    """
    a, b = broadcast(t - m, x), broadcast(m - s, x)
    u = first(x, t, m)
    return (a * u + b * second(x - a * u, m, s)) / (a + b)


def mean_flow(u: Velocity, v: Tensor, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The average velocity from t to s as the mean-flow identity gives it: (B, ...), for t >= s.

    u = v - (t - s) du/dt, along the path, on which dx/dt = v (Geng et al. 2025, eq. 6). The total
    derivative is one product of the Jacobian with (v, 1), in forward mode. v is the velocity at t:
    the conditional one, eps - x0, or a teacher's.

    >>> t, s = torch.ones(1), torch.zeros(1)
    >>> constant = lambda x, t, s: torch.full_like(x, 3.0)
    >>> mean_flow(constant, torch.tensor([[3.0]]), torch.zeros(1, 1), t, s)
    tensor([[3.]])
    """
    with sdpa_kernel(SDPBackend.MATH):  # the kernel that has a forward mode
        _, du = torch.func.jvp(lambda x, t: u(x, t, s), (x, t), (v, torch.ones_like(t)))
    return v - broadcast(t - s, x) * du


def optimal_coupling(x0: Tensor, eps: Tensor) -> Tensor:
    """The noise, reordered within the batch so that the pairs are as close as possible.

    Minibatch optimal transport (Pooladian et al. 2023; Tong et al. 2024): of all pairings of the
    batch, the one with the smallest sum of squared distances.

    >>> optimal_coupling(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [-1.0]]))
    tensor([[-1.],
            [ 2.]])
    """
    require(like(eps, x0), "eps", f"noise {tuple(x0.shape)} on {x0.device}, as x0", eps)
    costs = torch.cdist(x0.flatten(1), eps.flatten(1)).square()  # (B, B)
    _, columns = linear_sum_assignment(costs.cpu().numpy())
    return eps[torch.from_numpy(columns).to(eps.device)]


def straightness(path: Sequence[Tensor], times: Sequence[float]) -> Tensor:
    """How far each sample's path is from a straight line at constant speed: (B,), 0 if straight.

    The mean over time of |dx/dt - (x_1 - x_0)|² (Liu et al. 2023, section 2.2), divided by the
    squared length of the chord. `path` holds x at the falling `times`, on the straight schedule.

    >>> [float(straightness([torch.ones(1, 1), torch.ones(1, 1) / 2, x], [1.0, 0.5, 0.0]))
    ...  for x in (torch.zeros(1, 1), torch.ones(1, 1) / 2)]
    [0.0, 1.0]
    """
    require(len(path) == len(times) > 1, "path", f"x at {len(times)} times", len(path))
    chord = (path[0] - path[-1]) / (times[0] - times[-1])
    deviation = sum(
        (t - s) * ((x - y) / (t - s) - chord).square().flatten(1).sum(1)
        for (x, t), (y, s) in pairwise(zip(path, times, strict=True))
    )
    return deviation / (times[0] - times[-1]) / chord.square().flatten(1).sum(1)


# Two samplers for `trajectory`, one network evaluation for each step


def flow_map(
    predict: Predict, x: Tensor, t: Point, s: Point, history: list, noise: Noise
) -> Tensor:
    """One step of the average velocity from t to s (Geng et al. 2025, eq. 12)."""
    return step(*predict(x, t, s), t, s)


def consistency(
    predict: Predict, x: Tensor, t: Point, s: Point, history: list, noise: Noise
) -> Tensor:
    """To the clean end in one step, then fresh noise up to s (Song et al. 2023, algorithm 1)."""
    x0, _ = predict(x, t, point(t.schedule, 0.0))
    return s.alpha * x0 + s.sigma * noise() if s.sigma else x0
