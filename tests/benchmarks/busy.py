"""What a busy machine costs: python tests/benchmarks/busy.py [--chapter 02_ddpm_loss]

Times twenty steps of a network with three layers, and a step of a small U-Net in one process with
two threads and in two processes with one, on the machine alone, beside one busy process and beside
two. Each is timed with torch's own waits and with the short ones that importing course_lib sets.
This makes a table for LOG.md in about 15 minutes. With --chapter, it times a whole chapter instead,
once each. Nothing else may run on the machine.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from course_lib import SHORT_WAITS
from course_lib.common.paths import ROOT

TORCHS = {"KMP_BLOCKTIME": "200"}  # its default; course_lib doesn't change what is set
WAITS = {"torch's": TORCHS, "short": SHORT_WAITS}
SECONDS, LEAST, MOST = 20, 3, 30  # of steps: for this long, but between 3 and 30 of them


def step() -> None:
    """Print the median time of a step in ms; several processes share its two batches."""
    import torch

    from course_lib.diffusion import Diffusion
    from course_lib.models import UNet
    from course_lib.training import Scale, train

    torch.manual_seed(0)
    process, images = Diffusion(), torch.randn(16, 1, 16, 16)
    run = train(
        UNet(1, channels=32),
        lambda model, x0: process.loss(model, x0),
        lambda index: images,
        **dict(steps=2 + MOST, scale=Scale(accumulate=2), device="cpu"),
    )
    times, begin = [], time.perf_counter()
    for _ in run:
        times.append(time.perf_counter() - begin - sum(times))
        enough = sum(times) > SECONDS and len(times) >= 2 + LEAST
        if run.engine.mean(float(enough)) > 0:  # all processes stop at the same step
            break
    if run.is_main:
        print(1000 * median(times[2:]))  # two to warm up
    run.close()


def small() -> None:
    """Print the median time in ms of twenty steps of a small network, as chapter 03 trains it."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [nn.Linear(3, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2)]
    network, x, y = nn.Sequential(*layers), torch.randn(2048, 3), torch.randn(2048, 2)
    optimizer, times, begin = torch.optim.AdamW(network.parameters()), [], time.perf_counter()
    while time.perf_counter() < begin + SECONDS / 2:
        start = time.perf_counter()
        for _ in range(20):
            optimizer.zero_grad()
            (network(x) - y).square().mean().backward()
            optimizer.step()
        times.append(time.perf_counter() - start)
    print(1000 * median(times[2:]))


def chapter(name: str) -> None:
    """Print how long the chapter runs, in seconds."""
    import nbformat

    from course_lib.authoring.notebooks import FOLDER, execute

    print(execute(nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)))


@contextmanager
def busy(count: int):
    """This many other processes, which are always busy."""
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def measure(command: list[str], environment: dict[str, str]) -> float:
    kept = {
        name: v for name, v in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", *command], env=kept | environment, cwd=ROOT, check=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--chapter", help="time this notebook, not a step: 02_ddpm_loss")
    parser.add_argument("--most", type=int, default=2, help="busy processes beside it, at most")
    parser.add_argument("--waits", choices=WAITS, help="with these waits only; by default both")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is shown")
    parser.add_argument("--spins", nargs="+", default=[], help="GOMP_SPINCOUNTs to try as well")
    parser.add_argument("--small", action="store_true", help="time the smallest network alone")
    parser.add_argument("--work", choices=["step", "small", "chapter"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return chapter(given.chapter) if given.work == "chapter" else globals()[given.work]()

    this = f"{Path(__file__).parent.relative_to(ROOT)}".replace(os.sep, ".") + ".busy"
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    jobs = {
        "20 steps of a small network, 2 threads, ms": ([this, "--work=small"], "2"),
        "a step, one process of 2 threads, ms": ([this, "--work=step"], "2"),
        "a step, 2 processes of one thread, ms": ([*launcher, this, "--work=step"], "1"),
    }
    if given.small:
        jobs = dict(list(jobs.items())[:1])
    if given.chapter:
        work, given.rounds = [this, "--work=chapter", f"--chapter={given.chapter}"], 1
        jobs = {f"chapter {given.chapter[:2]}, s": (work, "2")}
    beside = range(given.most + 1)
    chosen = {waits: WAITS[waits] for waits in ([given.waits] if given.waits else WAITS)}
    chosen |= {f"{spins} spins": {"GOMP_SPINCOUNT": spins} for spins in given.spins}
    print("| | waits | quiet | beside 1 busy process | beside 2 |\n|---|---|---|---|---|")
    for name, (command, threads) in jobs.items():
        times = {waits: [[] for _ in beside] for waits in chosen}
        for _ in range(given.rounds):
            for count in beside:
                for waits, environment in chosen.items():  # alternately
                    with busy(count):
                        taken = measure(command, environment | {"OMP_NUM_THREADS": threads})
                    times[waits][count].append(taken)
        for waits, columns in times.items():
            cells = " | ".join(f"{median(column):,.0f}" for column in columns)
            print(f"| {name} | {waits} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
