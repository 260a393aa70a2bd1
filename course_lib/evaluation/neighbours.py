"""Did the model copy? The training pictures nearest to each of its samples."""

import torch
from torch import Tensor

from course_lib.common.checks import finite, floating, same_device


def nearest_neighbours(
    images: Tensor, training: Tensor, k: int = 1, chunk: int = 256
) -> tuple[Tensor, Tensor]:
    """Root-mean-square difference per pixel to the k nearest training pictures, and their indices.

    images (B, ...) and training (N, ...) have the same shape apart from the batch. Returns two
    tensors (B, k), nearest first. A copy has distance 0. To know which distances are small, do the
    same for real test pictures. Raises ValueError for different shapes or a k that isn't in 1 to N.

    >>> nearest_neighbours(torch.ones(1, 4), torch.tensor([[0.0] * 4, [1.0] * 4]))
    (tensor([[0.]]), tensor([[1]]))
    """
    if images.shape[1:] != training.shape[1:]:
        shapes = f"{tuple(images.shape[1:])} and {tuple(training.shape[1:])}"
        raise ValueError(f"pictures and training pictures are of different shapes, {shapes}")
    if not 1 <= k <= len(training):
        raise ValueError(f"k is {k}, expected 1 to {len(training)}")
    same_device("images", images, "the training data", training)
    for name, x in {"images": images, "training": training}.items():
        floating(name, x)
        finite(name, x)
    found = [_nearest(some, training, k) for some in images.split(chunk)]
    distances, indices = zip(*found, strict=True)
    return torch.cat(distances), torch.cat(indices)


def _nearest(images: Tensor, training: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Selects a few more than k by |x|² - 2 x·y + |y|², which is fast, and ranks them exactly."""
    x, y = images.flatten(1).float(), training.flatten(1).float()
    some = torch.cdist(x, y).topk(min(k + 8, len(y)), largest=False).indices  # (B, k + 8)
    distances = torch.stack([(x - y[which]).square().mean(1) for which in some.T], dim=1).sqrt()
    distances, order = distances.topk(k, largest=False)  # (B, k)
    return distances, some.gather(1, order)
