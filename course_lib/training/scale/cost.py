"""What a training costs on other machines: `course cost NAME --gpus 8 --gpu h100`.

On N devices, which share the step's batches, a step takes

    batches + update + exchange

- batches: the time measured on this CPU; on a GPU the larger of arithmetic / (SHARE · peak) and
  launches · LAUNCH, because with a small network the GPU waits for launches. A single GPU replays
  the network's blocks instead, which takes REPLAY for each pass;
- update: clipping, optimiser and average, which every device computes in full; on a GPU UPDATE
  for each launch;
- exchange: a ring all-reduce of the gradients (Patarasuk & Yuan 2009): 2 (N - 1) / N of their bytes
  over each link. The model ignores that it partly overlaps with the arithmetic.

On GPUs the recipes train in float32 (see `fast_precision`), so all numbers are for float32.

`--check` (`cli/cost_check.py`) trains here in one and in two processes, and on a GPU if there is
one, and prints the errors of the predictions.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from course_lib.training.scale.engine import gradients_in_bf16
from course_lib.training.scale.recompute import blocks

SHARE = 0.17  # of a GPU's peak that a training reaches: a U-Net of 96 M parameters on an H100
# seconds, measured with five recipes on an H100 and an H200 (tests/benchmarks/LOG.md)
LAUNCH = 17e-6  # from one operation of a batch to the next
UPDATE = 8e-6  # the same in the update, which records nothing for a backward pass
REPLAY = 330e-6  # replaying a block's forward or backward pass
LOOPBACK = 1.5e9  # bytes per second between processes on one CPU; an assumption, see --check


@dataclass(frozen=True)
class GPU:
    """From the vendor's data sheet: float32 arithmetic without TF32, memory, one-way link."""

    flops: float  # a second
    memory: float  # bytes
    link: float  # bytes a second


GPUS = {
    "h100": GPU(67e12, 80e9, 450e9),  # SXM, NVLink 4
    "h200": GPU(67e12, 141e9, 450e9),
    "a100": GPU(19.5e12, 80e9, 300e9),  # SXM, NVLink 3
    "l4": GPU(30e12, 24e9, 32e9),  # PCIe 4, 16 lanes
    "rtx4090": GPU(83e12, 24e9, 32e9),
}


@dataclass(frozen=True)
class Work:
    """The parts of one step of a recipe, measured in one process on this machine's CPU."""

    steps: int
    batches: int  # a step
    data_seconds: float  # to make a batch, or to look it up in the cache
    batch_seconds: float  # forward and backward
    update_seconds: float
    flops: float  # of a batch
    launches: int  # operations of a batch
    inner: int  # how many of them are in blocks, which a GPU replays
    replays: int  # number of replays, forward and backward
    update_launches: int  # operations of the update
    gradient: int  # bytes that processes exchange here
    weights: int  # bytes of them in float32, which is what GPUs exchange
    held: int  # bytes of weights, gradients, average and moments
    activations: int  # bytes that a batch keeps for its backward pass

    @property
    def processes(self) -> list[int]:
        """The numbers of processes to predict and check here: one, and two if batches allow it."""
        return [count for count in (1, 2) if self.batches % count == 0]

    def on_cpu(self, processes: int = 1) -> float:
        """Predicted seconds for a step in this many processes, with one core each."""
        mine = self.batches * (self.data_seconds + self.batch_seconds) / processes
        return mine + self.update_seconds + exchange(self.gradient, processes, LOOPBACK)

    def on_gpu(self, gpu: GPU, count: int = 1) -> dict[str, float]:
        """Predicted seconds for a step on this many GPUs, broken down by part."""
        mine = self.batches / count
        arithmetic = mine * self.flops / (SHARE * gpu.flops)
        batch = self.launches * LAUNCH
        if count == 1:
            batch += self.replays * REPLAY - self.inner * LAUNCH
        launches = mine * batch + self.update_launches * UPDATE
        return {
            "data": mine * self.data_seconds,
            "arithmetic": arithmetic,
            "launches": max(0.0, launches - arithmetic),
            "exchange": exchange(self.weights, count, gpu.link),
        }


def exchange(size: int, devices: int, link: float) -> float:
    """Seconds of a ring all-reduce of `size` bytes."""
    return 2 * (devices - 1) / devices * size / link


class Training(Protocol):
    """What the cost model needs from a training (`training/loop.py`)."""

    model: torch.nn.Module
    done: int

    def advance(self): ...
    def gradient(self) -> float: ...


class Recipe(Protocol):
    """What the cost model needs from a recipe."""

    def begin(self, **changes) -> Training: ...


def measure(recipe: Recipe, repeats: int = 5) -> Work:
    """Run a few steps of the recipe on this CPU and measure where the time goes."""
    run = recipe.begin(device="cpu")
    list(islice(run, 2))  # warm-up: allocates memory and moments, caches the second step's data
    first = run.engine.batches(run.done)[0]
    step = shortest_time(lambda: repeat_step(run), repeats)
    gradient, data = (
        shortest_time(run.gradient, repeats),
        shortest_time(lambda: run.batch(first), repeats),
    )
    plain = replace(run.engine.scale, precision="no")
    twin = recipe.begin(device="cpu", scale=plain)  # operation by operation as on a GPU
    twin.advance()
    counter, kept = FlopCounterMode(display=False), SavedBytes()
    with counter, kept:
        twin.gradient()
    launches, all_launches = Launches(), Launches()
    with launches:
        twin.gradient()
    with all_launches:
        repeat_step(twin)  # on a GPU, the update is not captured either
    inner = launches_in_blocks(twin)
    size = sum(p.numel() * p.element_size() for p in run.weights)
    states = (state for optimizer in run.optimizers for state in optimizer.state.values())
    moments = [value for state in states for value in state.values() if torch.is_tensor(value)]
    return Work(
        steps=run.steps,
        batches=run.engine.scale.accumulate,
        data_seconds=data,
        batch_seconds=gradient / run.engine.scale.accumulate - data,
        update_seconds=max(0.0, step - gradient),
        flops=counter.get_total_flops() / run.engine.scale.accumulate,
        launches=launches.count // run.engine.scale.accumulate,
        inner=sum(inner) // run.engine.scale.accumulate,
        replays=len(inner) // run.engine.scale.accumulate,
        update_launches=all_launches.count - launches.count,
        gradient=size // 2 if gradients_in_bf16(run.settings["precision"]) else size,
        weights=size,
        held=3 * size + sum(value.numel() * value.element_size() for value in moments),
        activations=kept.bytes // run.engine.scale.accumulate,
    )


def repeat_step(run: Training) -> None:
    """Repeats the last step, whose data is already there."""
    run.done -= 1
    run.advance()


def shortest_time(work: Callable, repeats: int) -> float:
    """The shortest of a few runs, in seconds, which is the one least disturbed."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


class Launches(TorchDispatchMode):
    """Counts the operations that run inside."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += 1
        return operation(*args, **(kwargs or {}))


def launches_in_blocks(run: Training) -> list[int]:
    """The number of operations in each forward or backward pass through a block, for one step."""
    launches, starts, counts = Launches(), [], []

    def enter(*_) -> None:
        starts.append(launches.count)

    def leave(*_) -> None:
        counts.append(launches.count - starts.pop())

    hooks = []
    for block in blocks(run.model):
        hooks += [block.register_forward_pre_hook(enter), block.register_forward_hook(leave)]
        hooks += [block.register_full_backward_pre_hook(enter)]
        hooks += [block.register_full_backward_hook(leave)]
    with launches:
        run.gradient()
    for hook in hooks:
        hook.remove()
    return counts


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that are saved for backward passes, each piece of memory once."""

    def __init__(self):
        self.seen = {}
        super().__init__(self.pack, lambda kept: kept)

    def pack(self, kept):
        memory = kept.untyped_storage()
        self.seen[memory.data_ptr()] = memory.nbytes()
        return kept

    @property
    def bytes(self) -> int:
        return sum(self.seen.values())


def report(work: Work, gpu: GPU, kind: str, count: int) -> Iterator[str]:
    """The measurement and the predictions, one line each."""
    parts = work.on_gpu(gpu, count)
    spent = ", ".join(f"{name} {1000 * seconds:.2f}" for name, seconds in parts.items())
    yield (
        f"a step: {work.batches} × ({1000 * work.data_seconds:.1f} data + "
        f"{1000 * work.batch_seconds:.1f} forward and backward) + {1000 * work.update_seconds:.1f} "
        f"update ms on one core; {work.batches * work.flops / 1e9:.1f} GFLOP, "
        f"{work.batches * work.launches + work.update_launches} operations"
    )
    for processes in work.processes:
        minutes = work.steps * work.on_cpu(processes) / 60
        many = "processes" if processes > 1 else "process"
        yield f"here, {processes} {many}: {minutes:.1f} minutes for {work.steps:,} steps"
    minutes = work.steps * sum(parts.values()) / 60
    yield f"{count} × {kind}: {minutes:.1f} minutes; a step, in ms: {spent}"
    need = work.held + work.activations
    yield (
        f"memory: {need / 2**20:.0f} MiB ({work.held / 2**20:.0f} held, "
        f"{work.activations / 2**20:.0f} for a batch) of {gpu.memory / 2**20:,.0f} on each"
    )
    yield (
        f"as on the GPUs that were measured, an H100 and an H200: {SHARE:.0%} of the peak, "
        f"{LAUNCH * 1e6:.0f} µs an operation, {REPLAY * 1e3:.2f} ms a replay; assumed: "
        f"{LOOPBACK / 1e9:.1f} GB/s between processes"
    )
