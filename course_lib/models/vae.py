"""Variational autoencoders: a flat latent to learn from, a spatial latent to diffuse in."""

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.common.checks import alike

from .attention import ImageAttention
from .layers import (
    Down,
    ResBlock,
    Up,
    check_fits,
    check_image,
    check_range,
    conv,
    keeps_kwargs,
    norm,
)


def gaussian_kl(mu, logvar):
    """KL(N(mu, exp(logvar)) ‖ N(0, 1)) of each number, in nats (Kingma & Welling 2014, app. B)."""
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def reparameterize(mu, logvar):
    """A draw from N(mu, exp(logvar)) through which gradients flow (Kingma & Welling 2014, §2.4)."""
    alike("mu", mu, "logvar", logvar)
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu)


def encoder(first, out_channels, widths, blocks, attention):
    """The first layers, then at each width `blocks` residual blocks and a halving; middle; out."""
    layers, width = [*first], widths[0]
    for level, wider in enumerate(widths):
        for _ in range(blocks):
            layers.append(ResBlock(width, wider, eps=1e-6))
            width = wider
        if level < len(widths) - 1:
            layers.append(Down(width, even=False))
    layers += [*middle(width, attention), norm(width, eps=1e-6), nn.SiLU()]
    return nn.Sequential(*layers, conv(width, out_channels))


def decoder(in_channels, last, widths, blocks, attention):
    """The encoder's mirror: in, the middle, then residual blocks and doublings; the last layers."""
    width = widths[-1]
    layers = [conv(in_channels, width), *middle(width, attention)]
    for level, narrower in reversed(list(enumerate(widths))):
        for _ in range(blocks):
            layers.append(ResBlock(width, narrower, eps=1e-6))
            width = narrower
        if level > 0:
            layers.append(Up(width))
    return nn.Sequential(*layers, norm(width, eps=1e-6), nn.SiLU(), *last)


class Patches(nn.Conv2d):
    """Squares of pixels, a column of features each: a convolution whose kernel is its stride.

    It is written as the matrix product that it is: on a CPU with AMX units PyTorch's own bf16
    convolution of stride 8 gave wrong numbers (tests/benchmarks/LOG.md).
    """

    def __init__(self, in_channels, out_channels, patch):
        super().__init__(in_channels, out_channels, patch, stride=patch)

    def forward(self, x):
        weight = self.weight.flatten(1)[..., None, None]  # (out, in · patch², 1, 1)
        return F.conv2d(F.pixel_unshuffle(x, self.stride[0]), weight, self.bias)


class Unpatches(nn.ConvTranspose2d):
    """Columns of features, a square of pixels each."""

    def __init__(self, in_channels, out_channels, patch):
        super().__init__(in_channels, out_channels, patch, stride=patch)

    def forward(self, x):
        patch = self.stride[0]
        weight = self.weight.flatten(1).mT[..., None, None]  # (out · patch², in, 1, 1)
        return F.pixel_shuffle(F.conv2d(x, weight, self.bias.repeat_interleave(patch**2)), patch)


def from_pixels(in_channels, width, patch, planes):
    """Pixels to features: a convolution, or a few planes whose patches become one column each."""
    if patch == 1:
        return [conv(in_channels, width)]
    return [conv(in_channels, planes), nn.SiLU(), Patches(planes, width, patch)]


def to_pixels(width, out_channels, patch, planes):
    """Features to pixels, mirrored. The non-linearity at full size is what makes edges sharp."""
    if patch == 1:
        return [conv(width, out_channels)]
    return [Unpatches(width, planes, patch), nn.SiLU(), conv(planes, out_channels)]


def middle(width, attention):
    between = [ImageAttention(width)] if attention else []
    return [ResBlock(width, width, eps=1e-6), *between, ResBlock(width, width, eps=1e-6)]


class VAE(nn.Module):
    """The variational autoencoder with a flat latent (Kingma & Welling 2014).

    Images (B, in_channels, size, size) in [-1, 1] <-> latents (B, latent); size a multiple of 8.
    """

    @keeps_kwargs
    def __init__(self, in_channels=3, size=32, channels=32, latent=256):
        super().__init__()
        self.in_channels, self.size, self.latent = in_channels, size, latent
        a, b, c = channels, 2 * channels, 4 * channels
        small = (c, size // 8, size // 8)
        flat = c * (size // 8) ** 2
        self.encoder = nn.Sequential(
            *(conv(in_channels, a), nn.SiLU(), Down(a)),  # (B, a, size/2, size/2)
            *(conv(a, b), norm(b), nn.SiLU(), Down(b)),  # (B, b, size/4, size/4)
            *(conv(b, c), norm(c), nn.SiLU(), Down(c)),  # (B, c, size/8, size/8)
            *(nn.Flatten(), nn.Linear(flat, 2 * latent)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(latent, flat), nn.Unflatten(1, small)),
            *(Up(c), conv(c, b), norm(b), nn.SiLU()),
            *(Up(b), conv(b, a), norm(a), nn.SiLU()),
            *(Up(a), conv(a, a), nn.SiLU(), conv(a, in_channels)),
        )

    def encode(self, x):
        """Mean and log-variance of q(z | x): two of (B, latent)."""
        check_image(x, self.in_channels, 8, self)
        check_range(x)
        if x.shape[2:] != (self.size, self.size):
            size = f"{x.shape[2]}×{x.shape[3]}"
            raise ValueError(f"images are {size}, but this VAE was built for size={self.size}")
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar.clamp(-30, 20)

    def reparameterize(self, mu, logvar):
        return reparameterize(mu, logvar)

    def decode(self, z):
        """Images (B, in_channels, size, size) of latents (B, latent)."""
        check_fits("latents", z, self)
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"latents are {tuple(z.shape)}, but this VAE takes (B, {self.latent})")
        return self.decoder(z)

    def forward(self, x):
        """Reconstruction through a draw from q(z | x), and that distribution: (x̂, mu, logvar)."""
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar

    def loss(self, x, kl_weight=1.0):
        """Negative evidence lower bound an image, in nats up to a constant, and its two terms.

        The decoder's pixels are Gaussians of variance 1, so kl_weight is β-VAE's β (Higgins et al.
        2017); a variance of v is kl_weight = v.
        """
        reconstruction, mu, logvar = self(x)
        error = 0.5 * (reconstruction - x).square().sum() / len(x)
        kl = gaussian_kl(mu, logvar).sum() / len(x)
        return error + kl_weight * kl, {"error": error.detach(), "kl": kl.detach()}


class AutoencoderKL(nn.Module):
    """The spatial autoencoder of latent diffusion (Rombach et al. 2022, §3.1).

    Images (B, in_channels, H, W) in [-1, 1] <-> latents (B, latent_channels, H/factor, W/factor),
    factor = patch · 2**(len(multipliers) - 1). With patch > 1 whole squares of pixels become one
    column of features at once, and back (space to depth), with only `planes` channels at full
    size: that spares a small model nearly all work there. Latents leave shifted and scaled, one
    shift and scale per channel, so that they have mean 0 and variance 1.
    """

    @keeps_kwargs
    def __init__(
        self,
        in_channels=3,
        latent_channels=4,
        channels=64,
        multipliers=(1, 2),
        blocks=1,
        decoder_blocks=None,  # as in Stable Diffusion, one more than the encoder's
        patch=1,
        planes=16,
        attention=True,
        scaling_factor=1.0,
    ):
        super().__init__()
        self.in_channels, self.latent_channels = in_channels, latent_channels
        self.factor = patch * 2 ** (len(multipliers) - 1)
        widths = [round(channels * m) for m in multipliers]
        first = from_pixels(in_channels, widths[0], patch, planes)
        last = to_pixels(widths[0], in_channels, patch, planes)
        self.encoder = encoder(first, 2 * latent_channels, widths, blocks, attention)
        self.to_moments = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.from_latent = nn.Conv2d(latent_channels, latent_channels, 1)
        self.decoder = decoder(
            latent_channels, last, widths, decoder_blocks or blocks + 1, attention
        )
        self.register_buffer("shift", torch.zeros(latent_channels))
        self.register_buffer("scaling_factor", torch.full((latent_channels,), scaling_factor))

    def encode_moments(self, x):
        """Mean and log-variance of q(z | x), unscaled: two of (B, latent_channels, h, w)."""
        check_image(x, self.in_channels, self.factor, self)
        check_range(x)
        mu, logvar = self.to_moments(self.encoder(x)).chunk(2, dim=1)
        return mu, logvar.clamp(-30, 20)

    def encode(self, x, sample=False):
        """Scaled latents (B, latent_channels, h, w): the mean of q(z | x), or a draw from it."""
        mu, logvar = self.encode_moments(x)
        z = reparameterize(mu, logvar) if sample else mu
        return (z - self.shift.view(-1, 1, 1)) * self.scaling_factor.view(-1, 1, 1)

    def decode(self, z):
        """Images (B, in_channels, H, W) of scaled latents; about [-1, 1], not clamped."""
        check_image(z, self.latent_channels, 1, self, "latents")
        return self.reconstruct(z / self.scaling_factor.view(-1, 1, 1) + self.shift.view(-1, 1, 1))

    def reconstruct(self, z):
        return self.decoder(self.from_latent(z))  # unscaled z

    def forward(self, x):
        """Reconstruction of x through the mean of its latent."""
        return self.decode(self.encode(x))

    def loss(self, x, kl_weight=1e-4, noise=0.0):
        """Squared error per pixel value + kl_weight · KL per latent number, and the two apart.

        noise: further noise in what is decoded, of a standard deviation drawn for each picture
        from 0 to `noise`, in units of the latents' own. The decoder then forgives a U-Net its
        small errors, and the encoder says what matters loudly (Yang et al. 2025, l-DeTok).
        """
        mu, logvar = self.encode_moments(x)
        z = reparameterize(mu, logvar)  # (B, C, h, w)
        if noise:
            more_than_one(z)
            share = noise * torch.rand(len(z), 1, 1, 1, device=z.device).to(z.dtype)
            z = z + share * z.std((0, 2, 3), keepdim=True) * torch.randn_like(z)
        error = F.mse_loss(self.reconstruct(z), x)
        kl = gaussian_kl(mu, logvar).mean()
        return error + kl_weight * kl, {"error": error.detach(), "kl": kl.detach()}

    @torch.no_grad()
    def fit_scaling(self, images):
        """Sets shift and scale so that draws from q(z | x) have mean 0 and variance 1 a channel.

        images: one batch (B, C, H, W) or an iterable of batches. The variance is that of the means
        plus q's own: a channel that says nothing keeps a mean near 0 instead of being blown up.
        """
        batches = [images] if isinstance(images, torch.Tensor) else images
        moments = [torch.stack(self.encode_moments(x)).cpu().double() for x in batches]
        mu, logvar = torch.cat(moments, dim=1)  # (N, C, h, w) each
        more_than_one(mu)
        self.shift.copy_(mu.mean((0, 2, 3)))
        self.scaling_factor.copy_((mu.var((0, 2, 3)) + logvar.exp().mean((0, 2, 3))).rsqrt())


def more_than_one(z):
    """Refuses (ValueError) latents (B, C, h, w) with a single number in each channel."""
    if z[:, 0].numel() < 2:
        raise ValueError(f"latents are {tuple(z.shape)}: one number a channel has no spread")


# Stable Diffusion 1.5's autoencoder: 83,653,863 parameters
SD15_VAE = dict(
    channels=128, multipliers=(1, 2, 4, 4), blocks=2, latent_channels=4, scaling_factor=0.18215
)


class Pixels(nn.Module):
    """The autoencoder that changes nothing: latent diffusion with it is diffusion of pixels."""

    factor, latent_channels = 1, 3

    def __init__(self):
        super().__init__()
        self.register_buffer("scaling_factor", torch.ones(3))

    def encode(self, x, sample=False):
        check_image(x, 3, 1, self)
        check_range(x)
        return x

    def decode(self, z):
        check_image(z, 3, 1, self, "latents")
        return z
