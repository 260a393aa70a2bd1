"""Trainings that die: `python victim.py FOLDER MOMENT …` runs one process per moment, each killed.

Forked before torch has computed anything, so that each starts in milliseconds.
"""

import os
import resource
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from course_lib.training import files, train

STEPS, SAVE_EVERY, DEATH = 12, 4, 8  # all die at step 8 or in its save: the last good state is 4


def make_model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 32), nn.SiLU(), nn.Linear(32, 4))


def loss(model, x):
    return (model(x + torch.randn_like(x)) - x).square().mean()


def begin(folder, loss=loss):
    return train(
        make_model(), loss, lambda step: torch.randn(8, 4), steps=STEPS, warmup=3, lr=1e-2,
        folder=folder, save_every=SAVE_EVERY, device="cpu",
    )  # fmt: skip


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def mid_step(folder):
    calls = iter(range(DEATH - 1))
    for _ in begin(
        folder, lambda model, x: loss(model, x) if next(calls, None) is not None else die()
    ):
        pass


def mid_save(folder):
    def half(path, content):
        if "state" in path.name and (folder / "state.safetensors").exists():
            path.write_bytes(content[: len(content) // 2])
            die()
        write(path, content)

    write, files.write_through = files.write_through, half
    list(begin(folder))


def before_the_exchange(folder):
    def exchange(source, target):
        if "state" in str(target) and (folder / "state.safetensors").exists():
            die()
        replace(source, target)

    replace, os.replace = os.replace, exchange
    list(begin(folder))


def after_the_exchange(folder):
    for step in begin(folder):
        if step.index == DEATH:
            die()


def disk_full(folder):
    """No kill: the file size limit makes the second save fail, as a full disk would."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for step in begin(folder):
            if step.index == SAVE_EVERY:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    except OSError as error:
        (folder / "error.txt").write_text(str(error))
        die()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for moment in sys.argv[2:]:
        folder = Path(sys.argv[1]) / moment
        folder.mkdir()
        if (child := os.fork()) == 0:
            globals()[moment](folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(moment, os.WTERMSIG(status) == signal.SIGKILL)
