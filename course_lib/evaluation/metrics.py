"""Measurements: a number with its meaning, its sample size and its confidence interval.

right = share("right", [True, True, False], kind="single", split="new pairs")
right.value, right.interval          # 0.667, (0.208, 0.939)
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

Z = 1.96  # standard errors to either side: 95 % confidence


@dataclass(frozen=True)
class Metric:
    """One measured number for a model.

    property: what was measured, for example "right" (everything that the caption says), "shape",
        "psnr" (dB) or "test_loss"
    value, count: the mean, and the number of samples
    interval: the 95 % confidence interval, (low, high), or None if unknown
    kind, split: those of the samples, such as "pair" and "new combinations"; None for all
    """

    property: str
    value: float
    count: int
    interval: tuple[float, float] | None = None
    kind: str | None = None
    split: str | None = None

    @property
    def label(self) -> str:
        """For people: "pair, new combinations: right"."""
        where = ", ".join(part for part in (self.kind, self.split) if part)
        return f"{where}: {self.property}" if where else self.property


def proportion(property: str, value: float, count: int, **where) -> Metric:
    """A proportion of `count` samples, with Wilson's interval (1927). where: kind, split."""
    return Metric(property, value, count, wilson(value, count), **where)


def share(property: str, hits: Sequence[bool] | Tensor, **where) -> Metric:
    """The proportion of hits, as a Metric.

    >>> share("right", [True] * 9 + [False]).value
    0.9
    """
    hits = torch.as_tensor(hits, dtype=torch.float64)
    return proportion(property, hits.mean().item(), len(hits), **where)


def wilson(value: float, count: int, z: float = Z) -> tuple[float, float]:
    """The true proportions that are at most z standard errors away from the measured one."""
    middle = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (value * (1 - value) / count + z**2 / (4 * count**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def mean(property: str, values: Sequence[float] | Tensor, **where) -> Metric:
    """The mean of the values, with the interval from the central limit theorem.

    >>> mean("psnr", [30.0, 32.0]).value
    31.0
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    value, half = values.mean().item(), Z * (values.std() / len(values) ** 0.5).item()
    return Metric(property, value, len(values), (value - half, value + half), **where)


def clustered(
    property: str, values: Sequence[float] | Tensor, clusters: Sequence, **where
) -> Metric:
    """The mean of values that are alike within clusters, such as several pictures of one concept.

    Its standard error is that of the clusters' sums (Liang & Zeger 1986), so that drawing the same
    concept twice doesn't count as twice the evidence. With one value per cluster it is `mean`.

    >>> clustered("right", [1, 1, 0, 0], ["a", "a", "b", "b"]).interval
    (-0.48, 1.48)
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    names = {name: n for n, name in enumerate(dict.fromkeys(clusters))}
    member = torch.tensor([names[name] for name in clusters])
    sums = torch.zeros(len(names), dtype=torch.float64)
    sums = sums.index_add(0, member, values - values.mean())  # of the residuals, by cluster
    variance = sums.square().sum() * len(sums) / (len(sums) - 1) / len(values) ** 2
    value, half = values.mean().item(), Z * variance.sqrt().item()
    return Metric(property, value, len(values), (value - half, value + half), **where)


def find(metrics: Iterable[Metric], property: str, **where) -> Metric:
    """The metric with that property, kind and split; ValueError if there is none.

    >>> find([Metric("psnr", 31.0, 2, kind="pair")], "psnr", kind="pair").value
    31.0
    """
    for metric in metrics:
        if metric.property == property and all(getattr(metric, k) == v for k, v in where.items()):
            return metric
    raise ValueError(f"no metric {property!r} with {where} was measured")


def mean_share(metrics: Iterable[Metric], property: str) -> float:
    """The mean of all metrics with that property, over kinds and splits."""
    values = [metric.value for metric in metrics if metric.property == property]
    return sum(values) / len(values)


def to_card(metrics: Iterable[Metric]) -> list[dict]:
    """The metrics as a checkpoint's card stores them, without the fields that are None."""
    return [{k: v for k, v in asdict(metric).items() if v is not None} for metric in metrics]


def from_card(card: dict) -> list[Metric]:
    """The metrics of a card; ValueError if they don't have the form of `to_card`."""
    try:
        return [
            Metric(**fields | {"interval": tuple(fields["interval"])})
            if "interval" in fields
            else Metric(**fields)
            for fields in card.get("metrics", [])
        ]
    except TypeError as error:
        raise ValueError(f"the card's metrics are not a list of measurements: {error}") from error
