"""`course cost NAME --check`: train here, and print how wrong the cost model is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice

import torch

from course_lib.common.registry import choose
from course_lib.recipes import RECIPES
from course_lib.training.scale.cost import GPUS, Work, repeat_step, shortest_time

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def checks(work: Work, name: str, kind: str) -> Iterator[str]:
    """How wrong each prediction is on this machine, one line each."""

    def line(what: str, predicted: float, measured: float) -> str:
        wrong = predicted / measured - 1
        return (
            f"check: {what}: {predicted:.4f} s predicted, {measured:.4f} s measured, {wrong:+.0%}"
        )

    for processes in work.processes:
        what = f"{processes} process{'es' * (processes > 1)}"
        yield line(what, work.on_cpu(processes), check(name, processes))
    if torch.cuda.is_available():
        what = f"{torch.cuda.get_device_name()}, predicted as {kind}"
        yield line(what, sum(work.on_gpu(GPUS[kind]).values()), check_gpu(name))


def check(name: str, processes: int) -> float:
    """Measured seconds for a step of the recipe in this many processes, each on one core."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "-m", "course_lib.cli.cost_check", name]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    if done.returncode:
        raise RuntimeError(f"training in {processes} processes failed: {done.stderr[-300:]}")
    return float(done.stdout.split()[-1])


def check_gpu(name: str, steps: int = 20) -> float:
    """Measured seconds for a step of the recipe on this machine's GPU."""
    run = choose("recipe", name, RECIPES)().begin(device="cuda")
    list(islice(run, 3))

    def several() -> None:
        for _ in range(steps):
            repeat_step(run)
        torch.cuda.synchronize()

    return shortest_time(several, 3) / steps


def main(name: str) -> None:
    """One of the processes of `check`; the main one prints the seconds per step."""
    run = choose("recipe", name, RECIPES)().begin(device="cpu")
    list(islice(run, 2))
    step = shortest_time(lambda: repeat_step(run), 5)
    run.close()
    if run.is_main:
        print(step)


if __name__ == "__main__":
    main(sys.argv[1])
