"""Trainings within a budget of CPU time, and what the oracle says about their images."""

import json
import time
from pathlib import Path

from torch import nn

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.files import make_folder, write_files
from course_lib.evaluation.metrics import mean_share
from course_lib.evaluation.prompts import distance_metrics, prompt_metrics
from course_lib.models import AutoencoderKL, Classifier
from course_lib.recipes import Recipe
from course_lib.recipes.scenes import ScenesDiffusion, ScenesVAE
from course_lib.training import Training

SAMPLES = 200  # for the Fréchet distance


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
    """Shares over held-out captions, `captions` of each kind and split.

    "right": images that are right in everything; "properties": the mean over single properties.
    """
    metrics = prompt_metrics(recipe.draw(model), captions)
    parts = [metric.value for metric in metrics if metric.property != "right"]
    return {"right": mean_share(metrics, "right"), "properties": sum(parts) / len(parts)}


def distances(recipe: ScenesDiffusion, model: nn.Module) -> dict[str, float]:
    """The Fréchet distance of images to real ones, and that of real ones to each other."""
    features = load_checkpoint(Classifier, "scenes-features")
    metrics = distance_metrics(recipe.draw(model), features, recipe.size, SAMPLES)
    return {metric.property: metric.value for metric in metrics}
