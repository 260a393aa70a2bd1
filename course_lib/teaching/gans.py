"""Chapter 17's two kinds of models: how each trains and draws, and one set of measurements.

A model is trained for a given CPU time, which includes a GAN's discriminator. It is then judged
from its samples alone.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.diffusion import (
    Diffusion,
    drop_condition,
    generators,
    guided,
    initial_noise,
    sample,
)
from course_lib.evaluation.distances import (
    floor,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from course_lib.teaching.gan_data import Batch, Data, different
from course_lib.training import Folder, Optimizer, Training, adversarial_loss, train
from course_lib.training.seeding import seeded

PROCESS = Diffusion("cosine", "v")
STEPS = 50  # of the sampler
ENDLESS = 10**6  # steps: the CPU time ends a training before
BATCH = 128  # samples that are drawn together
CPU = torch.device("cpu")


def begin_gan(
    data: Data,
    seed: int,
    spectral: bool = False,
    r1: float | None = None,
    loss: str = "non-saturating",
    folder: str | Path | None = None,
) -> Training:
    """A GAN's training. r1: the factor of the penalty, if not the data's own; 0 for none."""
    with seeded(seed, 0, CPU):
        gan = data.gan(spectral)
    how = dict(loss=loss, r1=data.r1 if r1 is None else r1)
    # no momentum, because the opponent moves, too (Karras et al. 2020, appendix B)
    optimizer = Optimizer(lr=1e-3, betas=(0.0, 0.99), decay="constant", clip=100.0)
    return begin(
        gan, lambda gan, batch: adversarial_loss(gan, *batch, **how), data, seed, optimizer, folder
    )


def begin_diffusion(data: Data, seed: int, folder: str | Path | None = None) -> Training:
    """A diffusion model's training; it drops a tenth of the labels, so that guidance works."""
    with seeded(seed, 0, CPU):
        network = data.denoiser()

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        x0, *labels = batch
        return PROCESS.loss(network, x0, *(drop_condition(y, data.classes, p=0.1) for y in labels))

    return begin(network, loss, data, seed, Optimizer(lr=2e-3, decay="constant"), folder)


def begin(
    model: nn.Module,
    loss: Callable[[nn.Module, Batch], Tensor],
    data: Data,
    seed: int,
    optimizer: Optimizer,
    folder: str | Path | None,
) -> Training:
    """Either kind: a constant learning rate, averaged weights, and no fixed number of steps."""
    folder = folder and Folder(folder)
    settings = dict(ema=data.ema, seed=seed, device="cpu", folder=folder, optimizer=optimizer)
    return train(model, loss, data.batch, steps=ENDLESS, **settings)


def train_for(training: Training, cpu_seconds: float) -> str | None:
    """Train until that much CPU time is spent; what went wrong, if something did.

    >>> from course_lib.teaching.gan_data import Ring
    >>> training = begin_gan(Ring(), seed=0)
    >>> train_for(training, cpu_seconds=0.01), training.cpu_seconds >= 0.01
    (None, True)
    """
    try:
        while training.cpu_seconds < cpu_seconds:
            training.advance()
    except RuntimeError as error:
        return str(error)
    return None


Draw = Callable[..., Tensor]  # (seeds, *labels) -> samples, one for each seed


def gan_draw(gan: nn.Module, truncation: float = 1.0) -> Draw:
    """Draws with a GAN. Truncation: the noise is multiplied by it (Brock et al. 2019, section 3.1,
    cut it off instead). Below 1, samples come from where the noise is most likely."""

    def draw(seeds: range, *labels: Tensor) -> Tensor:
        z = truncation * initial_noise(generators(seeds), (gan.latent,))
        return gan(z, *labels)

    return draw


def diffusion_draw(
    network: nn.Module, data: Data, guidance: float = 1.0, steps: int = STEPS
) -> Draw:
    """Draws with a diffusion model, in DDIM steps; guidance 1 means none."""
    clip = None if len(data.shape) == 1 else 1.0  # pixels are in [-1, 1]

    def draw(seeds: range, *labels: Tensor) -> Tensor:
        noise = initial_noise(generators(seeds), data.shape)
        model = guided(network, data.classes, guidance) if labels else network
        return sample(PROCESS, model, noise, *labels, steps=steps, clip=clip)

    return draw


@torch.no_grad()
def drawn(draw: Draw, count: int, *labels: Tensor) -> tuple[Tensor, float]:
    """`count` samples in [-1, 1], if they are images, and the CPU seconds that each took."""
    samples, before = [], time.process_time()
    for start in range(0, count, BATCH):
        some = range(start, min(start + BATCH, count))
        samples.append(draw(some, *(label[some.start : some.stop] for label in labels)))
    seconds = (time.process_time() - before) / count
    samples = torch.cat(samples)
    return samples if samples.dim() == 2 else samples.clamp(-1, 1), seconds


def measure(data: Data, samples: Tensor, real: Batch) -> dict[str, float]:
    """How real and how varied the samples are. They have the labels of the first `real` ones.

    "right": the share that shows a mode; "modes": how many different ones; "diversity": the mean
    distance of two samples' features, in units of the real ones'.
    """
    count = len(samples)
    labels = [label[:count] for label in real[1:]]
    ours, theirs = data.features(samples), data.features(real[0][count:])
    shown = data.modes(samples, *labels)
    precision, recall = precision_recall(theirs, ours)
    return {
        "modes": different(shown),
        "right": sum(mode is not None for mode in shown) / count,
        "frechet": frechet_distance(ours, theirs),
        "kernel": kernel_distance(ours, theirs),
        "precision": precision,
        "recall": recall,
        "diversity": spread(ours) / spread(theirs),
    } | data.properties(samples, *labels)


def floors(data: Data, count: int, real: Batch) -> dict[str, float]:
    """The same measurements of `count` real samples: no model should be expected to beat them."""
    of_real = measure(data, real[0][:count], real)
    features = data.features(real[0])
    of_real["frechet"] = floor(frechet_distance, features, count)[0]
    of_real["kernel"], of_real["kernel spread"] = floor(kernel_distance, features, count)
    return {f"{name} of real": value for name, value in of_real.items()}


def spread(features: Tensor) -> float:
    """The mean distance between two samples' features.

    >>> spread(torch.tensor([[0.0], [1.0], [2.0]]))  # 1, 1 and 2
    1.3333333730697632
    """
    return torch.pdist(features).mean().item()
