"""How well a score tells two kinds of things apart: the ROC curve, and what base rates do to it.

A large score means "positive". Where a small one does, as with distances, negate it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.common.checks import require


@dataclass(frozen=True)
class ROC:
    """The curve: shares of the negatives (fpr) and the positives (tpr) at or above each threshold.

    All are (N,), from the strictest threshold, infinity, to the lowest score.
    """

    fpr: Tensor
    tpr: Tensor
    thresholds: Tensor

    @property
    def auc(self) -> float:
        """The area: how probably a positive scores higher than a negative, a tie counting half."""
        return torch.trapezoid(self.tpr, self.fpr).item()

    def at(self, fpr: float) -> tuple[float, float]:
        """The largest tpr with at most this share of false alarms, and its threshold.

        >>> roc(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.5])).at(fpr=0.0)
        (0.5, 3.0)
        """
        require(0 <= fpr <= 1, "fpr", "a share in [0, 1]", fpr)
        last = int((self.fpr <= fpr + 1e-12).sum()) - 1
        return self.tpr[last].item(), self.thresholds[last].item()


def roc(positives: Tensor, negatives: Tensor) -> ROC:
    """The ROC curve of two sets of scores, (P,) and (N,); ValueError if one is empty or has a NaN.

    >>> roc(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0])).auc
    0.75
    """
    for name, scores in {"positives": positives, "negatives": negatives}.items():
        fine = scores.dim() == 1 and len(scores) > 0 and not bool(scores.isnan().any())
        require(fine, name, "a list of numbers, not empty, without NaN", scores)
    positives, negatives = positives.double(), negatives.double()
    found = torch.cat([positives, negatives]).unique().flip(0)
    thresholds = torch.cat([torch.tensor([torch.inf], dtype=torch.float64), found])
    return ROC(share_above(negatives, thresholds), share_above(positives, thresholds), thresholds)


def share_above(scores: Tensor, thresholds: Tensor) -> Tensor:
    """The share of the scores at or above each threshold."""
    below = torch.searchsorted(scores.sort().values, thresholds)
    return 1 - below.double() / len(scores)


def precision(tpr: float, fpr: float, base_rate: float) -> float:
    """The share of alarms that are right, if this share of everything is positive (Bayes' rule).

    >>> round(precision(tpr=0.99, fpr=0.01, base_rate=0.001), 3)
    0.09
    """
    for name, rate in {"tpr": tpr, "fpr": fpr, "base_rate": base_rate}.items():
        require(0 <= rate <= 1, name, "a share in [0, 1]", rate)
    right, wrong = tpr * base_rate, fpr * (1 - base_rate)
    require(right + wrong > 0, "rates", "some that raise alarms", (tpr, fpr, base_rate))
    return right / (right + wrong)
