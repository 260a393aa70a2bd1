"""Small trainings with one mistake each, and sound ones to compare with: the cases of chapter 18.

    case = make("data from 0 to 1", "digits", seed=0)
    for step in case.train("outputs/case"):
        ...

`SoundRun` has the parts of a recipe (model, batch, loss, samples), each a few lines long. A mistake
is a subclass that changes one of those lines. `experiments.broken_runs` trains them all.
"""

from collections.abc import Callable
from functools import cache
from math import sqrt
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.registry import choose
from course_lib.datasets.digits import digits
from course_lib.datasets.emoji.dataset import Emoji
from course_lib.diffusion import (
    Diffusion,
    drop_condition,
    generators,
    guided,
    initial_noise,
    linear,
    sample,
    step,
    straight,
)
from course_lib.diffusion.samplers import step_std
from course_lib.models import UNet
from course_lib.models.layers import ResnetBlock
from course_lib.training import EMA, Optimizer, Training, train
from course_lib.training.seeding import seeded

CPU = torch.device("cpu")
LENGTH = {"digits": 1.0, "emoji": 0.6}  # of a training, as a share of `steps`


# ---- the data ----------------------------------------------------------------------------------


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


# ---- a sound training ---------------------------------------------------------------------------


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


# ---- one mistake each ---------------------------------------------------------------------------


class DataInZeroToOne(SoundRun):
    def scaled(self, x):
        return (x + 1) / 2  # the mistake


class LatentsNotScaled(SoundRun):
    latent = True

    def scaled(self, x):
        return x - self.mean  # the mistake: not divided by self.std


class LatentMeanKept(SoundRun):
    latent = True

    def scaled(self, x):
        return x / self.std  # the mistake: self.mean is not subtracted


class TenPictures(SoundRun):
    steps = 500

    def batch(self, index):
        chosen = torch.randint(10, (self.batch_size,))  # the mistake: not len(self.x0)
        return self.x0[chosen], self.labels[chosen]


class CaptionsShuffled(SoundRun):
    def batch(self, index):
        x0, labels = super().batch(index)
        return x0, labels[torch.randperm(len(labels))]  # the mistake


class BetasForThousand(SoundRun):
    process = Diffusion(linear(100, beta_start=1e-4, beta_end=0.02), "eps")  # the mistake


class TimestepInZeroToOne(SoundRun):
    def loss(self, model, data):
        x0, labels = data
        labels = drop_condition(labels, self.null, self.dropped)

        def network(x, timestep, context):
            return model(x, timestep / 100, context)  # the mistake: the sampler doesn't divide

        return self.process.loss(network, x0, labels)


class TimestepInBf16(SoundRun):
    process = Diffusion(linear(1000), "eps")

    def loss(self, model, data):
        x0, labels = data
        labels = drop_condition(labels, self.null, self.dropped)

        def network(x, timestep, context):
            return model(x, timestep.bfloat16().float(), context)  # the mistake

        return self.process.loss(network, x0, labels)


class ConditionsNeverDropped(SoundRun):
    dropped = 0.0  # the mistake: guidance needs 0.1 or so


class RateTooHigh(SoundRun):
    optimizer = Optimizer(lr=0.1, warmup=0)  # the mistake: 50 times too high


class EMAUnused(SoundRun):
    ema = 0.0  # the mistake


class PlainEMA(EMA):
    """An average without the course's warm-up."""

    @torch.no_grad()
    def update(self, model, step):
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - self.decay)


class EMATooSlow(SoundRun):
    def train(self, folder=None):
        run = super().train(folder)
        run.average = PlainEMA(run.model, 0.9999)  # the mistake: it averages 10,000 steps
        return run


class TimestepOffByOne(SoundRun):
    def samples(self, model, count=128):
        class Late(nn.Module):
            def forward(self, x, timestep, context):
                return model(x, timestep + 1, context)  # the mistake: the loss passes 0 to 99

        return super().samples(Late(), count)


def noise_to_the_end(predict, x, t, s, history, noise):
    x0, eps = predict(x, t)
    std = step_std(t, s, 1.0) if s.sigma else t.sigma  # the mistake: the last step adds noise, too
    return step(x0, eps, t, s, 1.0) + std * noise()


class NoiseAtTheEnd(SoundRun):
    sampler, sampler_steps = staticmethod(noise_to_the_end), 25


def variance_as_std(predict, x, t, s, history, noise):
    x0, eps = predict(x, t)
    variance = step_std(t, s, 1.0) ** 2
    return s.alpha * x0 + sqrt(s.sigma**2 - variance) * eps + variance * noise()  # the mistake


class VarianceForStd(SoundRun):
    sampler = staticmethod(variance_as_std)


class SampledInTrainMode(SoundRun):
    dropout = 0.2

    def samples(self, model, count=128):
        return super().samples(model.train(), count)  # the mistake: left over from training


MISTAKES: dict[str, type[SoundRun]] = {
    "data from 0 to 1": DataInZeroToOne,
    "latents not scaled": LatentsNotScaled,
    "latent mean not removed": LatentMeanKept,
    "betas for 1,000 steps used with 100": BetasForThousand,
    "timestep on another scale": TimestepInZeroToOne,
    "timestep in bf16": TimestepInBf16,
    "learning rate too high": RateTooHigh,
    "EMA unused": EMAUnused,
    "EMA too slow": EMATooSlow,
    "captions shuffled": CaptionsShuffled,
    "conditions never dropped": ConditionsNeverDropped,
    "timestep off by one": TimestepOffByOne,
    "noise at the last step": NoiseAtTheEnd,
    "wrong variance": VarianceForStd,
    "sampled in train mode": SampledInTrainMode,
    "ten pictures memorised": TenPictures,
}


# ---- sound trainings that differ ----------------------------------------------------------------


def sound(**changes) -> type[SoundRun]:
    """A sound training with other settings."""
    return type("SoundRun", (SoundRun,), changes)


FLOW = Diffusion(straight(), "flow")
SOUND: dict[str, type[SoundRun]] = {
    "sound": SoundRun,
    "sound, 1,000 timesteps": sound(process=Diffusion(linear(1000), "eps")),
    "sound, cosine schedule": sound(process=Diffusion("cosine", "eps")),
    "sound, v-prediction": sound(process=Diffusion("cosine", "v")),
    "sound, x0-prediction": sound(process=Diffusion("cosine", "x0")),
    "sound, flow matching": sound(process=FLOW, sampler="ddim"),
    "sound, scaled-linear schedule": sound(process=Diffusion("scaled_linear", "eps")),
    "sound, latents": sound(latent=True),
    "sound, latents and flow matching": sound(latent=True, process=FLOW, sampler="heun"),
    "sound, lower learning rate": sound(optimizer=Optimizer(lr=1e-3, warmup=20)),
    "sound, higher learning rate": sound(optimizer=Optimizer(lr=5e-3, warmup=20)),
    "sound, constant learning rate": sound(optimizer=Optimizer(warmup=20, decay="constant")),
    "sound, Muon": sound(optimizer=Optimizer("muon", lr=2e-3, warmup=20)),
    "sound, shorter": sound(steps=180),
    "sound, longer": sound(steps=400),
    "sound, smaller network": sound(network=SoundRun.network | dict(channels=8)),
    "sound, larger network": sound(network=SoundRun.network | dict(channels=24)),
    "sound, batches of 16": sound(batch_size=16, steps=350),
    "sound, dropout": sound(dropout=0.1),
    "sound, no guidance": sound(scale=1.0),
    "sound, min-SNR": sound(process=Diffusion("cosine", "v"), weighting="min_snr"),
    "sound, faster EMA": sound(ema=0.9),
    "sound, DPM-Solver++": sound(sampler="dpm++2m"),
    "sound, all 100 steps": sound(sampler_steps=100),
}
CASES: dict[str, Callable[..., SoundRun]] = MISTAKES | SOUND


def make(case: str, data: str = "digits", seed: int = 0) -> SoundRun:
    """The training of that name, on digits or emoji.

    ValueError for an unknown case or data.

    >>> make("sound").process
    Diffusion(Table(T=100, betas 0.001 ... 0.2), 'eps')
    """
    return choose("case", case, CASES)(data, seed)
