"""Toy data sets in the plane, where you can watch a diffusion model point by point.

Each is a function of (n, generator) that returns points (n, 2) with mean 0 and an average variance
of 1 per axis, so that the same noise schedule suits them all. `TOYS` lists them by name.
"""

import math
from collections.abc import Callable

import torch


def two_moons(n: int, generator: torch.Generator | None = None, noise: float = 0.08):
    """Two interleaved half circles.

    >>> two_moons(100).shape
    torch.Size([100, 2])
    """

    def curve(u):
        angle, lower = math.pi * (2 * u % 1), u >= 0.5
        x = torch.where(lower, 1 - angle.cos(), angle.cos())
        y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
        return torch.stack([x, y], dim=-1)

    return _along(curve, n, generator, noise)


def swiss_roll(n: int, generator: torch.Generator | None = None, noise: float = 0.06):
    """A spiral of one and a half turns.

    >>> swiss_roll(100).shape
    torch.Size([100, 2])
    """

    def curve(u):
        angle = 1.5 * math.pi * (1 + 2 * u)
        return torch.stack([angle * angle.cos(), angle * angle.sin()], dim=-1)

    return _along(curve, n, generator, noise)


def two_circles(n: int, generator: torch.Generator | None = None, noise: float = 0.06):
    """A circle within a circle of twice its radius."""

    def curve(u):
        angle, radius = 4 * math.pi * u, torch.where(u < 0.5, 1.0, 2.0)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)

    return _along(curve, n, generator, noise)


def checkerboard(n: int, generator: torch.Generator | None = None):
    """The eight dark squares of a 4 x 4 board, each evenly filled."""
    check(n, noise=0)
    column, pair = (
        torch.randint(4, (n,), generator=generator),
        torch.randint(2, (n,), generator=generator),
    )
    cell = torch.stack([column, 2 * pair + column % 2], dim=-1)  # (n, 2), column + row even
    board = cell + torch.rand(n, 2, generator=generator) - 2  # in [-2, 2], uniform on each axis
    return board / math.sqrt(16 / 12)


def ring_centres(components: int = 8, std: float = 0.1) -> torch.Tensor:
    """Means (components, 2) of `gaussian_ring`, for the closed forms in `diffusion.analytic`.

    >>> ring_centres(components=4).shape
    torch.Size([4, 2])
    """
    check(components, std)
    radius = math.sqrt(2 * (1 - std**2))
    angle = 2 * math.pi * torch.arange(components) / components
    return radius * torch.stack([angle.cos(), angle.sin()], dim=-1)


def gaussian_ring(
    n: int, generator: torch.Generator | None = None, components: int = 8, std: float = 0.1
):
    """Equal Gaussians, evenly spaced on a circle: a mixture whose score is known exactly.

    >>> gaussian_ring(100).shape
    torch.Size([100, 2])
    """
    check(n, std)
    which = torch.randint(components, (n,), generator=generator)
    return ring_centres(components, std)[which] + std * torch.randn(n, 2, generator=generator)


TOYS: dict[str, Callable[..., torch.Tensor]] = {
    "two moons": two_moons,
    "swiss roll": swiss_roll,
    "two circles": two_circles,
    "checkerboard": checkerboard,
    "gaussian ring": gaussian_ring,
}


def _along(curve, n, generator, noise):
    """Points (n, 2) evenly spread in u along the curve, standardised, with Gaussian noise added."""
    check(n, noise)
    whole = curve(
        (torch.arange(10_000) + 0.5) / 10_000
    )  # (10000, 2): its mean and spread are exact
    spread = ((whole - whole.mean(0)) ** 2).mean().sqrt() / math.sqrt(1 - noise**2)
    points = (curve(torch.rand(n, generator=generator)) - whole.mean(0)) / spread
    return points + noise * torch.randn(n, 2, generator=generator)


def check(n: int, noise: float):
    """ValueError for a negative number of points, or for noise with a variance of 1 or more."""
    if n < 0:
        raise ValueError(f"the number of points must be at least 0, got {n}")
    if not 0 <= noise < 1:
        raise ValueError(f"noise must be in [0, 1), got {noise}")
