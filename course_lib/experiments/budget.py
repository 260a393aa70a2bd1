"""Trainings within a budget of CPU time, and what the oracle says about their images."""

import json
import time
from bisect import insort
from collections.abc import Callable
from pathlib import Path

from torch import nn

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.files import make_folder, write_files
from course_lib.evaluation.metrics import mean_share
from course_lib.evaluation.prompts import Draw, distance_metrics, prompt_metrics
from course_lib.models import AutoencoderKL, Classifier
from course_lib.recipes import Recipe
from course_lib.recipes.scenes import ScenesDiffusion, ScenesVAE
from course_lib.training import Training

SAMPLES = 200  # for the Fréchet distance


class Clock:
    """Minutes as steps times the median time of a step, so that a busy moment doesn't count.

    before: minutes that were spent earlier. `wall_minutes` and `cpu_minutes` are what the steps
    really took; on a quiet machine `minutes` is close to both, on one thread.

    >>> clock = Clock(before=2.0)
    >>> for seconds in (6.0, 6.0, 60.0):  # the machine was busy
    ...     clock.add(seconds)
    >>> round(clock.minutes, 9), clock.steps
    (2.3, 3)
    """

    def __init__(self, before: float = 0.0):
        self.before, self.times = before, []  # sorted seconds
        self.wall_minutes = self.cpu_minutes = 0.0

    def time(self, step: Callable[[], object]) -> None:
        """Take a step and time it."""
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        self.add(time.perf_counter() - wall, time.process_time() - cpu)

    def add(self, seconds: float, cpu_seconds: float = 0.0) -> None:
        insort(self.times, seconds)
        self.wall_minutes += seconds / 60
        self.cpu_minutes += cpu_seconds / 60

    @property
    def steps(self) -> int:
        return len(self.times)

    @property
    def step_seconds(self) -> float:
        """The median."""
        return self.times[len(self.times) // 2] if self.times else 0.0

    @property
    def minutes(self) -> float:
        return self.before + self.steps * self.step_seconds / 60


def begin(recipe: Recipe, seed: int, cpu_seconds: float, **changes) -> Training:
    """A training with as many steps as that CPU time allows on this machine, after timing ten."""
    changes = dict(device="cpu", seed=seed) | changes
    trial = recipe.begin(steps=10**6, **changes)
    trial.advance()  # slower than the rest
    before = trial.cpu_seconds
    for _ in range(10):
        trial.advance()
    steps = int(cpu_seconds / ((trial.cpu_seconds - before) / 10))
    return recipe.begin(steps=steps, **changes)


def resumable(recipe: Recipe, seed: int, cpu_seconds: float, folder: Path) -> Training:
    """The same for a recipe with a pool of data, in a folder, where it resumes after a stop.

    Its first steps also make the pool, so a step is timed without its batches, and each of the
    pool's batches counts once. The number of steps is in the folder's budget.json.
    """
    plan = folder / "budget.json"
    if not plan.exists():
        make_folder(folder)
        steps = affordable(*step_and_batch(recipe, seed), recipe, cpu_seconds)
        write_files({plan: json.dumps({"steps": steps, "cpu_seconds": cpu_seconds}).encode()})
    steps = json.loads(plan.read_text())["steps"]
    return recipe.begin(steps=steps, seed=seed, device="cpu", folder=folder)


def step_and_batch(recipe: Recipe, seed: int, trials: int = 3) -> tuple[float, float]:
    """CPU seconds of a step without its batches, and of a new batch: means over `trials` steps."""
    trial = recipe.begin(steps=10**6, seed=seed, device="cpu")
    trial.advance()  # slower than the rest
    before, count = trial.cpu_seconds, recipe.settings["scale"].accumulate
    for _ in range(trials):
        trial.advance()
    both = (trial.cpu_seconds - before) / trials
    start = time.process_time()
    for index in range(trials):
        recipe.encoded(recipe.pool + index)  # beyond the pool, so that nothing is kept
    batch = (time.process_time() - start) / trials
    return max(both - count * batch, 0.1 * both), batch


def affordable(step: float, batch: float, recipe: Recipe, cpu_seconds: float) -> int:
    """The steps that fit: each makes its own batches, until the pool is complete."""
    count = recipe.settings["scale"].accumulate
    new = int(cpu_seconds / (step + count * batch))
    if new * count <= recipe.pool:
        return new
    return int((cpu_seconds - recipe.pool * batch) / step)


def finished_vae(recipe: ScenesVAE, training: Training) -> AutoencoderKL:
    """Train the autoencoder to the end; its averaged weights, with the scale of its latents."""
    for _ in training:
        pass
    training.ema.fit_scaling(recipe.data.batch(range(1000))[0])
    return training.ema


def accuracy(recipe: ScenesDiffusion, model: nn.Module, captions: int) -> dict[str, float]:
    """The shares of the images that the recipe's pipeline draws with this model."""
    return shares(recipe.draw(model), captions)


def shares(draw: Draw, captions: int) -> dict[str, float]:
    """Shares over held-out captions, `captions` of each kind and split.

    "right": images that are right in everything; "properties": the mean over single properties.
    """
    metrics = prompt_metrics(draw, captions)
    parts = [metric.value for metric in metrics if metric.property != "right"]
    return {"right": mean_share(metrics, "right"), "properties": sum(parts) / len(parts)}


def distances(recipe: ScenesDiffusion, model: nn.Module) -> dict[str, float]:
    """The Fréchet distance of images to real ones, and that of real ones to each other."""
    features = load_checkpoint(Classifier, "scenes-features")
    metrics = distance_metrics(recipe.draw(model), features, recipe.size, SAMPLES)
    return {metric.property: metric.value for metric in metrics}
