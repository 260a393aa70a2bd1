"""A small training as sound as the course can make it, in the parts of a recipe."""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from course_lib.diffusion import (
    Diffusion,
    drop_condition,
    generators,
    guided,
    initial_noise,
    linear,
    sample,
)
from course_lib.models import UNet
from course_lib.models.layers import ResnetBlock
from course_lib.teaching.broken_runs.data import decode, encode, pictures
from course_lib.training import Optimizer, Training, train
from course_lib.training.seeding import seeded

CPU = torch.device("cpu")
LENGTH = {"digits": 1.0, "emoji": 0.6}  # of a training, as a share of `steps`


class SoundRun:
    """A small conditional diffusion model, in the parts of a recipe.

    data: "digits" or "emoji". With `latent = True` it learns latents instead of pixels.
    """

    latent = False
    process = Diffusion(linear(100, beta_start=1e-3, beta_end=0.2), "eps")
    network: ClassVar[dict] = dict(
        channels=16, multipliers=(1,), layers_per_block=1, attention=(False,)
    )
    steps, batch_size, ema, dropout = 250, 32, 0.99, 0.0
    optimizer = Optimizer(lr=2e-3, warmup=20)
    weighting = "simple"
    dropped = 0.1  # the probability that a sample's condition is dropped
    scale = 2.0  # of guidance
    sampler, sampler_steps = "ancestral", 25

    def __init__(self, data: str = "digits", seed: int = 0):
        images, self.labels = pictures(data)
        self.data, self.seed, self.steps = data, seed, round(LENGTH[data] * self.steps)
        self.null = int(self.labels.max()) + 1  # the class that stands for "any"
        x = encode(images) if self.latent else images
        self.mean = x.mean((0, 2, 3), keepdim=True)
        self.std = x.std((0, 2, 3), keepdim=True)
        self.x0 = self.scaled(x)

    def scaled(self, x: Tensor) -> Tensor:
        """The data as the network sees it: pixels in [-1, 1], latents of mean 0 and variance 1."""
        return (x - self.mean) / self.std if self.latent else x

    def model(self) -> nn.Module:
        unet = UNet(self.x0.shape[1], classes=self.null, **self.network)
        return with_dropout(unet, self.dropout) if self.dropout else unet

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(self.x0), (self.batch_size,))
        return self.x0[chosen], self.labels[chosen]

    def loss(self, model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        x0, labels = data
        labels = drop_condition(labels, self.null, self.dropped)
        return self.process.loss(model, x0, labels, weighting=self.weighting)

    def samples(self, model: nn.Module, count: int = 128) -> Tensor:
        """Samples (count, C, H, W) in the space of the data, with labels in turn."""
        draws = generators(range(count))
        noise = initial_noise(draws, self.x0.shape[1:])
        labels = torch.arange(count) % self.null
        how = dict(steps=self.sampler_steps, sampler=self.sampler, generators=draws)
        how |= dict(clip=3.0 if self.latent else 1.0)  # bounds on |x0|, as in DDPM
        return sample(self.process, guided(model, self.null, self.scale), noise, labels, **how)

    def train(self, folder: str | Path | None = None) -> Training:
        """The training, ready to iterate over."""
        with seeded(self.seed, 0, CPU):
            model = self.model()
        settings = dict(optimizer=self.optimizer, ema=self.ema, seed=self.seed, device="cpu")
        return train(model, self.loss, self.batch, steps=self.steps, folder=folder, **settings)

    def as_pictures(self, x: Tensor) -> Tensor:
        """Samples as pictures in [-1, 1]; latents are decoded as a sound run's would be."""
        return (decode(x * self.std + self.mean) if self.latent else x).clamp(-1, 1)


def with_dropout(unet: UNet, p: float) -> UNet:
    """The U-Net with dropout before each residual block's last convolution (Ho et al. 2020)."""
    for block in unet.modules():
        if isinstance(block, ResnetBlock):
            block.conv2 = nn.Sequential(nn.Dropout(p), block.conv2)
    return unet
