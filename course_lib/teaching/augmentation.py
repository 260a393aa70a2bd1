"""The parts of chapter 15c: few real digits, a diffusion model of them, and a classifier.

Everything is small, because the study trains it a hundred times: digits of 8 × 8 pixels, a U-Net
with 91,000 parameters, and a classifier with 38,000.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.datasets.digits import digits
from course_lib.diffusion import Diffusion, drop_condition, generators, guided, initial_noise
from course_lib.diffusion import sample as denoise
from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.models import UNet
from course_lib.training import Optimizer, train
from course_lib.training.seeding import seeded

SIZE = 8  # pixels, the digits' original size
NULL = 10  # the class that stands for "any digit"
MODEL_STEPS, CLASSIFIER_STEPS, SAMPLER_STEPS = 500, 300, 20
PROCESS = Diffusion("cosine", "v")
CPU = torch.device("cpu")

Labelled = tuple[Tensor, Tensor]  # images (N, 1, 8, 8) in [-1, 1] and labels (N,)


def few_digits(per_class: int, seed: int) -> Labelled:
    """This many real training digits of each class; a larger number includes a smaller one's.

    >>> few_digits(5, seed=0)[1].bincount().tolist()
    [5, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    """
    images, labels = digits(SIZE, "train")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[labels[order] == digit][:per_class] for digit in range(10)])
    return images[chosen], labels[chosen]


def first_of_each(data: Labelled, per_class: int) -> Labelled:
    """The first `per_class` digits of each class."""
    images, labels = data
    chosen = torch.cat([(labels == digit).nonzero()[:per_class, 0] for digit in range(10)])
    return images[chosen], labels[chosen]


def batches(
    *sources: Labelled, change: Callable[[Tensor], Tensor] | None = None, size: int = 64
) -> Callable[[int], Labelled]:
    """Batches with an equal share from each source, its images changed by `change`, if any.

    The share is fixed, so 500 synthetic digits don't outweigh 50 real ones.
    """

    def batch(index: int) -> Labelled:
        parts = [draw(source, size // len(sources)) for source in sources]
        images, labels = map(torch.cat, zip(*parts, strict=True))
        return (change(images) if change else images), labels

    return batch


def draw(data: Labelled, count: int) -> Labelled:
    images, labels = data
    chosen = torch.randint(len(labels), (count,))
    return images[chosen], labels[chosen]


def classifier() -> nn.Module:
    """Two convolutions and two linear layers: (B, 1, 8, 8) -> logits (B, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),  # (B, 16, 8, 8)
        *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten()),  # (B, 512)
        *(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def train_classifier(
    batch: Callable[[int], Labelled], seed: int, steps: int = CLASSIFIER_STEPS
) -> nn.Module:
    """A classifier trained on these batches, whose number is the same in all arms of the study."""

    def loss(model: nn.Module, data: Labelled) -> Tensor:
        images, labels = data
        return F.cross_entropy(model(images), labels)

    with seeded(seed, 0, CPU):
        model = classifier()
    return finished(model, loss, batch, steps, seed)


def train_model(data: Labelled, seed: int, steps: int = MODEL_STEPS) -> nn.Module:
    """A class-conditional U-Net, as in chapter 08, trained only on these digits."""

    def loss(model: nn.Module, batch: Labelled) -> Tensor:
        images, labels = batch
        return PROCESS.loss(model, images, drop_condition(labels, NULL, p=0.1))

    with seeded(seed, 0, CPU):
        model = UNet(1, None, 12, (1, 2), 1, attention=(False, False), classes=10)
    return finished(model, loss, batches(data, size=32), steps, seed)


def finished(model: nn.Module, loss: Callable, batch: Callable, steps: int, seed: int) -> nn.Module:
    """The averaged weights after the last step."""
    settings = dict(optimizer=Optimizer(lr=2e-3), ema=0.99, device="cpu")
    run = train(model, loss, batch, steps=steps, seed=seed, **settings)
    for _ in run:
        pass
    return run.ema


def synthesize(model: nn.Module, per_class: int, scale: float = 1.0, seed: int = 0) -> Labelled:
    """Synthetic digits, `per_class` of each class, in 20 DDIM steps; scale 1: no guidance."""
    labels = torch.arange(10 * per_class) % 10
    noise = initial_noise(generators(range(seed * 10_000, seed * 10_000 + len(labels))), (1, 8, 8))
    network = guided(model, NULL, scale)
    with torch.no_grad():
        images = denoise(PROCESS, network, noise, labels, steps=SAMPLER_STEPS, clip=1.0)
    return images.clamp(-1, 1), labels


@torch.no_grad()
def accuracy(model: nn.Module, data: Labelled) -> float:
    """The share of these digits that it classifies correctly."""
    images, labels = data
    return (model(images).argmax(1) == labels).float().mean().item()


def distances(images: Tensor, training: Tensor) -> Tensor:
    """Root-mean-square difference per pixel to the nearest training digit: (B,)."""
    return nearest_neighbours(images, training)[0][:, 0]


def copies(images: Tensor, training: Tensor, held_out: Tensor) -> float:
    """The share nearer to a training digit than 99 % of real held-out ones, which score 0.01."""
    limit = distances(held_out, training).quantile(0.01)
    return (distances(images, training) < limit).float().mean().item()


def right_digit(data: Labelled) -> float:
    """The share whose nearest digit among all 1,541 training digits has the wanted label.

    It is only used for evaluation: model and classifier are trained on few of these digits.
    """
    everything, labels = digits(SIZE, "train")
    nearest = nearest_neighbours(data[0], everything)[1][:, 0]
    return (labels[nearest] == data[1]).float().mean().item()
