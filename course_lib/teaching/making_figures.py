"""Tables and figures of chapter 12, from the recorded study `making`.

Its variants are techniques. Each run's curve has a row for each picture, with columns named
"measure, method": verdicts (1 or 0), or distances.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.evaluation.metrics import Metric, mean, share
from course_lib.teaching.results import Result
from course_lib.teaching.style import COLOURS, DASHES, canvas, styled

Runs = Sequence[Result]
DISTANCES = ("distance", "from source")  # the measures that aren't verdicts


def column(runs: Runs, name: str) -> np.ndarray:
    """A column of the curves of all seeds: one number for each picture."""
    return np.concatenate([run.curve[name] for run in runs])


def measured(values: np.ndarray, name: str = "") -> Metric:
    """The mean with its 95 % interval: Wilson's for verdicts.

    >>> measured(np.array([1.0, 0.0])).value
    0.5
    """
    verdicts = bool(np.isin(values, (0, 1)).all())
    return (share if verdicts else mean)(name, values.tolist())


def cell(runs: Runs, name: str, rows: np.ndarray | None = None) -> str:
    """A measure for a table: "84 % (75 to 90)", or "0.45 ± 0.02" for a distance."""
    values = column(runs, name)
    values = values if rows is None else values[rows]
    is_distance = name.startswith(DISTANCES)
    if is_distance and not values.any():
        return "0.00"
    metric = measured(values)
    low, high = metric.interval
    if is_distance:
        return f"{metric.value:.2f} ± {metric.value - low:.2f}"
    return f"{metric.value:.0%} ({100 * low:.0f} to {100 * high:.0f})"


def table(
    runs: Runs,
    methods: Mapping[str, str] | Sequence[str],
    measures: Mapping[str, str],
    rows: np.ndarray | None = None,
) -> str:
    """A line for each method, a column for each measure.

    methods, measures: the name in the results -> the name for the reader. rows: a mask of the
    pictures that count.
    """
    methods = methods if isinstance(methods, Mapping) else {name: name for name in methods}
    count = len(column(runs, next(iter(runs[0].curve)))) if rows is None else int(rows.sum())
    first = f"{count} pictures each"
    wide = max(map(len, [first, *methods.values()])) + 2
    lines = [f"{first:{wide}}" + "".join(f"{label:>24}" for label in measures.values())]
    for method, label in methods.items():
        cells = [cell(runs, f"{measure}, {method}", rows) for measure in measures]
        lines.append(f"{label:{wide}}" + "".join(f"{each:>24}" for each in cells))
    return "\n".join(lines)


@styled
def curves_figure(
    runs: Runs,
    values: Sequence[float],
    measures: Mapping[str, str],
    title: str,
    x: str,
    y: str = "share of the pictures",
) -> Figure:
    """Shares against a setting, with their intervals: a curve for each measure."""
    figure, axis = canvas(size=(7, 3.4), title=title)
    for i, (measure, label) in enumerate(measures.items()):
        found = [measured(column(runs, f"{measure}, {value:g}")) for value in values]
        middle = [metric.value for metric in found]
        low, high = zip(*(metric.interval for metric in found), strict=True)
        axis.plot(values, middle, DASHES[i], marker="o", color=COLOURS[i], label=label)
        axis.fill_between(values, low, high, color=COLOURS[i], alpha=0.15, linewidth=0)
    axis.set(xlabel=x, ylabel=y, ylim=(-0.03, 1.03))
    axis.legend()
    return figure


def repeated(tile: Tensor, times: int = 2) -> Tensor:
    """A tile (B, C, h, w), side by side and one above the other: (B, C, times · h, times · w).

    >>> import torch
    >>> repeated(torch.zeros(1, 1, 3, 5)).shape
    torch.Size([1, 1, 6, 10])
    """
    return tile.repeat(1, 1, times, times)
