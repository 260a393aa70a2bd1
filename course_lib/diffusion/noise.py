"""Noise by the sample: with a generator of its own, each keeps its noise in any batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from course_lib.common.checks import torch_seeds


def generators(seeds: Sequence[int], device: str | torch.device = "cpu") -> list[torch.Generator]:
    """One random generator for each sample; those on "cpu" are the same on every machine.

    seeds: from 0 to 2**32 - 1. ValueError beyond, where torch would repeat the noise of others.
    """
    torch_seeds(*seeds)
    return [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]


def initial_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal noise in float32, (B, *shape), each sample from its own generator."""
    if not generators:
        raise ValueError("noise needs at least one generator, one for each sample; got none")
    kind = dict(dtype=torch.float32)  # whatever torch's default is
    return torch.stack(
        [torch.randn(*shape, generator=g, device=g.device, **kind) for g in generators]
    )


def one_each(generators: Sequence[torch.Generator], x: Tensor) -> None:
    """ValueError unless each sample of x has a generator."""
    if len(generators) != len(x):
        raise ValueError(f"{len(generators)} generators for a batch of {len(x)}")


def fresh_noise(x: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
    """Noise for each sample of x, from its generator, or from torch's own if there are none."""
    if generators is None:
        return torch.randn_like(x)
    one_each(generators, x)
    return initial_noise(generators, x.shape[1:]).to(x)
