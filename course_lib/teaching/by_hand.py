"""Compares modules written by hand with the library's: same weights, same output."""

import torch
from torch import Tensor, nn


def randomised(module: nn.Module) -> nn.Module:
    """The module with random numbers in every parameter, so that no layer stays at zero."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy tensor by tensor in the order of registration, whatever their names are.

    ValueError if the numbers of tensors differ; RuntimeError if two shapes differ.

    >>> ours, theirs = nn.Sequential(nn.Linear(2, 3)), nn.Linear(2, 3)
    >>> copy_weights(theirs, ours)
    >>> torch.equal(ours[0].weight, theirs.weight)
    True
    """
    ours, theirs = target.state_dict(), source.state_dict()
    if len(ours) != len(theirs):
        raise ValueError(f"expected {len(theirs)} tensors as in the source, got {len(ours)}")
    target.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))


@torch.no_grad()
def assert_same(mine: nn.Module, theirs: nn.Module, *inputs: Tensor) -> None:
    """AssertionError unless both modules give the same output with the same random weights."""
    copy_weights(randomised(theirs), mine)
    torch.testing.assert_close(mine(*inputs), theirs(*inputs), rtol=1e-3, atol=1e-4)
