"""The same job in latents and, for three times as long, in pixels, at 32 × 32; three seeds of each.

    python -m course_lib.experiments.spaces              # runs what the record lacks
    python -m course_lib.experiments.spaces latent 0     # one run: a space and its seed

Both learn to draw captioned scenes on one core, with the same loss, optimiser, batches and start
for the text encoder. The latent run pays for an autoencoder of its own first. Now and then the
oracle judges pictures of held-out captions; `recorded/spaces/` gets a file for each run.
"""

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from course_lib.common.paths import RECORDED
from course_lib.common.registry import choose
from course_lib.experiments.runs import Runs
from course_lib.experiments.tricks import begin, distances, finish, judge
from course_lib.models import AutoencoderKL
from course_lib.recipes.scenes import ScenesDiffusion, ScenesVAE

BUDGETS = {"latent": 15 * 60, "pixel": 45 * 60}  # seconds of CPU time for a run
AUTOENCODER = 150  # of them, the latent run's first
LOOKS = 9  # in equal steps of the diffusion model's training
COUNT = 16  # captions of each kind and split, 96 in all: a share of 0.5 is known to ± 0.05


class SmallVAE(ScenesVAE):
    """Pictures (3, 32, 32) <-> latents (8, 8, 8): 6 times fewer numbers."""

    size = 32

    def model(self) -> nn.Module:
        sizes = dict(latent_channels=8, channels=128, multipliers=(1,), decoder_layers_per_block=1)
        return AutoencoderKL(**sizes, patch_size=4, stem_channels=16, attention=False)


class Pixel(ScenesDiffusion):
    """Diffusion of the pixels: two stages above those of the latents' U-Net."""

    size, kinds = 32, ScenesVAE.kinds
    components = (None, "scenes-clip")
    settings = dict(lr=3e-3, warmup=30, optimizer="muon", ema=0.999, precision="auto")
    unet = dict(
        in_channels=3,
        channels=32,
        multipliers=(1, 2, 4, 4),
        layers_per_block=1,
        attention=(False, False, False, True),
        mlp_ratio=2,
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
    """The recipe around an autoencoder of its own, and the CPU seconds of that one's training."""
    first, recipe = SmallVAE(), Latent()
    run = begin(first, seed, AUTOENCODER)
    recipe.vae = finish(first, run)
    return recipe, run.cpu_seconds


SPACES: dict[str, Callable[[int], tuple[ScenesDiffusion, float]]] = {
    "latent": latent,
    "pixel": pixel,
}


def run(space: str, seed: int) -> dict:
    """Train in one space; the looks on the way, and the Fréchet distance at the end."""
    recipe, spent = choose("space", space, SPACES)(seed)
    training, looks = begin(recipe, seed, BUDGETS[space] - spent), []
    for step in training:
        if step.index * LOOKS // training.steps > len(looks):
            minutes = round((spent + training.cpu_seconds) / 60, 2)
            looks.append({"cpu_minutes": minutes} | judge(recipe, training.ema, COUNT))
            print(space, seed, step.index, looks[-1], flush=True)
    facts = {"space": space, "seed": seed, "steps": training.steps, "looks": looks}
    return facts | distances(recipe, training.ema)


def reached(looks: list[dict], level: float, what: str = "properties") -> float:
    """CPU minutes at which the line through the looks crosses that share; infinity if it does not.

    Where the first look is above it already, the minutes of that look.
    """
    for before, now in pairwise([looks[0], *looks]):
        if now[what] >= level:
            rise = now[what] - before[what]
            part = (level - before[what]) / rise if rise else 1.0
            return before["cpu_minutes"] + part * (now["cpu_minutes"] - before["cpu_minutes"])
    return float("inf")


RUNS = Runs(RECORDED / "spaces", run, list(SPACES), (0, 1, 2))

if __name__ == "__main__":
    RUNS.main()
