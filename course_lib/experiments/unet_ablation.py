"""What each part of the U-Net is worth: `digits-ddpm`, trained again without it.

    python -m course_lib.experiments.unet_ablation "no skips" 1

Every variant sees the same batches, times and noise in the same order for the same number of
steps; only the network differs. Chapter 04 shows the loss on held-out digits, as a whole and by
time, and how good the samples are.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.registry import choose
from course_lib.evaluation.distances import frechet_distance
from course_lib.experiments.study import Outcome, Study
from course_lib.recipes.digits import SMALL, DigitsDDPM, diffusion_loss, draw, like_real
from course_lib.teaching.unet_variants import VARIANTS, loss_by_time, parameters

STEPS = 500
SAMPLES = 256  # as many as there are held-out digits
BANDS = 10  # of time


class Variant(DigitsDDPM):
    """`digits-ddpm` with another network."""

    def __init__(self, name: str):
        super().__init__()
        self.network = choose("variant", name, VARIANTS)

    def model(self) -> nn.Module:
        return self.network(**SMALL)


def run(variant: str, seed: int) -> Outcome:
    """Train one variant and evaluate it."""
    recipe = Variant(variant)
    folder = Path("outputs") / "unet_ablation" / variant.replace(" ", "-") / f"seed-{seed}"
    training = recipe.begin(steps=STEPS, seed=seed, device="cpu", folder=folder)
    for step in training:
        if step.index % 100 == 0:
            print(f"{variant}, seed {seed}: step {step.index}, loss {step.loss:.4f}", flush=True)
    return evaluate(recipe, training.ema)


def evaluate(recipe: DigitsDDPM, network: nn.Module, samples: int = SAMPLES) -> Outcome:
    """The losses on held-out digits, and how close samples are to real ones."""
    images = draw(recipe.process, network, range(samples), "cpu")
    return Outcome(
        settings={"steps": STEPS, "samples": samples},
        metrics={
            "parameters": parameters(network),
            "test_loss": diffusion_loss(recipe.process, network, recipe.test_images).value,
            "like_real": like_real(images, recipe),
            "frechet distance": frechet_distance(pooled(images), pooled(recipe.test_images)),
            "frechet floor": frechet_floor(recipe, samples),
        },
        curve={
            "time": [(band + 0.5) / BANDS for band in range(BANDS)],
            "loss": loss_by_time(recipe.process, network, recipe.test_images, BANDS),
        },
    )


def frechet_floor(recipe: DigitsDDPM, samples: int) -> float:
    """What real digits score: as many training digits as samples, taken in their place."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(recipe.images), generator=generator)[:samples]
    return frechet_distance(pooled(recipe.images[chosen]), pooled(recipe.test_images))


def pooled(images: Tensor) -> Tensor:
    """Digits at the size of the original scans, as features: (B, 1, 16, 16) -> (B, 64)."""
    return F.avg_pool2d(images, 2).flatten(1)


STUDY = Study("unet_ablation", list(VARIANTS), (1, 2), run)

if __name__ == "__main__":
    STUDY.main()
