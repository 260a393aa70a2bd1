"""A training for several processes: `torchrun … crew.py FOLDER [STOP]` goes on where FOLDER ends.

With STOP it is paused after that step. At the end each process says whether it is the main one.
PRECISION in the environment is the training's.
"""

import os
import sys
from itertools import islice

import torch
from torch import nn

from tests.training import flat

torch.set_num_threads(1)


def begin(folder, **changes):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Dropout(0.1), nn.Linear(8, 4))
    settings = dict(steps=12, warmup=4, lr=1e-2, ema=0.9, save_every=4, accumulate=2) | changes
    return flat.begin(model, loss, batch, folder, device="cpu", **settings)


def loss(model, x):
    return (model(x + torch.randn_like(x)) - x).square().mean()


def batch(index):
    return torch.randn(8, 4) + index


if __name__ == "__main__":
    folder, stop = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 12
    run = begin(folder, precision=os.environ.get("PRECISION", "no"))
    for step in islice(run, stop - run.done):
        if os.environ.get("DIES") == os.environ.get("RANK") and step.index == 6:
            os._exit(9)  # no farewell, as after SIGKILL
    run.close()
    line = f"process {os.environ.get('RANK', 0)} is main: {run.is_main}\n"
    sys.stdout.write(line)  # in one write: the other process writes to the same pipe
