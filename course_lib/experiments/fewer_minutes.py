"""Ideas for fewer minutes to a right picture: screened at a quarter of the minutes, then in full.

    python -m course_lib.experiments.fewer_minutes "singles first" 0     # 9 minutes on one core
    python -m course_lib.experiments.fewer_minutes "shipped, in full" 1  # an hour on one core
    python -m course_lib.experiments.fewer_minutes --table               # what the screening found

**The screening.** Each idea is `scenes-latent` with one change. It gets a quarter of the CPU time
that the shipped training takes on one core: its number of steps is chosen after timing some. Then
it is measured by the loss with fixed noise and by 504 prompts. The cost is stated as steps times
the median time of a step, plus the pool's batches; the CPU time that it really took stands beside
it. So compare "loss" and "properties" with those of "shipped" at about the same minutes. An idea
that changes the autoencoder has other latents, so its loss can't be compared with the others'. Its
reference is "own autoencoder", the shipped autoencoder's recipe at a quarter of its time. Seeds 0
and 1, two runs at a time, one on each core:

    screen() {
      python -m course_lib.experiments.fewer_minutes "$1" 0 &
      python -m course_lib.experiments.fewer_minutes "$1" 1; wait
    }
    screen "shipped"; screen "mean of checkpoints"; screen "alignment early only"
    screen "singles first"; screen "larger batches late"; screen "Muon every second step"
    screen "linear skip"; screen "own autoencoder"; screen "equivariant latents"
    screen "smaller autoencoder"

That takes about 100 minutes: 8 for each of the first seven, and 13 for each autoencoder.

**In full.** All three parts train from scratch with the seed, with all of their steps or with a
share of them. Then 2,000 prompts of each kind and split are drawn, with 95 % intervals. Add an idea
to CONFIRMED if the screening is for it; a class that inherits two of them combines them. The first
goal, 15 minutes, is half of the shipped steps with no share more than 1.5 points lower; the second,
10 minutes, is a third of them. "shipped, in full" with seeds 1 and 2 says how much is luck.

Tried before, and not again here: the variants of `text_to_image_ablation`, and those of
tests/benchmarks/LOG.md and data/checkpoints/README.md, such as fewer latent channels, exact
directions in Muon, and attention at 8 × 8. A text encoder pretrained on captions alone would spare
CLIP's 1.6 minutes, but REPA needs CLIP's image encoder. Tokens can't be dropped in a U-Net of
convolutions.
"""

import copy
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checkpoints import read_card, save_checkpoint
from course_lib.common.registry import choose
from course_lib.datasets.scenes import Scenes
from course_lib.diffusion import Diffusion
from course_lib.evaluation.prompts import prompt_metrics
from course_lib.experiments.budget import accuracy, affordable, begin, finished_vae
from course_lib.experiments.study import Outcome, Study
from course_lib.experiments.text_to_image_ablation import Baseline
from course_lib.models import AutoencoderKL
from course_lib.recipes import Recipe
from course_lib.recipes.scenes import ScenesCLIP, ScenesDiffusion, ScenesVAE
from course_lib.teaching.results import by_variant, load_results
from course_lib.training import Optimizer, Training
from course_lib.training.optimizers import Muon

BUDGET = 420  # seconds of CPU time on one core: a quarter of what 5,000 steps take
VAE_BUDGET = 190  # the same for the autoencoder's 4,200 steps
CAPTIONS = 84  # of each kind and split, 504 in all: a share of 0.5 is known to ± 0.04
MANY = 2000  # of each kind and split, in full
HELD_OUT = 300  # scenes for the loss
OUTPUTS = Path("outputs") / "fewer_minutes"


# ---- the ideas ---------------------------------------------------------------------------------


class Shipped(Baseline):
    """The recipe unchanged. An idea overrides what `Baseline` names, or one of these."""

    label = "shipped"
    autoencoder: type[ScenesVAE] | None = None  # what the idea trains instead of the shipped one

    def prepare(self, seed):
        if self.autoencoder is None:
            return {}
        recipe = self.autoencoder()
        training = begin(recipe, seed, VAE_BUDGET)
        self.vae = finished_vae(recipe, training)
        right = recipe.score(self.vae, CAPTIONS)
        return {"vae_steps": training.steps, "reconstructions right": right}

    def begin(self, **changes) -> Training:
        settings = self.settings | self.settings_changes | changes
        self.batches = settings["steps"] * settings["scale"].accumulate  # of the whole training
        return super().begin(**self.settings_changes | changes)

    def finish(self, training: Training) -> nn.Module:
        """Train to the end; the model to measure."""
        for _ in training:
            pass
        return training.ema


class MeanOfCheckpoints(Shipped):
    """The mean of the last checkpoints instead of an EMA, as many as are best after the training.

    In a short training the EMA's thousand steps reach back to weights that were still poor. A
    window that fits the training needs fewer steps for the same loss (Ajroldi et al. 2025).
    """

    label = "mean of checkpoints"
    settings_changes = dict(ema=0.0)
    windows = 1, 5, 10, 20  # checkpoints, a hundredth of the training apart

    def finish(self, training):
        kept = deque(maxlen=max(self.windows))
        for step in training:
            if step.index % max(training.steps // 100, 1) == 0 or step.index == training.steps:
                kept.append(copy.deepcopy(training.model.state_dict()))
        model, scenes = training.ema, Scenes(self.size, "train", seed=2).batch(range(HELD_OUT))

        def loss_of(window: int) -> float:
            model.load_state_dict(mean_weights(list(kept)[-window:]))
            return self.fixed_loss(model, *scenes)

        model.load_state_dict(mean_weights(list(kept)[-min(self.windows, key=loss_of) :]))
        return model


class AlignmentEarly(Shipped):
    """REPA for the first two fifths only: it helps early, and later it holds the U-Net back.

    Wang et al. 2025 (HASTE) end it in this way. Without it, a step is also a little cheaper.
    """

    label = "alignment early only"

    def batch(self, index):
        *data, seen = super().batch(index)
        return *data, seen if index < 0.4 * self.batches else None

    def loss(self, model, data, p=0.1):
        aligned = data[-1] is not None
        return super().loss(model, data, p) if aligned else self.denoising(model, data[:-1], p)

    denoising = ScenesDiffusion.loss


class SinglesFirst(Shipped):
    """Single objects alone for the first fifth: shapes and colours are learned from them sooner.

    A curriculum from simple to complex images (Data Warmup, 2026) reached the same quality earlier.
    """

    label = "singles first"

    def batch(self, index):
        early = self.batches // 10 * 2
        if index >= early:
            return super().batch(index - early)
        singles = Scenes(self.size, "train", "single")
        count = self.batch_size
        return self.encode(*singles.batch(range(index * count, (index + 1) * count)))


class LargerBatchesLate(Shipped):
    """Half of the pictures in a step until the middle, twice as many in the last quarter.

    The gradient's noise hardly matters while the loss still falls fast, so pictures are spared
    early, for the end (Smith et al. 2018; McCandlish et al. 2018). `text_to_image_ablation` had 32
    in a step throughout.
    """

    label = "larger batches late"

    def batch(self, index):
        data = super().batch(index)
        if index < self.batches / 2:
            return tuple(part[: self.batch_size // 2] for part in data)
        if index < self.batches * 3 / 4:
            return data
        more = super().batch(index + self.batches)  # from the pool
        return tuple(torch.cat(both) for both in zip(data, more, strict=True))


class EverySecond(Optimizer):
    """Muon that computes its directions at every second step and takes each of them twice."""

    def build(self, model):
        muon, rest = super().build(model)
        return [LazyMuon(muon.param_groups[0]["params"], self.lr), rest]


class LazyMuon(Muon):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.moves = None  # what the last step added, if it is to be added again

    @torch.no_grad()
    def step(self, closure=None):
        (group,) = self.param_groups
        kernels = [p for p in group["params"] if p.grad is not None]
        if self.moves is None:
            before = [p.clone() for p in kernels]
            super().step()
            self.moves = torch._foreach_sub(kernels, before)
        else:
            self.nesterov(kernels, group["momentum"])  # the momentum sees every gradient
            torch._foreach_add_(kernels, self.moves)
            self.moves = None


class MuonEverySecond(Shipped):
    """Newton-Schulz at every second step: it is about a sixth of a step (tests/benchmarks/LOG.md).

    The momentum averages twenty gradients, so from one step to the next its direction hardly turns.

    Khaled et al. 2025 (MuonBP) orthogonalise in full only now and then.
    """

    label = "Muon every second step"
    settings_changes = dict(optimizer=EverySecond("muon", lr=3e-3, warmup=30))


class WithSkip(nn.Module):
    """The network's prediction plus the best linear one from x alone, for data of variance 1."""

    def __init__(self, unet: nn.Module, process: Diffusion):
        super().__init__()
        self.unet, self.process = unet, process

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        alpha, sigma = self.process.at(self.process.schedule.time(timestep), x)
        a, b = self.process.coefficients(alpha, sigma)
        return self.unet(x, timestep, context) + (a * alpha + b * sigma) / (alpha**2 + sigma**2) * x


class LinearSkip(Shipped):
    """The network starts as the best linear predictor, so it needs no steps to learn to copy.

    This is the skip of Karras et al. 2022 (table 1, c_skip), for a prediction of the velocity.
    """

    label = "linear skip"

    def change(self, model):
        model.unet = WithSkip(model.unet, self.process)
        return model

    def features(self, model):
        return model.unet.unet.mid_block


class OwnAutoencoder(Shipped):
    """The reference of the two ideas below: an autoencoder trained at a quarter of its time."""

    label = "own autoencoder"
    autoencoder = ScenesVAE
    components = None, "scenes-clip"


class EquivariantVAE(ScenesVAE):
    """Half of the batches are turned or halved between encoder and decoder."""

    def loss(self, model, images):
        turn = random_transform() if torch.rand(()) < 0.5 else lambda x: x
        return model.loss(images, self.kl_weight, self.noise, turn)[0]


class EquivariantLatents(OwnAutoencoder):
    """Latents that turn and shrink with the picture are easier to diffuse.

    Kouzelis et al. 2025 (EQ-VAE) needed several times fewer steps on such latents.
    """

    label = "equivariant latents"
    autoencoder = EquivariantVAE


class SmallerVAE(ScenesVAE):
    def model(self):
        return AutoencoderKL(**super().model().kwargs | dict(channels=96))


class SmallerAutoencoder(OwnAutoencoder):
    """96 channels instead of 128: nearly half fewer products at 8 × 8, so more steps in its time.

    It takes a quarter of all minutes. The oracle reads 98 to 100 % of its reconstructions right,
    more than of the U-Net's pictures, so some of that may be spared.
    """

    label = "smaller autoencoder"
    autoencoder = SmallerVAE


IDEAS = {
    idea.label: idea
    for idea in (
        *(Shipped, MeanOfCheckpoints, AlignmentEarly, SinglesFirst, LargerBatchesLate),
        *(MuonEverySecond, LinearSkip, OwnAutoencoder, EquivariantLatents, SmallerAutoencoder),
    )
}
CONFIRMED = ["shipped"]  # labels of IDEAS to train in full
LENGTHS = {"in full": 1.0, "half": 1 / 2, "a third": 1 / 3}  # of all three trainings' steps


def mean_weights(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several states of one model."""
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def random_transform() -> Callable[[Tensor], Tensor]:
    """Turns by 90, 180 or 270 degrees, or halves, latents and pictures (B, C, H, W) alike."""
    k = int(torch.randint(4, ()))
    return (lambda x: torch.rot90(x, k, (2, 3))) if k else (lambda x: F.avg_pool2d(x, 2))


# ---- the cost ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a step without new batches, and of a new batch of the pool."""

    step: float
    batch: float

    def minutes(self, recipe: Recipe, steps: int) -> float:
        """What a training of that many steps costs."""
        new = min(getattr(recipe, "pool", 0), steps * recipe.settings["scale"].accumulate)
        return (steps * self.step + new * self.batch) / 60


def cost(recipe: Recipe, seed: int, points=(0.1, 0.3, 0.5, 0.7, 0.9), rounds: int = 4) -> Cost:
    """The median time of a step at some points of a training, averaged over them.

    Some ideas change what a step costs on the way. A pool is replaced by one of four batches.
    """
    pool, recipe.pool = getattr(recipe, "pool", 0), 4
    trial = recipe.begin(steps=1000, seed=seed, device="cpu")
    at_points = []
    for point in points:
        trial.done = int(point * trial.steps)
        trial.advance()  # slower than the rest
        at_points.append(median(cpu_seconds(trial.advance) for _ in range(rounds)))
    recipe.pool = pool
    new = (cpu_seconds(lambda n=n: recipe.encoded(pool + n)) for n in range(3)) if pool else [0.0]
    return Cost(mean(at_points), median(new))


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


# ---- the study ---------------------------------------------------------------------------------


def run(variant: str, seed: int) -> Outcome:
    """Train an idea at a quarter of the time, or all three parts with a share of their steps."""
    choose("variant", variant, dict.fromkeys(STUDY.variants))
    label, _, length = variant.partition(", ")
    return whole(IDEAS[label], seed, length) if length else quarter(IDEAS[label], seed)


def quarter(idea: type[Shipped], seed: int) -> Outcome:
    """The idea within the budget, its loss with fixed noise, and 504 prompts."""
    recipe = idea()
    prepared = recipe.prepare(seed)
    price = cost(recipe, seed)
    steps = affordable(price.step, price.batch, recipe, BUDGET)
    training = recipe.begin(steps=steps, seed=seed, device="cpu")
    model = recipe.finish(training)
    metrics = {
        "minutes": price.minutes(recipe, steps),
        "cpu_minutes": training.cpu_seconds / 60,
        "loss": recipe.fixed_loss(model, *recipe.held_out(HELD_OUT)),
    }
    return Outcome(
        settings={"steps": steps, "step_seconds": price.step, "captions": CAPTIONS},
        metrics=metrics | accuracy(recipe, model, CAPTIONS) | prepared,
    )


def whole(idea: type[Shipped], seed: int, length: str) -> Outcome:
    """All three trainings, each resumable, and 2,000 prompts of each kind and split."""
    folder = OUTPUTS / f"{idea.label} {length}".replace(" ", "-") / f"seed-{seed}"
    first = [
        published(recipe(), folder, seed, LENGTHS[length])
        for recipe in (idea.autoencoder or ScenesVAE, ScenesCLIP)
    ]
    before = sum(read_card(path)["cpu_minutes"] for path in first)
    recipe = type("Whole", (idea,), dict(components=tuple(map(str, first))))()
    price = cost(recipe, seed)
    steps = round(LENGTHS[length] * recipe.settings["steps"])
    training = recipe.begin(steps=steps, seed=seed, device="cpu", folder=folder / recipe.name)
    model = recipe.finish(training)
    save_checkpoint(folder / f"{recipe.name}.safetensors", recipe.for_inference(model), half=True)
    metrics = {
        "minutes": before + price.minutes(recipe, steps),
        "cpu_minutes": before + training.cpu_seconds / 60,
    }
    for metric in prompt_metrics(recipe.draw(model), MANY):
        names = metric.label, f"{metric.label}, low", f"{metric.label}, high"
        metrics |= dict(zip(names, (metric.value, *metric.interval), strict=True))
    settings = {"steps": steps, "step_seconds": price.step, "captions": MANY}
    return Outcome(settings, metrics)


def published(recipe: Recipe, folder: Path, seed: int, share: float) -> Path:
    """The checkpoint of that recipe's training with a share of its steps, unless it is there."""
    path = folder / f"{recipe.name}.safetensors"
    if not path.exists():
        steps = round(share * recipe.settings["steps"])
        run = recipe.begin(steps=steps, seed=seed, device="cpu", folder=folder / recipe.name)
        for _ in run:
            pass
        recipe.publish(run, path)
    return path


def table() -> Iterator[str]:
    """What the screening found, as the means over the seeds."""
    columns = "minutes", "loss", "properties", "right"
    yield f"| idea | {' | '.join(columns)} | seeds |"
    yield "|---" * (len(columns) + 2) + "|"
    for label, runs in by_variant(load_results("fewer_minutes")).items():
        if label in IDEAS:
            means = [mean(run.metrics[name] for run in runs) for name in columns]
            yield f"| {label} | {' | '.join(f'{x:.3f}' for x in means)} | {len(runs)} |"


VARIANTS = [*IDEAS, *(f"{label}, {length}" for label in CONFIRMED for length in LENGTHS)]
STUDY = Study("fewer_minutes", VARIANTS, (0, 1, 2), run, threads=1)

if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        print(*table(), sep="\n")
    else:
        STUDY.main()
