"""What happens to a picture on its way: compression, cropping, resizing, turning, noise.

Each function takes and returns pictures (B, C, H, W) in [-1, 1], with C = 1 or 3.
"""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from course_lib.common.checks import require


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Written as JPEG and read again; quality from 1 to 95, as Pillow counts it.

    >>> jpeg(torch.zeros(1, 3, 16, 16), quality=90).abs().max() < 0.02
    tensor(True)
    """
    require(1 <= quality <= 95, "quality", "1 to 95", quality)
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).cpu().numpy()
    levels = levels[..., 0] if images.shape[1] == 1 else levels  # (B, H, W) or (B, H, W, 3)
    return torch.stack([written(each, quality) for each in levels]).to(images)


def written(levels: np.ndarray, quality: int) -> Tensor:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="jpeg", quality=quality)
    again = torch.from_numpy(np.array(Image.open(buffer))).float() / 127.5 - 1
    return again[None] if again.dim() == 2 else again.movedim(-1, 0)


def crop(images: Tensor, side: float) -> Tensor:
    """The middle, this share of the width and the height, enlarged to the old size.

    >>> crop(torch.ones(1, 1, 8, 8), side=0.5).shape
    torch.Size([1, 1, 8, 8])
    """
    require(0 < side <= 1, "side", "a share in (0, 1]", side)
    size = images.shape[-1]
    kept = max(1, round(side * size))
    first = (size - kept) // 2
    return scaled(images[..., first : first + kept, first : first + kept], size)


def resize(images: Tensor, side: float) -> Tensor:
    """Made smaller, to this share of the width and the height, and enlarged again.

    >>> resize(torch.ones(1, 1, 8, 8), side=0.5).shape
    torch.Size([1, 1, 8, 8])
    """
    require(0 < side <= 1, "side", "a share in (0, 1]", side)
    size = images.shape[-1]
    return scaled(scaled(images, max(1, round(side * size))), size)


def scaled(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Turned around the middle, counter-clockwise as seen; the corners repeat the edge.

    >>> corner = torch.eye(2)[None, None] * torch.tensor([1.0, 0.0])  # top left
    >>> rotate(corner, 90).round().abs()
    tensor([[[[0., 0.],
              [1., 0.]]]])
    """
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).to(images)
    grid = F.affine_grid(turn.expand(len(images), 2, 3), images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def add_noise(images: Tensor, std: float, seed: int = 0) -> Tensor:
    """With normal noise of this standard deviation, in units where black to white is 2.

    >>> add_noise(torch.zeros(1, 1, 8, 8), std=0.0).abs().max()
    tensor(0.)
    """
    require(std >= 0, "std", "0 or more", std)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + std * noise.to(images)).clamp(-1, 1)
