"""A watermark in the noise: rings in Fourier space (Tree-Ring, Wen et al. 2023).

    key = ring_key(model.latent, radius=3)
    noise = ring_watermark(initial_noise(generators(seeds), model.latent), key)
    images = sample(...)                           # from this noise, in any way
    found = invert(...)                            # the noise again, without knowing the caption
    distance(found, key), p_value(found, key)      # small if the mark is there

The spectrum is taken around the picture's centre. There a real picture has F(-k) = conj F(k), so a
real number on each ring is a real pattern. It is the same after every flip and quarter turn.
"""

import math
from typing import NamedTuple

import torch
from scipy.stats import ncx2
from torch import Tensor

from course_lib.common.checks import require


class RingKey(NamedTuple):
    """values: the secret, a number for each marked channel and ring (C, rings), drawn from N(0, 1).

    channels: which channels are marked; size: height and width of the noise.
    """

    values: Tensor
    channels: tuple[int, ...]
    size: int

    @property
    def ring(self) -> Tensor:
        """The number of each coefficient's ring, -1 outside of all: (size, size)."""
        k = torch.fft.fftfreq(self.size) * self.size
        radius = (k[:, None] ** 2 + k**2).sqrt().round().long()
        return torch.where(radius < self.values.shape[1], radius, -1)

    @property
    def mask(self) -> Tensor:
        return self.ring >= 0

    @property
    def coefficients(self) -> Tensor:
        """The number that each coefficient on a ring shall have: (C, M)."""
        return self.values[:, self.ring[self.mask]]


def ring_key(
    shape: tuple[int, int, int], radius: int, channels: int | None = None, seed: int = 0
) -> RingKey:
    """A random key for noise of this shape (C, size, size), with rings 0 to `radius`.

    channels: the first so many are marked, all by default. The radius ends before the highest
    frequency, which has no opposite. ValueError for anything that doesn't fit.

    >>> ring_key((4, 8, 8), radius=3, channels=2).values.shape
    torch.Size([2, 4])
    """
    depth, height, width = shape
    channels = depth if channels is None else channels
    require(height == width, "shape", "square noise", shape)
    require(0 <= radius < height // 2, "radius", f"0 to {height // 2 - 1} at {height}", radius)
    require(1 <= channels <= depth, "channels", f"1 to {depth}", channels)
    secret = torch.Generator().manual_seed(seed)
    values = torch.randn(channels, radius + 1, generator=secret)
    return RingKey(values, tuple(range(channels)), height)


def spectrum(x: Tensor) -> Tensor:
    """The Fourier coefficients around the picture's centre, each of variance 1 for white noise."""
    return torch.fft.fft2(x, norm="ortho") * phase(x.shape[-1])


def from_spectrum(coefficients: Tensor) -> Tensor:
    """The picture with these coefficients; its imaginary part, which is rounding, is left out."""
    return torch.fft.ifft2(coefficients / phase(coefficients.shape[-1]), norm="ortho").real


def phase(size: int) -> Tensor:
    """Moves the origin from the first pixel to the centre, at (size - 1) / 2."""
    k = torch.fft.fftfreq(size) * size
    angle = 2 * math.pi * k * (size - 1) / 2 / size
    return torch.polar(torch.ones(size, size), angle[:, None] + angle)


def ring_watermark(noise: Tensor, key: RingKey) -> Tensor:
    """The noise (B, C, size, size) with the key's numbers on the rings, and the rest unchanged.

    Raises ValueError for noise that the key wasn't made for.

    >>> key = ring_key((1, 8, 8), radius=2)
    >>> distance(ring_watermark(torch.randn(1, 1, 8, 8), key), key) < 1e-5
    tensor([True])
    """
    check(noise, key)
    channels = list(key.channels)
    marked = spectrum(noise[:, channels])
    marked[..., key.mask] = key.coefficients.to(marked)
    noise = noise.clone()
    noise[:, channels] = from_spectrum(marked)
    return noise


def on_rings(noise: Tensor, key: RingKey) -> Tensor:
    """The noise's coefficients on the rings of the marked channels: complex (B, C, M)."""
    check(noise, key)
    return spectrum(noise[:, list(key.channels)].float())[..., key.mask]


def distance(noise: Tensor, key: RingKey) -> Tensor:
    """The mean distance |F - key| on the rings, by which Wen et al. (2023) detect it: (B,)."""
    return (on_rings(noise, key) - key.coefficients).abs().mean((1, 2))


def p_value(noise: Tensor, key: RingKey, variance: float | None = None) -> Tensor:
    """How probable a smaller distance would be in white noise without the key: (B,).

    Sum |F - key|² / variance follows a noncentral chi-squared distribution with as many degrees of
    freedom as there are coefficients (Wen et al. 2023): half of them are the conjugates of the
    others, but each has a real and an imaginary part.
    variance: of the coefficients, estimated from them by default.

    Inverted pictures aren't white noise, so don't trust this number: measure it on pictures
    without the mark.

    >>> key = ring_key((1, 8, 8), radius=2)
    >>> p_value(ring_watermark(torch.randn(1, 1, 8, 8), key), key) < 1e-4
    tensor([True])
    """
    found = on_rings(noise, key)  # (B, C, M)
    power = found.abs().square().mean((1, 2)) if variance is None else torch.tensor(variance)
    eta = (found - key.coefficients).abs().square().sum((1, 2)) / power
    centre = key.coefficients.square().sum() / power
    centre = centre.expand_as(eta)
    return torch.from_numpy(
        ncx2.cdf(eta.double().numpy(), key.coefficients.numel(), centre.double().numpy())
    )


def check(noise: Tensor, key: RingKey) -> None:
    deep, size = max(key.channels) + 1, key.size
    fits = noise.dim() == 4 and noise.shape[1] >= deep and noise.shape[2:] == (size, size)
    require(fits, "noise", f"(B, {deep} or more, {size}, {size})", noise)
    require(noise.dtype == torch.float32, "noise", "float32", noise)
