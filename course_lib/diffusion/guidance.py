"""Classifier-free guidance (Ho & Salimans 2022): sometimes drop the condition in training, and
exaggerate its effect in sampling. And guidance by a reward, for which nothing is trained.

`context` is (B, L, D), or class labels (B,). `null` stands for "no condition". It is one embedding
for all samples, (1, L, D) or (L, D), one for each, (B, L, D), or the null class as an int. With
another caption's context as `null`, guidance steers away from that caption: a negative prompt.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.common.checks import expands, require
from course_lib.diffusion.process import Diffusion, Network, broadcast


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


def reward_guided(
    process: Diffusion, network: Network, reward: Callable[[Tensor], Tensor], scale: float
) -> Network:
    """The network, guided towards a higher reward of the x0 that it predicts.

    eps' = eps - scale * sigma * slope, where slope is the gradient of the reward with respect to
    xt, through the network (Dhariwal & Nichol 2021, algorithm 2, with the reward of the predicted
    x0 as in Bansal et al. 2023, eq. 6). Then x0' = x0 + scale * sigma² / alpha * slope, and that is
    x0 + scale * Cov(x0 | xt) @ (the reward's own gradient at x0): it moves only where the model is
    still uncertain. Each call costs a forward and a backward pass of the network and of the reward.
    In pure noise (alpha = 0) the prediction is left unchanged.

    reward: x0 (B, ...) -> (B,), differentiable.

    >>> process, network = Diffusion("cosine", "x0"), lambda x, timestep, context: x / 2
    >>> steered = reward_guided(process, network, lambda x0: x0.sum(1), scale=1.0)
    >>> steered(torch.zeros(1, 1), torch.tensor(499.0), None) > 0
    tensor([[True]])
    """
    require(math.isfinite(scale), "scale", "a finite number", scale)

    def guided_network(x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        require(x.is_floating_point(), "x", "floating-point data", x)
        t = process.schedule.time(timestep)
        alpha, sigma = process.at(t, x)  # (B, 1, ...)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            prediction = network(x, timestep, context)
            x0, eps = process.x0_and_eps(prediction, x, t)
            score = reward(x0)
            require(score.shape == (len(x),), "reward", f"({len(x)},), one for each", score)
            (slope,) = torch.autograd.grad(score.sum(), x)  # of each reward, the shape of x
        eps = eps.detach() - scale * sigma * slope
        guided_x0 = (x.detach() - sigma * eps) / alpha
        return torch.where(alpha > 0, process.target(guided_x0, eps, t), prediction.detach())

    return guided_network


def null_context(null: Tensor | int, context: Tensor) -> Tensor:
    """`null` in the shape of `context`, one for each sample."""
    require(context is not None, "context", "a condition to guide by", context)
    null = torch.as_tensor(null, device=context.device)
    require(expands(null, context), "null", f"one for {tuple(context.shape)} {context.dtype}", null)
    return null.to(context.dtype).expand_as(context)
