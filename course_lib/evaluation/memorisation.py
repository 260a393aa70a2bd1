"""Did the model memorise? Copies among its samples, and members betrayed by their error.

groups = near_duplicates(pixels)                               # first, or the ratio is blind
unique = training[np.unique(groups, return_index=True)[1]]     # the first of each group
limit = copy_threshold(held_out, unique)                       # from real pictures
copied = distance_ratio(samples, unique) < limit

errors = denoising_errors(process, network, images, times=[0.1, 0.3])
roc(-errors[members], -errors[others]).auc                     # 0.5: nothing is betrayed
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from course_lib.common.checks import require
from course_lib.diffusion import Diffusion, Network
from course_lib.evaluation.neighbours import nearest_neighbours


def distance_ratio(images: Tensor, training: Tensor) -> Tensor:
    """The distance to the nearest training picture over that to the second nearest: (B,).

    0 for a copy, near 1 for a picture between many; Yoon et al. (2023) call it memorised below 1/3.
    If the training pictures contain a picture twice, a copy of it has two distances of 0, and the
    ratio is 1: remove duplicates first (`datasets.duplicates.near_duplicates`). Errors as for
    `nearest_neighbours`.

    >>> distance_ratio(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
    tensor([0.5000])
    """
    require(len(training) > 1, "training", "two pictures or more", training)
    nearest, second = nearest_neighbours(images, training, k=2)[0].unbind(1)
    return torch.where(second > 0, nearest / second, torch.ones_like(second))


def copy_threshold(held_out: Tensor, training: Tensor, share: float = 0.01) -> float:
    """The ratio below which this share of real held-out pictures lies: what chance alone gives.

    >>> held_out, training = torch.tensor([[1.0], [1.2]]), torch.tensor([[0.0], [3.0]])
    >>> round(copy_threshold(held_out, training, share=0.0), 3)
    0.5
    """
    require(0 <= share <= 1, "share", "a share in [0, 1]", share)
    return distance_ratio(held_out, training).double().quantile(share).item()


@torch.no_grad()
def denoising_errors(
    process: Diffusion,
    network: Network,
    images: Tensor,
    times: Sequence[float],
    context: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Each picture's mean squared error of the prediction, over these times: (B,).

    A model fits what it was trained on better, so a small error suggests a member of the training
    set (Yeom et al. 2018; for diffusion Matsumoto et al. 2023). All pictures get the same noise at
    a time, so that they differ in themselves alone.

    >>> process, network = Diffusion("straight", "flow"), lambda x, timestep, context: 0 * x
    >>> denoising_errors(process, network, torch.zeros(2, 1, 8, 8), times=[0.5]).shape
    torch.Size([2])
    """
    require(len(times) > 0, "times", "at least one time", times)
    draw = torch.Generator().manual_seed(seed)
    noises = torch.randn(len(times), *images.shape[1:], generator=draw).to(images)
    errors = [
        process.errors(network, images, context, t, noise.expand_as(images))
        for t, noise in zip(times, noises, strict=True)
    ]
    return torch.stack(errors).mean(0)
