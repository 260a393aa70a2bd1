"""Figures and tables of chapter 17's recorded study `gan_race`.

Its variants are "ring, GAN" to "scenes, diffusion". A run whose loss or samples weren't finite has
"failed" 1 and no other measurements. It is counted, and left out of the means.
"""

from collections.abc import Sequence
from statistics import mean, stdev

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from course_lib.teaching.plots import grid_figure
from course_lib.teaching.results import Result
from course_lib.teaching.style import BLUE, GREEN, GREY, ORANGE, PINK, canvas, styled

Runs = Sequence[Result]
MODELS = {  # name in the study -> colour, marker
    "GAN": (ORANGE, "s"),
    "GAN with spectral norm": (GREEN, "^"),
    "GAN without R1": (PINK, "v"),
    "diffusion": (BLUE, "o"),
}
MEASURES = {  # name in the results -> for the reader
    "modes": "modes shown at least once",
    "right": "share of samples that show one",
    "frechet": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "diversity": "diversity (real: 1)",
}
COLUMNS = {  # of `race_table`: format, width
    "modes": (".1f", 10),
    "right": (".2f", 11),
    "frechet": (".3g", 16),
    "kernel": (".4f", 16),
    "precision": (".2f", 11),
    "recall": (".2f", 11),
    "diversity": (".2f", 11),
}


def data_sets(runs: Runs) -> list[str]:
    """The data sets that have results, from easy to hard."""
    return [name for name in ("ring", "digits", "scenes") if any(by_model(runs, name).values())]


def by_model(runs: Runs, data: str) -> dict[str, list[Result]]:
    """Each model's runs on one data set, in the order of MODELS; [] where there are none."""
    return {name: [run for run in runs if run.variant == f"{data}, {name}"] for name in MODELS}


def finished(runs: Runs) -> list[Result]:
    """Those that didn't fail."""
    return [run for run in runs if not run.metrics["failed"]]


def spread_of(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over the seeds; 0 for a single one.

    >>> spread_of([1.0, 2.0, 3.0])
    (2.0, 1.0)
    """
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def race_table(runs: Runs, data: str) -> str:
    """A line for each model: seeds, failed ones, and the mean ± standard deviation of each measure.

    The first line is what real samples score: the floors.
    """
    lines = [f"{'':24}{'failed':8}" + "".join(f"{name:>{w}}" for name, (_, w) in COLUMNS.items())]
    some = next(run for each in by_model(runs, data).values() for run in finished(each))
    floors = [f"{some.metrics[f'{name} of real']:{form}}" for name, (form, _) in COLUMNS.items()]
    lines.append(line("real samples", "", floors))
    for name, each in by_model(runs, data).items():
        sound, cells = finished(each), []
        for column, (form, _) in COLUMNS.items() if sound else ():
            middle, width = spread_of([run.metrics[column] for run in sound])
            cells.append(f"{middle:{form}}±{width:{form.replace('3g', '1g')}}")
        lines.append(line(name, f"{len(each) - len(sound)} of {len(each)}", cells))
    return "\n".join(lines)


def line(name: str, failed: str, cells: Sequence[str]) -> str:
    """One line of `race_table`."""
    widths = [width for _, width in COLUMNS.values()]
    texts = [f"{cell:>{width}}" for cell, width in zip(cells, widths[: len(cells)], strict=True)]
    return f"{name:24}{failed:8}" + "".join(texts)


def cost_table(runs: Runs, data: str) -> str:
    """A line for each way to draw: parameters, training steps, evaluations and milliseconds."""
    lines = [f"{'':24}parameters   steps in {'CPU minutes':14}ms for one   ms each of 128"]
    for name, each in by_model(runs, data).items():
        if sound := finished(each):
            steps = mean(run.settings["steps"] for run in sound)
            minutes = mean(run.metrics["cpu_minutes"] for run in sound)
            one, _ = spread_of([1000 * run.metrics["seconds for one"] for run in sound])
            many, _ = spread_of([1000 * run.metrics["seconds"] for run in sound])
            size = sound[0].settings["parameters"]
            lines.append(
                f"{name:24}{size:>10,}{steps:>8,.0f} in {minutes:<13.1f} {one:>10.3g}{many:>17.3g}"
            )
    return "\n".join(lines)


@styled
def race_figure(runs: Runs, data: str) -> Figure:
    """A panel for each measure, a row for each model, a dot for each seed; grey: real samples."""
    figure, axes = canvas(2, 3, size=(9.6, 4.4))
    models = {name: each for name, each in by_model(runs, data).items() if each}
    for axis, (measure, title) in zip(axes.flat, MEASURES.items(), strict=True):
        for row, (name, each) in enumerate(models.items()):
            colour, marker = MODELS[name]
            values = [run.metrics[measure] for run in finished(each)]
            axis.plot(values, [row] * len(values), marker, color=colour, alpha=0.7)
            if len(values) < len(each):
                axis.text(0.02, row, "failed", size=8, transform=axis.get_yaxis_transform())
        first = next(run for each in models.values() for run in finished(each))
        axis.axvline(first.metrics[f"{measure} of real"], color=GREY, linestyle="--", linewidth=1)
        axis.set_yticks(range(len(models)), models if axis in axes[:, 0] else [""] * len(models))
        axis.set_ylim(len(models) - 0.5, -0.5)
        if measure == "frechet":
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.margins(x=0.2)
        axis.set_title(title, loc="left", size=10)
    return figure


def pictures_figure(runs: Runs, data: str, count: int = 10) -> Figure:
    """What each model drew with its first seed: the first `count` pictures, a row for each model.

    If a run drew one picture (the ring's density), the row holds that of each seed.
    """
    rows, labels = [], []
    for name, each in by_model(runs, data).items():
        sound = finished(each)
        if sound and sound[0].samples().shape[:2] == (1, 1):
            rows.append(torch.cat([run.samples()[0] for run in sound]))  # (seeds, 3, H, W)
        elif sound:
            rows.append(sound[0].samples().flatten(0, 1)[:count])
        if sound:
            labels.append(name)
    columns = min(map(len, rows))
    pictures = torch.cat([row[:columns] for row in rows])
    return grid_figure(
        pictures, columns=columns, row_labels=labels, cell=0.75 if columns > 3 else 1.3
    )


# ---- diversity against quality ------------------------------------------------------------------


def trade(runs: Runs, name: str) -> dict[float, tuple[float, ...]]:
    """For each value of "truncation" or "guidance": mean share right, precision, recall, diversity.

    Of guidance, the ways with most evaluations, which are those of the plain sampler.
    """
    sound, found = [run for run in finished(runs) if name in run.curve], {}
    for value in dict.fromkeys(sound[0].curve[name]) if sound else ():
        rows = [run.curve[name].index(value) for run in sound]  # the first way is the plain one
        found[value] = tuple(
            mean(run.curve[column][row] for run, row in zip(sound, rows, strict=True))
            for column in ("right", "precision", "recall", "diversity")
        )
    return found


@styled
def trade_figure(runs: Runs, data: str) -> Figure:
    """Share right and precision, over diversity and recall, for each truncation and guidance."""
    figure, (left, right) = canvas(1, 2, size=(9, 3.6))
    for name, knob in (("GAN", "truncation"), ("diffusion", "guidance")):
        colour, marker = MODELS[name]
        points = trade(by_model(runs, data)[name], knob)
        if not points:
            continue
        shares, precisions, recalls, diversities = zip(*points.values(), strict=True)
        label = f"{name}, {knob}"
        for axis, x, y in ((left, diversities, shares), (right, recalls, precisions)):
            axis.plot(x, y, marker + "-", color=colour, label=label)
            for value, *place in zip(points, x, y, strict=True):
                axis.annotate(
                    f"{value:g}", place, xytext=(5, 5), textcoords="offset points", size=8
                )
    left.set(xlabel="diversity (real samples: 1)", ylabel="share that is right")
    right.set(xlabel="recall", ylabel="precision")
    left.legend(fontsize=8)
    return figure


def verdict_table(runs: Runs) -> str:
    """For each data set and measure: diffusion, the best kind of GAN, and which of them is ahead.

    The kind of GAN is the one with the lowest mean Fréchet distance. Ahead is the better mean,
    unless the two differ by less than the sum of their standard deviations.
    """
    lines = [f"{'':22}{'diffusion':>20}{'best kind of GAN':>20}   ahead"]
    for data in data_sets(runs):
        models = {
            name: sound for name, each in by_model(runs, data).items() if (sound := finished(each))
        }
        diffusion = models.pop("diffusion", [])
        if not diffusion or not models:
            continue
        best = min(models, key=lambda name: mean(run.metrics["frechet"] for run in models[name]))
        lines.append(f"{data}: {best}")
        for measure in ("modes", "right", "frechet", "precision", "recall", "seconds for one"):
            found = [
                spread_of([run.metrics[measure] for run in each])
                for each in (diffusion, models[best])
            ]
            (ours, width), (theirs, other) = found
            lower = measure in ("frechet", "seconds for one")
            ahead = "diffusion" if (ours < theirs) == lower else best
            if abs(ours - theirs) <= width + other:
                ahead = "neither"
            cells = "".join(f"{f'{a:.3g} ± {b:.1g}':>20}" for a, b in found)
            lines.append(f"  {measure:20}{cells}   {ahead}")
    return "\n".join(lines)
