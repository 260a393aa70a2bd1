"""Trainings that are killed: `python victim.py FOLDER MOMENT …` runs one process per moment.

A moment is the name of a function here, or `random-SEED`: killed from outside, at any instruction.
Forked before torch has computed anything, so that each starts in milliseconds.
"""

import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from course_lib.common import files
from course_lib.training import Folder, Optimizer, train

STEPS, SAVE_EVERY, DEATH = 12, 4, 8  # all die at step 8 or in its save: the last good state is 4


def make_model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 32), nn.SiLU(), nn.Linear(32, 4))


def loss(model, x):
    return (model(x + torch.randn_like(x)) - x).square().mean()


def begin(folder, loss=loss, save_every=SAVE_EVERY):
    keep = Folder(folder, save_every)
    how = dict(steps=STEPS, optimizer=Optimizer(lr=1e-2, warmup=3), folder=keep, device="cpu")
    return train(make_model(), loss, lambda step: torch.randn(8, 4), **how)


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


def strike(child, folder, seed):
    """SIGKILL within 8 ms after a random step; there is a save at each, so often during one."""
    chance = random.Random(seed)
    steps, delay = chance.randint(1, STEPS - 3), chance.uniform(0, 0.008)
    while not (log := folder / "log.jsonl").exists() or log.read_bytes().count(b"\n") < steps:
        time.sleep(0.0005)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for moment in sys.argv[2:]:
        folder = Path(sys.argv[1]) / moment
        folder.mkdir()
        name, _, seed = moment.partition("-")
        if (child := os.fork()) == 0:
            if seed:
                list(begin(folder, save_every=1))
                signal.pause()  # on a busy machine the parent may be late
            else:
                globals()[name](folder)
            os._exit(0)
        if seed:
            strike(child, folder, int(seed))
        _, status = os.waitpid(child, 0)
        print(moment, os.WTERMSIG(status) == signal.SIGKILL)
