"""What a recipe is: everything that a named, seeded training needs, on one screen.

    recipe = choose("recipe", "digits-ddpm", RECIPES)()
    run = recipe.begin(folder="outputs/digits-ddpm")    # goes on where that folder ends
    for step in run:
        if step.index % recipe.sample_every == 0:
            images, titles = recipe.samples(run.ema)   # (N, C, H, W) in [-1, 1]
    recipe.publish(run)

`begin(steps=…)` is the same recipe with its learning rate squeezed into fewer steps. To see only
the first minute of the full one, begin it as it is and stop early: the numbers are those of the
recorded training.
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
    goal: str | None = None  # the property, a share, that says how good the model is
    half = True  # publish matrices and kernels in float16
    save_every = 250  # steps between two saved states
    sample_every = 250  # steps between two looks at `samples`
    ships = True  # whether a trained model is part of the repository
    takes_folder = False  # whether a `CaptionedFolder` may take the place of its data
    draws_captions = False  # whether its model is a text-to-image model, with a `pipeline`

    @abstractmethod
    def model(self) -> nn.Module:
        """The model with its initial weights, drawn from torch's random numbers."""

    @abstractmethod
    def batch(self, index: int):
        """A batch's data, drawn from torch's random numbers, which `train` seeds by its index."""

    @abstractmethod
    def loss(self, model: nn.Module, data) -> Tensor:
        """The scalar to minimise."""

    @abstractmethod
    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        """What the model makes now: images (N, C, H, W) in [-1, 1], with a title for each."""

    @abstractmethod
    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        """The card's metrics, from `count` samples (of each kind and split)."""

    def score(self, model: nn.Module, count: int = 32) -> float:
        """The one share, 0 to 1, by which a training is judged: `course train --until`."""
        return mean_share(self.measure(model, count), self.goal)

    def pipeline(self, model: nn.Module) -> LatentDiffusion:
        """The text-to-image pipeline around this model of the recipe's."""
        raise ValueError(f"{self.name} is not a text-to-image model")

    def begin(
        self, *, folder: str | Path | None = None, resume: bool = True, **changes
    ) -> Training:
        """The training, ready to iterate over.

        folder: keeps its state and its log, and is resumed unless resume=False.
        changes: override settings: steps, seed, device, optimizer, ema, scale.
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
        """What else the batches depend on: names with checksums. A resumed training needs the same.

        "pictures" are a reader's own.
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

        command: what was typed, if it was more than `course train NAME`.
        """
        facts = {
            "command": command or f"course train {self.name}",
            "metrics": to_card(self.measure(run.ema, count)),
            "curve": curve(run.folder.log) if run.folder else [],
        }
        return save_checkpoint(name_or_path or self.name, run.ema, self.half, **run.card, **facts)


def curve(log: Path, points: int = 100) -> list[list[float]]:
    """A training's log as [step, mean loss up to there] pairs: about `points` of them."""
    try:
        losses = torch.tensor([json.loads(line)["loss"] for line in log.read_text().splitlines()])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{log} is damaged, and with it the card's curve: {error}") from error
    size = max(1, len(losses) // points)
    means = losses[: len(losses) // size * size].view(-1, size).mean(1)
    return [[(i + 1) * size, round(mean, 5)] for i, mean in enumerate(means.tolist())]
