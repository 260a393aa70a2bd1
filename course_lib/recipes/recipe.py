"""What a recipe is: everything that a named, seeded training needs.

    recipe = choose("recipe", "digits-ddpm", RECIPES)()
    run = recipe.begin(folder="outputs/digits-ddpm")    # resumes the run in that folder
    for step in run:
        if step.index % recipe.sample_every == 0:
            images, titles = recipe.samples(run.ema)   # (N, C, H, W) in [-1, 1]
    recipe.publish(run)

`begin(steps=…)` is the same recipe with its learning-rate schedule compressed into fewer steps. To
see only the first minute of the full training, begin it unchanged and stop early: the numbers are
those of the recorded training.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from course_lib.common.checkpoints import save_checkpoint
from course_lib.common.checks import torch_seeds
from course_lib.evaluation.metrics import Metric, mean_share, to_card
from course_lib.pipelines import LatentDiffusion
from course_lib.training import Folder, Training, train


class Recipe(ABC):
    """The model, its data and its loss; how to look at it; how to measure it."""

    name: str  # of the recipe and of its checkpoint
    settings: ClassVar[dict]  # keywords of `train`
    goal: str | None = None  # the metric, a share, that says how good the model is
    half = True  # publish matrices and kernels in float16
    save_every = 250  # steps between two saved states
    sample_every = 250  # steps between two sets of `samples`
    ships = True  # whether a trained model is part of the repository
    takes_folder = False  # whether it can train on a `CaptionedFolder` instead
    draws_captions = False  # whether its model is a text-to-image model, with a `pipeline`
    steers: str | None = None  # the text-to-image model that it steers, if it is a ControlNet

    @abstractmethod
    def model(self) -> nn.Module:
        """The model with its initial weights, drawn from torch's random numbers."""

    @abstractmethod
    def batch(self, index: int):
        """A batch's data, drawn from torch's random numbers, which `train` seeds with the index."""

    @abstractmethod
    def loss(self, model: nn.Module, data) -> Tensor:
        """The scalar to minimise."""

    @abstractmethod
    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        """The model's current samples: images (N, C, H, W) in [-1, 1], with a title for each."""

    @abstractmethod
    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        """The card's metrics, from `count` samples (for each kind and split)."""

    def score(self, model: nn.Module, count: int = 32) -> float:
        """The share, 0 to 1, that `course train --until` compares."""
        return mean_share(self.measure(model, count), self.goal)

    def pipeline(self, model: nn.Module) -> LatentDiffusion:
        """The text-to-image pipeline with this model, trained by the recipe."""
        raise ValueError(f"{self.name} is not a text-to-image model")

    def begin(
        self, *, folder: str | Path | None = None, resume: bool = True, **changes
    ) -> Training:
        """The training, ready to iterate over.

        folder: for the state and the log; an existing run is resumed unless resume=False.
        changes: override the settings: steps, seed, device, optimizer, ema, scale.
        """
        settings = self.settings | changes
        warmup = min(settings["optimizer"].warmup, settings["steps"] // 10)
        settings["optimizer"] = replace(settings["optimizer"], warmup=warmup)
        if folder is not None:
            folder = Folder(folder, self.save_every, resume, self.data_fingerprint())
        torch_seeds(seed := settings.get("seed", 0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.model()
        return train(model, self.loss, self.batch, folder=folder, **settings)

    def data_fingerprint(self) -> dict[str, str] | None:
        """Checksums of everything else that the batches depend on, which resuming compares.

        "pictures" are the reader's own.
        """
        return None

    def publish(
        self,
        run: Training,
        name_or_path: str | Path | None = None,
        count: int = 500,
        command: str | None = None,
    ) -> Path:
        """Measure the averaged model and write it, with its card, to `data/checkpoints`.

        command: the command line, if it was more than `course train NAME`.
        """
        facts = {
            "command": command or f"course train {self.name}",
            "metrics": to_card(self.measure(run.ema, count)),
            "curve": curve(run.folder.log) if run.folder else [],
        }
        model = self.for_inference(run.ema)
        return save_checkpoint(name_or_path or self.name, model, self.half, **run.card, **facts)

    def for_inference(self, model: nn.Module) -> nn.Module:
        """The model as it is published, without the heads that only training uses."""
        return model


def curve(log: Path, points: int = 100) -> list[list[float]]:
    """A training's log as about `points` pairs [step, mean loss since the previous pair]."""
    try:
        losses = torch.tensor([json.loads(line)["loss"] for line in log.read_text().splitlines()])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{log} is damaged, and with it the card's curve: {error}") from error
    size = max(1, len(losses) // points)
    means = losses[: len(losses) // size * size].view(-1, size).mean(1)
    return [[(i + 1) * size, round(mean, 5)] for i, mean in enumerate(means.tolist())]
