"""Listening to a network: what the reader's loss and sampler really pass to it.

Comments tell what code was meant to do. These functions observe what it does: they record every
call of the network, and may replace its prediction by one whose consequences are known.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.teaching.diagnosis.finding import NotVisible
from course_lib.training.seeding import seeded

CPU = torch.device("cpu")
Answer = Callable[[Tensor, Tensor], Tensor]  # (x, timestep) -> prediction


@dataclass(frozen=True)
class Call:
    """One call `network(x, timestep, context)`: its arguments, its result, and the mode."""

    x: Tensor  # (B, ...)
    timestep: Tensor  # (B,)
    context: Tensor | None
    prediction: Tensor  # (B, ...)
    training: bool


@contextmanager
def recorded_calls(model: nn.Module, answer: Answer | None = None) -> Iterator[list[Call]]:
    """Inside, the list receives every call of the model's denoiser.

    answer: replaces the denoiser, which then computes nothing. The denoiser is the model itself, or
    its part `unet`, if it has one.

    >>> from course_lib.models import UNet
    >>> unet = UNet(1, channels=8, multipliers=(1,), attention=(False,))
    >>> with recorded_calls(unet, answer=lambda x, timestep: 2 * x) as calls:
    ...     _ = unet(torch.ones(1, 1, 4, 4), torch.tensor([7.0]))
    >>> calls[0].timestep, calls[0].prediction.mean()
    (tensor([7.]), tensor(2.))
    """
    network = getattr(model, "unet", model)
    calls, forward = [], network.forward

    def recorded(x: Tensor, timestep: Tensor | None = None, context: Tensor | None = None):
        if timestep is None:
            raise NotVisible("the model is called without a timestep: is it a diffusion model?")
        prediction = answer(x, timestep) if answer else forward(x, timestep, context)
        each = torch.as_tensor(timestep).flatten().expand(len(x))
        calls.append(Call(x.detach(), each, context, prediction, network.training))
        return prediction

    network.forward = recorded  # hides the method of the same name
    try:
        yield calls
    finally:
        del network.forward


def regression_target(loss: Callable, model: nn.Module, data, seed: int) -> tuple[Call, Tensor]:
    """The call that `loss(model, data)` makes, and what it wants as the prediction: (B, ...).

    A squared error w·(p - target)² has the gradient 2w·(p - target). Its values at p = 0 and p = 1
    give the target, whatever the weights are; where the weight is 0, the target is NaN.
    """
    gradients = []
    for answer in (torch.zeros_like, torch.ones_like):
        with seeded(seed, 0, CPU), torch.enable_grad():
            with recorded_calls(model, lambda x, _, p=answer: p(x).requires_grad_()) as calls:
                value = loss(model, data)
            gradients += torch.autograd.grad(value, called(calls, "loss")[0].prediction)
    at_zero, at_one = gradients
    return calls[0], -at_zero / (at_one - at_zero)


def called(calls: list[Call], by: str) -> list[Call]:
    """The calls; NotVisible if there are none."""
    if not calls:
        raise NotVisible(f"your {by} never calls the model that it is given")
    return calls


@dataclass(frozen=True)
class NoiseLevels:
    """What the loss does at each timestep, measured with data of zeros and of ones.

    timestep, alpha, sigma, ratio (N,), in order of the timestep. The loss noises as
    alpha * x0 + sigma * eps; for x0 = 0 its target is ratio * x.
    """

    timestep: Tensor
    alpha: Tensor
    sigma: Tensor
    ratio: Tensor

    def at(self, values: Tensor, timestep: Tensor) -> Tensor:
        """The values, one for each of our timesteps, interpolated at others."""
        return torch.from_numpy(np.interp(timestep.double(), self.timestep, values))


def noise_levels(loss: Callable, model: nn.Module, batches: list, repeats: int) -> NoiseLevels:
    """Calls the loss with data of zeros and of ones, on batches of these shapes."""
    rows = []
    for seed in range(repeats):
        data = batches[seed % len(batches)]
        call, target = regression_target(loss, model, filled(data, 0.0), seed)
        other, _ = regression_target(loss, model, filled(data, 1.0), seed)
        x = call.x.flatten(1).double()
        alpha = (other.x.flatten(1).double() - x).mean(1)
        ratio = (target.flatten(1) * x).sum(1) / x.square().sum(1)
        rows.append(torch.stack([call.timestep.double(), alpha, x.square().mean(1), ratio]))
    timestep, alpha, square, ratio = torch.cat(rows, 1)
    order = timestep.argsort()
    sigma = sigma_of(alpha, square)
    return NoiseLevels(timestep[order], alpha[order], sigma[order], ratio[order])


@dataclass(frozen=True)
class Sampling:
    """The sampler's calls of a network that knows that all data is 0, and what it returns.

    level (calls,): the size of x, as a multiple of the noise level that belongs to the timestep. In
    a right sampler it is 1 at each call, and the result doesn't depend on the noise.
    """

    calls: list[Call]
    timestep: Tensor
    level: Tensor
    result: Tensor


def sigma_of(alpha: Tensor, square: Tensor) -> Tensor:
    """sigma, given alpha and noisy estimates of sigma²: of the circle or of the straight line."""
    circle, line = (1 - alpha**2).clamp(min=0).sqrt(), (1 - alpha).clamp(min=0)
    errors = [(square - sigma**2).abs().mean() for sigma in (circle, line)]
    return circle if errors[0] <= errors[1] else line


def filled(data, value: float):
    """The batch with its first tensor, the pictures, filled with this value."""
    if isinstance(data, Tensor):
        return torch.full_like(data, value)
    return type(data)([torch.full_like(data[0], value), *data[1:]])
