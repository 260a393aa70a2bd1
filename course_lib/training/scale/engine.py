"""Where a step is computed: in one process or several, on CPUs or GPUs, in full or half precision.

The loop defines what a step computes; the engine, built on Hugging Face Accelerate, decides where.
Apart from rounding, none of these choices changes the result.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DDPCommunicationHookType, send_to_device
from torch import Tensor, nn

from course_lib.common.checks import whole_numbers
from course_lib.common.cuda_graphs import CudaGraphs, worth_capturing
from course_lib.common.devices import fast_precision, pick_device
from course_lib.common.registry import choose
from course_lib.training.optimizers import Optimizer
from course_lib.training.scale.recompute import blocks, recompute
from course_lib.training.scale.sharding import gather_model, shard

PRECISIONS = dict.fromkeys(("auto", "no", "bf16", "fp16"))


@dataclass(frozen=True)
class Scale:
    """How a training is distributed over processes and how it saves memory.

    accumulate: the number of batches per step; their gradients are averaged. Several processes
        (`torchrun`, `accelerate launch`) share them equally.
    precision: "no", "bf16", "fp16" (GPU only), or "auto": "bf16" on a CPU with bf16 units, else
        "no". On a GPU "bf16" is worthwhile for large networks (see `fast_precision`).
    recompute: saves memory, at the cost of more arithmetic (see `recompute.py`).
    cuda_graphs: saves time, at the cost of memory, for a single process on a GPU: the blocks of a
        small network are captured once and replayed (see `cuda_graphs.py`), unless recomputed.
    shard: each process holds only a part of the training (see `sharding.py`). `run.ema` is then
        gathered from all processes, and all of them must call it.

    >>> Scale(accumulate=2, precision="auto")
    Scale(accumulate=2, precision='auto', recompute=False, cuda_graphs=True, shard=False)
    """

    accumulate: int = 1
    precision: str = "no"
    recompute: bool = False
    cuda_graphs: bool = True
    shard: bool = False


class Engine:
    """Computes a training's steps as `scale` says, on `device`."""

    def __init__(self, scale: Scale, optimizer: Optimizer, device: str | torch.device):
        whole_numbers(1, accumulate=scale.accumulate)
        choose("precision", scale.precision, PRECISIONS)
        if scale.precision == "fp16" and optimizer.name != "adamw":  # Accelerate unscales only one
            raise ValueError(f"precision 'fp16' goes with 'adamw' only, not {optimizer.name!r}")
        if scale.shard and (optimizer.name == "muon" or scale.precision == "fp16"):
            raise ValueError(
                "shard=True goes with neither 'muon', which needs whole matrices, nor 'fp16'"
            )
        self.scale, self.device = scale, device_of_process(pick_device(device))
        auto = scale.precision == "auto"
        self.precision = fast_precision(self.device) if auto else scale.precision
        self.accelerator = make_accelerator(self.device, self.precision)
        self.processes, self.sharded = self.accelerator.num_processes, scale.shard
        self.is_main = self.accelerator.is_main_process
        if scale.accumulate % self.processes:
            raise ValueError(
                f"{self.processes} processes can't share a step of accumulate={scale.accumulate} "
                "batches equally"
            )
        if scale.shard and self.processes == 1:
            raise ValueError("shard=True needs several processes: start them with torchrun")

    @property
    def settings(self) -> dict:
        """The settings, as a card and a state record them."""
        return {"accumulate": self.scale.accumulate, "precision": self.precision}

    def objective(self, model: nn.Module, loss: Callable) -> nn.Module:
        """The loss of a batch in this precision, as a module: `objective(data)`.

        It is a module because processes exchange the gradients of a module's forward pass.
        """
        # "evaluation mode" prepares only the precision, because shards exchange on their own
        return self.accelerator.prepare_model(Objective(model, loss), evaluation_mode=self.sharded)

    def wrap(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        return self.accelerator.prepare(optimizer)

    def save_memory(self, objective: nn.Module, average: nn.Module) -> None:
        """Recompute or shard, if requested; capture CUDA graphs, if that is worthwhile."""
        if self.scale.recompute:
            recompute(objective)
        if self.sharded:
            shard(objective, average, self.device)
        alone = self.device.type == "cuda" and self.processes == 1 and not self.scale.recompute
        capture = self.scale.cuda_graphs and alone and worth_capturing(objective)
        self.graphs = CudaGraphs(objective, blocks(objective) if capture else [])

    def batches(self, done: int) -> range:
        """The batches of the next step that this process computes."""
        first = done * self.scale.accumulate
        rank = self.accelerator.process_index
        return range(first + rank, first + self.scale.accumulate, self.processes)

    @contextmanager
    def exchange(self, objective: nn.Module, weights: Sequence[Tensor], last: bool) -> Iterator:
        """Compute one batch inside; gradients are exchanged only after the step's last batch."""
        with nullcontext() if last else self.accelerator.no_sync(objective), self.graphs:
            yield
        if not last:
            self.graphs.keep_gradients(weights)

    def to_device(self, data: Any) -> Any:
        return send_to_device(data, self.device)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, weights: Sequence[Tensor], norm: float) -> None:
        self.accelerator.clip_grad_norm_(weights, norm)

    def mean(self, value: float) -> float:
        """The mean of a number over the processes."""
        if self.processes == 1:
            return value
        return self.accelerator.reduce(torch.tensor(value, device=self.device), "mean").item()

    def sum(self, value: float) -> float:
        return self.mean(value) * self.processes

    def whole_model(self, model: nn.Module) -> nn.Module:
        """The model itself, or a copy gathered from all its shards."""
        return gather_model(model) if self.sharded else model

    def close(self) -> None:
        """End the process group."""
        if self.processes > 1:
            self.sharded = False  # models are whole from now on
            self.mean(0.0)  # a barrier; Accelerate's own assumes that processes on CPUs use GPUs
            self.accelerator.free_memory()
            self.accelerator.end_training()


class Objective(nn.Module):
    def __init__(self, model: nn.Module, loss: Callable):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, data: Any) -> Tensor:
        return self.loss(self.model, data)


@contextmanager
def torchrun_environment() -> Iterator[None]:
    """Inside, Accelerate sees only the environment variables that torchrun sets.

    `accelerate config` may have stored other projects' settings: DeepSpeed, a compiler,
    accumulation. A single LOCAL_RANK, left behind by some tool, is ignored.
    """
    kept = dict(os.environ)
    for name in kept:
        if name.startswith("ACCELERATE_") or (name == "LOCAL_RANK" and not is_distributed()):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in kept.items() if name not in os.environ})


def is_distributed() -> bool:
    """Whether torchrun or another launcher started this process as one of several."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys()


def device_of_process(device: torch.device) -> torch.device:
    """A different GPU for each process on this machine."""
    if device.type != "cuda" or not is_distributed():
        return device
    return pick_device(f"cuda:{os.environ['LOCAL_RANK']}")


def make_accelerator(device: torch.device, precision: str) -> Accelerator:
    """An Accelerator for this device and precision; it stores both globally, hence the reset."""
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision 'fp16' needs a GPU; on a CPU use 'bf16' or 'no'")
    half = (
        DDPCommunicationHookType.BF16
        if gradients_in_bf16(precision)
        else DDPCommunicationHookType.NO
    )
    hook = DistributedDataParallelKwargs(comm_hook=half)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # Accelerate uses the current device
    AcceleratorState._reset_state(reset_partial_state=True)
    how = dict(mixed_precision=precision, cpu=device.type == "cpu", kwargs_handlers=[hook])
    with torchrun_environment():
        return Accelerator(**how)


def gradients_in_bf16(precision: str) -> bool:
    """Whether processes exchange gradients in bf16, as they were computed: half the bytes.

    Only torch's builds for GPUs can do this (but then between processes on CPUs, too).
    """
    able = torch.distributed.is_available() and torch.distributed.is_nccl_available()
    return precision == "bf16" and able
