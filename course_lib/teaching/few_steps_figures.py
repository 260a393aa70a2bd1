"""Figures and tables of chapter 14, sections 4 and 5, from the recorded study `few_steps`.

Its variants are the ways to draw in few steps, and "teacher". The teacher's "right" is its share at
20 guided steps of the ancestral sampler, and a difference is from that, over the same prompts and
seeds. Its "right at N" are shares of guided DDIM, that is, of the ODE that the methods imitate.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.teaching.results import Result
from course_lib.teaching.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PINK,
    RED,
    SKY,
    canvas,
    styled,
)

Runs = Sequence[Result]
GOAL = -0.02  # of the difference from the teacher, at 4 evaluations
STYLES = {  # variant -> (colour, marker, dash)
    "teacher": (GREY, "o", "--"),
    "guidance only": (SKY, "v", "-"),
    "guidance only, ancestral": (SKY, "p", ":"),
    "reflow": (ORANGE, "s", "-"),
    "reflow again": (RED, "D", "-"),
    "consistency": (PINK, "^", "-"),
    "multistep consistency": (PINK, "<", "--"),
    "backward consistency": (PINK, "*", ":"),
    "flow map": (GREEN, "P", "-"),
    "shortcut": (BLUE, "o", "-"),
    "mean flow": (INK, "X", "-"),
}
SHORT = 1, 2, 4  # evaluations, as on the leaderboard
REFLOWS = "teacher", "guidance only", "reflow", "reflow again"
NAMES = {"teacher": "teacher, ODE", "reflow again": "reflow, twice"}  # for the reader


def steps_of(run: Result) -> list[int]:
    """The numbers of steps at which that run was graded, rising."""
    names = (name.removeprefix("right at ") for name in run.metrics)
    return sorted(int(name) for name in names if name.isdecimal())


def evaluations(run: Result, steps: int) -> int:
    """The network's evaluations in so many steps: guidance takes two for each."""
    return 2 * steps if run.variant == "teacher" else steps


def chosen(runs: Runs, variants: Sequence[str]) -> list[Result]:
    """The runs of these variants, in this order; those that weren't recorded are left out."""
    return [run for variant in variants for run in runs if run.variant == variant]


def name_of(run: Result) -> str:
    """The variant's name for the reader."""
    return NAMES.get(run.variant, run.variant)


def right_at(run: Result, steps: int) -> str:
    """That share in per cent, or a dash where it wasn't measured."""
    value = run.metrics.get(f"right at {steps}")
    return "–" if value is None else f"{value:.1%}"


def reflow_table(runs: Runs) -> str:
    """A line for the teacher and for each round: the straightness, and the share right."""
    steps = 1, 2, 4, 8, 20
    heads = "".join(f"{n:>4} step{'s' * (n > 1):1}" for n in steps)
    lines = [f"{'':15}{'straightness':>13}{heads}"]
    for run in chosen(runs, REFLOWS):
        cells = "".join(f"{right_at(run, n):>10}" for n in steps)
        lines.append(f"{name_of(run):15}{run.metrics['straightness']:13.3f}{cells}")
    return "\n".join(lines)


@styled
def reflow_figure(runs: Runs) -> Figure:
    """Left: how far the paths are from straight. Right: the share right, by evaluations."""
    figure, (left, right) = canvas(1, 2, size=(9.5, 3.6))
    some = chosen(runs, REFLOWS)
    values = [run.metrics["straightness"] for run in some]
    bars = left.barh(range(len(some)), values, color=[STYLES[run.variant][0] for run in some])
    left.bar_label(bars, [f"{value:.3f}" for value in values], padding=3)
    left.set_yticks(range(len(some)), [name_of(run) for run in some])
    left.invert_yaxis()
    left.set(xlabel="deviation from a straight path", xlim=(0, 1.2 * max(values)))
    left.set_title("0 is straight", loc="left")
    shares(right, some)
    right.set_title("Pictures that are right in everything", loc="left")
    return figure


def shares(axis: Axes, runs: Runs) -> None:
    """The share right against the evaluations of the network, a line for each run."""
    for run in runs:
        colour, marker, dash = STYLES.get(run.variant, (INK, "*", "-"))
        steps = steps_of(run)
        x = [evaluations(run, each) for each in steps]
        y = [100 * run.metrics[f"right at {each}"] for each in steps]
        axis.plot(x, y, dash, marker=marker, color=colour, markersize=5, label=name_of(run))
        if run.variant == "teacher":
            axis.axhline(100 * run.metrics["right"], color=GREY, linewidth=1, linestyle=":")
            axis.text(1, 100 * run.metrics["right"] + 1, "teacher, ancestral, 40", size=8)
    axis.set(xscale="log", xlabel="evaluations of the network", ylabel="right, %", ylim=(-3, 103))
    axis.set_xticks([1, 2, 4, 8, 20, 40], [1, 2, 4, 8, 20, 40])
    axis.minorticks_off()
    axis.legend(fontsize=8, loc="lower right")


# ---- all methods at one budget -----------------------------------------------------------------


def best_first(runs: Runs, steps: int = 4) -> list[Result]:
    """The trained methods, by their share right at so many steps."""
    trained = [run for run in runs if run.variant not in ("teacher", "scenes-fast")]
    return sorted(trained, key=lambda run: -run.metrics[f"right at {steps}"])


def difference(run: Result, steps: int) -> tuple[float, float, float]:
    """The difference from the teacher, and its 95 % interval: value, low, high."""
    return tuple(run.metrics[f"{name} at {steps}"] for name in ("difference", "low", "high"))


def points(run: Result, steps: int) -> str:
    """The difference in percentage points, with its interval."""
    value, low, high = (100 * each for each in difference(run, steps))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def verdict(run: Result, steps: int = 4, goal: float = GOAL) -> str:
    """Whether the difference reaches the goal, and whether its interval leaves room for doubt.

    >>> metrics = {"difference at 4": -0.01, "low at 4": -0.03, "high at 4": 0.01}
    >>> verdict(Result("few_steps", "mine", 0, "", None, {}, metrics, {}, []))
    "met, but the interval doesn't exclude a miss"
    """
    value, low, high = difference(run, steps)
    if value >= goal:
        return "met" if low >= goal else "met, but the interval doesn't exclude a miss"
    return "missed" if high < goal else "missed, but the interval doesn't exclude it"


def comparison_table(runs: Runs) -> str:
    """A line for each method, best first: its training, its shares, and how it compares."""
    columns = "".join(f"{n:>4} step{'s' * (n > 1):1}" for n in SHORT)
    lines = [f"{'':25}{'training':>9}{'minutes':>8}{columns}  4 steps less the teacher, points"]
    for run in best_first(runs):
        cells = "".join(f"{right_at(run, n):>10}" for n in SHORT)
        minutes = run.metrics.get("cpu_minutes")  # another run's network has cost nothing
        spent = "" if minutes is None else f"{minutes:.1f}"
        start = f"{name_of(run):25}{run.settings['steps']:>9,}{spent:>8}"
        lines.append(f"{start}{cells}  {points(run, 4)}")
    return "\n".join(lines)


@styled
def comparison_figure(runs: Runs) -> Figure:
    """Left: the share right of every method. Right: the difference at 4 steps, with the goal."""
    figure, (left, right) = canvas(1, 2, size=(10.4, 4.6))
    shares(left, [*chosen(runs, ["teacher"]), *best_first(runs)])
    left.set_title("Pictures that are right in everything", loc="left")
    differences(right, best_first(runs), steps=4)
    for run in chosen(runs, ["teacher"]):
        ode = 100 * (run.metrics["right at 20"] - run.metrics["right"])
        right.axvline(ode, color=GREY, linestyle="--", linewidth=1.2)
        right.annotate("ODE, 40 ", (ode, -0.6), ha="right", size=9, color=GREY)
    right.set_title("At 4 evaluations, beside the teacher's 40", loc="left")
    return figure


def differences(axis: Axes, runs: Runs, steps: int) -> None:
    """A row for each run: its difference from the teacher in points, and the interval."""
    for row, run in enumerate(runs):
        value, low, high = 100 * np.array(difference(run, steps))
        colour, marker, _ = STYLES.get(run.variant, (INK, "*", "-"))
        bars = [[value - low], [high - value]]
        axis.errorbar([value], [row], xerr=bars, fmt=marker, color=colour, capsize=3)
    axis.axvline(0, color=GREY, linewidth=1)
    axis.axvline(100 * GOAL, color=GREEN, linestyle="--", linewidth=1.2)
    axis.annotate("goal ", (100 * GOAL, -0.6), ha="right", size=9, color=GREEN)
    axis.set_yticks(range(len(runs)), [name_of(run) for run in runs])
    axis.set(ylim=(len(runs) - 0.5, -1), xlabel="difference from the teacher, percentage points")
