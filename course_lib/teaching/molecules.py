"""Chapter 15a's recorded molecules and figures, none of which needs RDKit."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from course_lib.common import paths
from course_lib.datasets.molecules import TOKENS
from course_lib.evaluation.molecules import Verdict
from course_lib.teaching.results import Result, by_variant
from course_lib.teaching.shapes import Sheet, tint
from course_lib.teaching.style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    canvas,
    styled,
)

STUDY = "molecules"
MASKED = "masked random order", "masked surest first"  # one network, sampled in two ways
ORDER = "held-out molecules", *MASKED, "autoregressive", "trigram", "one more carbon"
COLOURS_OF = {"N": BLUE, "n": BLUE, "O": RED, "o": RED, "S": ORANGE, "s": ORANGE, "F": GREEN}
COLOURS_OF |= {"Cl": GREEN, "Br": GREEN}


# ---- recorded molecules ------------------------------------------------------------------------


def samples_path(name: str) -> Path:
    """Where the recorded molecules of a variant are kept.

    >>> samples_path("one more carbon").name
    'one-more-carbon.tsv'
    """
    return paths.RECORDED / STUDY / f"{name.replace(' ', '-')}.tsv"


def as_lines(verdicts: Sequence[Verdict]) -> str:
    """The text of a file of recorded molecules, a line for each."""
    return "".join(
        f"{v.smiles}\t{v.problem}\t{v.logp:.3f}\t{v.qed:.3f}\t{v.weight:.2f}\n" for v in verdicts
    )


def recorded(name: str) -> list[Verdict]:
    """What RDKit said of that variant's molecules with seed 0."""
    rows = [line.split("\t") for line in samples_path(name).read_text("utf-8").split("\n")[:-1]]
    return [Verdict(smiles, problem, *map(float, rest)) for smiles, problem, *rest in rows]


def drawings_as_text(drawings: Mapping[str, dict]) -> str:
    """The text of a file of drawings, a line for each molecule."""
    return "".join(
        json.dumps({"smiles": smiles} | each) + "\n" for smiles, each in drawings.items()
    )


def drawings(name: str) -> dict[str, dict]:
    """Recorded drawings of the variant's first molecules, by SMILES: see `drawing`."""
    text = samples_path(name).with_suffix(".txt").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return {row.pop("smiles"): row for row in rows}


# ---- figures -----------------------------------------------------------------------------------


def draw_molecule(axes: Axes, atoms: Sequence, bonds: Sequence, title: str = "") -> None:
    """A molecule's structural formula: lines are bonds, corners are carbons."""
    places = np.array([atom[1:] for atom in atoms])
    for i, j, order in bonds:
        a, b = places[i], places[j]
        along = (b - a) / np.linalg.norm(b - a)
        across = 0.11 * np.array([-along[1], along[0]])
        start = a + 0.3 * along * bool(atoms[i][0])
        end = b - 0.3 * along * bool(atoms[j][0])
        shifts = {1.0: [0], 2.0: [-0.6, 0.6], 3.0: [-1.2, 0, 1.2]}.get(order, [-0.6, 0.6])
        for n, shift in enumerate(shifts):
            line = ":" if order == 1.5 and n else "-"
            xs, ys = zip(start + shift * across, end + shift * across, strict=True)
            axes.plot(xs, ys, line, color=INK, linewidth=1.2)
    for name, x, y in atoms:
        element = name.rstrip("H0123456789") or name
        colour = COLOURS_OF.get(element, INK)
        back = dict(facecolor="white", edgecolor="none", pad=0.6) if name else None
        axes.text(x, y, name, size=8, color=colour, ha="center", va="center", bbox=back)
    middle, reach = (places.max(0) + places.min(0)) / 2, max(np.ptp(places, axis=0).max() / 2, 2)
    axes.set(xlim=middle[0] + reach * np.array([-1.15, 1.15]))
    axes.set(ylim=middle[1] + reach * np.array([-1.15, 1.15]), aspect="equal")
    axes.axis("off")
    axes.set_title(title, size=8, loc="center")


@styled
def structures_figure(rows: Mapping[str, Mapping[str, dict]], columns: int = 6) -> Figure:
    """A row of structural formulas for each name; `rows` as `drawings` gives them."""
    figure, axes = canvas(len(rows), columns, size=(1.6 * columns, 1.75 * len(rows)))
    for row, (name, each) in zip(np.atleast_2d(axes), rows.items(), strict=True):
        row[0].set_title(name, size=9, loc="left")
        for axis in row:
            axis.axis("off")
        for axis, (_, parts) in zip(row, each.items(), strict=False):
            draw_molecule(axis, **parts)
        row[0].set_title(name, size=10, loc="left")
    return figure


@styled
def unmasking_figure(path: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> Figure:
    """One sequence of ids at several times, a row for each: masks are grey boxes."""
    rows, edges = len(path), edges_of(path)
    figure, axes = canvas(1, 1, size=(0.1 * edges[-1] + 1.2, 0.31 * rows + 0.6))
    for y, ids in enumerate(path):
        draw_tokens(axes, ids, edges, y)
    axes.set(xlim=(0, edges[-1]), ylim=(rows - 0.4, -0.6), xticks=[], xlabel="position")
    axes.set_yticks(range(rows), labels)
    axes.grid(False)
    axes.set_title(title, loc="left")
    return figure


def name_of(i: int) -> str:
    """A token's letters; those of a mask and of an end are none."""
    return TOKENS[i] if i < len(TOKENS) else ""


def edges_of(path: Sequence[Sequence[int]]) -> np.ndarray:
    """Where columns begin that are as wide as their longest token, in letters: (L + 1,)."""
    longest = [max(len(name_of(i)) for i in column) for column in zip(*path, strict=True)]
    return np.cumsum([0, *(max(letters, 2) + 1 for letters in longest)])


def draw_tokens(axes: Axes, ids: Sequence[int], edges: np.ndarray, y: float) -> None:
    """A row of boxes: tokens with their letters, masks in dark grey, ends left empty."""
    for i, left, right in zip(ids, edges[:-1], edges[1:], strict=True):
        masked, name = i >= len(TOKENS), name_of(i)
        colour = next((COLOURS_OF[letter] for letter in name if letter in COLOURS_OF), GREY)
        share = 0.55 if masked else 0.2 if name else 0.08
        look = dict(facecolor=tint(colour, share), edgecolor="white", linewidth=1.5)
        axes.add_patch(Rectangle((left, y - 0.46), right - left, 0.92, **look))
        axes.text((left + right) / 2, y, name, size=8, ha="center", va="center")


@styled
def behind_masks_figure(
    ids: Sequence[int], true: Sequence[int], right: Sequence[float], title: str
) -> Figure:
    """A sequence, the same with masks, and how probable each true token is for the network."""
    edges = edges_of([true])
    figure, axes = canvas(1, 1, size=(0.1 * edges[-1] + 1.6, 2.5))
    draw_tokens(axes, true, edges, -1)
    draw_tokens(axes, ids, edges, 0)
    middles, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    masked = [x for x, i in enumerate(ids) if i >= len(TOKENS)]
    floor, height = 0.7, 4.0  # in boxes
    bars = [height * right[x] for x in masked]
    axes.bar(middles[masked], bars, 0.8 * widths[masked], bottom=floor, color=BLUE)
    axes.set(xlim=(0, edges[-1]), ylim=(-1.6, floor + height + 0.1), xticks=[], xlabel="position")
    ticks = {-1: "clean", 0: "masked", floor: "p = 0", floor + height: "p = 1"}
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.grid(False)
    axes.set_title(title, loc="left")
    return figure


def twins_schematic() -> tuple[Figure, str]:
    """What each twin reads and predicts: all that is visible, or what is to the left."""
    sheet = Sheet(8.8, 2.75)
    for x, name, colour, seen, said, look in (
        (2.1, "masked diffusion", BLUE, "C?=?)", " ( O ", "every position sees all others"),
        (6.6, "autoregressive", ORANGE, "?C(=O", "C(=O)", "each position sees what is left of it"),
    ):
        read = sheet.tokens(x, 0.45, 5, GREY, list(seen), 0.42)
        body = sheet.box(x, 1.3, 3.4, 0.62, "transformer, 3 layers", colour, look)
        told = sheet.tokens(x, 2.15, 5, colour, list(said), 0.42)
        sheet.arrow(read.top, body.bottom)
        sheet.arrow(body.top, told.bottom)
        sheet.label(x, 2.52, name)
    sheet.label(2.1, 0.08, "reads: some tokens are masked (?)", va="center")
    sheet.label(6.6, 0.08, "reads: the mask stands for the start", va="center")
    alt = (
        "Two small diagrams. Left, masked diffusion: a row of tokens with two masks passes a "
        "transformer in which every position sees all others; it predicts the two masked tokens. "
        "Right, autoregressive: the same row, moved by one place, passes a causal transformer, "
        "which predicts the next token at every place."
    )
    return sheet.figure, alt


@styled
def properties_figure(sets: Mapping[str, Sequence[Verdict]]) -> Figure:
    """How logP, QED and weight are distributed in each set of molecules, valid ones only."""
    figure, axes = canvas(1, 3, size=(10, 3))
    bins = {"logp": np.linspace(-3, 7, 31), "qed": np.linspace(0, 1, 31)}
    bins["weight"] = np.linspace(100, 450, 31)
    names = {"logp": "logP", "qed": "QED, drug-likeness", "weight": "weight in g/mol"}
    for axis, (name, edges) in zip(axes, bins.items(), strict=True):
        for i, (label, verdicts) in enumerate(sets.items()):
            values = [getattr(v, name) for v in verdicts if not v.problem]
            look = dict(color=GREY, fill=True, alpha=0.35) if i == 0 else dict(color=COLOURS[i - 1])
            look |= {} if i == 0 else {"linewidth": 1.6, "linestyle": ["-", "--", "-."][i - 1]}
            heights, _ = np.histogram(values, edges, density=True)
            axis.stairs(heights, edges, label=label, **look)
        axis.set(xlabel=names[name], yticks=[])
    axes[0].set_ylabel("share of the valid molecules")
    axes[2].legend(fontsize=8, loc="upper right")
    return figure


@styled
def guidance_figure(runs: Sequence[Result]) -> Figure:
    """Hits, validity and uniqueness against the scale: a line for each seed, and their mean."""
    figure, axes = canvas(1, 3, size=(10, 3))
    titles = {"hits": "in the highest fifth, of the valid", "valid": "valid", "unique": "unique"}
    looks = {"masked diffusion": (BLUE, "-", "o"), "autoregressive": (ORANGE, "--", "s")}
    for variant, (colour, dash, marker) in looks.items():
        each = by_variant(list(runs))[variant]
        scales = each[0].curve["scale"]
        for axis, name in zip(axes, titles, strict=True):
            for run in each:
                axis.plot(scales, run.curve[name], color=colour, alpha=0.3, linewidth=1)
            middle = np.mean([run.curve[name] for run in each], axis=0)
            axis.plot(scales, middle, dash, marker=marker, color=colour, label=variant)
    for axis, title in zip(axes, titles.values(), strict=True):
        axis.set(xlabel="guidance scale", ylim=(0, 1.02))
        axis.set_title(title, loc="left")
    axes[0].set_ylabel("share")
    axes[0].legend(fontsize=8, loc="lower right")
    return figure


@styled
def orders_figure(runs: Sequence[Result], twin: Sequence[float]) -> Figure:
    """Valid molecules of masked diffusion against the steps, in both orders; twin: its shares."""
    figure, axes = canvas()
    axes.axhspan(min(twin), max(twin), color=ORANGE, alpha=0.3, label="autoregressive, 20 steps")
    looks = {"surest": ("surest first", BLUE, "-", "o"), "random": ("random", GREEN, "--", "s")}
    for order, (label, colour, dash, marker) in looks.items():
        names = [name for name in runs[0].metrics if name.startswith(f"valid, {order}, ")]
        steps = [int(name.split()[2]) for name in names]
        shares = np.array([[run.metrics[name] for name in names] for run in runs])
        axes.plot(steps, shares.mean(0), dash, marker=marker, color=colour, label=label)
        axes.fill_between(steps, shares.min(0), shares.max(0), color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="steps, each a call of the network", ylabel="share of valid molecules")
    axes.set(ylim=(0, 1), xscale="log", xticks=steps, xticklabels=steps)
    axes.minorticks_off()
    axes.set_title("Which masks are lifted first?", loc="left")
    axes.legend(loc="center left")
    return figure


@styled
def losses_figure(runs: Sequence[Result], losses: Sequence[float] = ()) -> Figure:
    """Both networks' training losses: a band over the seeds, their mean, and the reader's."""
    figure, axes = canvas()
    looks = {MASKED[0]: ("masked", BLUE, "-"), "autoregressive": ("autoregressive", ORANGE, "--")}
    for variant, (name, colour, dash) in looks.items():
        each = by_variant(list(runs))[variant]
        steps, found = each[0].curve["step"], np.array([run.curve["loss"] for run in each])
        axes.fill_between(steps, found.min(0), found.max(0), color=colour, alpha=0.25, linewidth=0)
        axes.plot(steps, found.mean(0), dash, color=colour, label=f"{name}, {len(each)} seeds")
    if len(losses):
        window = max(1, len(losses) // 5)
        means = np.convolve(losses, np.ones(window) / window, mode="valid")
        middles = np.arange(len(means)) + (window + 1) / 2
        axes.plot(middles, means, ":", color=GREEN, label=f"yours, mean over {window} steps")
    axes.set(xlabel="step", ylabel="training loss, nats per molecule", yscale="log")
    axes.set(yticks=(ticks := [20, 40, 60, 100]), yticklabels=ticks)
    axes.minorticks_off()
    axes.set_title("A bound (masked) and an exact loss (autoregressive)", loc="left")
    axes.legend()
    return figure


# ---- tables ------------------------------------------------------------------------------------


def spread(runs: Sequence[Result], name: str, form: str = ".1%") -> str:
    """The mean over the seeds, with the lowest and the highest."""
    found = [run.metrics[name] for run in runs]
    return f"{mean(found):{form}} ({min(found):{form}} to {max(found):{form}})"


def quality_table(runs: Sequence[Result]) -> str:
    """A line for each variant: shares with their range over the seeds."""
    grouped = by_variant(list(runs))
    lines = [f"{'':20}{'valid':26}{'unique, of the valid':26}new, of the unique"]
    for name in ORDER:
        cells = [spread(grouped[name], what) for what in ("valid", "unique", "novel")]
        lines.append(f"{name:20}{cells[0]:26}{cells[1]:26}{cells[2]}")
    return "\n".join(lines)


def distance_table(runs: Sequence[Result]) -> str:
    """A line for each variant: how far its properties are from those of held-out molecules."""
    grouped = by_variant(list(runs))
    lines = [f"{'distance of':20}{'logP':26}{'QED':28}weight in g/mol"]
    for name in ORDER:
        logp = spread(grouped[name], "logp distance", ".3f")
        qed = spread(grouped[name], "qed distance", ".4f")
        lines.append(f"{name:20}{logp:26}{qed:28}{spread(grouped[name], 'weight distance', '.1f')}")
    return "\n".join(lines)
