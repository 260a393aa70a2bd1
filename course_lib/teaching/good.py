"""What a sound training looks like: losses and pictures of real ones, recorded with three seeds.

    what_good_looks_like("digits-ddpm", losses, pictures)     # yours drawn beside the recorded ones
    python -m course_lib.teaching.good digits-ddpm            # trains the seeds and records them

`recorded/good/NAME.json` holds each seed's smoothed loss, its figures at the end and the command;
`NAME.png` a row of pictures for each seed. Where STOP names a step, the recordings end there: the
recipe as begun, with its learning rate planned for all of its steps, so that the first minute of a
training of your own can be held against it.
"""

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from course_lib.common.files import make_folder, write_files
from course_lib.common.paths import RECORDED
from course_lib.common.registry import choose
from course_lib.experiments.runs import natural, one_of
from course_lib.recipes import RECIPES, make_recipe
from course_lib.teaching.plots import grid_figure, pixels, show
from course_lib.teaching.style import BLUE, ORANGE, canvas, few_colours, styled
from course_lib.training import Training

FOLDER = RECORDED / "good"
SEEDS = (1, 2, 3)  # the shipped models are seed 0
STOP = {
    **{"digits-ddpm": 600, "digits-classes": 600, "scenes-vae": 150, "scenes-clip": 150},
    **{"scenes-latent": 150, "scenes-pixel": 50},
}
COUNT = 500  # samples for the figures at the end, as on the cards
COLUMNS = 8  # pictures of each seed
POINTS = 60


def what_good_looks_like(
    name: str, losses: Sequence[float] | None = None, pictures: Tensor | None = None
) -> None:
    """Show the recorded trainings of that recipe, with the reader's own drawn into them.

    losses: one per step, from step 1; pictures (N, C, H, W) in [-1, 1], of which eight are shown.
    ValueError: no recording of that name, losses that are no numbers, pictures of another size.
    """
    record = load(name)
    show(losses_figure(record, losses), alt=f"{name}: the loss of each step, with a band.")
    for line in summary(record, losses):
        print(line)
    if (FOLDER / f"{name}.png").exists():
        figure = pictures_figure(record, pictures)
        show(figure, alt=f"{name}: a row of pictures for each recorded seed.")


def load(name: str) -> dict:
    """The recording of that name; ValueError with the known ones if there is none."""
    known = {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
    return json.loads(choose("recording", name, known).read_text("utf-8"))


# ---- smoothing ---------------------------------------------------------------------------------


def moments(steps: int) -> list[int]:
    """Steps from 1 to the last, evenly spaced on a logarithmic axis."""
    return sorted({round(step) for step in np.geomspace(1, steps, POINTS)})


def smooth(losses: Sequence[float], at: Sequence[int]) -> list[float]:
    """The mean loss of the last fifth of the steps up to each of these, of 100 steps at most."""
    losses = np.asarray(losses, float)
    return [float(losses[n - min(100, -(-n // 5)) : n].mean()) for n in at]


# ---- showing -----------------------------------------------------------------------------------


def stage(record: dict) -> str:
    """How far the recorded trainings went."""
    steps, planned = record["steps"], record["planned"]
    whole = f"all {steps:,} steps" if steps == planned else ""
    return whole or f"the recipe as begun, stopped after {steps:,} of {planned:,} steps"


@styled
def losses_figure(record: dict, losses: Sequence[float] | None = None) -> Figure:
    """The lowest and the highest smoothed loss of the seeds, and the reader's in front."""
    figure, axes = canvas()
    at, low, high = record["at"], *band(record)
    label = f"{len(record['seeds'])} recorded seeds, lowest to highest"
    axes.fill_between(at, low, high, color=BLUE, alpha=0.3, linewidth=0, label=label)
    axes.plot(at, np.mean(record["losses"], 0), color=BLUE, label="their mean")
    shown = [low.min(), high.max()]
    if losses is not None:
        own = checked(losses)
        steps = moments(len(own))
        axes.plot(steps, smooth(own, steps), color=ORANGE, linestyle="--", label="yours")
        shown += [min(own), max(own)]
    axes.set(xlabel="step (log scale)", ylabel="training loss, smoothed", xscale="log")
    axes.set_yscale("log" if min(shown) > 0 else "linear")
    axes.set_title(f"{record['name']}: {stage(record)}", loc="left")
    axes.legend()
    return figure


def band(record: dict) -> tuple[np.ndarray, np.ndarray]:
    return np.min(record["losses"], 0), np.max(record["losses"], 0)


def checked(losses: Sequence[float]) -> list[float]:
    own = np.asarray(losses, float)
    if own.ndim != 1 or not own.size or not np.isfinite(own).all():
        raise ValueError(f"losses must be finite numbers, one per step; got shape {own.shape}")
    return own.tolist()


def summary(record: dict, losses: Sequence[float] | None = None) -> Iterator[str]:
    """The figures at the end with their spread over the seeds, and where the reader's loss lies."""
    yield f"After {record['steps']:,} steps, seeds {', '.join(map(str, record['seeds']))}:"
    for figure, values in record["metrics"].items():
        yield f"  {figure}: {np.mean(values):.3g} (from {min(values):.3g} to {max(values):.3g})"
    if losses is not None:
        n = min(len(losses), record["steps"])
        low, high = (float(np.interp(n, record["at"], edge)) for edge in band(record))
        (own,) = smooth(checked(losses), [n])
        yield f"Your loss at step {n:,}: {own:.4g}; theirs: {low:.4g} to {high:.4g}"
        yield "(A sound fourth seed lies a little outside of three about half of the time.)"


def pictures_figure(record: dict, pictures: Tensor | None = None) -> Figure:
    """The recorded rows, and the reader's on top."""
    recorded = unpack(Image.open(FOLDER / f"{record['name']}.png"), record["size"])
    rows, labels, captions = [recorded], list(record["rows"]), list(record["captions"])
    columns = len(recorded) // len(labels)  # as many as were recorded
    if pictures is not None:
        own = 2 * pixels(pictures[:columns]).permute(0, 3, 1, 2) - 1  # (≤ 8, 3, H, W)
        size, expected = tuple(own.shape[2:]), tuple(recorded.shape[2:])
        if size != expected:
            raise ValueError(f"pictures are {size} pixels, the recorded ones {expected}")
        blank = torch.ones(columns - len(own), *own.shape[1:])
        rows, labels = [own, blank, recorded], ["yours", *labels]
        captions = [""] * columns + captions
    title = f"{record['name']}: {stage(record)}"
    captions = captions if any(captions) else None
    return grid_figure(
        torch.cat(rows), captions, title, columns, row_labels=labels, cell=record["cell"]
    )


# ---- recording ---------------------------------------------------------------------------------


def record(name: str, seeds: Sequence[int] = SEEDS) -> None:
    """Train that recipe once for each seed, and write `NAME.json` and `NAME.png`.

    Runs are kept in outputs/good, so a recording that was stopped goes on where it was. The files
    are written after each seed, to be looked at; they are finished when all are in.
    """
    if len(set(seeds)) < 3:
        raise ValueError(f"at least three different seeds, got {list(seeds)}")
    recipe, runs, looks, measured = make_recipe(name), [], [], []
    for seed in seeds:
        runs.append(trained(recipe, seed))
        looks.append(recipe.samples(runs[-1].ema))
        measured.append({m.label: m.value for m in recipe.measure(runs[-1].ema, COUNT)})
        write(name, seeds[: len(runs)], runs, looks, measured)


def write(name, seeds, runs, looks, measured) -> None:
    at, first = moments(runs[0].done), runs[0]
    images, rows, captions = arranged(looks, seeds)
    facts = {
        "name": name,
        "command": f"python -m course_lib.teaching.good {name}",
        "seeds": list(seeds),
        "steps": first.done,
        "planned": first.steps,
        "hardware": first.card["hardware"],
        "at": at,
        "losses": [[float(f"{x:.5g}") for x in smooth(losses_of(run), at)] for run in runs],
        "metrics": {key: [round(each[key], 5) for each in measured] for key in measured[0]},
        "count": COUNT,
        "size": images.shape[-1],
        "cell": 0.7 if images.shape[-1] < 32 else 1.0,
        "rows": rows,
        "captions": captions,
    }
    text = json.dumps(facts, ensure_ascii=False).replace('"losses"', '\n"losses"')
    make_folder(FOLDER)
    path = FOLDER / name
    write_files(
        {path.with_suffix(".json"): f"{text}\n".encode(), path.with_suffix(".png"): pack(images)}
    )


def trained(recipe, seed: int) -> Training:
    folder = Path("outputs") / "good" / recipe.name / f"seed-{seed}"
    run = recipe.begin(folder=folder, device="cpu", seed=seed)
    last = min(STOP.get(recipe.name, run.steps), run.steps)
    while run.done < last:
        step = run.advance()
        if step.index % 50 == 0 or step.index == last:
            print(
                f"{recipe.name}, seed {seed}: step {step.index}, loss {step.loss:.4f}", flush=True
            )
    return run


def losses_of(run: Training) -> list[float]:
    lines = run.folder.log.read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines[: run.done]]


def arranged(looks, seeds) -> tuple[Tensor, list[str], list[str]]:
    """A row for each seed; where a recipe shows real pictures first, these once, on top."""
    images, rows, captions = [], [], []
    for seed, (pictures, titles) in zip(seeds, looks, strict=True):
        if titles[0] == "real":
            if not rows:
                images, rows, captions = [pictures[:COLUMNS]], ["real"], [""] * COLUMNS
            first, titles = titles.index("again"), [""] * len(titles)
        else:
            first = 0
        images.append(pictures[first : first + COLUMNS])
        rows.append(f"seed {seed}")
        captions += titles[first : first + COLUMNS]
    return torch.cat(images), rows, captions


def pack(images: Tensor) -> bytes:
    """Pictures (rows · 8, C, H, W) as one small PNG without gaps."""
    rgb = (pixels(images) * 255).round().byte()  # (N, H, W, 3)
    rows = [torch.cat(list(row), dim=1) for row in rgb.split(COLUMNS)]
    buffer = io.BytesIO()
    picture = Image.fromarray(torch.cat(rows).numpy())
    few_colours(picture).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def unpack(picture: Image.Image, size: int) -> Tensor:
    """The pictures (N, 3, H, W) in [-1, 1] of such a PNG."""
    rgb = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) / 127.5 - 1
    tiles = rgb.unfold(1, size, size).unfold(2, size, size)  # (3, rows, columns, H, W)
    return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.teaching.good", description=__doc__.split("\n")[0]
    )
    parser.add_argument("names", nargs="+", type=one_of("recipe", RECIPES))
    parser.add_argument("--seeds", nargs="+", type=natural, default=list(SEEDS))
    given = parser.parse_args(arguments)
    try:
        for name in given.names:
            record(name, given.seeds)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
