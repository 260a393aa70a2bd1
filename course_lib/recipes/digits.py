"""Three small models of scikit-learn's handwritten digits, each trained in minutes on a CPU.

Their samples are evaluated in the simplest way: by the nearest training image.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from course_lib.datasets.digits import digits
from course_lib.diffusion import (
    Diffusion,
    drop_condition,
    generators,
    guided,
    initial_noise,
    sample,
)
from course_lib.evaluation.metrics import Metric, mean, proportion
from course_lib.models import VAE, UNet
from course_lib.models.vae import gaussian_kl
from course_lib.recipes.recipe import Recipe
from course_lib.training import Optimizer, Scale
from course_lib.training.seeding import seeded

SIZE = 16  # pixels; the originals have 8
NULL = 10  # the class that stands for "any digit"
SMALL = dict(
    in_channels=1,
    channels=16,
    multipliers=(1, 2, 4),
    layers_per_block=1,
    attention=(False, False, True),
)


class Digits(Recipe):
    """The data, which the three recipes share."""

    def __init__(self):
        self.images, self.labels = digits(SIZE, "train")  # (1541, 1, 16, 16), (1541,)
        self.test_images, self.test_labels = digits(SIZE, "test")  # 256 of each

    def draw_indices(self) -> Tensor:
        return torch.randint(len(self.images), (64,))


class DigitsDDPM(Digits):
    """Handwritten digits from noise (Ho et al. 2020)."""

    name = "digits-ddpm"
    goal = "like_real"
    settings: ClassVar = dict(
        steps=2000, optimizer=Optimizer(lr=2e-3), ema=0.995, scale=Scale(precision="auto")
    )
    process = Diffusion("linear", "eps")

    def model(self) -> nn.Module:
        return UNet(**SMALL)

    def batch(self, index: int) -> Tensor:
        return self.images[self.draw_indices()]

    def loss(self, model: nn.Module, images: Tensor) -> Tensor:
        return self.process.loss(model, images)

    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        return draw(self.process, model, range(40), where(model)), [""] * 40

    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        images = draw(self.process, model, range(count), where(model))
        return [
            diffusion_loss(self.process, model, self.test_images),
            proportion("like_real", like_real(images, self), count),
        ]


class DigitsClasses(Digits):
    """Digits of a given class, which is added to the time embedding; sampled with guidance."""

    name = "digits-classes"
    goal = "right_digit"
    settings: ClassVar = DigitsDDPM.settings
    process = DigitsDDPM.process
    scale = 2.0  # of guidance, in the pictures and the measurements

    def model(self) -> nn.Module:
        return UNet(**SMALL, classes=10)

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        chosen = self.draw_indices()
        return self.images[chosen], self.labels[chosen]

    def loss(self, model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = data
        return self.process.loss(model, images, drop_condition(labels, NULL, p=0.1))

    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        wanted = torch.arange(40) % 10
        return self.draw(model, wanted), [str(digit) for digit in wanted.tolist()]

    def draw(self, model: nn.Module, wanted: Tensor) -> Tensor:
        network, device = guided(model, NULL, self.scale), where(model)
        return draw(self.process, network, range(len(wanted)), device, wanted.to(device))

    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        wanted = torch.arange(count) % 10
        images = self.draw(model, wanted)
        of_real = right_digit(self.test_images, self.test_labels, self)
        return [
            diffusion_loss(self.process, model, self.test_images, self.test_labels),
            proportion("like_real", like_real(images, self), count),
            proportion("right_digit", right_digit(images, wanted, self), count),
            proportion("right_digit_of_real", of_real, len(self.test_images)),
        ]


class DigitsVAE(Digits):
    """Digits through a latent of 16 numbers and back (Kingma & Welling 2014)."""

    name = "digits-vae"
    goal = "like_real"
    settings: ClassVar = dict(
        steps=2000, optimizer=Optimizer(lr=2e-3), ema=0.995, scale=Scale(precision="auto")
    )
    variance = 0.02  # of the decoder's pixels: the tolerated squared error of a grey level

    def model(self) -> nn.Module:
        return VAE(in_channels=1, size=SIZE, channels=16, latent=16)

    def batch(self, index: int) -> Tensor:
        return self.images[self.draw_indices()]

    def loss(self, model: nn.Module, images: Tensor) -> Tensor:
        return model.loss(images, kl_weight=self.variance)[0]

    @torch.no_grad()
    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        real = self.test_images[:20]
        again = model.decode(model.encode(real.to(where(model)))[0]).cpu()
        return torch.cat([real, again]), ["real"] * 20 + ["again"] * 20

    @torch.no_grad()
    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        mu, logvar = model.encode(self.test_images.to(where(model)))
        error = (model.decode(mu).cpu() - self.test_images).square().mean().item()
        z = initial_noise(generators(range(count)), (model.latent,))
        images = model.decode(z.to(where(model))).cpu()
        return [
            Metric("psnr", 10 * math.log10(4 / error), len(mu)),  # dB; pixels span 2
            mean("nats", gaussian_kl(mu, logvar).sum(1)),
            proportion("like_real", like_real(images, self), count),
        ]


def draw(process: Diffusion, network, seeds, device, context: Tensor | None = None) -> Tensor:
    """A digit for each seed, sampled in 50 DDIM steps: (B, 1, 16, 16) in [-1, 1]."""
    noise = initial_noise(generators(seeds), (1, SIZE, SIZE)).to(device)
    return sample(process, network, noise, context, steps=50, clip=1.0).cpu()


@torch.no_grad()
def diffusion_loss(
    process: Diffusion, model: nn.Module, images: Tensor, labels: Tensor | None = None
) -> Metric:
    """The training loss on held-out images, four times each, with fixed times and noise."""
    device = where(model)
    with seeded(0, 0, device):
        images, count = images.repeat(4, 1, 1, 1), len(images)
        labels = None if labels is None else labels.repeat(4).to(device)
        loss = process.loss(model, images.to(device), labels, time_sampling="antithetic").item()
        return Metric("test_loss", loss, count)


def nearest(images: Tensor, recipe: Digits) -> tuple[Tensor, Tensor]:
    """The distance to the nearest training image, and that image's label: (B,) each."""
    distances = torch.cdist(images.flatten(1), recipe.images.flatten(1)).min(dim=1)
    return distances.values, recipe.labels[distances.indices]


def like_real(images: Tensor, recipe: Digits) -> float:
    """The share that is as near to a training image as 99 % of the test images are.

    Real digits score 0.99.
    """
    limit = nearest(recipe.test_images, recipe)[0].quantile(0.99)
    return (nearest(images, recipe)[0] <= limit).float().mean().item()


def right_digit(images: Tensor, wanted: Tensor, recipe: Digits) -> float:
    """The share whose nearest training image has the wanted class."""
    return (nearest(images, recipe)[1] == wanted).float().mean().item()


def where(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


RECIPES = DigitsDDPM, DigitsClasses, DigitsVAE
