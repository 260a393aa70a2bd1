"""What chapter 17's recorded race says: who is ahead, and diversity traded for quality."""

from statistics import mean

from matplotlib.figure import Figure

from course_lib.teaching.gan_race_figures import (
    MODELS,
    Runs,
    by_model,
    cell,
    data_sets,
    finished,
    spread_of,
)
from course_lib.teaching.style import canvas, styled

SHARES = {"right": "share that is right", "colour": "share with the label's colour"}


def trade(runs: Runs, name: str, share: str = "right") -> dict[float, tuple[float, ...]]:
    """For each value of "truncation" or "guidance": mean share, precision, recall, diversity.

    Of guidance, the ways with most evaluations, which are those of the plain sampler.
    """
    sound, found = [run for run in finished(runs) if name in run.curve], {}
    for value in dict.fromkeys(sound[0].curve[name]) if sound else ():
        rows = [run.curve[name].index(value) for run in sound]  # the first way is the plain one
        found[value] = tuple(
            mean(run.curve[column][row] for run, row in zip(sound, rows, strict=True))
            for column in (share, "precision", "recall", "diversity")
        )
    return found


@styled
def trade_figure(runs: Runs, data: str, share: str = "right") -> Figure:
    """A share and precision, over diversity and recall, for each truncation and guidance.

    share: one of SHARES.
    """
    figure, (left, right) = canvas(1, 2, size=(9, 3.6))
    for name, knob in (("GAN", "truncation"), ("diffusion", "guidance")):
        colour, marker = MODELS[name]
        points = trade(by_model(runs, data)[name], knob, share)
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
    left.set(xlabel="diversity (real samples: 1)", ylabel=SHARES[share])
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
            cells = "".join(f"{f'{cell(a)} ± {cell(b, digits=1)}':>20}" for a, b in found)
            lines.append(f"  {measure:20}{cells}   {ahead}")
    return "\n".join(lines)


def steps_table(runs: Runs) -> str:
    """A line for each data set and number of evaluations: milliseconds, share right, recall.

    The GAN with R1, and diffusion without guidance.
    """
    lines = [f"{'':32}{'ms each of 128':>15}{'right':>14}{'precision':>14}{'recall':>14}"]
    for data in data_sets(runs):
        for model in ("GAN", "diffusion"):
            sound = finished(by_model(runs, data)[model])
            for row in range(2 if model == "diffusion" and sound else min(1, len(sound))):
                curves = [{name: each[row] for name, each in run.curve.items()} for run in sound]
                name = f"{data}, {model}, {curves[0]['evaluations']} evaluation"
                name += "s" * (curves[0]["evaluations"] > 1)
                cells = [f"{1000 * mean(curve['seconds'] for curve in curves):15.3g}"]
                for column in ("right", "precision", "recall"):
                    middle, width = spread_of([curve[column] for curve in curves])
                    cells.append(f"{f'{middle:.2f}±{width:.2f}':>14}")
                lines.append(f"{name:32}" + "".join(cells))
    return "\n".join(lines)
