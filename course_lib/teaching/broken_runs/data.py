"""The data of the small trainings, and the simplest autoencoder."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.registry import choose
from course_lib.datasets.digits import digits
from course_lib.datasets.emoji.dataset import Emoji


@cache
def pictures(data: str) -> tuple[Tensor, Tensor]:
    """Pictures in [-1, 1] and a label for each: a digit's value, or the group of an emoji.

    data: "digits" (1541, 1, 8, 8) or "emoji" (1288, 3, 8, 8), which are Twemoji's.

    >>> pictures("digits")[0].shape
    torch.Size([1541, 1, 8, 8])
    """
    if choose("data", data, {"digits": True, "emoji": False}):
        return digits(8, "train")
    emoji = Emoji(32, studios=["Twemoji"])
    places = range(len(emoji))
    groups = [emoji.example(index)[0].group for index in places]
    labels = torch.tensor([sorted(set(groups)).index(group) for group in groups])
    return F.avg_pool2d(emoji.batch(places)[0], 4), labels


HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2


def encode(images: Tensor) -> Tensor:
    """The simplest autoencoder: each 2 x 2 block's brightness and three differences (Haar 1910).

    Pictures (N, C, H, W) in [-1, 1] -> latents (N, 4 C, H/2, W/2), neither centred nor scaled.

    >>> encode(torch.ones(1, 1, 2, 2)).flatten().tolist()
    [2.0, 0.0, 0.0, 0.0]
    """
    blocks = F.pixel_unshuffle((images + 1) / 2, 2).unflatten(1, (-1, 4))  # (N, C, 4, h, w)
    return torch.einsum("ij, ncjhw -> ncihw", HAAR, blocks).flatten(1, 2)


def decode(z: Tensor) -> Tensor:
    """Pictures (N, C, H, W) from latents (N, 4 C, H/2, W/2): the inverse of `encode`.

    >>> decode(torch.tensor([2.0, 0, 0, 0]).view(1, 4, 1, 1)).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    blocks = torch.einsum("ij, ncjhw -> ncihw", HAAR, z.unflatten(1, (-1, 4)))
    return 2 * F.pixel_shuffle(blocks.flatten(1, 2), 2) - 1
