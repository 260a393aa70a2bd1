"""Classifier-free guidance (Ho & Salimans 2022): forget the caption sometimes, exaggerate it later.

`context` is (B, L, D), or class labels (B,). `empty` is what stands for "no condition": (1, L, D)
or (L, D), one for each sample, (B, L, D), or the null class as an int. With another caption's
context as `empty`, guidance leads away from that caption: a negative prompt.
"""

import math

import torch
from torch import Tensor

from course_lib.diffusion.process import Network, broadcast


def drop_condition(
    context: Tensor, empty: Tensor | int, p: float, generator: torch.Generator | None = None
) -> Tensor:
    """The context with each sample's condition replaced by `empty` with probability p."""
    if not 0 <= p <= 1:
        raise ValueError(f"p is a probability, got {p}")
    drop = torch.rand(len(context), generator=generator) < p  # (B,), on the CPU
    return torch.where(broadcast(drop, context).to(context.device), blank(empty, context), context)


def guided(network: Network, empty: Tensor | int, scale: float) -> Network:
    """A network with the condition exaggerated: empty's answer + scale * (the difference).

    One call on a batch of 2B; scale = 1 is the network itself.
    """
    if not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale}")
    if scale == 1:
        return network

    def guided_network(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        contexts = torch.cat([context, blank(empty, context)])  # (2B, L, D)
        timestep = timestep.expand(len(x)) if timestep.dim() == 0 else timestep
        answers = network(torch.cat([x, x]), torch.cat([timestep, timestep]), contexts)
        conditional, unconditional = answers.chunk(2)  # (B, ...) each
        return unconditional + scale * (conditional - unconditional)

    return guided_network


def blank(empty: Tensor | int, context: Tensor) -> Tensor:
    """`empty` in the shape of `context`; ValueError if it does not fit."""
    if context is None:
        raise ValueError("guidance needs a context, got None")
    empty = torch.as_tensor(empty, device=context.device)
    if empty.is_floating_point() != context.is_floating_point():
        raise ValueError(f"empty is {empty.dtype}, but the context is {context.dtype}")
    try:
        return empty.to(context.dtype).expand_as(context)
    except RuntimeError:
        shapes = tuple(empty.shape), tuple(context.shape)
        raise ValueError(
            "empty is {}, which does not fit a context of {}".format(*shapes)
        ) from None
