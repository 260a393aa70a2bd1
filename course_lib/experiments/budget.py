"""Trainings within a budget of CPU time, and what the oracle says about their images."""

from torch import nn

from course_lib.common.checkpoints import load_checkpoint
from course_lib.evaluation.metrics import mean_share
from course_lib.evaluation.prompts import distance_metrics, prompt_metrics
from course_lib.models import AutoencoderKL
from course_lib.models.classifier import Classifier
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
