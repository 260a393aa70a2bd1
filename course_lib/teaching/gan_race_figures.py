"""Figures and tables of chapter 17's recorded study `gan_race`; `gan_verdict` has the rest.

Its variants are "ring, GAN" to "scenes, diffusion". A run whose loss or samples weren't finite has
"failed" 1 and no other measurements. It is counted, and left out of the means.
"""

from collections.abc import Sequence
from statistics import mean, stdev

import torch
import torch.nn.functional as F
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
COLUMNS = {  # of `race_table`: width, and the number of decimals or, if there are none, of digits
    "modes": (9, 1, 0),
    "right": (10, 2, 0),
    "frechet": (14, None, 3),
    "kernel": (14, None, 1),
    "precision": (10, 2, 0),
    "recall": (10, 2, 0),
    "diversity": (10, 2, 0),
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
    """A line for each model that ran: failed seeds, mean ± standard deviation of each measure.

    The first line is what real samples score: the floors.
    """
    widths = [width for width, _, _ in COLUMNS.values()]
    some = next(run for each in by_model(runs, data).values() for run in finished(each))
    floors = [cell(some.metrics[f"{name} of real"], *how) for name, (_, *how) in COLUMNS.items()]
    rows = [("", "failed", COLUMNS), ("real samples", "", floors)]
    for name, each in by_model(runs, data).items():
        sound, cells = finished(each), []
        for column, (_, decimals, digits) in COLUMNS.items() if sound else ():
            middle, width = spread_of([run.metrics[column] for run in sound])
            cells.append(f"{cell(middle, decimals, digits)}±{cell(width, decimals, 1)}")
        if each:
            rows.append((name, f"{len(each) - len(sound)} of {len(each)}", cells))
    return "\n".join(
        f"{name:23}{failed:7}" + "".join(f"{x:>{w}}" for x, w in zip(cells, widths, strict=False))
        for name, failed, cells in rows
    )


def cell(value: float, decimals: int | None = None, digits: int = 3) -> str:
    """The number with so many decimals or, without an exponent, with so many digits.

    >>> cell(0.5, decimals=2), cell(292037.5), cell(0.00123, digits=1)
    ('0.50', '292000', '0.001')
    """
    if decimals is None:
        return f"{float(f'{value:.{digits}g}'):g}"
    return f"{value:.{decimals}f}"


def properties_table(runs: Runs, data: str) -> str:
    """A line for each way to draw: the share of samples with each property of their label."""
    names = "number", "colour", "shape"
    lines = [f"{'':54}" + "".join(f"{name:>12}" for name in names)]
    for model, each in by_model(runs, data).items():
        sound = finished(each)
        dial = "guidance" if model == "diffusion" else "truncation"
        for row in range(len(sound[0].curve[dial])) if sound else ():
            first = sound[0].curve
            way = f"{model}, {dial} {first[dial][row]:g}, {first['evaluations'][row]} evaluation"
            way += "s" * (first["evaluations"][row] > 1)
            means = [spread_of([run.curve[name][row] for run in sound]) for name in names]
            lines.append(f"{way:54}" + "".join(f"{f'{m:.2f}±{w:.2f}':>12}" for m, w in means))
    return "\n".join(lines)


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
    models = {
        name: sound for name, each in by_model(runs, data).items() if (sound := finished(each))
    }
    first = next(iter(models.values()))[0].samples()
    if first.shape[:2] == (1, 1):
        return densities_figure(models)
    pictures = [sound[0].samples().flatten(0, 1)[:count] for sound in models.values()]
    return grid_figure(
        torch.cat(pictures), columns=len(pictures[0]), row_labels=list(models), cell=0.75
    )


def densities_figure(models: dict[str, list[Result]]) -> Figure:
    """The ring's densities, dark on white, a column for each seed."""
    columns = max(map(len, models.values()))
    pictures, captions = [], []
    for each in models.values():
        for run in each:
            density = F.max_pool2d(run.samples()[0], 3, stride=1, padding=1)  # points you can see
            pictures.append(-density)
            captions.append(f"{run.metrics['modes']:.0f} modes, {run.metrics['right']:.0%} right")
        missing = columns - len(each)
        pictures += [torch.ones_like(pictures[0])] * missing
        captions += ["failed, or not run"] * missing
    return grid_figure(
        torch.cat(pictures), captions, columns=columns, row_labels=list(models), cell=1.5
    )
