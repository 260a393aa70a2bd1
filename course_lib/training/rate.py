"""The learning rate: a function of the step alone, so a resumed run has nothing to restore."""

import math
from collections.abc import Callable

from course_lib.common.registry import choose

DECAYS: dict[str, Callable[[float], float]] = {  # progress in [0, 1] -> fraction of the peak
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


def learning_rate(step: int, steps: int, peak: float, warmup: int, decay: str = "cosine") -> float:
    """The rate at step 0 … steps - 1: linear warm-up to `peak`, then a decay until `steps`.

    >>> [learning_rate(step, steps=4, peak=1.0, warmup=2, decay="linear") for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    shape = choose("decay", decay, DECAYS)
    if not 0 <= step <= steps:
        raise ValueError(f"step must be in 0 ... {steps}, got {step}")
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * shape((step - warmup) / max(steps - warmup, 1))
