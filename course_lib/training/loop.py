"""The one training loop of the course, on Hugging Face Accelerate: for CPU, CUDA and MPS.

    run = train(network, loss, batch, steps=3000, lr=1e-3, folder="outputs/digits")
    for step in run:                     # goes on where the folder's last complete state ends
        print(step.index, step.loss)     # between steps: sample, evaluate, plot, or break
    save_checkpoint("digits", run.ema, **run.card)

Randomness goes by position, not by history: before batch number `index` torch is seeded from
(seed, index), and `batch(index)` gives its data. So a training killed at any moment needs only its
weights, their average, the optimiser's moments and the step's number to continue with the very
numbers it would have had (bit for bit on the same CPU): there is no random state to save, and no
place in the data to find again. And it does not matter who computes which batch: several
processes share those of a step, and one process alone gets the same numbers from all of them.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DDPCommunicationHookType, send_to_device
from torch import nn

from course_lib.devices import fast_precision, hardware, pick_device
from course_lib.names import choose
from course_lib.refusals import whole_numbers
from course_lib.replays import Replays, pays
from course_lib.training.ema import EMA
from course_lib.training.files import clear, make_folder, write_files
from course_lib.training.optimizers import OPTIMIZERS
from course_lib.training.rate import DECAYS, learning_rate
from course_lib.training.recompute import blocks
from course_lib.training.recompute import recompute as recompute_blocks
from course_lib.training.sharding import share_out, whole_model
from course_lib.training.state import load_training, save_training

PRECISIONS = dict.fromkeys(("no", "bf16", "fp16"))


@dataclass(frozen=True)
class Step:
    """What the loop tells after each optimiser step."""

    index: int  # optimiser steps done so far: 1 … steps
    loss: float  # mean over the step's batches, before the update
    lr: float
    seconds: float  # training time so far, over all resumes
    seconds_left: float


class Training:
    """Train `model` on `loss(model, batch(index))`; iterate over it to go on, break to pause.

    `batch(index)` returns the data of batch 0, 1, …: a tensor, a list (an entry per sample), or a
    tuple or dict of these. It depends on the index alone (torch's own draws inside it do).
    `loss(model, data)` returns a scalar. `ema` is the averaged model: sample from it.

    optimizer: "adamw", or "muon" for what it is good at and AdamW for the rest.
    accumulate: the batches whose mean gradient makes one step. Where several processes train
    (`torchrun`, `accelerate launch`), they share these batches equally.
    recompute: trade arithmetic for memory; the numbers stay the same.
    replay: one process on a GPU trades memory for time, unless it recomputes: what the blocks of a
    small network do is recorded once and replayed (`replays.py`); the numbers stay the same.
    shard: each process holds a part of the training, not all of it (see `sharding.py`). Then `ema`
    is gathered from all processes each time; until they `part`, all must ask for it.
    precision: "no", "bf16", "fp16" (GPU only), or "auto": "bf16" on a CPU that has it, else "no";
    on a GPU "bf16" pays for large networks (see `fast_precision`).
    folder: keeps `state.safetensors`, replaced every `save_every` steps and at the end, and
    `log.jsonl`, a line per step. Where it holds a state, training resumes from it, unless
    resume=False. None: in memory only.
    data: what the batches are of, where that is worth telling apart: a state of other data is
    refused, as one of other settings is.

    Raises ValueError for settings out of range or a state of other settings or another model,
    RuntimeError when the loss is not finite or somebody else writes into the folder, OSError when
    the state cannot be written.
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
        recompute: bool = False,
        replay: bool = True,
        shard: bool = False,
        precision: str = "no",
        seed: int = 0,
        device: str | torch.device = "auto",
        folder: str | Path | None = None,
        save_every: int = 250,
        resume: bool = True,
        data: str | None = None,
    ):
        whole_numbers(1, steps=steps, accumulate=accumulate, save_every=save_every)
        whole_numbers(0, warmup=warmup, seed=seed)
        if not isinstance(clip, Real) or not clip > 0:
            raise ValueError(f"clip must be a positive bound on the gradient's norm, not {clip}")
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ValueError(f"betas must be two numbers, not {betas}")
        choose("decay", decay, DECAYS)
        make_optimizers = choose("optimizer", optimizer, OPTIMIZERS)
        if precision == "fp16" and optimizer != "adamw":  # Accelerate unscales for one optimiser
            raise ValueError(f"precision 'fp16' goes with 'adamw' only, not {optimizer!r}")
        if shard and (optimizer == "muon" or precision == "fp16"):
            raise ValueError(
                "shard=True goes with neither 'muon', which needs whole matrices, nor 'fp16'"
            )
        self.device = own_device(pick_device(device))
        precision = fast_precision(self.device) if precision == "auto" else precision
        self.settings = {
            "steps": steps, "lr": lr, "warmup": warmup, "decay": decay, "optimizer": optimizer,
            "betas": list(betas), "weight_decay": weight_decay, "clip": clip, "ema": ema,
            "accumulate": accumulate, "precision": precision, "seed": seed, "data": data,
        }  # fmt: skip
        self.steps, self.seed, self.clip, self.accumulate = steps, seed, clip, accumulate
        self.rate = lambda step: learning_rate(step, steps, lr, warmup, decay)
        self.accelerator = make_accelerator(self.device, precision)
        self.processes = self.accelerator.num_processes
        if accumulate % self.processes:
            raise ValueError(
                f"{self.processes} processes can't share a step of accumulate={accumulate} batches "
                "equally"
            )
        if shard and self.processes == 1:
            raise ValueError("shard=True needs several processes: start them with torchrun")
        self.model, self.batch = model.to(self.device), batch
        objective = Objective(self.model, loss)
        # in "evaluation mode" the precision alone is prepared, and not the exchange of gradients
        self.objective = self.accelerator.prepare_model(objective, evaluation_mode=shard)
        self.average = EMA(self.model, ema)
        if recompute:
            recompute_blocks(self.model)
        self.sharded = shard
        if shard:
            share_out(self.objective, self.average.model, self.device)
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        alone = self.device.type == "cuda" and self.processes == 1
        replay = replay and alone and not recompute and pays(self.model)
        self.replays = Replays(blocks(self.model) if replay else [])
        optimizers = make_optimizers(self.model, lr, betas, weight_decay)
        self.optimizers = [self.accelerator.prepare(each) for each in optimizers]
        self.done = 0  # optimiser steps
        self.seconds = self.cpu_seconds = self.pace = 0.0  # within steps; saves don't count
        self.place = {"hardware": hardware(self.device), "processes": self.processes}
        self.folder, self.save_every = make_folder(folder) if folder else None, save_every
        if self.folder:
            self.begin(resume)

    @property
    def ema(self) -> nn.Module:
        """The averaged model, in eval mode: the one to sample from and to publish."""
        return whole_model(self.average.model) if self.sharded else self.average.model

    @property
    def card(self) -> dict:
        """What a published checkpoint's card says of its training."""
        return {
            "seed": self.seed,
            "steps": self.done,
            "wall_minutes": round(self.seconds / 60, 2),
            "cpu_minutes": round(self.cpu_seconds / 60, 2),
            **self.place,
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
        loss = self.gradient()
        if not math.isfinite(loss):
            raise RuntimeError(f"the loss is {loss} at step {self.done + 1}: try a lower lr")
        self.accelerator.clip_grad_norm_(self.weights, self.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        self.done += 1
        self.average.update(self.model, self.done)
        cpu = self.mean(time.process_time() - cpu) * self.processes
        self.count_time(time.perf_counter() - wall, cpu)
        step = Step(self.done, loss, lr, self.seconds, self.pace * (self.steps - self.done))
        if self.folder:
            self.record(step)
        return step

    def gradient(self) -> float:
        """The mean gradient of the step's batches, a share from each process; their mean loss."""
        first, rank = self.done * self.accumulate, self.accelerator.process_index
        mine = range(first + rank, first + self.accumulate, self.processes)
        total = 0.0
        for index in mine:
            waits = index != mine[-1]  # processes exchange gradients once a step, at its end
            with self.accelerator.no_sync(self.objective) if waits else nullcontext(), self.replays:
                with seeded(self.seed, index, self.device):
                    data = send_to_device(self.batch(index), self.device)
                    loss = self.objective(data) / len(mine)
                self.accelerator.backward(loss)
            if waits:
                self.replays.keep_gradients(self.weights)
            total += loss.item()
        return self.mean(total)

    def mean(self, value: float) -> float:
        """The mean of a number over the processes."""
        if self.processes == 1:
            return value
        return self.accelerator.reduce(torch.tensor(value, device=self.device), "mean").item()

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes, draws and speaks for all of them."""
        return self.accelerator.is_main_process

    def part(self) -> None:
        """After the last step: the processes part, and only the leading one still has work."""
        if self.processes > 1:
            self.average.model, self.sharded = self.ema, False  # whole from now on
            self.mean(0.0)  # a barrier; Accelerate's own takes processes on CPUs for ones on GPUs
            self.objective = None  # torch's DDP must go before its process group: one exit in six
            self.accelerator.free_memory()  # aborts otherwise
            self.accelerator.end_training()

    def count_time(self, seconds: float, cpu_seconds: float) -> None:
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds
        self.pace += (seconds - self.pace) * (0.05 if self.pace else 1.0)  # mean of recent steps

    def begin(self, resume: bool) -> None:
        """Take up the folder's state, if it holds one; cut the log to the steps that it knows."""
        state, log = self.folder / "state.safetensors", self.folder / "log.jsonl"
        if resume and state.exists():
            load_training(self, state)
        if self.leads:
            clear(state, log)
            if not resume:
                state.unlink(missing_ok=True)  # before its log: they belong together
            lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
            kept = b"".join(lines[: self.done])
            write_files({log: kept})
            self.logged = len(kept)  # bytes

    def record(self, step: Step) -> None:
        """Append the step to the log; replace the state, with all processes, when it is time."""
        line = {"step": step.index, "loss": step.loss, "lr": step.lr, "seconds": step.seconds}
        if self.leads:
            with open(self.folder / "log.jsonl", "ab") as log:
                if log.tell() != self.logged:
                    raise RuntimeError(
                        f"another training writes into {self.folder}: this one stops at step "
                        f"{step.index}, and keeps nothing since the last state"
                    )
                self.logged += log.write(json.dumps(line).encode() + b"\n")
        if step.index % self.save_every == 0 or step.index == self.steps:
            save_training(self, self.folder / "state.safetensors")


train = Training  # a verb where it is used: for step in train(...)


class Objective(nn.Module):
    """The loss as a module: processes exchange the gradients of what runs in a module's forward."""

    def __init__(self, model: nn.Module, loss: Callable):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, data: Any) -> torch.Tensor:
        return self.loss(self.model, data)


@contextmanager
def own_settings() -> Iterator[None]:
    """Inside, Accelerate reads nothing from the environment but what torchrun has set.

    `accelerate config` keeps other projects' settings there: DeepSpeed, a compiler, accumulation.
    A LOCAL_RANK without the rest, left behind by some tool, makes no process one of several.
    """
    kept = dict(os.environ)
    for name in kept:
        if name.startswith("ACCELERATE_") or (name == "LOCAL_RANK" and not started_together()):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in kept.items() if name not in os.environ})


def started_together() -> bool:
    """Whether torchrun, or another launcher, started this process as one of several."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys()


def own_device(device: torch.device) -> torch.device:
    """Each process of a machine takes a GPU of its own."""
    if device.type != "cuda" or not started_together():
        return device
    return pick_device(f"cuda:{os.environ['LOCAL_RANK']}")


def make_accelerator(device: torch.device, precision: str) -> Accelerator:
    """Accelerate for this device and precision; it keeps both per process, hence the reset."""
    choose("precision", precision, PRECISIONS)
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision 'fp16' needs a GPU; on a CPU use 'bf16' or 'no'")
    half = DDPCommunicationHookType.BF16 if in_half(precision) else DDPCommunicationHookType.NO
    exchange = DistributedDataParallelKwargs(comm_hook=half)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # the one that Accelerate takes
    AcceleratorState._reset_state(reset_partial_state=True)
    how = dict(mixed_precision=precision, cpu=device.type == "cpu", kwargs_handlers=[exchange])
    with own_settings():
        return Accelerator(**how)


def in_half(precision: str) -> bool:
    """Whether gradients travel between processes in bf16, as they were computed: half the bytes.

    torch can do so in its builds for GPUs alone (then between processes on CPUs, too).
    """
    able = torch.distributed.is_available() and torch.distributed.is_nccl_available()
    return precision == "bf16" and able


@contextmanager
def seeded(seed: int, index: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's draws depend on (seed, index) alone; the state outside is untouched."""
    mixed = np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1)  # unrelated numbers
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(mixed[0]))
        yield
