"""What good looks like: recorded trainings of a recipe with several seeds, next to the reader's.

    what_good_looks_like("digits-ddpm", losses, samples)

`python -m course_lib.experiments.reference_runs` records them. A recording that stops before the
end is the recipe's first minute, with the learning-rate schedule of the full training.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from course_lib.teaching.plots import grid_figure, pixels, show
from course_lib.teaching.results import Result, load_results
from course_lib.teaching.style import BLUE, ORANGE, canvas, styled

STUDY = "reference_runs"
POINTS = 60  # of a loss curve


def what_good_looks_like(
    recipe: str,
    losses: Sequence[float] | None = None,
    pictures: Tensor | None = None,
    label: str = "yours",
) -> None:
    """Show the recorded trainings of that recipe, with the reader's own next to them.

    losses: one per step, from step 1; pictures (N, C, H, W) in [-1, 1], the first row is shown;
    label: where the pictures come from, for example "yours, 100 steps".
    ValueError: an unknown recipe, losses that are not finite numbers, pictures of another size.

        what_good_looks_like("digits-ddpm")                  # the recorded ones alone
        what_good_looks_like("digits-ddpm", losses=mine)
    """
    runs = load_results(STUDY, recipe)
    alt = f"{recipe}: the loss against the step, a band from the lowest to the highest seed"
    show(losses_figure(runs, losses), alt=f"{alt}{', and yours' if losses is not None else ''}.")
    for line in summary(runs, losses):
        print(line)
    if runs[0].captions:
        alt = f"{recipe}: a row of samples for each recorded seed"
        alt += "." if pictures is None else f", below the row {label}."
        show(samples_figure(runs, pictures, label), alt=alt)


# ---- smoothing ---------------------------------------------------------------------------------


def curve_steps(steps: int) -> list[int]:
    """Steps from 1 to the last, evenly spaced on a logarithmic axis.

    >>> curve_steps(5)
    [1, 2, 3, 4, 5]
    """
    return sorted({round(step) for step in np.geomspace(1, steps, POINTS)})


def smooth(losses: Sequence[float], steps: Sequence[int]) -> list[float]:
    """For each of these steps, the mean loss over the last fifth of the steps before it, up to 100.

    >>> smooth([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1, 6])
    [1.0, 5.5]
    """
    losses = np.asarray(losses, float)
    return [float(losses[n - window(n) : n].mean()) for n in steps]


def window(step: int) -> int:
    """The number of steps that are averaged, up to this one: a fifth of them, at most 100."""
    return min(100, -(-step // 5))


def centres(steps: Sequence[int]) -> list[float]:
    """The middle of each step's window, where its mean is drawn.

    >>> centres([1, 6])
    [1.0, 5.5]
    """
    return [step - (window(step) - 1) / 2 for step in steps]


# ---- figures -----------------------------------------------------------------------------------


def title(runs: Sequence[Result]) -> str:
    """The recipe's name, and at which step the recorded trainings end."""
    steps, planned = (runs[0].settings[name] for name in ("steps", "planned_steps"))
    part = "all" if steps == planned else f"the first {steps:,} of"
    return f"{runs[0].variant}: {part} {planned:,} steps"


def recorded_losses(runs: Sequence[Result]) -> tuple[list[int], np.ndarray]:
    """The steps, and each seed's smoothed loss at them: (seeds, steps)."""
    return runs[0].curve["step"], np.array([run.curve["loss"] for run in runs])


@styled
def losses_figure(runs: Sequence[Result], losses: Sequence[float] | None = None) -> Figure:
    """The band between the seeds' lowest and highest smoothed loss, and the reader's loss."""
    figure, axes = canvas()
    steps, recorded = recorded_losses(runs)
    low, high, middle = recorded.min(0), recorded.max(0), centres(steps)
    label = f"{len(runs)} recorded seeds, lowest to highest"
    axes.fill_between(middle, low, high, color=BLUE, alpha=0.3, linewidth=0, label=label)
    axes.plot(middle, recorded.mean(0), color=BLUE, label="their mean")
    lowest = low.min()
    if losses is not None:
        losses = checked(losses)
        own_steps = curve_steps(len(losses))
        own = smooth(losses, own_steps)
        axes.plot(centres(own_steps), own, color=ORANGE, linestyle="--", label="yours")
        lowest = min(lowest, *losses)
    axes.set(xlabel="step (log scale)", ylabel="training loss, smoothed", xscale="log")
    if lowest > 0:
        axes.set_yscale("log")
        narrow = high.max() < 100 * lowest
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title(runs), loc="left")
    axes.legend()
    return figure


def checked(losses: Sequence[float]) -> list[float]:
    own = np.asarray(losses, float)
    if own.ndim != 1 or not own.size or not np.isfinite(own).all():
        raise ValueError(f"losses must be finite numbers, one per step; got shape {own.shape}")
    return own.tolist()


def summary(runs: Sequence[Result], losses: Sequence[float] | None = None) -> Iterator[str]:
    """The final metrics with their range over the seeds, and the reader's loss."""
    last = runs[0].settings["steps"]
    yield f"After {last:,} steps, seeds {', '.join(str(run.seed) for run in runs)}:"
    for name in runs[0].metrics:
        values = [run.metrics[name] for run in runs]
        yield f"  {name}: {np.mean(values):.3g} (from {min(values):.3g} to {max(values):.3g})"
    if losses is not None:
        n = min(len(losses), last)
        steps, recorded = recorded_losses(runs)
        at_n = [float(np.interp(n, steps, curve)) for curve in recorded]
        (own,) = smooth(checked(losses), [n])
        yield f"Your loss at step {n:,}: {own:.4g}; theirs: {min(at_n):.4g} to {max(at_n):.4g}"
        yield "(About half the time, a sound fourth seed lies slightly outside the range of three.)"


def samples_figure(
    runs: Sequence[Result], pictures: Tensor | None = None, label: str = "yours"
) -> Figure:
    """A row of samples for each seed, below the reader's; real images on top where recorded."""
    columns = len(runs[0].captions[0])
    blocks, labels, captions = [], [], []  # captions: of each row
    for run in runs:
        for row, texts in zip(run.samples(), run.captions, strict=True):
            real = set(texts) == {"real"}
            if real and "real" in labels:
                continue  # the same images for each seed
            blocks.append(row)
            labels.append("real" if real else f"seed {run.seed}, {run.settings['steps']:,} steps")
            captions.append([""] * columns if real else texts)
    if pictures is not None:
        own = 2 * pixels(pictures[:columns]).permute(0, 3, 1, 2) - 1  # (≤ columns, 3, H, W)
        size, expected = tuple(own.shape[2:]), tuple(blocks[0].shape[2:])
        if size != expected:
            raise ValueError(f"pictures are {size} pixels, the recorded ones {expected}")
        white = torch.ones(columns - len(own), *own.shape[1:])
        blocks, labels = [own, white, *blocks], [label, *labels]
        captions = [[""] * columns, *captions]
    asked = {tuple(row) for row in captions if any(row)}
    same = list(next(iter(asked))) if len(asked) == 1 else None  # the same for all rows: only once
    return grid_figure(
        torch.cat(blocks),
        list(chain(*captions)) if len(asked) > 1 else None,
        f"{runs[0].variant}: samples",
        columns,
        row_labels=labels,
        column_labels=same,
        cell=0.7 if blocks[0].shape[-1] < 32 else 1.0,
    )
