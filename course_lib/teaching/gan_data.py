"""The data sets of chapter 17, from easy to hard, each with its networks and its judge.

A model gets the same data, and nearly as many parameters, whether it is a GAN's generator or a
diffusion model's network.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checkpoints import load_checkpoint
from course_lib.datasets.digits import digits
from course_lib.datasets.scenes import Scenes, render
from course_lib.datasets.scenes.dataset import HELD_OUT_PAIRS
from course_lib.datasets.scenes.grammar import COLOURS, SHAPES, Scene
from course_lib.datasets.toy import gaussian_ring, ring_centres
from course_lib.evaluation import PromptOracle
from course_lib.models import GAN, Classifier, Discriminator, Generator, UNet
from course_lib.models.gan import normalize_spectrally
from course_lib.recipes.digits import SMALL, DigitsDDPM, nearest
from course_lib.teaching.point_networks import PointNet, perceptron

Batch = tuple[Tensor, ...]  # the data (B, ...) and, if the models are conditional, labels (B,)


class Data(ABC):
    """Real data, networks for it, and a judge that finds each sample's mode.

    count: the number of samples to judge. classes: the number of labels, if there are any.
    r1: the factor of R1. ema: the decay of the averaged weights.
    """

    shape: tuple[int, ...]
    count: int
    batch_size = 64
    classes: int | None = None
    r1 = 1.0
    ema = 0.995

    @abstractmethod
    def batch(self, index: int) -> Batch:
        """Training data, drawn from torch's random numbers."""

    @abstractmethod
    def real(self) -> Batch:
        """At least twice `count` real samples to compare with."""

    @abstractmethod
    def gan(self, spectral: bool = False) -> GAN:
        """A generator and its discriminator, with spectral normalisation or without."""

    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The diffusion model's network."""

    @abstractmethod
    def features(self, samples: Tensor) -> Tensor:
        """What distances are computed from: (N, D)."""

    @abstractmethod
    def modes(self, samples: Tensor, *labels: Tensor) -> list[Hashable | None]:
        """The mode that each sample shows; None if it shows none, or not what its label says."""

    def properties(self, samples: Tensor, *labels: Tensor) -> dict[str, float]:
        """For each property that a label states, the share of samples that have it."""
        return {}

    def pictures_of(self, samples: Tensor) -> Tensor:
        """The first samples to look at: (2, 10, C, H, W)."""
        return samples[:20].unflatten(0, (2, -1))

    def name_of(self, label: int) -> str:
        return str(label)


class Ring(Data):
    """Eight narrow Gaussians on a circle, the classical test of mode collapse (Metz et al. 2017).

    A sample shows a mode if it is within 3 standard deviations of a centre, as 98.9 % of the real
    ones are.
    """

    shape, count, batch_size = (2,), 2000, 256
    std = 0.05
    r1 = 0.1
    ema = 0.999

    def batch(self, index: int) -> Batch:
        return (gaussian_ring(self.batch_size, std=self.std),)

    def real(self) -> Batch:
        generator = torch.Generator().manual_seed(0)
        return (gaussian_ring(2 * self.count, generator, std=self.std),)

    def gan(self, spectral: bool = False) -> GAN:
        generator, discriminator = perceptron(8, 104, 2), perceptron(2, 104, 1)
        discriminator.append(nn.Flatten(0))  # (B, 1) -> (B,)
        if spectral:
            normalize_spectrally(discriminator)
        return GAN(generator, discriminator, latent=8)

    def denoiser(self) -> nn.Module:
        return PointNet()

    def features(self, samples: Tensor) -> Tensor:
        return samples

    def modes(self, samples: Tensor, *labels: Tensor) -> list[int | None]:
        distance, mode = torch.cdist(samples, ring_centres(std=self.std)).min(1)
        near = (distance <= 3 * self.std).tolist()
        return [number if ok else None for number, ok in zip(mode.tolist(), near, strict=True)]

    def pictures_of(self, samples: Tensor) -> Tensor:
        """The density of all points within 2 of the middle, y upwards: (1, 1, 1, 64, 64)."""
        x, y = samples.T
        points = torch.stack([-y, x], dim=1).contiguous()
        counts = torch.histogramdd(points, [64, 64], range=[-2.0, 2.0, -2.0, 2.0]).hist
        return (2 * (counts / counts.max().clamp(min=1)).sqrt() - 1)[None, None, None]


class Digits(Data):
    """Handwritten digits at 16 × 16. Their features are the 64 means of 2 × 2 pixels.

    A digit shows the mode of the nearest training image, unless it is farther away than 99 % of the
    real test images are from theirs.
    """

    shape, count = (1, 16, 16), 896

    def __init__(self):
        self.recipe = DigitsDDPM()

    def batch(self, index: int) -> Batch:
        return (self.recipe.batch(index),)

    def real(self) -> Batch:
        return (digits(16)[0],)

    def gan(self, spectral: bool = False) -> GAN:
        generator = Generator(1, 16, channels=(128, 80, 40), latent=64)
        return GAN(generator, Discriminator(1, 16, (16, 32, 64), spectral=spectral), latent=64)

    def denoiser(self) -> nn.Module:
        return UNet(**SMALL)

    def features(self, samples: Tensor) -> Tensor:
        return F.avg_pool2d(samples, 2).flatten(1)  # (N, 64)

    def modes(self, samples: Tensor, *labels: Tensor) -> list[int | None]:
        limit = nearest(self.recipe.test_images, self.recipe)[0].quantile(0.99)
        distance, digit = nearest(samples, self.recipe)
        near = (distance <= limit).tolist()
        return [number if ok else None for number, ok in zip(digit.tolist(), near, strict=True)]


class Singles(Data):
    """Scenes of one object, 32 × 32, whose labels are the 42 pairs of a shape and its colour.

    The label doesn't say the size and the background, so a mode is all four of them, as the oracle
    reads them; none if it can't read the picture, or if it isn't the label's pair.
    """

    shape, count, batch_size = (3, 32, 32), 504, 16
    ema = 0.998
    pairs = [(s, c) for s in SHAPES for c in COLOURS if (s, c) not in HELD_OUT_PAIRS]
    classes = len(pairs)
    pool = 8192  # training pictures, drawn once, because drawing them takes time

    def __init__(self):
        self.training: Batch | None = None

    def batch(self, index: int) -> Batch:
        if self.training is None:
            self.training = self.pictures(self.pool, seed=0)
        chosen = torch.randint(len(self.training[0]), (self.batch_size,))
        return tuple(part[chosen] for part in self.training)

    def real(self) -> Batch:
        return self.pictures(2 * self.count, seed=1)

    def pictures(self, count: int, seed: int) -> Batch:
        """Pictures (count, 3, 32, 32) and their labels."""
        data = Scenes(32, "train", "single", seed)
        scenes, places = zip(*(data.scene(index) for index in range(count)), strict=True)
        labels = [self.pairs.index(pair_of(scene)) for scene in scenes]
        return render(scenes, *zip(*places, strict=True), 32), torch.tensor(labels)

    def gan(self, spectral: bool = False) -> GAN:
        generator = Generator(3, 32, (136, 72, 32, 16), latent=64, classes=self.classes)
        sizes = dict(channels=(16, 32, 64, 64), classes=self.classes)
        return GAN(generator, Discriminator(3, 32, **sizes, spectral=spectral), latent=64)

    def denoiser(self) -> nn.Module:
        sizes = dict(channels=16, multipliers=(1, 2, 4), layers_per_block=1)
        attention = False, False, True
        return UNet(3, **sizes, attention=attention, classes=self.classes, film=True)

    @torch.no_grad()
    def features(self, samples: Tensor) -> Tensor:
        classifier = load_checkpoint(Classifier, "scenes-features")
        parts = F.interpolate(samples, classifier.size).split(100)  # enlarged, as the real ones are
        return torch.cat([classifier.features(part) for part in parts])

    def modes(self, samples: Tensor, *labels: Tensor) -> list[Hashable | None]:
        found = []
        for scene, label in zip(PromptOracle().read(samples), labels[0].tolist(), strict=True):
            right = scene and scene.kind == "single" and pair_of(scene) == self.pairs[label]
            found.append((scene.objects, scene.background) if right else None)
        return found

    def properties(self, samples: Tensor, *labels: Tensor) -> dict[str, float]:
        """A single object, its colour and its shape; of several objects, the best one counts."""
        captions = [f"a {self.name_of(label)}" for label in labels[0].tolist()]
        verdicts = PromptOracle().judge(samples, captions)
        names = "number", "colour", "shape"
        return {name: sum(each[name] for each in verdicts) / len(verdicts) for name in names}

    def name_of(self, label: int) -> str:
        shape, colour = self.pairs[label]
        return f"{colour} {shape}"


DATA: dict[str, type[Data]] = {"ring": Ring, "digits": Digits, "scenes": Singles}


def pair_of(scene: Scene) -> tuple[str, str]:
    """The shape and the colour of the scene's only object."""
    (thing,) = scene.objects
    return thing.shape, thing.colour


def different(modes: Sequence[Hashable | None]) -> int:
    """How many different modes are shown.

    >>> different([3, None, 3, 1])
    2
    """
    return len({mode for mode in modes if mode is not None})
