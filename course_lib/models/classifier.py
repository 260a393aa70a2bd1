"""A small classifier whose last hidden layer provides the features for Fréchet distances."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import check_tensor
from course_lib.models.layers import Downsample, ResnetBlock, conv, keeps_kwargs, norm


class Classifier(nn.Module):
    """Yes-or-no questions about images: (B, in_channels, size, size) -> logits (B, questions).

    The logits are computed from `features`: (B, dim), never negative. Two coordinate channels are
    appended to the patches (CoordConv, Liu et al. 2018), so that the mean over all positions still
    contains where things are.

    >>> Classifier(3, size=16, channels=(8, 8))(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 3])
    """

    @keeps_kwargs
    def __init__(
        self,
        questions: int,
        in_channels: int = 3,
        size: int = 64,
        patch_size: int = 4,
        channels: Sequence[int] = (48, 64),
        dim: int = 64,
    ):
        super().__init__()
        self.in_channels, self.size = in_channels, size
        self.patches = nn.PixelUnshuffle(patch_size)
        self.conv_in = conv(in_channels * patch_size**2 + 2, channels[0])
        self.blocks = nn.Sequential(ResnetBlock(channels[0], channels[0]))
        for narrow, wide in pairwise(channels):
            self.blocks += nn.Sequential(
                Downsample(narrow), ResnetBlock(narrow, wide), ResnetBlock(wide, wide)
            )
        self.conv_norm_out = norm(channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], 2 * dim, 1)
        self.proj = nn.Linear(2 * dim, dim)
        self.head = nn.Linear(dim, questions)

    def features(self, images: Tensor) -> Tensor:
        shape = "B", self.in_channels, self.size, self.size
        check_tensor("images", images, shape, self.conv_in.weight, values=(-1, 1))
        x = self.patches(images)  # (B, C, h, w)
        line = torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        coordinates = torch.stack(torch.meshgrid(line, line, indexing="ij"))  # (2, h, w)
        x = torch.cat([x, coordinates.expand(len(x), -1, -1, -1)], dim=1)
        x = self.blocks(self.conv_in(x))
        x = F.relu(self.conv_out(F.silu(self.conv_norm_out(x)))).mean((2, 3))  # (B, 2 * dim)
        return F.relu(self.proj(x))  # (B, dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
