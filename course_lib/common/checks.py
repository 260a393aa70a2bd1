"""Refusals that several rooms share: each one line that says what came and what it was to meet."""

from numbers import Integral

import torch
from torch import Tensor

WHOLE = torch.int32, torch.int64  # what torch takes as indices


def whole_numbers(least: int, **values: int) -> None:
    """ValueError for what is no whole number, or less than `least`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")


def torch_seeds(*seeds: int) -> None:
    """ValueError unless torch tells each seed from all others: on a CPU it reads 32 bits of it."""
    for seed in seeds:
        if seed % 1 or not 0 <= seed < 2**32:
            raise ValueError(f"a seed must be a whole number from 0 to {2**32 - 1}; got {seed}")


def alike(name: str, x: Tensor, other: str, y: Tensor) -> None:
    """ValueError unless x can be combined with y, number by number."""
    if x.shape != y.shape:
        raise ValueError(f"{name} is {tuple(x.shape)}, but {other} is {tuple(y.shape)}")
    same_device(name, x, other, y)
    floating(name, x)
    floating(other, y)


def same_device(name: str, x: Tensor, other: str, y: Tensor) -> None:
    if x.device != y.device:
        raise ValueError(f"{name} came on {x.device}, but {other} is on {y.device}")


def floating(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype} (pictures: in [-1, 1])")


def some(name: str, x: Tensor) -> None:
    if not x.numel():
        raise ValueError(f"{name} is an empty batch, {tuple(x.shape)}, of which there is no mean")


def finite(name: str, x: Tensor) -> None:
    """ValueError for NaN or infinity. It waits for a GPU: for doors, not for loops."""
    if not x.isfinite().all():
        bad = int((~x.isfinite()).sum())
        raise ValueError(f"{name}: not all finite, {bad} of {x.numel()} numbers are nan or inf")
