"""A small classifier, whose last layer but one serves as features for Fréchet distances."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from .layers import Down, ResBlock, check_image, check_range, conv, keeps_kwargs, norm


class Classifier(nn.Module):
    """Yes-or-no questions about images: (B, in_channels, size, size) -> logits (B, questions).

    `features` is what they are answered from: (B, dim), never negative. Two planes of coordinates
    enter with the pixels (Liu et al. 2018), so that averaging over all places forgets none.
    """

    @keeps_kwargs
    def __init__(self, questions, in_channels=3, size=64, patch=4, channels=(48, 64), dim=64):
        super().__init__()
        self.in_channels, self.size = in_channels, size
        self.patch = nn.PixelUnshuffle(patch)
        self.enter = conv(in_channels * patch**2 + 2, channels[0])
        self.stages = nn.Sequential(ResBlock(channels[0], channels[0]))
        for narrow, wide in pairwise(channels):
            self.stages += nn.Sequential(Down(narrow), ResBlock(narrow, wide), ResBlock(wide, wide))
        self.norm = norm(channels[-1])
        self.gather = nn.Conv2d(channels[-1], 2 * dim, 1)
        self.shrink = nn.Linear(2 * dim, dim)
        self.answer = nn.Linear(dim, questions)

    def features(self, images):
        check_image(images, self.in_channels, 1, self)
        check_range(images)
        if images.shape[2:] != (self.size, self.size):
            size = f"{images.shape[2]}×{images.shape[3]}"
            raise ValueError(f"images are {size}, but this Classifier was built for {self.size}")
        x = self.patch(images)  # (B, C, h, w)
        at = torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        where = torch.stack(torch.meshgrid(at, at, indexing="ij")).expand(len(x), -1, -1, -1)
        x = self.stages(self.enter(torch.cat([x, where], 1)))
        x = F.relu(self.gather(F.silu(self.norm(x)))).mean((2, 3))  # (B, 2 * dim)
        return F.relu(self.shrink(x))  # (B, dim)

    def forward(self, images):
        return self.answer(self.features(images))
