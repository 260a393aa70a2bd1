"""A training in shards: `torchrun … sharded.py FOLDER [STOP] [PRECISION]`, as `crew.py`.

Each process says what it holds; the leading one publishes the average.
"""

import json
import sys
from itertools import islice
from pathlib import Path

import torch

from course_lib.models import UNet
from course_lib.training import save_checkpoint, train

torch.set_num_threads(1)


def begin(folder, **changes):
    torch.manual_seed(3)
    small = dict(channels=8, multipliers=(1, 2), attention=(False, True), heads=2, context_dim=6)
    model = UNet(3, **small)  # 3 rows of the last kernel: two parts of unequal size
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)  # no block begins as the identity
    settings = dict(steps=12, warmup=4, lr=1e-3, ema=0.9, save_every=4, accumulate=4, clip=0.5)
    settings |= dict(recompute=True, device="cpu") | changes
    return train(model, loss, batch, folder=folder, **settings)


def loss(model, x):
    context = torch.randn(len(x), 2, 6)
    return (model(x + torch.randn_like(x), torch.rand(len(x)), context) - x).square().mean()


def batch(index):
    return torch.randn(4, 3, 8, 8) + index % 3


def held(run):
    """How many numbers of each kind this process keeps in memory."""
    kinds = {
        "weights": run.weights,
        "gradients": [p.grad for p in run.weights],
        "moments": [s["exp_avg_sq"] for o in run.optimizers for s in o.state.values()],
        "average": run.average.model.parameters(),
    }
    bytes_ = {k: sum(t.to_local().untyped_storage().nbytes() for t in v) for k, v in kinds.items()}
    return {kind: size // 4 for kind, size in bytes_.items()}


if __name__ == "__main__":
    folder, stop = Path(sys.argv[1]), int(sys.argv[2])
    run = begin(folder, shard=True, precision=sys.argv[3])
    for step in islice(run, stop - run.done):
        if step.index == 6:
            average = run.ema  # from all processes, for the leading one to draw with
            if run.leads:
                average(torch.ones(1, 3, 8, 8), torch.ones(1), torch.ones(1, 2, 6))
    print(json.dumps(held(run)), flush=True)
    run.part()
    if run.leads:
        save_checkpoint(folder / "published.safetensors", run.ema, **run.card)
