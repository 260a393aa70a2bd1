"""What a run shows: its folder and, if given, the reader's code and pictures."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.teaching.diagnosis.calls import (
    CPU,
    Call,
    NoiseLevels,
    Sampling,
    called,
    noise_levels,
    recorded_calls,
    regression_target,
)
from course_lib.teaching.diagnosis.finding import NotVisible
from course_lib.training.scale.state import read_state, subtree
from course_lib.training.seeding import seeded

BATCHES = 20  # of the reader's data
PROBES = 40  # calls of the loss with data of zeros and ones


@dataclass
class Evidence:
    """A run's folder, with `log.jsonl` and `state.safetensors`, as `course_lib.training` writes it.

    code: an object or module with `model()`, `batch(index)`, `loss(model, data)` and perhaps
        `samples(model)`, as a recipe has. pictures: samples (N, C, H, W) in the space of the data.
    Each property is computed when a check asks for it; without what it needs it raises NotVisible.

    ValueError for a folder that holds no run, or the state of another model.

    >>> Evidence("outputs/nothing")
    Traceback (most recent call last):
        ...
    ValueError: outputs/nothing: expected the folder of a training, got none
    """

    folder: str | Path
    code: Any = None
    pictures: Tensor | None = None

    def __post_init__(self):
        self.folder = Path(self.folder)
        if not self.folder.is_dir():
            kind = "a file" if self.folder.exists() else "none"
            raise ValueError(f"{self.folder}: expected the folder of a training, got {kind}")
        self.losses = read_log(self.folder / "log.jsonl")
        self.tensors, facts = read_state(present(self.folder / "state.safetensors"))
        self.settings = facts["settings"]
        if self.code is not None:
            self.model  # noqa: B018 - refuses another model's code at once

    # ---- from the folder alone

    @property
    def weights(self) -> dict[str, Tensor]:
        return subtree(self.tensors, "model")

    @property
    def average(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return subtree(self.tensors, "ema")

    @property
    def gradients(self) -> dict[str, Tensor]:
        """What the optimiser keeps of each parameter's gradients: Adam's or Muon's averages."""
        moments = subtree(self.tensors, "optimizer")
        return {name: x for name, x in moments.items() if not name.endswith("step")}

    # ---- with the reader's code

    def part(self, name: str) -> Any:
        """The function of that name in the reader's code."""
        if not hasattr(self.code, name):
            raise NotVisible(f"it needs your code's {name}(…): give --code")
        return getattr(self.code, name)

    @cached_property
    def model(self) -> nn.Module:
        """The averaged model, in eval mode."""
        with seeded(0, 0, CPU):
            model = self.part("model")()
        try:
            model.load_state_dict(self.average)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:150]
            raise ValueError(f"{self.folder} holds the state of another model: {reason}") from error
        return model.eval().requires_grad_(False)

    @cached_property
    def batches(self) -> list:
        """The first batches of the training."""
        batch, seed = self.part("batch"), self.settings["seed"]
        found = []
        for index in range(BATCHES):
            with seeded(seed, index, CPU):
                found.append(batch(index))
        return found

    @cached_property
    def x0(self) -> Tensor:
        """Their data: (N, C, H, W)."""
        return torch.cat([first(data) for data in self.batches])

    @cached_property
    def training(self) -> NoiseLevels:
        """The noise level and the target at each timestep, as the loss has them."""
        return noise_levels(self.part("loss"), self.model, self.batches, PROBES)

    @cached_property
    def calls(self) -> list[tuple[Call, Tensor]]:
        """The averaged model's calls on the training data, each with its regression target."""
        return [self.call(data, seed) for seed, data in enumerate(self.batches)]

    @torch.no_grad()
    def call(self, data, seed: int) -> tuple[Call, Tensor]:
        loss = self.part("loss")
        _, target = regression_target(loss, self.model, data, seed)
        with seeded(seed, 0, CPU), recorded_calls(self.model) as calls:
            loss(self.model, data)
        return calls[0], target

    # ---- with the reader's sampler

    @cached_property
    def samples(self) -> Tensor:
        """The given pictures, or samples that the reader's code draws now."""
        if self.pictures is not None:
            return self.pictures
        return self.drawn()

    @torch.no_grad()
    def drawn(self) -> Tensor:
        samples = self.part("samples")
        with seeded(0, 0, CPU):
            result = first(samples(self.model.eval()))
        self.model.eval()
        return result

    @cached_property
    def sampling(self) -> Sampling:
        """The sampler, at work with a network that knows that all data is 0."""
        training = self.training

        def answer(x: Tensor, timestep: Tensor) -> Tensor:
            ratio = training.at(training.ratio, timestep.flatten().expand(len(x)))
            return ratio.to(x).view(-1, *[1] * (x.dim() - 1)) * x

        with recorded_calls(self.model, answer) as calls:
            result = self.drawn()
        called(calls, "sampler")
        size = torch.stack([call.x.double().square().mean().sqrt() for call in calls])
        timestep = torch.stack([call.timestep.double().mean() for call in calls])
        level = size / training.at(training.sigma, timestep)
        return Sampling(calls, timestep, level, result)


def present(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path.parent}: expected a training's {path.name}, found none")
    return path


def read_log(path: Path) -> Tensor:
    """The loss of each step; ValueError for a line that isn't a step's."""
    losses = []
    for number, line in enumerate(present(path).read_bytes().splitlines(), start=1):
        try:
            losses.append(float(json.loads(line)["loss"]))
        except (ValueError, KeyError, TypeError) as error:
            text = line[:40].decode(errors="replace")
            raise ValueError(
                f"{path}: line {number} is not a step of a training: {text!r}; a run that was "
                "stopped while it wrote cuts it off when it resumes"
            ) from error
    if not losses:
        raise ValueError(f"{path}: expected a line for each step, got none")
    return torch.tensor(losses, dtype=torch.float64)


def first(data) -> Tensor:
    """The pictures of a batch, or of what a sampler returns."""
    return data if isinstance(data, Tensor) else data[0]
