"""What a recipe is: everything that a named, seeded training needs, on one screen.

    recipe = choose("recipe", "digits-ddpm", RECIPES)()
    run = recipe.begin(folder="outputs/digits-ddpm")    # goes on where that folder ends
    for step in run:
        if step.index % recipe.look_every == 0:
            images, titles = recipe.pictures(run.ema)   # (N, C, H, W) in [-1, 1]
    recipe.publish(run)

`begin(steps=…)` is the same recipe with its learning rate squeezed into fewer steps. To see only
the first minute of the full one, begin it as it is and stop early: the numbers are those of the
recorded training.
"""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from course_lib.common.checkpoints import save_checkpoint
from course_lib.training.loop import Training, train


class Recipe(ABC):
    """The model, its data and its loss; how to look at it; how to measure it."""

    name: str  # of the recipe and of its checkpoint
    settings: ClassVar[dict]  # keywords of `train`
    goal: str | None = None  # the figure of `measure`, a share, that says how good the model is
    half = True  # publish matrices and kernels in float16
    look_every = 250  # steps between two looks at `pictures`
    ships = True  # whether a trained model is part of the repository
    takes_folder = False  # whether a `CaptionedFolder` may take the place of its data
    data_folder: str | None = None  # its name

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
    def pictures(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        """What the model makes now: images (N, C, H, W) in [-1, 1], with a title for each."""

    @abstractmethod
    def measure(self, model: nn.Module, count: int) -> dict[str, float]:
        """The figures of the card, from `count` samples; continuous integration repeats them."""

    def begin(self, **changes) -> Training:
        """The training, ready to iterate over; `changes` override settings: steps, folder, …"""
        settings = self.settings | {"data": self.made_of()} | changes
        settings["warmup"] = min(settings.get("warmup", 100), settings["steps"] // 10)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.get("seed", 0))
            model = self.model()
        return train(model, self.loss, self.batch, **settings)

    def made_of(self) -> str | None:
        """What the data is of, if not the course's own: a training goes on with the same alone."""
        return self.data_folder

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
            "metrics": {"count": count} | self.measure(run.ema, count),
            "curve": curve(run.folder / "log.jsonl") if run.folder else [],
        }
        model = self.for_inference(run.ema)
        return save_checkpoint(name_or_path or self.name, model, self.half, **run.card, **facts)

    def for_inference(self, model: nn.Module) -> nn.Module:
        """What is published of a trained model: all but the heads that only training uses."""
        return model


def curve(log: Path, points: int = 100) -> list[list[float]]:
    """A training's log as [step, mean loss up to there] pairs: about `points` of them."""
    try:
        losses = torch.tensor([json.loads(line)["loss"] for line in log.read_text().splitlines()])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{log} is damaged, and with it the card's curve: {error}") from error
    size = max(1, len(losses) // points)
    means = losses[: len(losses) // size * size].view(-1, size).mean(1)
    return [[(i + 1) * size, round(mean, 5)] for i, mean in enumerate(means.tolist())]
