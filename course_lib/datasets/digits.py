"""Handwritten digits that come with scikit-learn: real data, small, available offline."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from course_lib.common.registry import choose

TEST_EVERY = 7  # the file repeats 0 to 9, so a stride that is coprime to 10 reaches every class


def digits(size: int = 16, split: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The test half of Alpaydin & Kaynak's digits (1998): 1,797 images by 13 writers.

    size: 8 is the original size (17 grey levels); larger ones are bilinear enlargements.
    split: "train" (1,541 images), "test" (256, every seventh) or None for all of them.
    Returns images (N, 1, size, size) float32 in [-1, 1] and labels (N,) int64, 0 to 9.
    Raises ValueError for an unknown split or a size below 8.

    >>> images, labels = digits(size=8, split="test")
    >>> images.shape, labels.shape
    (torch.Size([256, 1, 8, 8]), torch.Size([256]))
    """
    if size < 8:
        raise ValueError(f"digits are at least 8 pixels wide, not {size}")
    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 8 - 1  # (1797, 1, 8, 8)
    if size > 8:
        images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    held_out = torch.arange(len(images)) % TEST_EVERY == TEST_EVERY - 1
    kept = {None: slice(None), "train": ~held_out, "test": held_out}
    if split is not None:
        choose("split", split, {name: name for name in kept if name})
    return images[kept[split]], torch.from_numpy(data.target).long()[kept[split]]
