"""A training in several processes: `torchrun … together.py FOLDER [STOP]` resumes it in FOLDER.

With STOP it is paused after that step. At the end each process prints whether it is the main one.
The environment variable PRECISION sets the training's precision.
"""

import os
import sys
from itertools import islice

import torch
from torch import nn

from course_lib.training import Folder, Optimizer, Scale, train

torch.set_num_threads(1)


def begin(folder, precision="no"):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Dropout(0.1), nn.Linear(8, 4))
    optimizer, scale = Optimizer(lr=1e-2, warmup=4), Scale(accumulate=2, precision=precision)
    how = dict(steps=12, optimizer=optimizer, ema=0.9, scale=scale, device="cpu")
    return train(model, loss, batch, folder=Folder(folder, save_every=4), **how)


def loss(model, x):
    return (model(x + torch.randn_like(x)) - x).square().mean()


def batch(index):
    return torch.randn(8, 4) + index


if __name__ == "__main__":
    folder, stop = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 12
    run = begin(folder, precision=os.environ.get("PRECISION", "no"))
    for step in islice(run, stop - run.done):
        if os.environ.get("DIES") == os.environ.get("RANK") and step.index == 6:
            os._exit(9)  # without any clean-up, as after SIGKILL
    run.close()
    line = f"process {os.environ.get('RANK', 0)} is main: {run.is_main}\n"
    sys.stdout.write(line)  # in one write, because the other process writes to the same pipe
