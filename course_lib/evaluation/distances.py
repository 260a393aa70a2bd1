"""Two sets of pictures compared by their features: distances, precision and recall, and floors.

A distance means nothing without its floor, which is what two sets of real pictures of the same
sizes score. Both distances below depend on the number of pictures or scatter around zero, so print
`floor(...)` next to every number.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.common.checks import finite, torch_seeds


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance of Gaussians fitted to features (N, D), (M, D) (Heusel et al. 2017):

    |mean_a - mean_b|² + tr(cov_a + cov_b - 2 (cov_a cov_b)^½), in float64.

    It is biased upwards for few pictures, so compare only at equal sizes. Raises ValueError for
    features of different widths, fewer than two rows, or values that are not finite.

    >>> round(frechet_distance(torch.eye(2), torch.eye(2) + 3))
    18
    """
    a, b = _checked(a, b)
    apart = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = (torch.atleast_2d(torch.cov(x.T)) for x in (a, b))
    # this symmetric matrix has the eigenvalues of cov_a cov_b, and its square root is safe
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return (apart + cov_a.trace() + cov_b.trace() - 2 * overlap).item()


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (x·y/D + 1)³ (Bińkowski et al. 2018, KID).

    It is unbiased, so for two sets from the same distribution it is around zero, sometimes below.
    Features (N, D) and (M, D); raises ValueError as `frechet_distance` does.

    >>> kernel_distance(torch.eye(2), torch.eye(2))
    -2.375
    """
    a, b = _checked(a, b)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def among(x):  # the mean over pairs of different pictures in one set
        k = kernel(x, x)
        return (k.sum() - k.trace()) / (len(x) * (len(x) - 1))

    return (among(a) + among(b) - 2 * kernel(a, b).mean()).item()


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> tuple[float, float]:
    """What share of the generated pictures looks real, and what share of the real ones can occur?

    A set's region is the union of balls around its features that reach to the k-th nearest other
    one. Precision is the share of `generated` in the region of `real`, and recall the reverse
    (Kynkäänniemi et al. 2019, eq. 1 and 2). Both depend on the numbers of pictures, so compare with
    the floor. Features (N, D) and (M, D); ValueError as `frechet_distance`, or for k + 1 > N or M.

    >>> line = torch.arange(4.0)[:, None]
    >>> precision_recall(line, line[:2] + 0.5, k=1)  # both generated ones lie between real ones
    (1.0, 0.75)
    """
    real, generated = _checked(real, generated)
    if not 1 <= k < min(len(real), len(generated)):
        sizes = f"{len(real)} and {len(generated)}"
        raise ValueError(f"k is {k}, expected at least 1 and less than {sizes} features")
    return _share_inside(generated, real, k), _share_inside(real, generated, k)


def floor(
    distance: Callable[[Tensor, Tensor], float],
    real: Tensor,
    count: int,
    repeats: int = 10,
    seed: int = 0,
) -> tuple[float, float]:
    """What `count` real pictures score against the other real ones: mean and standard deviation.

    real: features (N, D) with N >= count + 2. Compare with `distance(generated, rest)` for `count`
    generated pictures and N - count real ones.
    """
    if not 2 <= count <= len(real) - 2:
        raise ValueError(f"count is {count}, expected 2 to {len(real) - 2} of {len(real)} features")
    torch_seeds(seed)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(real), generator=generator) for _ in range(repeats)]
    scores = [distance(real[order[:count]], real[order[count:]]) for order in orders]
    return torch.tensor(scores).mean().item(), torch.tensor(scores).std(correction=0).item()


def _share_inside(features: Tensor, others: Tensor, k: int) -> float:
    """The share of features within any ball around the others."""
    exact = dict(compute_mode="donot_use_mm_for_euclid_dist")
    radii = torch.cdist(others, others, **exact).kthvalue(k + 1).values  # the nearest is itself
    return (torch.cdist(features, others, **exact) <= radii).any(1).double().mean().item()


def _checked(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"features are {shapes}, expected (N, D) and (M, D), at least 2 of each")
    finite("features", a)
    finite("features", b)
    return a.detach().cpu().double(), b.detach().cpu().double()
