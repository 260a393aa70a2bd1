"""A sharded training: `torchrun … sharded.py FOLDER STOP` resumes the run in FOLDER.

Each process prints what it holds and its losses in bf16; the main one publishes the average.
"""

import json
import sys
from itertools import islice
from pathlib import Path

import torch

from course_lib.common.checkpoints import save_checkpoint
from course_lib.models import UNet
from course_lib.training import Folder, Optimizer, Scale, train

torch.set_num_threads(1)


def begin(folder=None, dtype=torch.float64, **changes):
    """In float64, so that sums that cancel are accurate, too."""
    torch.manual_seed(3)
    small = dict(
        channels=8, multipliers=(1, 2), attention=(False, True), layers_per_block=1, heads=2
    )
    model = UNet(3, context_dim=6, **small)  # the last kernel's 3 rows: two parts of unequal size
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)  # no block begins as the identity
    scale = Scale(**dict(accumulate=4, recompute=True) | changes)
    how = dict(steps=6, optimizer=Optimizer(lr=1e-3, warmup=2, clip=0.5), ema=0.9, device="cpu")
    folder = Folder(folder, save_every=3) if folder else None
    return train(model.to(dtype), loss, batch, folder=folder, scale=scale, **how)


def loss(model, x):
    x = x.to(model.conv_in.weight)
    context = torch.randn(len(x), 2, 6).to(x)
    return (model(x + torch.randn_like(x), torch.rand(len(x)), context) - x).square().mean()


def batch(index):
    return torch.randn(4, 3, 8, 8) + index % 3


def in_bf16(**changes):
    return [
        step.loss for step in islice(begin(dtype=torch.float32, precision="bf16", **changes), 2)
    ]


def held(run):
    """How many numbers of each kind this process has in memory, counting each buffer once."""
    kinds = {
        "weights": run.weights,
        "gradients": [p.grad for p in run.weights],
        "moments": [state["exp_avg"] for state in run.optimizers[0].state.values()],
        "average": run.average.model.parameters(),
    }
    pieces = {kind: [t.to_local().untyped_storage() for t in kinds[kind]] for kind in kinds}
    sizes = {kind: {s.data_ptr(): s.nbytes() // 8 for s in pieces[kind]} for kind in kinds}
    return {kind: sum(each.values()) for kind, each in sizes.items()}


def main(folder, stop):
    facts = {"bf16": in_bf16(shard=True)}
    run = begin(folder, shard=True)
    for step in islice(run, stop - run.done):
        if step.index == 2:
            average = run.ema  # all gather it, the main one draws
            if run.is_main:
                x, context = (torch.ones(*size).double() for size in ((1, 3, 8, 8), (1, 2, 6)))
                average(x, torch.ones(1), context)
    sys.stdout.write(json.dumps(facts | held(run)) + "\n")  # in one write: the pipe is shared
    run.close()
    if run.is_main:
        save_checkpoint(folder / "published.safetensors", run.ema, **run.card)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
