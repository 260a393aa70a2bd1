"""Classical augmentation: changes to images that keep their meaning."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.checks import require


def shift_and_rotate(images: Tensor, pixels: float = 1.0, degrees: float = 15.0) -> Tensor:
    """Each image randomly shifted by up to `pixels` and rotated by up to `degrees`, both ways.

    images (B, C, H, H) in [-1, 1]; pixels from outside the image are background, -1. The random
    numbers come from torch's generator. Resampling is bilinear, so a shift by a fraction of a
    pixel blurs a little.

    >>> shift_and_rotate(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 1, 8, 8])
    """
    square = images.dim() == 4 and images.shape[2] == images.shape[3]
    require(square, "images", "a batch of square images (B, C, H, H)", images)
    require(pixels >= 0, "pixels", "a number that is not negative", pixels)
    require(degrees >= 0, "degrees", "a number that is not negative", degrees)
    shift = (2 * torch.rand(len(images), 2, 1) - 1) * pixels * 2 / images.shape[-1]  # width is 2
    angle = (2 * torch.rand(len(images)) - 1) * math.radians(degrees)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).unflatten(1, (2, 2))  # (B, 2, 2)
    matrix = torch.cat([turn, shift], dim=2).to(images)  # (B, 2, 3)
    grid = F.affine_grid(matrix, images.shape, align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1  # outside counts as 0


def vary(
    images: Tensor,
    shift: float = 0.06,
    scale: float = 0.15,
    degrees: float = 8.0,
    colour: float = 0.12,
    blur: float = 1 / 3,
    noise: float = 0.1,
) -> Tensor:
    """Drawings on white moved, resized, turned, tinted, blurred and made noisy, each at random.

    images (B, C, H, H) in [-1, 1]; what comes in from outside is white, 1. Drawn from torch's
    generator, up to: `shift` of the width, `scale` larger or smaller, `degrees` to either side. The
    colours of what isn't white are mixed by a matrix that differs from the identity by `colour`,
    noise has a standard deviation of at most `noise`, and a share of `blur` is blurred.

    >>> vary(torch.ones(2, 3, 8, 8), noise=0).unique()
    tensor([1.])
    """
    square = images.dim() == 4 and images.shape[2] == images.shape[3]
    require(square, "images", "a batch of square images (B, C, H, H)", images)
    count, channels = images.shape[:2]
    angle = math.radians(degrees) * _uniform(count)
    size = 1 + scale * _uniform(count)
    cos, sin = angle.cos() / size, angle.sin() / size
    turn = torch.stack([cos, -sin, sin, cos], dim=1).unflatten(1, (2, 2))  # (B, 2, 2)
    matrix = torch.cat([turn, 2 * shift * _uniform(count, 2, 1)], dim=2)  # (B, 2, 3); width is 2
    grid = F.affine_grid(matrix.to(images), images.shape, align_corners=False)
    ink = F.grid_sample(1 - images, grid, align_corners=False)  # outside counts as 0
    mix = torch.eye(channels) + colour * torch.randn(count, channels, channels)
    ink = (mix.to(ink) @ ink.flatten(2)).view_as(ink)
    blurred = F.avg_pool2d(F.pad(ink, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    ink = torch.where(torch.rand(count, 1, 1, 1, device=ink.device) < blur, blurred, ink)
    level = noise * torch.rand(count, 1, 1, 1, device=ink.device)
    return (1 - ink + level * torch.randn_like(ink)).clamp(-1, 1)


def _uniform(*shape: int) -> Tensor:
    """Draws between -1 and 1."""
    return 2 * torch.rand(shape) - 1
