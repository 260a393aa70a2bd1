"""Which shape is this region? Analysis by synthesis: draw every shape over it and keep the best.

The position, the radius, the softness of the edge and the strength of each shape are fitted by
least squares (Levenberg-Marquardt). The residual decides whether the region is that shape.
"""

import torch
import torch.nn.functional as F

from course_lib.datasets.scenes.dataset import SIGNED_DISTANCE
from course_lib.datasets.scenes.grammar import SHAPES

STEPS = 5  # of Levenberg-Marquardt; the first guess is close, and clean pictures need three
NUDGE = 0.4  # pixels, for finite differences; with less, edges on a pixel border get stuck


def draw(pose: torch.Tensor, width: int) -> torch.Tensor:
    """How much of each pixel each shape covers, 0 to 1: (N, S, width, width).

    pose: (N, S, 4) as x, y, radius and softness of the edge, in pixels.
    """
    pixel = torch.arange(width) + 0.5
    x, y, radius, soft = pose[..., None].unbind(2)  # (N, S, 1)
    across = ((pixel - x) / radius)[:, :, None, :]  # (N, S, 1, W)
    down = ((pixel - y) / radius)[:, :, :, None]  # (N, S, H, 1)
    outlines = [SIGNED_DISTANCE[shape] for shape in SHAPES]
    distance = [outline(across[:, s], down[:, s]) for s, outline in enumerate(outlines)]
    return (0.5 - torch.stack(distance, 1) * (radius / soft)[..., None]).clamp(0, 1)


def fit(regions: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit every shape to every region.

    regions: (N, P, P), how far each pixel is from the background towards the object's colour, up
        to a factor, the strength.
    weight: (N, P, P), 0 where a pixel belongs to something else, otherwise 1.
    Returns pose (N, S, 4) and strength (N, S).
    """
    width = regions.shape[-1]
    regions, weight = regions[:, None].flatten(2), weight[:, None].flatten(2)  # (N, 1, P*P)
    theta = _first_guess(regions * weight, width)
    damping = torch.full_like(theta[..., :1], 1e-3)

    def unexplained(theta):
        cover = draw(theta[..., :4], width).flatten(2)
        return cover, weight * (regions - theta[..., 4:] * cover)  # both (N, S, P*P)

    cover, missing = unexplained(theta)
    for _ in range(STEPS):
        nudged = [draw(theta[..., :4] + nudge, width).flatten(2) for nudge in NUDGE * torch.eye(4)]
        slopes = [theta[..., 4:] * (other - cover) / NUDGE for other in nudged]
        jacobian = torch.stack([*slopes, cover], 2) * weight[:, None]  # (N, S, 5, P*P)
        normal = jacobian @ jacobian.mT
        normal += torch.diag_embed(damping * normal.diagonal(dim1=2, dim2=3) + 1e-6)
        step = torch.linalg.solve_ex(normal, jacobian @ missing[..., None])[0][..., 0]
        trial = _sensible(theta + step, width)
        trial_cover, trial_missing = unexplained(trial)
        better = trial_missing.square().sum(2, True) < missing.square().sum(2, True)  # (N, S, 1)
        theta = torch.where(better, trial, theta)
        cover = torch.where(better, trial_cover, cover)
        missing = torch.where(better, trial_missing, missing)
        damping = torch.where(better, damping / 10, damping * 10).clamp(min=1e-5)
    return theta[..., :4], theta[..., 4]


def misfit(
    pose: torch.Tensor,
    strength: torch.Tensor,
    regions: torch.Tensor,
    own: torch.Tensor,
    blur: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The residual of the fitted shapes, smoothed so that noise and soft edges cancel.

    own: (N, P, P), 1 on the region and its soft edge; blur: width of the smoothing, 1 to 3 pixels.
    Returns two numbers per shape, (N, S) each: the residual's share of the shape's energy, and its
    largest value, as a fraction of the strength.
    """
    cover = draw(pose, regions.shape[-1])
    height = strength[..., None, None]
    concerned = torch.maximum(own[:, None], (cover > 0).float())
    missing = smooth((regions[:, None] - height * cover) * concerned, blur) / height
    energy = cover.square().sum((2, 3)) + 1e-6
    return missing.square().sum((2, 3)) / energy, missing.abs().amax((2, 3))


def smooth(images: torch.Tensor, blur: float) -> torch.Tensor:
    """Averages (..., H, W) over a square of `blur` pixels, from 1 to 3, also fractional."""
    side = torch.tensor([(blur - 1) / 2, 1, (blur - 1) / 2]) / blur
    return F.conv2d(images.flatten(0, -3)[:, None], torch.outer(side, side)[None, None], padding=1)[
        :, 0
    ].unflatten(0, images.shape[:-2])


def _moments(shape: str) -> tuple[float, float]:
    """Area in square radii, and how far the centre of mass is below the centre, in radii."""
    grid = torch.linspace(-1.2, 1.2, 961, dtype=torch.float64)
    inside = SIGNED_DISTANCE[shape](*torch.meshgrid(grid, grid, indexing="xy")) < 0  # (y, x)
    area = inside.sum() * (grid[1] - grid[0]) ** 2
    return float(area), float((inside.sum(1) * grid).sum() / inside.sum())


MOMENTS = torch.tensor([_moments(shape) for shape in SHAPES])  # (S, 2)


def _first_guess(regions: torch.Tensor, width: int) -> torch.Tensor:
    """The centre from the centre of mass and the radius from the area, for every shape."""
    square = regions.unflatten(2, (width, width))  # (N, 1, P, P)
    pixel = torch.arange(width) + 0.5
    mass = regions.sum(2).clamp(min=1e-6)  # (N, 1)
    strength = regions.square().sum(2) / mass  # a self-weighted mean: edges hardly count
    radius = (mass / strength / MOMENTS[:, 0]).sqrt()  # (N, S)
    x = (square.sum(2) * pixel).sum(2) / mass
    y = (square.sum(3) * pixel).sum(2) / mass - MOMENTS[:, 1] * radius
    parts = [x, y, radius, torch.tensor(1.5), strength]
    return _sensible(torch.stack([part.expand_as(radius) for part in parts], 2), width)


def _sensible(theta: torch.Tensor, width: int) -> torch.Tensor:
    """Clamps: centre inside the patch, radius 1/10 to 1/2 of it, softness 0.5 pixels to 1/8."""
    low = torch.tensor([0, 0, width / 10, 0.5, 1e-3])
    high = torch.tensor([width, width, width / 2, width / 8, 10])
    return theta.clamp(low, high)
