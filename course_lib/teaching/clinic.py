"""The wards of chapter 18: recorded broken trainings without their names, and what checks say.

ward = patients("noise")                    # {"A": [Result, Result], ...}: one for each seed
show(ward_figure(ward), ward_alt(ward))
print(findings_table(ward))
"""

from collections.abc import Mapping, Sequence
from functools import cache
from statistics import mean

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.common.registry import choose
from course_lib.teaching.broken_runs import MISTAKES
from course_lib.teaching.diagnosis import CHECKS, WRONG, Finding
from course_lib.teaching.diagnosis.confusion import SOUND, Table
from course_lib.teaching.plots import pixels
from course_lib.teaching.results import Result, by_variant, load_results
from course_lib.teaching.style import BLUE, GREY, INK, ORANGE, canvas, styled

WARDS: dict[str, tuple[str, ...]] = {  # symptom -> the patients' mistakes, from A on
    "noise": ("EMA too slow", "timestep on another scale", "learning rate too high"),
    "colour": (
        "data from 0 to 1",
        "latents not scaled",
        "latent mean not removed",
        "betas for 1,000 steps used with 100",
    ),
    "grain": (
        "sampled in train mode",
        "wrong variance",
        "noise at the last step",
        "timestep off by one",
    ),
    "fine": (
        "ten pictures memorised",
        "captions shuffled",
        "timestep in bf16",
        "EMA unused",
        "conditions never dropped",
    ),
}
HEALTHY = {  # patients that differ from the plain sound run in more than their mistake
    "latents not scaled": "sound, latents",
    "latent mean not removed": "sound, latents",
    "timestep in bf16": "sound, 1,000 timesteps",
}
Ward = Mapping[str, Sequence[Result]]


# ---- the patients ------------------------------------------------------------------------------


def patients(symptom: str, data: str = "digits") -> dict[str, list[Result]]:
    """The patients of a ward, from A on, with one run for each seed.

    ValueError for another symptom.

    >>> list(patients("noise"))
    ['A', 'B', 'C']
    """
    names = choose("ward", symptom, WARDS)
    return {letter: runs(name, data) for letter, name in zip("ABCDE", names, strict=False)}


@cache
def recorded() -> dict[str, list[Result]]:
    """All recorded runs, read once."""
    return by_variant(load_results("broken_runs"))


def runs(case: str, data: str = "digits") -> list[Result]:
    """The recorded runs of a mistake, or "sound". ValueError if there are none.

    >>> runs("sound")[0].variant
    'digits, sound'
    """
    return choose("case", f"{data}, {case}", recorded())


def every(data: str) -> list[Result]:
    """All recorded runs on that data, "digits" or "emoji"."""
    return [run for each in recorded().values() for run in each if data_of(run) == data]


def data_of(run: Result) -> str:
    return run.variant.partition(", ")[0]


def case_of(run: Result) -> str:
    """What is wrong with the patient: the name of the case."""
    return run.variant.partition(", ")[2]


def healthy(run: Result) -> list[Result]:
    """The sound runs that differ from the patient in its mistake alone."""
    return runs(HEALTHY.get(case_of(run), SOUND), data_of(run))


def findings(run: Result) -> list[Finding]:
    """What each check says about a recorded run; those that saw nothing are left out."""
    measured = run.metrics
    return [check.judge(measured[name]) for name, check in CHECKS.items() if name in measured]


def loss_by_timestep(run: Result) -> list[float]:
    """The loss in eight bands of the timestep, as a share of the best constant's."""
    return [run.metrics[f"loss in band {band}"] for band in range(1, 9)]


# ---- what the chapter prints and draws ---------------------------------------------------------


def ward_table(ward: Ward) -> str:
    """The distance of the samples and the loss at the end, beside a sound run's: means."""
    lines = [f"{'':10}{'distance':>10}{'if sound':>10}{'loss':>10}{'if sound':>10}"]
    for letter, each in ward.items():
        pairs = [(distance(group), last_loss(group)) for group in (each, healthy(each[0]))]
        (far, loss), (far_sound, loss_sound) = pairs
        lines.append(f"patient {letter} {far:10.2f}{far_sound:10.2f}{loss:10.3f}{loss_sound:10.3f}")
    floor = mean(run.metrics["distance floor"] for run in runs(SOUND))
    return "\n".join([*lines, f"as many real pictures have a distance of {floor:.2f}"])


def distance(group: Sequence[Result]) -> float:
    """The mean Fréchet distance of the samples."""
    return mean(run.metrics["distance"] for run in group)


def last_loss(group: Sequence[Result]) -> float:
    """The mean of the last losses."""
    return mean(run.curve["loss"][-1] for run in group)


@styled
def ward_figure(ward: Ward) -> Figure:
    """A row for each patient: its loss above a sound run's, in grey, and sixteen samples."""
    figure, axes = canvas(len(ward), 2, size=(9.5, 1.6 * len(ward)))
    axes[0][0].get_gridspec().set_width_ratios([1, 1.6])
    for (left, right), (letter, each) in zip(axes, ward.items(), strict=True):
        for run, line in ((healthy(each[0])[0], (GREY, 4, 0.5)), (each[0], (BLUE, 1.8, 1))):
            style = dict(zip(("color", "linewidth", "alpha"), line, strict=True))
            left.plot(run.curve["step"], run.curve["loss"], **style)
        left.set(yscale="log", ylabel="loss", ylim=(0.03, 10))
        left.set_title(f"Patient {letter}", loc="left")
        right.imshow(sheet(each[0].samples().flatten(0, 1)), interpolation="nearest")
        right.set_axis_off()
    axes[-1][0].set_xlabel("step (grey: a sound run)")
    return figure


def sheet(images: Tensor, rows: int = 2) -> Tensor:
    """Pictures (N, 3, H, W) with a white edge as one, (rows · (H + 2), N / rows · (W + 2), 3)."""
    framed = F.pad(images, (1, 1, 1, 1), value=1.0)
    tiles = pixels(framed).unflatten(0, (rows, -1))  # (rows, columns, H + 2, W + 2, 3)
    return tiles.transpose(1, 2).flatten(2, 3).flatten(0, 1)


def findings_table(ward: Ward) -> str:
    """The checks that find something in a ward, one line each for the first seed of a patient."""
    lines = []
    for letter, each in ward.items():
        wrong = [finding for finding in findings(each[0]) if finding.verdict == WRONG]
        lines.append(f"patient {letter}: {len(wrong) or 'no'} check{'s' * (len(wrong) != 1)} wrong")
        lines += [f"  {finding.name}: {finding.line}" for finding in wrong]
    return "\n".join(lines)


@styled
def confusion_figure(counts: Table, title: str) -> Figure:
    """Rows are what was wrong, columns what was found; a number for each cell that isn't 0."""
    names = [name for name in [*MISTAKES, SOUND] if name in counts]
    found = [*names, *sorted({d for each in counts.values() for d in each} - set(names))]
    shares = torch.tensor([[counts[row][d] / counts[row].total() for d in found] for row in names])
    figure, axes = canvas(size=(9.0, 6.2), title=title)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    for i, row in enumerate(names):
        for j, diagnosed in enumerate(found):
            if count := counts[row][diagnosed]:
                bold = dict(color=INK if i == j else ORANGE, weight="bold", ha="center")
                axes.text(j, i, str(count), va="center", **bold)
    axes.set_yticks(range(len(names)), [f"{name} ({counts[name].total()})" for name in names])
    axes.set_xticks(range(len(found)), found, rotation=50, ha="right", rotation_mode="anchor")
    axes.set(ylabel="what was wrong (number of runs)", xlabel="what the checks found first")
    axes.grid(False)
    axes.tick_params(labelsize=8.5)
    return figure
