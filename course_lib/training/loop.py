"""The one training loop of the course, on Hugging Face Accelerate: for CPU, CUDA and MPS.

    run = train(network, loss, batch, steps=3000, lr=1e-3, folder="outputs/digits")
    for step in run:                     # goes on where the folder's last complete state ends
        print(step.index, step.loss)     # between steps: sample, evaluate, plot, or break
    save_checkpoint("digits", run.ema, **run.card)

Randomness goes by position, not by history: before each step torch is seeded from (seed, step),
and `batch(step)` gives that step's data. So a training killed at any moment needs only its
weights, their average, the optimiser's moments and the step's number to continue with the very
numbers it would have had (bit for bit on the same CPU): there is no random state to save, and no
place in the data to find again.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import send_to_device
from torch import nn

from course_lib.devices import fast_precision, hardware, pick_device
from course_lib.names import choose
from course_lib.training.ema import EMA
from course_lib.training.files import make_folder, write_files
from course_lib.training.optimizers import OPTIMIZERS
from course_lib.training.rate import DECAYS, learning_rate
from course_lib.training.state import load_training, save_training

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Step:
    """What the loop tells after each optimiser step."""

    index: int  # optimiser steps done so far: 1 … steps
    loss: float  # mean over the step's batch, before the update
    lr: float
    seconds: float  # training time so far, over all resumes
    seconds_left: float


class Training:
    """Train `model` on `loss(model, batch(step))`; iterate over it to go on, break to pause.

    `batch(step)` returns the data of step 0, 1, …: a tensor, a list (an entry per sample), or a
    tuple or dict of these. It depends on the step alone (torch's own draws inside it do).
    `loss(model, data)` returns a scalar. `ema` is the averaged model: sample from it.

    optimizer: "adamw", or "muon" for what it is good at and AdamW for the rest.
    accumulate=k splits every batch into k parts: the same gradient, a k-th of the memory.
    precision: "no", "bf16", "fp16" (GPU only), or "auto": bf16 where the hardware has it.
    folder: keeps `state.safetensors`, replaced every `save_every` steps and at the end, and
    `log.jsonl`, a line per step. Where it holds a state, training resumes from it, unless
    resume=False. None: in memory only.

    Raises ValueError for settings out of range or a state of other settings or another model,
    RuntimeError when the loss is not finite, OSError when the state cannot be written.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module, Any], torch.Tensor],
        batch: Callable[[int], Any],
        *,
        steps: int,
        lr: float = 1e-3,
        warmup: int = 100,
        decay: str = "cosine",
        optimizer: str = "adamw",
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        clip: float = 1.0,
        ema: float = 0.999,
        accumulate: int = 1,
        precision: str = "no",
        seed: int = 0,
        device: str | torch.device = "auto",
        folder: str | Path | None = None,
        save_every: int = 250,
        resume: bool = True,
    ):
        for name, value in {
            "steps": steps,
            "accumulate": accumulate,
            "save_every": save_every,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        choose("decay", decay, DECAYS)
        make_optimizers = choose("optimizer", optimizer, OPTIMIZERS)
        if precision == "fp16" and optimizer != "adamw":  # Accelerate unscales for one optimiser
            raise ValueError(f"precision 'fp16' goes with 'adamw' only, not {optimizer!r}")
        self.device = pick_device(device)
        precision = fast_precision(self.device) if precision == "auto" else precision
        self.settings = {
            "steps": steps, "lr": lr, "warmup": warmup, "decay": decay, "optimizer": optimizer,
            "betas": list(betas), "weight_decay": weight_decay, "clip": clip, "ema": ema,
            "accumulate": accumulate, "precision": precision, "seed": seed,
        }  # fmt: skip
        self.steps, self.seed, self.clip, self.accumulate = steps, seed, clip, accumulate
        self.rate = lambda step: learning_rate(step, steps, lr, warmup, decay)
        self.accelerator = make_accelerator(self.device, precision)
        self.dtype = PRECISIONS[precision]
        self.model, self.loss, self.batch = model.to(self.device), loss, batch
        self.average = EMA(self.model, ema)
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        optimizers = make_optimizers(self.model, lr, betas, weight_decay)
        self.optimizers = [self.accelerator.prepare(each) for each in optimizers]
        self.done = 0  # optimiser steps
        self.seconds = self.cpu_seconds = self.pace = 0.0  # within steps; saves don't count
        self.folder, self.save_every = make_folder(folder) if folder else None, save_every
        if self.folder:
            self.begin(resume)

    @property
    def ema(self) -> nn.Module:
        """The averaged model, in eval mode: the one to sample from and to publish."""
        return self.average.model

    @property
    def card(self) -> dict:
        """What a published checkpoint's card says of its training."""
        return {
            "seed": self.seed,
            "steps": self.done,
            "wall_minutes": round(self.seconds / 60, 2),
            "cpu_minutes": round(self.cpu_seconds / 60, 2),
            "hardware": hardware(self.device),
            "settings": self.settings,
        }

    def __iter__(self) -> Iterator[Step]:
        while self.done < self.steps:
            yield self.advance()

    def advance(self) -> Step:
        """One optimiser step."""
        wall, cpu = time.perf_counter(), time.process_time()
        lr = self.rate(self.done)
        self.model.train()
        self.model.zero_grad()  # first: an interrupted step may have left gradients behind
        with seeded(self.seed, self.done, self.device):
            loss = self.gradient(self.batch(self.done))
        if not math.isfinite(loss):
            raise RuntimeError(f"the loss is {loss} at step {self.done + 1}: try a lower lr")
        self.accelerator.clip_grad_norm_(self.weights, self.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        self.done += 1
        self.average.update(self.model, self.done)
        self.count_time(time.perf_counter() - wall, time.process_time() - cpu)
        step = Step(self.done, loss, lr, self.seconds, self.pace * (self.steps - self.done))
        if self.folder:
            self.record(step)
        return step

    def gradient(self, data: Any) -> float:
        """Accumulate the batch's gradient, part by part; returns its mean loss."""
        total = 0.0
        for part in parts(data, self.accumulate):
            part = send_to_device(part, self.device)
            with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
                loss = self.loss(self.model, part) / self.accumulate
            self.accelerator.backward(loss)
            total += loss.item()
        return total

    def count_time(self, seconds: float, cpu_seconds: float) -> None:
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds
        self.pace += (seconds - self.pace) * (0.05 if self.pace else 1.0)  # mean of recent steps

    def begin(self, resume: bool) -> None:
        """Take up the folder's state, if it holds one; cut the log to the steps that it knows."""
        state, log = self.folder / "state.safetensors", self.folder / "log.jsonl"
        if resume and state.exists():
            load_training(self, state)
        lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
        write_files({log: b"".join(lines[: self.done])})

    def record(self, step: Step) -> None:
        """Append the step to the log; replace the state when it is time."""
        line = {"step": step.index, "loss": step.loss, "lr": step.lr, "seconds": step.seconds}
        with open(self.folder / "log.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        if step.index % self.save_every == 0 or step.index == self.steps:
            save_training(self, self.folder / "state.safetensors")


train = Training  # a verb where it is used: for step in train(...)


def make_accelerator(device: torch.device, precision: str) -> Accelerator:
    """Accelerate for this device and precision; it keeps both per process, hence the reset."""
    choose("precision", precision, PRECISIONS)
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision 'fp16' needs a GPU; on a CPU use 'bf16' or 'no'")
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=precision, cpu=device.type == "cpu")


@contextmanager
def seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's draws depend on (seed, step) alone; the random state outside is untouched."""
    mixed = np.random.SeedSequence(seed, spawn_key=(step,)).generate_state(1)  # unrelated numbers
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(mixed[0]))
        yield


def parts(data: Any, count: int) -> list:
    """Split a batch into `count` equal parts, through tuples and dicts, along the first axis."""
    if isinstance(data, tuple):
        return list(zip(*(parts(field, count) for field in data), strict=True))
    if isinstance(data, dict):
        rows = parts(tuple(data.values()), count)
        return [dict(zip(data, row, strict=True)) for row in rows]
    if count == 1:
        return [data]
    if len(data) % count:
        raise ValueError(f"accumulate={count} does not divide the batch of {len(data)}")
    size = len(data) // count
    return [data[i : i + size] for i in range(0, len(data), size)]
