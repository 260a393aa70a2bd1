"""Diffusion in latents against diffusion in pixels, which get three times as long, at 32 × 32.

    python -m course_lib.experiments.pixel_vs_latent latent 0

Both learn to draw captioned scenes on one core with the same loss, optimiser, batches and initial
text encoder. The latent run first trains an autoencoder of its own, within its budget. At regular
intervals the oracle grades images of held-out captions. Chapter 09 draws the curves.
"""

from collections.abc import Callable

from torch import nn

from course_lib.common.registry import choose
from course_lib.experiments.budget import accuracy, begin, distances, finished_vae
from course_lib.experiments.study import Outcome, Study
from course_lib.models import AutoencoderKL
from course_lib.recipes.scenes import ScenesDiffusion, ScenesVAE
from course_lib.training import Optimizer, Scale

BUDGETS = {"latent": 15 * 60, "pixel": 45 * 60}  # seconds of CPU time for a run
VAE_BUDGET = 150  # of them, for the latent run's autoencoder
EVALUATIONS = 9  # at equal intervals of the diffusion model's training
CAPTIONS = 16  # of each kind and split, 96 in all: a share of 0.5 is known to ± 0.05


class SmallVAE(ScenesVAE):
    """Images (3, 32, 32) <-> latents (8, 8, 8): 6 times fewer numbers."""

    size = 32

    def model(self) -> nn.Module:
        sizes = dict(latent_channels=8, channels=128, multipliers=(1,), decoder_blocks=1)
        return AutoencoderKL(**sizes, patch=4, planes=16, attention=False)


class Pixel(ScenesDiffusion):
    """Diffusion of the pixels: two more levels above those of the latents' U-Net."""

    size, kinds = 32, ScenesVAE.kinds
    components = (None, "scenes-clip")
    settings = dict(
        optimizer=Optimizer("muon", lr=3e-3, warmup=30), ema=0.999, scale=Scale(precision="auto")
    )
    unet = dict(
        in_channels=3,
        channels=32,
        multipliers=(1, 2, 4, 4),
        blocks=1,
        attention=(False, False, False, True),
        mlp=2,
        context_dim=128,
        film=True,
    )


class Latent(Pixel):
    """Diffusion of an autoencoder's latents (8, 8, 8)."""

    unet = Pixel.unet | dict(
        in_channels=8, channels=128, multipliers=(1, 1), attention=(False, True)
    )


def pixel(seed: int) -> tuple[ScenesDiffusion, float]:
    """The recipe, and the CPU seconds that it has cost so far."""
    return Pixel(), 0.0


def latent(seed: int) -> tuple[ScenesDiffusion, float]:
    """The recipe with an autoencoder of its own, and the CPU seconds that its training took."""
    vae_recipe, recipe = SmallVAE(), Latent()
    training = begin(vae_recipe, seed, VAE_BUDGET)
    recipe.vae = finished_vae(vae_recipe, training)
    return recipe, training.cpu_seconds


VARIANTS: dict[str, Callable[[int], tuple[ScenesDiffusion, float]]] = {
    "latent": latent,
    "pixel": pixel,
}


def run(variant: str, seed: int) -> Outcome:
    """Train one variant: accuracy on the way, and the Fréchet distance at the end."""
    recipe, spent = choose("variant", variant, VARIANTS)(seed)
    training, curve = begin(recipe, seed, BUDGETS[variant] - spent), []
    for step in training:
        if step.index * EVALUATIONS // training.steps > len(curve):
            minutes = round((spent + training.cpu_seconds) / 60, 2)
            curve.append({"cpu_minutes": minutes} | accuracy(recipe, training.ema, CAPTIONS))
            print(variant, seed, step.index, curve[-1], flush=True)
    return Outcome(
        settings={
            "steps": training.steps,
            "cpu_minutes": BUDGETS[variant] / 60,
            "vae_cpu_minutes": VAE_BUDGET / 60 if variant == "latent" else 0.0,
            "captions": CAPTIONS,
        },
        metrics=distances(recipe, training.ema),
        curve={name: [each[name] for each in curve] for name in curve[0]},
    )


STUDY = Study("pixel_vs_latent", list(VARIANTS), (0, 1, 2), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
