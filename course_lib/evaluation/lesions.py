"""Is there a lesion in a picture of a phantom? A matched filter decides: disc minus ring.

A lesion is the only small bright spot in a phantom. So the mean over a disc of its size, minus the
mean over a ring around it, is large at the lesion, and at no other place where a lesion may be.
The chapter prints how often this is right for true phantoms, so that any further errors are due to
the reconstruction.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

DISC, RING = 1.6, (2.6, 4.0)  # radii in pixels, at size 32
THRESHOLD = 0.35  # half of what a lesion adds to a picture in [-1, 1]


def contrast(images: Tensor) -> Tensor:
    """The disc's mean minus the ring's mean around each pixel: (B, 1, H, W).

    >>> contrast(torch.ones(1, 1, 16, 16))[0, 0, 8, 8].abs() < 1e-6
    tensor(True)
    """
    side = torch.arange(-4, 5)
    radius = (side[:, None] ** 2 + side**2).sqrt()  # (9, 9)
    disc, ring = radius <= DISC, (radius >= RING[0]) & (radius <= RING[1])
    kernel = disc / disc.sum() - ring / ring.sum()
    return F.conv2d(F.pad(images, (4, 4, 4, 4), mode="replicate"), kernel[None, None].to(images))


def lesion_seen(images: Tensor, where: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Whether a lesion is detected at any of these pixels: bool (B,); where: bool (B, 1, H, W).

    >>> everywhere = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    >>> lesion_seen(torch.zeros(1, 1, 32, 32), everywhere)
    tensor([False])
    """
    return contrast(images).masked_fill(~where, -torch.inf).flatten(1).amax(1) > threshold
