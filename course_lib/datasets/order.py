"""An endless shuffled order, computed from the position, so resuming needs no stored state."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np


def endless(indices: Iterable[int], length: int, seed: int = 0) -> list[int]:
    """The items at these positions of an endless shuffled list, with every item once per epoch.

    So `data.batch(range(step * 64, (step + 1) * 64))` is the batch for any step of a training.
    """
    return [int(shuffled(length, seed, i // length)[i % length]) for i in positions(indices)]


def positions(indices: Iterable[int]) -> list[int]:
    """The indices as a list; ValueError unless they are whole numbers from 0, and at least one."""
    indices = list(indices)
    if not indices:
        raise ValueError("a batch needs at least one index, got none")
    for i in indices:
        if not (i >= 0 and i % 1 == 0):
            raise ValueError(f"an index is a whole number from 0, got {i}")
    return [int(i) for i in indices]


@lru_cache(maxsize=64)
def shuffled(length: int, *key: int) -> np.ndarray:
    """0 … length - 1, shuffled in an order that depends on the key alone."""
    return np.random.default_rng(key).permutation(length)
