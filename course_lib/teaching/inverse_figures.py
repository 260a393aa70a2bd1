"""Figures and tables of chapter 15b, from the recorded study `inverse_problems`.

Its variants are "Fourier 2" to "tomography 8": the type of measurement, and the ratio of pixels to
measurements. Each run's curve has a row for each picture.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from course_lib.evaluation.metrics import mean, wilson
from course_lib.teaching.plots import grid_figure
from course_lib.teaching.results import Result, by_variant
from course_lib.teaching.style import BLUE, GREEN, GREY, ORANGE, PINK, SKY, canvas, styled

Runs = Sequence[Result]
KINDS, TIMES = ("Fourier", "tomography"), (2, 4, 8)
METHODS = {  # name in the results -> (name for the reader, colour, marker)
    "zero filling": ("zero filling", GREY, "v"),
    "total variation": ("total variation", SKY, "s"),
    "either": ("a posterior sample", ORANGE, "o"),
    "mean": ("mean of 4 samples", BLUE, "D"),
}
PRIORS = {
    "total variation": ("total variation", SKY, "s"),
    "healthy": ("prior without lesions", PINK, "v"),
    "lesion": ("prior with a lesion in each", GREEN, "^"),
    "either": ("prior with one in half", ORANGE, "o"),
}


def column(runs: Runs, name: str) -> np.ndarray:
    """A column of the curves of all seeds of one variant, one number for each picture."""
    return np.concatenate([run.curve[name] for run in runs])


def errors(runs: Runs, method: str):
    """The mean PSNR over all pictures of one variant, with its 95 % interval."""
    return mean("psnr", column(runs, f"psnr, {method}").tolist())


def erased(runs: Runs, method: str) -> tuple[float, tuple[float, float], int]:
    """The share of pictures with a lesion in which it is gone; interval and count."""
    there = column(runs, "lesion") == 1
    return share(1 - column(runs, f"lesion seen, {method}")[there])


def invented(runs: Runs, method: str) -> tuple[float, tuple[float, float], int]:
    """The share of pictures without a lesion that show one somewhere; interval and count."""
    there = column(runs, "lesion") == 1
    return share(column(runs, f"anywhere, {method}")[~there])


def share(values: np.ndarray) -> tuple[float, tuple[float, float], int]:
    """The mean over pictures; the interval is based on the number of pictures, not of samples."""
    value = float(values.mean())
    return value, wilson(value, len(values)), len(values)


def errors_table(runs: Runs) -> str:
    """A line for each variant: each method's PSNR in dB, ± half its 95 % interval."""
    lines = [f"{'':14}" + "".join(f"{label:>22}" for label, *_ in METHODS.values())]
    for variant, each in by_variant(runs).items():
        found = [errors(each, method) for method in METHODS]
        cells = [f"{m.value:.1f} ± {m.value - m.interval[0]:.1f}" for m in found]
        lines.append(f"{variant:14}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def confusion_table(runs: Runs, method: str) -> str:
    """For each variant: lesions shown and erased, phantoms left healthy and given one."""
    lines = [f"{PRIORS[method][0]}:", f"{'':14}{'erased':>24}{'invented':>28}"]
    for variant, each in by_variant(runs).items():
        cells = []
        for value, (low, high), count in (erased(each, method), invented(each, method)):
            cells.append(f"{value:5.0%} of {count} ({low:.0%} to {high:.0%})")
        lines.append(f"{variant:14}{cells[0]:>24}{cells[1]:>28}")
    return "\n".join(lines)


def over_times(axes, runs: dict[str, Runs], kind: str, measure, styles: dict) -> None:
    """One curve for each method over the acceleration, with its interval at each point."""
    for place, (method, (label, colour, marker)) in enumerate(styles.items()):
        found = [measure(runs[f"{kind} {times}"], method) for times in TIMES]
        values = np.array([value for value, *_ in found])
        low, high = np.array([interval for _, interval, *_ in found]).T
        x = np.array(TIMES) * 1.03 ** (place - 1.5)  # side by side, not on top of each other
        bars = [np.clip(values - low, 0, None), np.clip(high - values, 0, None)]
        axes.errorbar(x, values, bars, color=colour, marker=marker, capsize=2, label=label)
    axes.set(xscale="log", xlabel="times fewer measurements than pixels")
    axes.set_xticks(TIMES, TIMES)
    axes.minorticks_off()


@styled
def errors_figure(runs: Runs) -> Figure:
    """The PSNR of each method over the acceleration, a panel for each way to measure."""
    figure, axes = canvas(1, 2, size=(9, 3.6), title="Error of the reconstructions")
    each = by_variant(runs)

    def psnr(runs: Runs, method: str):
        found = errors(runs, method)
        return found.value, found.interval

    for axis, kind in zip(axes, KINDS, strict=True):
        over_times(axis, each, kind, psnr, METHODS)
        axis.set(title=kind, ylabel="PSNR in dB (higher is better)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def danger_figure(runs: Runs) -> Figure:
    """Erased and invented lesions over the acceleration, for each prior."""
    figure, axes = canvas(2, 2, size=(9, 6.2), title="Lesions erased, and lesions invented")
    each = by_variant(runs)
    for row, kind in zip(axes, KINDS, strict=True):
        for axis, measure in zip(row, (erased, invented), strict=True):
            over_times(axis, each, kind, measure, PRIORS)
            whose = "of the lesions" if measure is erased else "of healthy phantoms"
            axis.set(title=f"{kind}: {measure.__name__}", ylabel=f"share {whose}")
            axis.set_ylim(-0.04, 1.04)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


# ---- calibration -------------------------------------------------------------------------------


def rank_shares(runs: Runs) -> np.ndarray:
    """The share of pixels with each rank: the number of samples below the true value."""
    count = sum(name.startswith("rank ") for name in runs[0].metrics)
    ranks = np.array([[run.metrics[f"rank {k}"] for k in range(count)] for run in runs]).sum(0)
    return ranks / ranks.sum()


def reliability(runs: Runs, method: str = "either") -> list[tuple[float, float, tuple, int]]:
    """For each share of samples with a lesion: it, the share that has one, interval, count."""
    said, there = column(runs, f"anywhere, {method}"), column(runs, "lesion")
    bins = []
    for low, high in ((0, 0.01), (0.01, 0.34), (0.34, 0.67), (0.67, 0.99), (0.99, 1.01)):
        inside = (said >= low) & (said < high)
        if inside.any():
            value, interval, count = share(there[inside])
            bins.append((float(said[inside].mean()), value, interval, count))
    return bins


@styled
def calibration_figure(runs: Runs) -> Figure:
    """Ranks of the truth, error against spread, and the share of samples with a lesion."""
    figure, (left, middle, right) = canvas(1, 3, size=(11, 3.7), title="Is the spread honest?")
    for kind, colour, marker in zip(KINDS, (BLUE, ORANGE), "os", strict=True):
        some = [run for run in runs if run.variant.startswith(kind)]
        shares = rank_shares(some)
        left.plot(range(len(shares)), shares, marker + "-", color=colour, label=kind)
        spread, error = column(some, "spread"), column(some, "error, mean")
        middle.scatter(spread, error, s=8, color=colour, marker=marker, alpha=0.5)
        bins = reliability(some)
        x, y = np.array([(said, value) for said, value, *_ in bins]).T
        low, high = np.array([interval for *_, interval, _ in bins]).T
        bars = [np.clip(y - low, 0, None), np.clip(high - y, 0, None)]
        right.errorbar(x, y, bars, fmt=marker + "-", color=colour, capsize=2, label=kind)
    level = 1 / len(shares)
    left.axhline(level, color=GREY, linestyle="--")
    left.set(title="ranks", xlabel="samples below the true pixel", ylabel="share of the pixels")
    left.set_ylim(0, None)
    top = max(middle.get_xlim()[1], middle.get_ylim()[1])
    middle.plot([0, top], [0, top], "--", color=GREY, linewidth=1)
    middle.set(title="each picture", xlabel="spread of the samples", ylabel="error of their mean")
    right.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    right.set(title="lesions", xlabel="share of samples with one", ylabel="share that have one")
    left.legend()
    return figure


def reconstructions_figure(runs: Runs, variant: str, phantom: str = "with a lesion") -> Figure:
    """One phantom of the first run of that variant, and every reconstruction of it.

    phantom: "with a lesion" or "healthy".
    """
    run = by_variant(runs)[variant][0]
    row = {"healthy": 0, "with a lesion": 1}[phantom]
    return grid_figure(run.samples()[row], run.captions[row], f"{variant}, {phantom}", cell=1.0)
