"""Figures and tables of chapter 16's studies `memorisation` and `opt_out`."""

from collections.abc import Sequence
from statistics import mean

from matplotlib.figure import Figure

from course_lib.evaluation.metrics import wilson
from course_lib.teaching.results import Result, by_variant
from course_lib.teaching.style import BLUE, COLOURS, DASHES, GREY, INK, ORANGE, PINK, canvas, styled

Runs = Sequence[Result]
SIZES = "50 pictures", "100 pictures", "200 pictures", "400 pictures"
SMALLER, REPEATED, ONCE = "100, smaller model", "100, with duplicates", "100 pictures"
BATCH = 32  # pictures of a step
GROUPS = {"first ten": "8 times", "second ten": "4 times", "third ten": "once"}
STYLES = {
    "asked for Fluent": "Fluent",
    "asked for Noto": "Noto",
    "asked for Twemoji": "Twemoji",
    "asked for none": "no studio",
}
MODELS = {"all studios": BLUE, "Fluent opts out": ORANGE}


def over_seeds(runs: Runs, name: str, place: int = -1) -> list[float]:
    """A column of each run's curve, at one of its points."""
    return [run.curve[name][place] for run in runs]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The mean in percent, and the range of the seeds if there are several.

    >>> spread([0.1, 0.3]), spread([0.5])
    ('20 % (10 to 30)', '50 %')
    """
    low, high = (f"{100 * end:.{digits}f}" for end in (min(values), max(values)))
    middle = f"{100 * mean(values):.{digits}f} %"
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


@styled
def onset_figure(runs: Runs) -> Figure:
    """Over the times that each picture was seen: copies among samples, and the membership test."""
    grouped = by_variant(list(runs))
    figure, (left, right) = canvas(1, 2, size=(9.6, 3.8))
    for place, name in enumerate([*SIZES, SMALLER]):
        style = dict(color=COLOURS[place], linestyle=DASHES[place % 4], marker="o", markersize=4)
        times = times_seen(grouped[name][0])
        for axis, column in ((left, "copied"), (right, "auc")):
            columns = zip(*(run.curve[column] for run in grouped[name]), strict=True)
            axis.plot(times, [mean(each) for each in columns], label=name, **style)
            for run in grouped[name]:
                axis.plot(times, run.curve[column], ".", color=COLOURS[place], alpha=0.4)
    right.axhline(0.5, color=GREY, linewidth=1)
    right.text(6, 0.515, "guessing", size=8, color=GREY)
    ticks = 6, 12, 24, 48, 96, 192, 384
    for axis in (left, right):
        axis.set(xscale="log", xlabel="times that each picture was seen")
        axis.set_xticks(ticks, [f"{times}" for times in ticks])
        axis.minorticks_off()
    left.set(ylabel="share of samples that are copies")
    left.set_title("Samples for training captions", loc="left")
    right.set(ylabel="AUC of the membership test")
    right.set_title("Does the error tell who was trained on?", loc="left")
    left.legend(fontsize=8)
    return figure


def times_seen(run: Result, copies: int = 1) -> list[float]:
    """How often the training has seen a picture that occurs so many times, at each point."""
    return [copies * BATCH * step / run.settings["entries"] for step in run.curve["step"]]


def onset_table(runs: Runs) -> str:
    """A line for each variant: how often a picture was seen, and what came of it at the end."""
    lines = [f"{'':22}{'seen':>6}   {'copies at the end':20}{'AUC':>6}{'  tpr at fpr 5 %':20}"]
    for name, each in in_order(runs).items():
        seen = times_seen(each[0])[-1]
        lines.append(
            f"{name:22}{seen:6.0f}   {spread(over_seeds(each, 'copied')):20}"
            f"{mean(over_seeds(each, 'auc')):6.2f}  {spread(over_seeds(each, 'tpr at 5 %')):20}"
        )
    return "\n".join(lines)


def in_order(runs: Runs) -> dict[str, list[Result]]:
    """The runs of each variant, from few pictures to many, then the three of 100 pictures."""
    grouped = by_variant(list(runs))
    return {name: grouped[name] for name in (*SIZES, REPEATED, SMALLER)}


@styled
def duplicates_figure(runs: Runs) -> Figure:
    """How often a picture is reproduced that occurs eight times, four times or once."""
    grouped, width = by_variant(list(runs)), 0.36
    figure, axis = canvas(size=(7, 3.2))
    arms = ((REPEATED, "with duplicates", ORANGE), (ONCE, "deduplicated", BLUE))
    for place, (name, label, colour) in enumerate(arms):
        found = [[run.metrics[f"reproduced, {g}"] for run in grouped[name]] for g in GROUPS]
        x = [i + (place - 0.5) * width for i in range(len(GROUPS))]
        axis.bar(x, [mean(each) for each in found], width * 0.94, color=colour, label=label)
        for at, each in zip(x, found, strict=True):
            axis.plot([at] * len(each), each, "o", color="black", markersize=3)
    half = mean(over_seeds(grouped[ONCE], "copied", -2))
    axis.axhline(half, color=BLUE, linestyle=":", label="deduplicated, half the steps")
    axis.set_xticks(range(len(GROUPS)), [f"ten that occur {times}" for times in GROUPS.values()])
    axis.set(ylabel="share of samples that are copies", ylim=(0, 1.04))
    axis.set_title("Samples for the captions of the same thirty pictures", loc="left")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


@styled
def opt_out_figure(runs: Runs) -> Figure:
    """Left: who seems to have drawn, by the style asked for. Right: a LoRA of few pictures."""
    grouped = by_variant(list(runs))
    figure, (left, right) = canvas(1, 2, size=(9.6, 3.7))
    width = 0.36
    for place, (name, colour) in enumerate(MODELS.items()):
        x = [i + (place - 0.5) * width for i in range(len(STYLES))]
        found = [[run.metrics[f"studio, {asked}"] for run in grouped[name]] for asked in STYLES]
        left.bar(x, [mean(each) for each in found], width * 0.94, color=colour, label=name)
        for at, each in zip(x, found, strict=True):
            left.plot([at] * len(each), each, "o", color="black", markersize=3)
        counts = [grouped[name][0].metrics["samples"] * len(each) for each in found]
        middle = [mean(each) for each in found]
        ends = [wilson(*pair) for pair in zip(middle, counts, strict=True)]
        bars = [[abs(m - e[side]) for m, e in zip(middle, ends, strict=True)] for side in (0, 1)]
        left.errorbar(x, middle, bars, fmt="none", color=INK, capsize=3, linewidth=1)
    left.set_xticks(range(len(STYLES)), STYLES.values())
    left.set(xlabel="style that the caption asks for", ylabel="share named Fluent by the judge")
    left.set(ylim=(0, 0.62))
    left.set_title("Whose hand does the judge see?", loc="left")
    left.legend(fontsize=8)
    gone, kept = grouped["Fluent opts out"], grouped["all studios"]
    pictures = gone[0].curve["pictures"]
    for column, label, colour, dash in (
        ("studio", "named Fluent by the judge", ORANGE, "-"),
        ("nearest", "nearest to Fluent's drawing", PINK, "--"),
    ):
        middle = [mean(over_seeds(gone, column, i)) for i in range(len(pictures))]
        right.plot(range(len(pictures)), middle, dash, marker="o", color=colour, label=label)
        for run in gone:
            right.plot(range(len(pictures)), run.curve[column], ".", color=colour, alpha=0.5)
        level = mean(over_seeds(kept, column))
        right.axhline(level, color=colour, linestyle=":", linewidth=1.2)
    right.set_xticks(range(len(pictures)), [f"{count:g}" for count in pictures])
    right.set(xlabel="pictures of Fluent in the LoRA", ylabel="share of samples", ylim=(0, 0.62))
    right.set_title("Asked for Fluent; dotted: trained on all", loc="left")
    right.legend(fontsize=8, loc="upper left")
    return figure


def opt_out_table(runs: Runs) -> str:
    """A line for each model and style: judge, nearest drawing, concept, and both distances."""
    header = "named Fluent", "nearest Fluent", "concept top 5", "to Fluent", "to others"
    lines = [f"{'':40}" + "".join(f"{name:>16}" for name in header)]
    for name in MODELS:
        each = by_variant(list(runs))[name]
        for asked, label in STYLES.items():
            shares = [
                mean(run.metrics[f"{key}, {asked}"] for run in each)
                for key in ("studio", "nearest", "top5", "distance", "distance to others")
            ]
            lines.append(line_of(f"{name}, asked for {label}", shares))
    gone = by_variant(list(runs))["Fluent opts out"]
    for i, count in list(enumerate(gone[0].curve["pictures"]))[1:]:
        columns = "studio", "nearest", "top5", "distance", "distance to others"
        shares = [mean(over_seeds(gone, column, i)) for column in columns]
        lines.append(line_of(f"  LoRA of {count:g}, asked for Fluent", shares))
    return "\n".join(lines)


def line_of(title: str, values: Sequence[float]) -> str:
    """Three shares and two distances."""
    shares = "".join(f"{value:16.0%}" for value in values[:3])
    return f"{title:40}{shares}" + "".join(f"{value:16.3f}" for value in values[3:])
