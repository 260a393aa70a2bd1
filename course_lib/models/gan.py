"""Generative adversarial networks (Goodfellow et al. 2014): a generator and its discriminator.

Both are called as `network(x, *labels)`: with labels (B,) if they were built for `classes`.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from course_lib.common.checks import WHOLE, check_tensor
from course_lib.models.layers import Downsample, ResnetBlock, Upsample, conv, keeps_kwargs, norm


class Generator(nn.Module):
    """Noise z (B, latent) -> images (B, out_channels, size, size) in [-1, 1], in one evaluation.

    z is mapped to a small picture, which grows by a factor of 2 between residual blocks. `channels`
    are the blocks' widths, from the lowest resolution up. Every block also reads z and the label,
    as a U-Net's blocks read the time (Brock et al. 2019; Karras et al. 2019, section 2).

    >>> generator = Generator(out_channels=1, size=16, channels=(16, 8, 8), latent=4, classes=10)
    >>> generator(torch.zeros(2, 4), torch.tensor([3, 7])).shape
    torch.Size([2, 1, 16, 16])
    """

    @keeps_kwargs
    def __init__(
        self,
        out_channels: int = 3,
        size: int = 32,
        channels: Sequence[int] = (128, 64, 32, 32),
        latent: int = 64,
        classes: int | None = None,
    ):
        super().__init__()
        self.latent, self.classes = latent, classes
        self.smallest = channels[0], size // 2 ** (len(channels) - 1)  # its channels, its side
        self.linear_in = nn.Linear(latent, self.smallest[0] * self.smallest[1] ** 2)
        self.style = nn.Linear(latent, 2 * latent)
        self.class_embedding = nn.Embedding(classes, 2 * latent) if classes else None
        self.blocks = nn.ModuleList(
            ResnetBlock(below, width, time_dim=2 * latent, film=True)
            for below, width in pairwise((channels[0], *channels))
        )
        self.upsamplers = nn.ModuleList(Upsample(width) for width in channels[:-1])
        self.norm_out, self.conv_out = norm(channels[-1]), conv(channels[-1], out_channels)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        check_tensor("z", z, ("B", self.latent), self.style.weight)
        style = self.style(z)  # (B, 2 * latent)
        if self.class_embedding is not None:
            check_tensor("labels", labels, z.shape[:1], z, WHOLE, (0, self.classes - 1))
            style = style + self.class_embedding(labels)
        channels, side = self.smallest
        h = self.linear_in(z).view(-1, channels, side, side)
        for block, upsample in zip(self.blocks, [*self.upsamplers, nn.Identity()], strict=True):
            h = upsample(block(h, style))
        return self.conv_out(F.silu(self.norm_out(h))).tanh()


class Discriminator(nn.Module):
    """Images (B, in_channels, size, size) -> logits (B,), above 0 for those it takes for real.

    `channels` are the widths from the highest resolution down. With `classes` the logit also has
    the term embedding(label)·features(image): the projection discriminator (Miyato & Koyama 2018,
    eq. 4). spectral: whether every layer is divided by its spectral norm (Miyato et al. 2018).

    >>> discriminator = Discriminator(in_channels=1, size=16, channels=(8, 8, 16), classes=10)
    >>> discriminator(torch.zeros(2, 1, 16, 16), torch.tensor([3, 7])).shape
    torch.Size([2])
    """

    @keeps_kwargs
    def __init__(
        self,
        in_channels: int = 3,
        size: int = 32,
        channels: Sequence[int] = (32, 64, 128, 128),
        dim: int = 128,
        classes: int | None = None,
        spectral: bool = False,
    ):
        super().__init__()
        self.in_channels, self.size, self.classes = in_channels, size, classes
        self.conv_in = conv(in_channels, channels[0])
        self.convs = nn.ModuleList(conv(narrow, wide) for narrow, wide in pairwise(channels))
        self.downsamplers = nn.ModuleList(Downsample(width) for width in channels[1:])
        side = size // 2 ** (len(channels) - 1)
        self.proj = nn.Linear(channels[-1] * side**2, dim)
        self.head = nn.Linear(dim, 1)
        self.class_embedding = nn.Embedding(classes, dim) if classes else None
        if spectral:
            normalize_spectrally(self)

    def features(self, images: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv_in(images), 0.2)
        for widen, downsample in zip(self.convs, self.downsamplers, strict=True):
            h = F.leaky_relu(downsample(F.leaky_relu(widen(h), 0.2)), 0.2)
        return F.leaky_relu(self.proj(h.flatten(1)), 0.2)  # (B, dim)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        shape = "B", self.in_channels, self.size, self.size
        check_tensor("images", images, shape, self.head.bias)
        features = self.features(images)
        logits = self.head(features).squeeze(1)  # (B,)
        if self.class_embedding is None:
            return logits
        check_tensor("labels", labels, images.shape[:1], images, WHOLE, (0, self.classes - 1))
        return logits + torch.einsum("bd,bd->b", self.class_embedding(labels), features)


class GAN(nn.Module):
    """A generator and its discriminator in one module, so that `train` trains both.

    Called like the generator, with noise z (B, latent): `images = gan(z, *labels)`.

    >>> gan = GAN(nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), latent=4)
    >>> gan(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent: int):
        super().__init__()
        self.generator, self.discriminator, self.latent = generator, discriminator, latent

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        return self.generator(z, *labels)


def normalize_spectrally(network: nn.Module) -> nn.Module:
    """The network, with the weight of each layer divided by its largest singular value.

    The value is estimated by one power iteration for each forward pass in training. A kernel counts
    as a matrix (out, in · height · width) (Miyato et al. 2018, algorithm 1).

    >>> layer = normalize_spectrally(nn.Linear(1, 3))
    >>> round(layer.weight.norm().item(), 4)  # a single column: its norm is the singular value
    1.0
    """
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            spectral_norm(layer)
    return network
