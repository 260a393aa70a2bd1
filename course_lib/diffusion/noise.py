"""Noise: with its own generator, each sample gets the same noise in a batch of any size."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from course_lib.common.checks import require, torch_seeds


def generators(seeds: Sequence[int], device: str | torch.device = "cpu") -> list[torch.Generator]:
    """One random generator for each sample; on "cpu" they give the same noise on every machine.

    seeds: from 0 to 2**32 - 1; ValueError for others, for which torch could repeat noise.

    >>> [first, second] = generators([0, 1])
    """
    torch_seeds(*seeds)
    return [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]


def initial_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal noise in float32, (B, *shape), each sample from its own generator.

    >>> initial_noise([torch.Generator(), torch.Generator()], (3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """
    require(len(generators) > 0, "generators", "at least one generator", "none")
    kind = dict(dtype=torch.float32)  # whatever torch's default is
    return torch.stack(
        [torch.randn(*shape, generator=g, device=g.device, **kind) for g in generators]
    )


def noise_source(
    x: Tensor, generators: Sequence[torch.Generator] | None = None
) -> Callable[[], Tensor]:
    """A function that draws noise like x, from each sample's generator or from torch's default.

    >>> noise = noise_source(torch.zeros(2, 3))
    >>> noise().shape
    torch.Size([2, 3])
    """
    if generators is None:
        return lambda: torch.randn_like(x)
    require(len(generators) == len(x), "generators", f"{len(x)}, one per sample", len(generators))
    return lambda: initial_noise(generators, x.shape[1:]).to(x)
