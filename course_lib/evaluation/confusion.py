"""What a judge that errs says of many, and what is true of them.

If the judge says j of a share C[k, j] of those that are k, and a share p[k] are k, then it says j
of q[j] = sum_k p[k] C[k, j]. Who knows q and C can solve for p (Rogan & Gladen 1978, for two
classes). That assumes that the judge errs on these pictures as it did where C was measured.
"""

import torch
from torch import Tensor

from course_lib.common.checks import require


def confusion(truth: Tensor, said: Tensor, classes: int) -> Tensor:
    """C (K, K): row k holds the shares of the verdicts on those that are k.

    truth, said: (B,), numbers of classes. ValueError for a class of which there is none.

    >>> confusion(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), classes=2)
    tensor([[0.5000, 0.5000],
            [0.0000, 1.0000]], dtype=torch.float64)
    """
    require(truth.shape == said.shape and truth.dim() == 1, "said", "one for each truth", said)
    counts = torch.zeros(classes, classes, dtype=torch.float64)
    counts.index_put_((truth, said), torch.ones(len(truth)).double(), accumulate=True)
    require(bool((counts.sum(1) > 0).all()), "truth", f"some of each of {classes} classes", truth)
    return counts / counts.sum(1, keepdim=True)


def corrected(shares: Tensor, errors: Tensor) -> Tensor:
    """The true shares p (K,) behind the judge's q, with q = p C; they sum to 1.

    shares: q (..., K); errors: C (..., K, K), from `confusion`. A solution may be below 0 or above
    1 by chance: it isn't clipped, since that would bias a mean of several.

    >>> corrected(torch.tensor([0.3, 0.7]), torch.tensor([[0.8, 0.2], [0.1, 0.9]]))
    tensor([0.2857, 0.7143], dtype=torch.float64)
    """
    shares, errors = shares.double(), errors.double()
    rows = errors.sum(-1)
    require(torch.allclose(rows, torch.ones_like(rows)), "errors", "rows that sum to 1", errors)
    return torch.linalg.solve(errors.mT, shares[..., None])[..., 0]
