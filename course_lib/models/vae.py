"""Variational autoencoders: VAE, with a flat latent, and AutoencoderKL, with a spatial latent."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import check_tensor, require
from course_lib.models.attention import ImageAttention
from course_lib.models.layers import Downsample, ResnetBlock, Upsample, conv, keeps_kwargs, norm


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) ‖ N(0, 1)) of each number, in nats (Kingma & Welling 2014, app. B).

    >>> gaussian_kl(torch.tensor([0.0, 2.0]), torch.zeros(2))
    tensor([0., 2.])
    """
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def reparameterize(mu: Tensor, logvar: Tensor) -> Tensor:
    """A sample from N(mu, exp(logvar)) that gradients flow through (Kingma & Welling 2014, §2.4).

    >>> reparameterize(torch.zeros(2, 3), torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """
    check_tensor("mu", mu, logvar.shape, like=logvar)
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu)


class VAE(nn.Module):
    """The variational autoencoder with a flat latent (Kingma & Welling 2014).

    Images (B, in_channels, size, size) in [-1, 1] <-> latents (B, latent); size a multiple of 8.

    >>> vae = VAE(size=16, channels=4, latent=10)
    >>> reconstruction, mu, logvar = vae(torch.zeros(2, 3, 16, 16))
    >>> reconstruction.shape, mu.shape
    (torch.Size([2, 3, 16, 16]), torch.Size([2, 10]))
    """

    @keeps_kwargs
    def __init__(self, in_channels: int = 3, size: int = 32, channels: int = 32, latent: int = 256):
        super().__init__()
        require(size % 8 == 0, "size", "a multiple of 8", size)
        self.in_channels, self.size, self.latent = in_channels, size, latent
        a, b, c = channels, 2 * channels, 4 * channels
        small = (c, size // 8, size // 8)
        flat = c * (size // 8) ** 2
        self.encoder = nn.Sequential(
            *(conv(in_channels, a), nn.SiLU(), Downsample(a)),  # (B, a, size/2, size/2)
            *(conv(a, b), norm(b), nn.SiLU(), Downsample(b)),  # (B, b, size/4, size/4)
            *(conv(b, c), norm(c), nn.SiLU(), Downsample(c)),  # (B, c, size/8, size/8)
            *(nn.Flatten(), nn.Linear(flat, 2 * latent)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(latent, flat), nn.Unflatten(1, small)),
            *(Upsample(c), conv(c, b), norm(b), nn.SiLU()),
            *(Upsample(b), conv(b, a), norm(a), nn.SiLU()),
            *(Upsample(a), conv(a, a), nn.SiLU(), conv(a, in_channels)),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x): two of (B, latent)."""
        shape = "B", self.in_channels, self.size, self.size
        check_tensor("images", x, shape, self.decoder[0].weight, values=(-1, 1))
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar.clamp(-30, 20)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return reparameterize(mu, logvar)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, in_channels, size, size) of latents (B, latent)."""
        check_tensor("latents", z, ("B", self.latent), self.decoder[0].weight)
        return self.decoder(z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The reconstruction from a sample of q(z | x), and q's parameters: (x̂, mu, logvar)."""
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar

    def loss(self, x: Tensor, kl_weight: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative evidence lower bound per image, in nats up to a constant, and its two terms.

        The decoder's pixels are Gaussians of variance 1, so kl_weight is β-VAE's β (Higgins et al.
        2017); kl_weight = v corresponds to a variance of v.
        """
        reconstruction, mu, logvar = self(x)
        error = 0.5 * (reconstruction - x).square().sum() / len(x)
        kl = gaussian_kl(mu, logvar).sum() / len(x)
        return error + kl_weight * kl, {"error": error.detach(), "kl": kl.detach()}


# ---- the spatial autoencoder's parts -------------------------------------------------------------


class Patchify(nn.Conv2d):
    """Maps each square patch to one feature vector: a convolution whose stride is its kernel size.

    It is computed as a matrix product, because on a CPU with AMX units PyTorch's own bf16
    convolution of stride 8 gave wrong numbers (tests/benchmarks/LOG.md).
    """

    def __init__(self, in_channels: int, out_channels: int, patch_size: int):
        super().__init__(in_channels, out_channels, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.flatten(1)[..., None, None]  # (out, in · patch_size², 1, 1)
        return F.conv2d(F.pixel_unshuffle(x, self.stride[0]), weight, self.bias)


class Unpatchify(nn.ConvTranspose2d):
    """Maps each feature vector to a square patch: a transposed convolution, as a matrix product."""

    def __init__(self, in_channels: int, out_channels: int, patch_size: int):
        super().__init__(in_channels, out_channels, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        size = self.stride[0]
        weight = self.weight.flatten(1).mT[..., None, None]  # (out · patch_size², in, 1, 1)
        return F.pixel_shuffle(F.conv2d(x, weight, self.bias.repeat_interleave(size**2)), size)


def from_pixels(in_channels: int, width: int, patch_size: int, stem_channels: int) -> nn.Module:
    """Pixels to features: a convolution, or for patches a thin stem and then Patchify."""
    if patch_size == 1:
        return conv(in_channels, width)
    patches = Patchify(stem_channels, width, patch_size)
    return nn.Sequential(conv(in_channels, stem_channels), nn.SiLU(), patches)


def to_pixels(width: int, out_channels: int, patch_size: int, stem_channels: int) -> nn.Module:
    """Features to pixels, the mirror image. The non-linearity at full size makes edges sharp."""
    if patch_size == 1:
        return conv(width, out_channels)
    patches = Unpatchify(width, stem_channels, patch_size)
    return nn.Sequential(patches, nn.SiLU(), conv(stem_channels, out_channels))


class MidBlock(nn.Module):
    """The lowest resolution: residual block, optional attention, residual block."""

    def __init__(self, channels: int, attention: bool):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, eps=1e-6) for _ in range(2))
        self.attentions = nn.Sequential(*([ImageAttention(channels)] if attention else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions(self.resnets[0](x)))


def named(**layers: nn.Module) -> nn.Sequential:
    """An nn.Sequential whose layers have these names."""
    return nn.Sequential(OrderedDict(layers))


def resnets(in_channels: int, channels: int, layers: int) -> nn.Sequential:
    widths = [in_channels] + [channels] * (layers - 1)
    return nn.Sequential(*(ResnetBlock(width, channels, eps=1e-6) for width in widths))


def encoder(
    conv_in: nn.Module, out_channels: int, widths: Sequence[int], layers: int, attention: bool
) -> nn.Sequential:
    """From pixels to the latent: at each width, residual blocks and then downsampling."""
    blocks = [
        named(resnets=resnets(above, width, layers), downsamplers=nn.Sequential())
        for above, width in pairwise([widths[0], *widths])
    ]
    for block, width in zip(blocks[:-1], widths, strict=False):
        block.downsamplers.append(Downsample(width, even=False))
    return named(
        conv_in=conv_in,  # (B, widths[0], H, W)
        down_blocks=nn.Sequential(*blocks),  # (B, widths[-1], h, w)
        mid_block=MidBlock(widths[-1], attention),
        conv_norm_out=norm(widths[-1], eps=1e-6),
        silu=nn.SiLU(),
        conv_out=conv(widths[-1], out_channels),  # (B, out_channels, h, w)
    )


def decoder(
    in_channels: int, conv_out: nn.Module, widths: Sequence[int], layers: int, attention: bool
) -> nn.Sequential:
    """From the latent back to pixels, mirroring the encoder; `widths` in the encoder's order."""
    widths = widths[::-1]
    blocks = [
        named(resnets=resnets(below, width, layers), upsamplers=nn.Sequential())
        for below, width in pairwise([widths[0], *widths])
    ]
    for block, width in zip(blocks[:-1], widths, strict=False):
        block.upsamplers.append(Upsample(width))
    return named(
        conv_in=conv(in_channels, widths[0]),  # (B, widths[0], h, w)
        mid_block=MidBlock(widths[0], attention),
        up_blocks=nn.Sequential(*blocks),  # (B, widths[-1], H, W)
        conv_norm_out=norm(widths[-1], eps=1e-6),
        silu=nn.SiLU(),
        conv_out=conv_out,
    )


class AutoencoderKL(nn.Module):
    """The spatial autoencoder of latent diffusion (Rombach et al. 2022, §3.1).

    Images (B, in_channels, H, W) in [-1, 1] <-> latents (B, latent_channels, H/factor, W/factor),
    factor = patch_size · 2**(len(multipliers) - 1). With patch_size > 1, each square patch becomes
    one feature vector and vice versa (space to depth), and only `stem_channels` channels exist at
    full size, which saves a small model nearly all the work there. `encode` shifts and scales each
    channel of the latents, so that it has mean 0 and variance 1. Its parts are named as in
    diffusers' AutoencoderKL.

    >>> vae = AutoencoderKL(latent_channels=4, channels=8, multipliers=(1, 2))
    >>> z = vae.encode(torch.zeros(1, 3, 16, 16))
    >>> z.shape, vae.decode(z).shape
    (torch.Size([1, 4, 8, 8]), torch.Size([1, 3, 16, 16]))
    """

    @keeps_kwargs
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 4,
        channels: int = 64,
        multipliers: Sequence[float] = (1, 2),
        layers_per_block: int = 1,
        decoder_layers_per_block: int | None = None,  # as in diffusers, one more than the encoder's
        patch_size: int = 1,
        stem_channels: int = 16,
        attention: bool = True,
        scaling_factor: float = 1.0,
    ):
        super().__init__()
        self.in_channels, self.latent_channels = in_channels, latent_channels
        self.factor = patch_size * 2 ** (len(multipliers) - 1)
        widths = [round(channels * m) for m in multipliers]
        moments, layers = 2 * latent_channels, decoder_layers_per_block or layers_per_block + 1
        conv_in = from_pixels(in_channels, widths[0], patch_size, stem_channels)
        conv_out = to_pixels(widths[0], in_channels, patch_size, stem_channels)
        self.encoder = encoder(conv_in, moments, widths, layers_per_block, attention)
        self.quant_conv = nn.Conv2d(moments, moments, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.decoder = decoder(latent_channels, conv_out, widths, layers, attention)
        self.register_buffer("shift_factor", torch.zeros(latent_channels))
        self.register_buffer("scaling_factor", torch.full((latent_channels,), scaling_factor))

    def encode_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), unscaled: two of (B, latent_channels, h, w)."""
        shape = "B", self.in_channels, f"{self.factor}h", f"{self.factor}w"
        check_tensor("images", x, shape, self.quant_conv.weight, values=(-1, 1))
        mu, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mu, logvar.clamp(-30, 20)

    def encode(self, x: Tensor, sample: bool = False) -> Tensor:
        """Scaled latents (B, latent_channels, h, w): the mean of q(z | x), or a sample from it."""
        mu, logvar = self.encode_moments(x)
        z = reparameterize(mu, logvar) if sample else mu
        return (z - self.shift_factor.view(-1, 1, 1)) * self.scaling_factor.view(-1, 1, 1)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) from scaled latents; about in [-1, 1], not clamped."""
        shape = "B", self.latent_channels, "h", "w"
        check_tensor("latents", z, shape, self.post_quant_conv.weight)
        scale, shift = self.scaling_factor.view(-1, 1, 1), self.shift_factor.view(-1, 1, 1)
        return self.reconstruct(z / scale + shift)

    def reconstruct(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))  # unscaled z

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of x from the mean of its latent."""
        return self.decode(self.encode(x))

    def loss(
        self,
        x: Tensor,
        kl_weight: float = 1e-4,
        noise: float = 0.0,
        transform: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error per pixel + kl_weight · mean KL per latent number, and the two terms.

        noise: adds noise to the latents before they are decoded. Its standard deviation is drawn
        for each image, from 0 to `noise` times that of the latents. This makes the decoder robust
        to a denoiser's small errors, and the encoder gives large values to important features
        (Yang et al. 2025, l-DeTok).
        transform: of latents and of pictures alike, such as a turn or a halving. The decoder has to
        make the transformed picture from the transformed latent (Kouzelis et al. 2025, EQ-VAE).
        """
        mu, logvar = self.encode_moments(x)
        z, x = transform(reparameterize(mu, logvar)), transform(x)  # (B, C, h, w)
        if noise:
            level = noise * torch.rand(len(z), 1, 1, 1, device=z.device).to(z.dtype)
            z = z + level * z.std((0, 2, 3), keepdim=True) * torch.randn_like(z)
        error = F.mse_loss(self.reconstruct(z), x)
        kl = gaussian_kl(mu, logvar).mean()
        return error + kl_weight * kl, {"error": error.detach(), "kl": kl.detach()}

    @torch.no_grad()
    def fit_scaling(self, images: Tensor | Iterable[Tensor]) -> None:
        """Sets shift and scale so that samples of q(z | x) have mean 0, variance 1 per channel.

        images: one batch (B, C, H, W) or an iterable of batches. The variance is that of the means
        plus q's own, so that a channel without information isn't amplified.
        """
        batches = [images] if isinstance(images, Tensor) else images
        moments = [torch.stack(self.encode_moments(x)).cpu().double() for x in batches]
        mu, logvar = torch.cat(moments, dim=1)  # (N, C, h, w) each
        require(mu[:, 0].numel() > 1, "latents", "several numbers per channel, for a spread", mu)
        self.shift_factor.copy_(mu.mean((0, 2, 3)))
        self.scaling_factor.copy_((mu.var((0, 2, 3)) + logvar.exp().mean((0, 2, 3))).rsqrt())


class Pixels(nn.Module):
    """An autoencoder that changes nothing, so latent diffusion with it is diffusion of pixels.

    >>> Pixels().encode(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 3, 8, 8])
    """

    factor, latent_channels = 1, 3

    def __init__(self):
        super().__init__()
        self.register_buffer("scaling_factor", torch.ones(3))

    def encode(self, x: Tensor, sample: bool = False) -> Tensor:
        check_tensor("images", x, ("B", 3, "H", "W"), self.scaling_factor, values=(-1, 1))
        return x

    def decode(self, z: Tensor) -> Tensor:
        check_tensor("latents", z, ("B", 3, "H", "W"), self.scaling_factor)
        return z


# Stable Diffusion 1.5's autoencoder: 83,653,863 parameters
SD15_VAE = dict(
    channels=128,
    multipliers=(1, 2, 4, 4),
    layers_per_block=2,
    latent_channels=4,
    scaling_factor=0.18215,
)
