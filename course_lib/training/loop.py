"""The training loop of the course: data, gradient, optimiser step, average, yield.

    run = train(network, loss, batch, steps=3000, optimizer=Optimizer(lr=1e-3), folder="outputs/x")
    for step in run:                     # continues from the folder's last complete state
        print(step.index, step.loss)     # between steps: sample, evaluate, plot, or break
    save_checkpoint("digits", run.ema, **run.card)

torch is seeded with (seed, index) before batch number `index`. So a resumed run computes exactly
the same numbers as an uninterrupted one, and any process can compute any batch of a step.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.common.checks import whole_numbers
from course_lib.common.devices import hardware
from course_lib.training.ema import EMA
from course_lib.training.folder import Folder
from course_lib.training.optimizers import Optimizer
from course_lib.training.scale.engine import Engine, Scale
from course_lib.training.seeding import seeded


@dataclass(frozen=True)
class Step:
    """What the loop reports after each optimiser step."""

    index: int  # optimiser steps done so far: 1 … steps
    loss: float  # mean over the step's batches, before the update
    lr: float
    seconds: float  # training time so far, including before a resume
    seconds_left: float


class Training:
    """Trains `model` on `loss(model, batch(index))`: iterate over it, and break to pause.

    batch: `batch(index)` returns the data of batch 0, 1, …: tensors, or lists, tuples or dicts of
        them. It may depend only on the index and on torch's random numbers.
    loss: `loss(model, data)` returns a scalar.
    steps: optimiser steps; each uses the mean gradient of `scale.accumulate` batches.
    ema: decay of the averaged weights; `run.ema` is the averaged model, the one to sample from.
    folder: a path or a `Folder` for the state and the log; a saved state is resumed.

    ValueError for settings out of range, or the state of another model or other settings;
    RuntimeError for a loss that is not finite, or two runs in one folder; OSError for a full disk.

    >>> run = train(
    ...     nn.Linear(2, 1),
    ...     loss=lambda model, x: model(x).square().mean(),
    ...     batch=lambda index: torch.randn(8, 2),
    ...     steps=3,
    ... )
    >>> [step.index for step in run]
    [1, 2, 3]
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module, Any], Tensor],
        batch: Callable[[int], Any],
        *,
        steps: int,
        optimizer: Optimizer = Optimizer(),
        ema: float = 0.999,
        seed: int = 0,
        device: str | torch.device = "auto",
        folder: Folder | str | Path | None = None,
        scale: Scale = Scale(),
    ):
        whole_numbers(1, steps=steps)
        whole_numbers(0, seed=seed)
        self.batch, self.steps, self.seed, self.optimizer = batch, steps, seed, optimizer
        self.engine = Engine(scale, optimizer, device)
        self.device = self.engine.device
        self.is_main = self.engine.is_main  # only this process writes, samples and prints
        self.model = model.to(self.device)
        self.objective = self.engine.objective(self.model, loss)
        self.average = EMA(self.model, ema)
        self.engine.save_memory(self.objective, self.average.model)
        self.weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizers = [self.engine.wrap(each) for each in optimizer.build(self.model)]
        self.done = 0  # optimiser steps
        self.seconds = self.cpu_seconds = self.pace = 0.0  # within steps; saving doesn't count
        self.place = {"hardware": hardware(self.device), "processes": self.engine.processes}
        self.folder = folder if folder is None or isinstance(folder, Folder) else Folder(folder)
        data = {"data": self.folder.data if self.folder else None}
        self.settings = {"steps": steps, "ema": ema, "seed": seed} | data
        self.settings |= optimizer.settings | self.engine.settings
        if self.folder:
            self.folder.open(self)

    def __iter__(self) -> Iterator[Step]:
        while self.done < self.steps:
            yield self.advance()

    def advance(self) -> Step:
        """One optimiser step."""
        wall, cpu = time.perf_counter(), time.process_time()
        lr = self.optimizer.rate(self.done, self.steps)
        self.model.train()
        self.model.zero_grad()  # at the start, because an interrupted step may leave gradients
        loss = self.gradient()
        if not math.isfinite(loss):
            raise RuntimeError(f"the loss is {loss} at step {self.done + 1}: try a lower lr")
        self.engine.clip(self.weights, self.optimizer.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        self.done += 1
        self.average.update(self.model, self.done)
        seconds = time.perf_counter() - wall
        self.seconds += seconds
        self.cpu_seconds += self.engine.sum(time.process_time() - cpu)
        self.pace += (seconds - self.pace) * (0.05 if self.pace else 1.0)  # mean of recent steps
        step = Step(self.done, loss, lr, self.seconds, self.pace * (self.steps - self.done))
        if self.folder:
            self.folder.record(self, step)
        return step

    def gradient(self) -> float:
        """Accumulate the mean gradient of the step's batches; returns their mean loss."""
        total, mine = 0.0, self.engine.batches(self.done)  # this process's share of them
        for index in mine:
            with self.engine.exchange(self.objective, self.weights, last=index == mine[-1]):
                with seeded(self.seed, index, self.device):
                    data = self.engine.to_device(self.batch(index))
                    loss = self.objective(data) / len(mine)
                self.engine.backward(loss)
            total += loss.item()
        return self.engine.mean(total)

    @property
    def ema(self) -> nn.Module:
        """The averaged model, in eval mode: the one to sample from and to publish."""
        return self.engine.whole_model(self.average.model)

    @property
    def card(self) -> dict:
        """What a published checkpoint's card says about its training."""
        wall, cpu = round(self.seconds / 60, 2), round(self.cpu_seconds / 60, 2)
        facts = {"seed": self.seed, "steps": self.done, "wall_minutes": wall, "cpu_minutes": cpu}
        return facts | self.place | {"settings": self.settings}

    def close(self) -> None:
        """Ends the process group. Call it after the last step, in every process."""
        self.average.model, self.objective = self.ema, None  # DDP must end before its group does
        self.engine.close()


train = Training  # so that a loop reads: for step in train(...)
