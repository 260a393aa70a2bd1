"""Classifier-free guidance (Ho & Salimans 2022): sometimes drop the condition in training, and
exaggerate its effect in sampling.

`context` is (B, L, D), or class labels (B,). `null` stands for "no condition". It is one embedding
for all samples, (1, L, D) or (L, D), one for each, (B, L, D), or the null class as an int. With
another caption's context as `null`, guidance steers away from that caption: a negative prompt.
"""

import math

import torch
from torch import Tensor

from course_lib.common.checks import expands, require
from course_lib.diffusion.process import Network, broadcast


def drop_condition(
    context: Tensor, null: Tensor | int, p: float, generator: torch.Generator | None = None
) -> Tensor:
    """The context, with each sample's condition replaced by `null` with probability p.

    >>> drop_condition(torch.tensor([3, 7]), null=10, p=1.0)
    tensor([10, 10])
    """
    require(0 <= p <= 1, "p", "a probability in [0, 1]", p)
    drop = torch.rand(len(context), generator=generator) < p  # (B,), on the CPU
    return torch.where(
        broadcast(drop, context).to(context.device), null_context(null, context), context
    )


def guided(network: Network, null: Tensor | int, scale: float) -> Network:
    """The guided network: unconditional + scale * (conditional - unconditional).

    Each call runs the network once, on a batch of 2B. With scale = 1 it is the network itself.

    >>> network = lambda x, timestep, context: context.float()
    >>> guided(network, null=0, scale=3.0)(torch.zeros(2), torch.zeros(2), torch.tensor([1, 2]))
    tensor([3., 6.])
    """
    require(math.isfinite(scale), "scale", "a finite number", scale)
    if scale == 1:
        return network

    def guided_network(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        contexts = torch.cat([context, null_context(null, context)])  # (2B, L, D)
        timestep = timestep if timestep.dim() else timestep.expand(len(x))
        predictions = network(torch.cat([x, x]), torch.cat([timestep, timestep]), contexts)
        conditional, unconditional = predictions.chunk(2)  # (B, ...) each
        return unconditional + scale * (conditional - unconditional)

    return guided_network


def null_context(null: Tensor | int, context: Tensor) -> Tensor:
    """`null` in the shape of `context`, one for each sample."""
    require(context is not None, "context", "a condition to guide by", context)
    null = torch.as_tensor(null, device=context.device)
    require(expands(null, context), "null", f"one for {tuple(context.shape)} {context.dtype}", null)
    return null.to(context.dtype).expand_as(context)
