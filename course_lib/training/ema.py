"""An exponential moving average (EMA) of a model's weights: the model to sample from.

The weights jitter with every batch. Their average over about the last 1 / (1 - decay) steps
doesn't, and it gives visibly better pictures (Ho et al. 2020 use a decay of 0.9999).
"""

import copy

import torch
from torch import nn

from course_lib.common.checks import like, require


class EMA:
    """`model` is a frozen copy that follows the trained model.

    Each update is average = decay * average + (1 - decay) * weights. At step n the decay is
    min(decay, (1 + n) / (10 + n)), so at first the average forgets the random initial weights
    quickly, and short trainings can use it, too.

    >>> network = nn.Linear(2, 2)
    >>> ema = EMA(network, decay=0.99)
    >>> ema.update(network, step=1)  # after each optimiser step
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"the EMA's decay must be in [0, 1), not {decay}")
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average after optimiser step number `step`, which starts at 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = list(self.model.parameters()), list(model.parameters())
        for average, weight in zip(averages, weights, strict=True):
            require(
                like(weight, average), "a weight", f"{tuple(average.shape)}, as its average", weight
            )
        torch._foreach_lerp_(averages, weights, 1 - decay)  # all of them: average.lerp_(weight, …)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
