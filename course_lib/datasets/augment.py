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
