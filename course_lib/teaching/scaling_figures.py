"""Figures and tables of chapter 14, section 6, from the recorded study `scaling`.

Its variants are "U-Net, small" to "DiT, large". Each run's curve has five points, from one
training at a constant learning rate: CPU seconds, held-out loss, samples seen, and operations.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import nnls
from scipy.stats import f as f_distribution

from course_lib.evaluation.scaling import ScalingLaw, bootstrap, columns, fit
from course_lib.teaching.results import Result, by_variant
from course_lib.teaching.style import BLUE, GREY, ORANGE, canvas, styled

Runs = Sequence[Result]
NETWORKS = {"U-Net": BLUE, "DiT": ORANGE}
SIZES = {"small": ("v", ":"), "medium": ("o", "--"), "large": ("s", "-")}


def of(runs: Runs, network: str) -> list[tuple[float, list[float], list[float]]]:
    """(parameters, samples, losses) of each run of "U-Net" or "DiT", as `bootstrap` takes them."""
    return [
        (run.settings["parameters"], run.curve["samples"], run.curve["loss"])
        for run in runs
        if run.variant.startswith(network)
    ]


def equal_minutes_table(runs: Runs) -> str:
    """A line for each network and size: parameters, steps, and the loss of each seed at the end."""
    lines = [f"{'':16}{'parameters':>11}{'samples':>10}{'GFLOP/sample':>14}  loss, each seed"]
    for name, each in by_size(runs).items():
        run = each[0]
        seen, work = run.curve["samples"][-1], run.curve["flops"][-1]
        losses = ", ".join(f"{one.metrics['loss']:.4f}" for one in each)
        lines.append(
            f"{name:16}{run.settings['parameters']:>11,}{seen:>10,}"
            f"{work / seen / 1e9:>14.2f}  {losses}"
        )
    return "\n".join(lines)


def by_size(runs: Runs) -> dict[str, list[Result]]:
    """The runs of each variant, U-Nets first, small ones first."""
    grouped = by_variant(list(runs))
    order = [f"{network}, {size}" for network, size in product(NETWORKS, SIZES)]
    return {name: grouped[name] for name in order if name in grouped}


@styled
def equal_minutes_figure(runs: Runs) -> Figure:
    """The held-out loss of every run: left against CPU minutes, right against operations."""
    figure, (left, right) = canvas(1, 2, size=(9.8, 3.9))
    for axis, name, unit in ((left, "cpu_seconds", 60), (right, "flops", 1e12)):
        for variant, each in by_size(runs).items():
            network, size = variant.split(", ")
            marker, dash = SIZES[size]
            for i, run in enumerate(each):
                x = np.array(run.curve[name]) / unit
                style = dict(color=NETWORKS[network], linestyle=dash, marker=marker, markersize=4)
                axis.plot(x, run.curve["loss"], label=None if i else variant, **style)
        axis.set(xscale="log", ylabel="held-out loss")
    left.set(xlabel="CPU minutes of training")
    right.set(xlabel="training compute, TFLOP")
    left.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
    left.minorticks_off()
    left.set_title("Equal minutes", loc="left")
    right.set_title("Equal arithmetic", loc="left")
    left.legend(fontsize=8, ncols=2)
    return figure


# ---- the law, and how well the points determine it ---------------------------------------------


def misfits(runs, grid: np.ndarray) -> np.ndarray:
    """The smallest squared error for each pair of exponents: (size exponents, data exponents)."""
    n, d, y = (np.asarray(each) for each in columns(runs))
    n, d = n / np.exp(np.log(n).mean()), d / np.exp(np.log(d).mean())
    ones = np.ones_like(y)
    return np.array([[nnls(np.stack([ones, n**-p, d**-q], 1), y)[1] ** 2 for q in grid]
                     for p in grid])  # fmt: skip


def acceptable(errors: np.ndarray, count: int, level: float = 0.95) -> np.ndarray:
    """Which exponents fit about as well as the best ones: a mask over the same grid.

    The usual region of a non-linear fit with five constants and `count` points (Seber & Wild 1989,
    section 5.3), as if the points' errors were independent; those of one training aren't, so the
    region is rather too small.
    """
    free = count - 5
    bound = 1 + 2 / free * f_distribution.ppf(level, 2, free)
    return errors <= errors.min() * bound


def compute_exponent(law: ScalingLaw) -> float:
    """How the best loss above the floor falls with compute, if compute is size times samples.

    Hoffmann et al. 2022, section 3.3: minimising over the size at fixed compute gives
    pq / (p + q) for the exponents p and q of size and samples.

    >>> compute_exponent(ScalingLaw(0.5, 1.0, 1.0, 0.5, 0.5))
    0.25
    """
    p, q = law.size_exponent, law.samples_exponent
    return p * q / (p + q)


def law_table(runs: Runs, grid: np.ndarray) -> str:
    """For each network: the fitted constants, and the range of exponents that fit about as well.

    With more than one seed, the bootstrap over whole runs as well.
    """
    lines = []
    for network in NETWORKS:
        some = of(runs, network)
        law, region = fit(*columns(some)), acceptable(misfits(some, grid), 5 * len(some))
        seeds = len(some) > len({size for size, *_ in some})
        laws = bootstrap(some) if seeds else []
        lines.append(f"{network}: floor {law.floor:.3f}, {len(some)} runs, {5 * len(some)} points")
        for axis, name in enumerate(("size_exponent", "samples_exponent")):
            inside = grid[region.any(1 - axis)]
            words = f"{inside.min():.2f} to {inside.max():.2f}"
            if laws:
                low, high = np.quantile([getattr(each, name) for each in laws], [0.025, 0.975])
                words += f"; over runs {low:.2f} to {high:.2f}"
            title = name.replace("_", " ")
            lines.append(f"    {title:17} {getattr(law, name):.2f} (fits as well: {words})")
        lines.append(f"    compute exponent  {compute_exponent(law):.2f}")
    return "\n".join(lines)


@styled
def law_figure(runs: Runs, grid: np.ndarray) -> Figure:
    """Left: the loss that the law predicts against the measured one. Right: exponents that fit."""
    figure, (left, right) = canvas(1, 2, size=(9.5, 3.9))
    reach = np.zeros(2)  # of both regions
    for network, colour in NETWORKS.items():
        some = of(runs, network)
        law = fit(*columns(some))
        agreement(left, some, law, network, colour)
        region = acceptable(misfits(some, grid), 5 * len(some))
        right.contourf(grid, grid, region.T, levels=[0.5, 1.5], colors=[colour], alpha=0.3)
        right.plot(law.size_exponent, law.samples_exponent, "o", color=colour, label=network)
        reach = np.maximum(reach, [grid[region.any(1 - axis)].max() for axis in (0, 1)])
    low, high = left.get_xlim()
    left.plot([low, high], [low, high], color=GREY, linewidth=1)
    left.set(xlabel="measured loss", ylabel="loss by the law")
    left.set_title("How well it fits", loc="left")
    right.set(xlabel="exponent of the size", ylabel="exponent of the samples")
    right.set(xlim=(0, 1.15 * reach[0]), ylim=(0, 1.15 * reach[1]))
    right.set_title("Exponents that fit about as well", loc="left")
    left.legend()
    right.legend(loc="lower left")
    return figure


def agreement(axis: Axes, some, law: ScalingLaw, name: str, colour: str) -> None:
    """The predicted loss of every point against the measured one."""
    n, d, losses = columns(some)
    predicted = [law.loss(*pair) for pair in zip(n, d, strict=True)]
    axis.plot(losses, predicted, "o", color=colour, markersize=4, label=name)
