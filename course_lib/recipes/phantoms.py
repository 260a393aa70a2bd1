"""A diffusion model of phantoms: the prior that chapter 15b uses to reconstruct pictures.

One network contains three priors, one for each class: without a lesion, with one, and either.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.datasets.phantoms import phantoms
from course_lib.diffusion import Diffusion, drop_condition, generators, initial_noise, sample
from course_lib.evaluation.lesions import lesion_seen
from course_lib.evaluation.metrics import Metric, proportion
from course_lib.models import UNet
from course_lib.pipelines import Operator, posterior_network
from course_lib.recipes.digits import diffusion_loss, where
from course_lib.recipes.recipe import Recipe
from course_lib.training import Optimizer, Scale

SIZE = 32
HEALTHY, LESION, EITHER = range(3)  # the classes; EITHER is half and half
NOISE_STD = 0.05  # of a measurement
VARIANCE = 0.25  # of a pixel, as `posterior_network` assumes it
STEPS, START = 20, 0.97  # of the sampler
HELD_OUT = 2**31  # a seed that doesn't occur in training


class PhantomPrior(Recipe):
    """Phantoms from noise, half of them with a lesion."""

    name = "phantoms"
    goal = "right_class"
    settings: ClassVar = dict(
        steps=900,
        optimizer=Optimizer("muon", lr=3e-3),
        ema=0.995,
        scale=Scale(precision="auto"),
    )
    process = Diffusion("cosine", "v")
    batch_size = 32

    def model(self) -> nn.Module:
        return UNet(
            in_channels=4,
            channels=24,
            multipliers=(1, 2),
            layers_per_block=1,
            attention=(False, True),
            classes=2,
            film=True,
        )

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        return labelled(self.batch_size)

    def loss(self, model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = data
        labels = drop_condition(labels, EITHER, p=1 / 3)
        return self.process.loss(Patches(model), images, labels)

    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        labels = torch.arange(24) % 3
        names = "healthy", "lesion", "either"
        return self.draw(model, labels), [names[label] for label in labels.tolist()]

    @torch.no_grad()
    def draw(self, model: nn.Module, labels: Tensor, steps: int = 20) -> Tensor:
        """A phantom for each label, the first with seed 0: (B, 1, 32, 32) in [-1, 1]."""
        noise = initial_noise(generators(range(len(labels))), (1, SIZE, SIZE)).to(where(model))
        labels = labels.to(noise.device)
        return sample(self.process, Patches(model), noise, labels, steps, clip=1.0).cpu()

    def reconstruct(
        self,
        model: nn.Module,
        operator: Operator,
        y: Tensor,
        label: int,
        samples: int = 1,
        steps: int = STEPS,
    ) -> Tensor:
        """Samples of the posterior for each y (B, M): (samples, B, 1, 32, 32)."""
        device, count = where(model), samples * len(y)
        y = y.repeat(samples, 1).to(device)
        network, operator = Patches(model), operator.to(device)
        network = posterior_network(self.process, network, operator, y, NOISE_STD, VARIANCE)
        noise = initial_noise(generators(range(count)), operator.shape).to(device)
        labels = torch.full((count,), label, device=device)
        x = sample(self.process, network, noise, labels, steps, start=START, clip=1.0)
        return x.cpu().unflatten(0, (samples, -1))

    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        """The loss on held-out phantoms, and how often there is a lesion exactly if requested."""
        generator = torch.Generator().manual_seed(HELD_OUT)
        images, labels = labelled(256, generator)
        wanted = torch.arange(count) % 2
        drawn, anywhere = self.draw(model, wanted), phantoms(1, generator, SIZE).places
        right = lesion_seen(drawn, anywhere.expand(count, -1, -1, -1)) == (wanted == LESION)
        return [
            diffusion_loss(self.process, Patches(model), images, labels),
            proportion("right_class", right.float().mean().item(), count),
        ]


class Patches(nn.Module):
    """Runs the U-Net on patches of 2 × 2 pixels, as 4 channels each: a quarter of the work.

    >>> network = Patches(UNet(4, channels=8, multipliers=(1,), attention=(False,)))
    >>> network(torch.zeros(1, 1, 32, 32), torch.tensor([500.0])).shape
    torch.Size([1, 1, 32, 32])
    """

    def __init__(self, unet: UNet):
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        return F.pixel_shuffle(self.unet(F.pixel_unshuffle(x, 2), timestep, context), 2)


def labelled(count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Phantoms (count, 1, 32, 32), every other one with a lesion, and their labels (count,)."""
    drawn, labels = phantoms(count, generator, SIZE), torch.arange(count) % 2
    return torch.where(labels.view(-1, 1, 1, 1) == LESION, drawn.lesion, drawn.healthy), labels


RECIPES = (PhantomPrior,)
