"""Phantoms: random ellipses that imitate a slice through a head, so that the truth is known.

The idea comes from Shepp & Logan (1974), whose phantom of ten ellipses is still used to test
scanners. Here every phantom is different: a skull, brain tissue with three structures in it, and
perhaps a lesion.
"""

from math import pi
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.checks import whole_numbers

TISSUE, SKULL, LESION = 0.35, 1.0, 0.35  # densities; a lesion's is added to its surroundings'
FINE = 3  # points per pixel along a side


class Phantoms(NamedTuple):
    """The same N phantoms without and with a lesion; all pictures are (N, 1, size, size).

    healthy, lesion: in [-1, 1], for densities from 0 to 1
    places:          bool, true where the centre of a lesion may be
    spot:            bool, true within 2 pixels of the centre of this lesion
    """

    healthy: Tensor
    lesion: Tensor
    places: Tensor
    spot: Tensor


def phantoms(count: int, generator: torch.Generator | None = None, size: int = 32) -> Phantoms:
    """`count` random phantoms, each without and with one lesion; ValueError for sizes below 1.

    A lesion is a disc 3 to 4.5 pixels wide (at size 32) and twice as bright as the tissue.

    >>> phantoms(2).lesion.shape
    torch.Size([2, 1, 32, 32])
    """
    whole_numbers(1, count=count, size=size)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    points = grid(FINE * size)  # (P, 2) in [-1, 1]²
    centre, angle = between(-0.04, 0.04, 2), between(-0.3, 0.3)
    outer = torch.stack([between(0.72, 0.84), between(0.80, 0.92)], 1)  # half-axes
    inner = outer - 0.1
    head, brain = (inside(points, centre, axes, angle).float() for axes in (outer, inner))
    density = SKULL * (head - brain) + TISSUE * brain  # (N, P)
    for _ in range(3):
        where = centre + disc(between(0, 1, 2)) * 0.5
        shape = inside(points, where, between(0.15, 0.4, 2), between(0, pi))
        density = density + between(-0.1, 0.1, 1) * shape * brain
    place = disc(between(0, 1, 2))
    where = centre + turned(0.6 * inner * place, angle)  # (N, 2)
    radius = between(0.1, 0.14, 1).expand(-1, 2)
    lesion = density + LESION * inside(points, where, radius, angle)

    coarse = grid(size)
    places = inside(coarse, centre, 0.6 * inner + 1 / size, angle)
    spot = (coarse - where[:, None]).norm(dim=2) <= 2 * (2 / size)
    shape = count, 1, size, size
    return Phantoms(*map(pictures, (density, lesion)), places.view(shape), spot.view(shape))


def grid(size: int) -> Tensor:
    """The centres of size² pixels that fill [-1, 1]², row by row: (size², 2), as (down, right)."""
    side = (2 * torch.arange(size) + 1) / size - 1
    return torch.cartesian_prod(side, side)


def inside(points: Tensor, centre: Tensor, axes: Tensor, angle: Tensor) -> Tensor:
    """Which points are inside each ellipse: bool (N, P); centre, axes (N, 2), angle (N,)."""
    offset = turned(points - centre[:, None], -angle[:, None])
    return (offset / axes[:, None]).square().sum(2) <= 1


def turned(vectors: Tensor, angle: Tensor) -> Tensor:
    """Vectors (..., 2) rotated by the angle (...)."""
    a, b = vectors.unbind(-1)
    return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def disc(uniform: Tensor) -> Tensor:
    """Maps uniform numbers (N, 2) to points that are uniformly distributed in the unit disc."""
    radius, angle = uniform[:, 0].sqrt(), 2 * pi * uniform[:, 1]
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def pictures(density: Tensor) -> Tensor:
    """Densities (N, P) on the fine grid -> pictures (N, 1, size, size) in [-1, 1]."""
    side = round(density.shape[1] ** 0.5)
    return 2 * F.avg_pool2d(density.clamp(0, 1).view(-1, 1, side, side), FINE) - 1
