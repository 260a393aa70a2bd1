"""A small classifier whose last hidden layer provides the features for Fréchet distances."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import check_tensor
from course_lib.models.layers import Downsample, ResnetBlock, conv, keeps_kwargs, norm

LEVELS = 9  # of each colour in a histogram


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

    def embedding(self, images: Tensor) -> Tensor:
        """(B, dim), of either sign."""
        shape = "B", self.in_channels, self.size, self.size
        check_tensor("images", images, shape, self.conv_in.weight, values=(-1, 1))
        x = self.patches(images)  # (B, C, h, w)
        line = torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        coordinates = torch.stack(torch.meshgrid(line, line, indexing="ij"))  # (2, h, w)
        x = torch.cat([x, coordinates.expand(len(x), -1, -1, -1)], dim=1)
        x = self.blocks(self.conv_in(x))
        x = F.relu(self.conv_out(F.silu(self.conv_norm_out(x)))).mean((2, 3))  # (B, 2 * dim)
        return self.proj(x)

    def features(self, images: Tensor) -> Tensor:
        return F.relu(self.embedding(images))  # (B, dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class ContentAndStyle(Classifier):
    """What a picture shows and who drew it: (B, 3, size, size) -> logits (B, contents + styles).

    With a thousand contents and three pictures of each, a linear head learns slowly. Here the logit
    of a content is `scale` times the cosine of the angle between the embedding and the content's
    own direction (Wang et al. 2017, NormFace, eq. 5). The style is read from the colours alone.

    >>> ContentAndStyle(5, 2, size=16, channels=(8, 8))(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 7])
    """

    @keeps_kwargs
    def __init__(
        self,
        contents: int,
        styles: int,
        size: int = 64,
        channels: Sequence[int] = (48, 96, 144),
        dim: int = 256,
        scale: float = 30.0,
    ):
        super().__init__(contents, size=size, channels=channels, dim=dim)
        self.scale = scale
        self.head = nn.Linear(dim, contents, bias=False)
        self.style = nn.Linear(LEVELS**3, styles)

    def forward(self, images: Tensor) -> Tensor:
        embedding = F.normalize(self.embedding(images), dim=1)  # (B, dim)
        contents = self.scale * embedding @ F.normalize(self.head.weight, dim=1).T
        return torch.cat([contents, self.style(colour_histogram(images))], dim=1)


def colour_histogram(images: Tensor) -> Tensor:
    """Square roots of how much of each colour there is: (B, 3, H, W) in [-1, 1] -> (B, 9 * 9 * 9).

    Each of red, green and blue has nine levels, and a pixel counts for the two nearest of each by
    how near they are, so that the histogram has a gradient. Every other row and column is read.

    >>> colour_histogram(torch.ones(1, 3, 4, 4)).max()  # white: all in the last bin
    tensor(1.)
    """
    pixels = (LEVELS - 1) * (images[:, :, ::2, ::2].flatten(2) + 1) / 2  # (B, 3, N) in [0, 8]
    levels = torch.arange(LEVELS, device=images.device).view(LEVELS, 1)
    near = (1 - (pixels.unsqueeze(2) - levels).abs()).relu()  # (B, 3, 9, N)
    counts = torch.einsum("bip,bjp,bkp->bijk", *near.unbind(1))
    return (counts.flatten(1) / pixels.shape[2]).clamp(min=1e-8).sqrt()
