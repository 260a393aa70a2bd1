"""Figures and tables of the recorded studies in chapters 04 and 09."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import mean, median

import matplotlib.ticker
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from course_lib.teaching.results import Result, by_variant
from course_lib.teaching.style import BLUE, COLOURS, DASHES, GREY, ORANGE, canvas, styled
from course_lib.teaching.unet_variants import VARIANTS

Runs = Sequence[Result]


def values(runs: Runs, name: str) -> list[float]:
    """One metric of each run."""
    return [run.metrics[name] for run in runs]


def distance_over_floor(run: Result) -> float:
    """The Fréchet distance as a multiple of what real images score."""
    return run.metrics["frechet distance"] / run.metrics["frechet floor"]


# ---- chapter 04: parts of the U-Net ------------------------------------------------------------


def unet_ablation_table(runs: Runs) -> str:
    """A line for each variant: its size, and each seed's loss, Fréchet distance and likeness."""
    floor, steps = runs[0].metrics["frechet floor"], runs[0].settings["steps"]
    lines = [f"{steps} steps each; distance of real digits: {floor}"]
    lines.append(f"{'':14} {'parameters':>10}  {'loss, each seed':24}{'distance':16}like real")
    for name, each in in_order(runs).items():
        losses = "  ".join(f"{loss:.4f}" for loss in values(each, "test_loss"))
        distances = "  ".join(f"{distance:.1f}" for distance in values(each, "frechet distance"))
        like_real = "  ".join(f"{share:.0%}" for share in values(each, "like_real"))
        size = each[0].metrics["parameters"]
        lines.append(f"{name:14} {size:10,}  {losses:24}{distances:16}{like_real}")
    return "\n".join(lines)


def unet_ablation_by_time(runs: Runs) -> str:
    """Where the variants lose against the full U-Net: near the clean end, and by which factor."""
    variants, lines = in_order(runs), []
    full = mean_curve(variants["full"], "loss")
    early = np.array(runs[0].curve["time"]) < 0.2
    for name in ("no time", "no skips", "MLP"):
        loss = mean_curve(variants[name], "loss")
        share = (loss - full)[early].sum() / (loss - full).sum()
        lines.append(
            f"{name:9} {share:4.0%} of the additional loss at t < 0.2, at most "
            f"{(loss / full).max():.1f} times the full network's"
        )
    return "\n".join(lines)


@styled
def unet_ablation_figure(runs: Runs) -> Figure:
    """Left: the loss of each variant and seed. Right: by time, relative to the full U-Net's."""
    figure, (left, right) = canvas(1, 2, size=(9.5, 3.6))
    variants = in_order(runs)
    full = mean_curve(variants["full"], "loss")
    for place, (name, each) in enumerate(variants.items()):
        colour, dash = COLOURS[place], DASHES[place % 4]
        losses = values(each, "test_loss")
        left.plot(losses, [place] * len(each), "o", color=colour, markersize=7, alpha=0.7)
        if name != "full":
            ratio = mean_curve(each, "loss") / full
            right.plot(each[0].curve["time"], ratio, dash, marker=".", color=colour, label=name)
    left.set(xlabel="loss on held-out digits (log scale)", xscale="log")
    left.set_yticks(range(len(variants)), variants)
    set_ticks(left.xaxis, [0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5])
    left.invert_yaxis()
    left.set_title("Each dot is one seed", loc="left")
    right.axhline(1, color=GREY, linewidth=1)
    right.set(xlabel="time t", ylabel="loss, as a multiple of the full U-Net's", yscale="log")
    set_ticks(right.yaxis, [1, 1.5, 2, 3, 5, 10, 20, 50, 100])
    right.set_title("Where the missing part matters", loc="left")
    right.legend(fontsize=8)
    return figure


def in_order(runs: Runs) -> dict[str, list[Result]]:
    """The runs of each variant, in the order of VARIANTS."""
    grouped = by_variant(runs)
    return {name: grouped[name] for name in VARIANTS if name in grouped}


def mean_curve(runs: Runs, name: str) -> np.ndarray:
    return np.mean([run.curve[name] for run in runs], axis=0)


def set_ticks(axis: Axis, places: Sequence[float]) -> None:
    """Ticks at these places of a logarithmic axis, written as plain numbers."""
    axis.set_major_locator(matplotlib.ticker.FixedLocator(places))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


# ---- chapter 09: pixels against latents --------------------------------------------------------


@styled
def pixel_vs_latent_figure(runs: Runs) -> Figure:
    """Shares of properties and of whole images that are right, against CPU time; a line per run."""
    figure, axes = canvas(1, 2, size=(9, 3.2))
    titles = {"properties": "Properties that hold", "right": "Images that are right in everything"}
    styles = {"latent": dict(color=BLUE), "pixel": dict(color=ORANGE, linestyle="--")}
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        for variant, each in by_variant(runs).items():
            for i, run in enumerate(each):
                minutes, shares = run.curve["cpu_minutes"], run.curve[name]
                label = None if i else variant
                axis.plot(minutes, shares, marker="o", markersize=3, label=label, **styles[variant])
        axis.set(xlabel="CPU minutes, autoencoder included", ylim=(0, 1))
        axis.set_title(title, loc="left")
    axes[0].set_ylabel("share")
    axes[0].legend()
    return figure


def pixel_vs_latent_table(runs: Runs) -> str:
    """How each run ended, and when so many properties held, with and without the autoencoder."""
    variants, lines = by_variant(runs), []
    for variant, each in variants.items():
        ends = {
            "steps": [run.settings["steps"] for run in each],
            "right": [f"{run.curve['right'][-1]:.0%}" for run in each],
            "properties": [f"{run.curve['properties'][-1]:.0%}" for run in each],
            "Fréchet distance over its floor": [f"{distance_over_floor(run):.1f}" for run in each],
        }
        lines.append(f"{variant:7} " + "; ".join(f"{name} {found}" for name, found in ends.items()))
    lines.append("CPU minutes until this share of properties holds, for each seed:")
    vae_minutes = variants["latent"][0].settings["vae_cpu_minutes"]
    for level in (0.5, 0.6, 0.7, 0.75):
        times = {name: [minutes_until(run, level) for run in variants[name]] for name in variants}
        latent, pixel = median(times["latent"]), median(times["pixel"])
        listed = "; ".join(
            f"{name} {', '.join(f'{minutes:.1f}' for minutes in each)}"
            for name, each in times.items()
        )
        without = pixel / (latent - vae_minutes)
        ratios = f"{pixel / latent:.1f} times, {without:.1f} without the autoencoder"
        lines.append(f"  {level:.0%}: {listed}: {ratios}")
    return "\n".join(lines)


def minutes_until(run: Result, level: float, name: str = "properties") -> float:
    """CPU minutes at which a share reaches that level, by linear interpolation.

    The first point's minutes if it is above the level already; infinity if the share never gets
    there.
    """
    points = list(zip(run.curve["cpu_minutes"], run.curve[name], strict=True))
    for (t0, y0), (t1, y1) in pairwise([points[0], *points]):
        if y1 >= level:
            return t0 + (t1 - t0) * ((level - y0) / (y1 - y0) if y1 != y0 else 1.0)
    return float("inf")


# ---- chapter 09: the choices of the recipe -----------------------------------------------------


def by_properties(runs: Runs) -> dict[str, list[Result]]:
    """The runs of each variant, from the smallest mean share of properties to the largest."""
    grouped = by_variant(runs)
    return dict(sorted(grouped.items(), key=lambda item: mean(values(item[1], "properties"))))


@styled
def text_to_image_ablation_figure(runs: Runs, highlight: str = "the recipe") -> Figure:
    """A row for each variant, a dot for each seed: properties and Fréchet distance."""
    figure, axes = canvas(1, 2, size=(9, 4.0))
    variants = by_properties(runs)
    views: dict[str, Callable[[Result], float]] = {
        "Properties that hold": lambda run: run.metrics["properties"],
        "Fréchet distance over its floor": distance_over_floor,
    }
    for axis, (title, view) in zip(axes, views.items(), strict=True):
        for row, (name, each) in enumerate(variants.items()):
            colour = ORANGE if name == highlight else BLUE
            axis.plot([*map(view, each)], [row] * len(each), "o-", color=colour, markersize=4)
        axis.set_yticks(range(len(variants)), variants if axis is axes[0] else [""] * len(variants))
        axis.set_title(title, loc="left")
    axes[0].set_xlabel("share of properties, one dot for each seed")
    axes[1].set_xlabel("distance, as a multiple of the floor")
    return figure


def text_to_image_ablation_table(runs: Runs) -> str:
    """A line for each variant, best first: steps, share of properties and Fréchet distance."""
    lines = [f"{'variant':38} steps       properties  distance"]
    for name, each in reversed(by_properties(runs).items()):
        steps = ", ".join(str(run.settings["steps"]) for run in each)
        shares = ", ".join(f"{share:.1%}" for share in values(each, "properties"))
        distances = ", ".join(f"{distance_over_floor(run):.1f}" for run in each)
        lines.append(f"{name:38} {steps:11} {shares:11}  {distances}")
    return "\n".join(lines)
