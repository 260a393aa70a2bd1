"""Sound trainings of the recipes with three seeds, which `what_good_looks_like` shows.

    python -m course_lib.experiments.reference_runs digits-ddpm 1

Each result holds the smoothed loss, the metrics at the end and a row of samples. Where LAST_STEP
names a step, the training stops there: it is the recipe's first minute, with the learning rate
planned for all of its steps, so that a reader's first minute can be compared with it.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from course_lib.experiments.study import Outcome, Study
from course_lib.recipes import RECIPES, make_recipe
from course_lib.teaching.reference_runs import curve_steps, smooth
from course_lib.training import Training

LAST_STEP = {
    **{"digits-ddpm": 600, "digits-classes": 600, "scenes-vae": 150, "scenes-clip": 150},
    **{"scenes-latent": 150, "scenes-pixel": 50, "scenes-fast": 60, "phantoms": 100},
}
SAMPLES = 500  # for the metrics, as on the cards
COLUMNS = 8


def run(recipe_name: str, seed: int) -> Outcome:
    """Train that recipe with that seed, to its last step or to LAST_STEP."""
    recipe = make_recipe(recipe_name)
    folder = Path("outputs") / "reference_runs" / recipe_name / f"seed-{seed}"
    training = recipe.begin(folder=folder, device="cpu", seed=seed)
    last = min(LAST_STEP.get(recipe_name, training.steps), training.steps)
    while training.done < last:
        step = training.advance()
        if step.index % 50 == 0 or step.index == last:
            print(
                f"{recipe_name}, seed {seed}: step {step.index}, loss {step.loss:.4f}", flush=True
            )
    samples, captions = rows(*recipe.samples(training.ema))
    steps = curve_steps(last)
    return Outcome(
        settings={"steps": last, "planned_steps": training.steps, "samples": SAMPLES},
        metrics={m.label: m.value for m in recipe.measure(training.ema, SAMPLES)},
        curve={"step": steps, "loss": smooth(losses(training), steps)},
        samples=samples,
        captions=captions,
    )


def losses(training: Training) -> list[float]:
    lines = training.folder.log.read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines[: training.done]]


def rows(images: Tensor, titles: list[str]) -> tuple[Tensor, list[list[str]]]:
    """The first samples as one row (1, 8, C, H, W) with a caption for each.

    Where the recipe shows real images first, they are a row of their own on top, captioned "real",
    and the reconstructions follow without captions.
    """
    if titles[0] != "real":
        return images[None, :COLUMNS], [titles[:COLUMNS]]
    first = next(i for i, title in enumerate(titles) if title != "real")
    both = torch.stack([images[:COLUMNS], images[first : first + COLUMNS]])
    return both, [["real"] * COLUMNS, [""] * COLUMNS]


STUDY = Study("reference_runs", list(RECIPES), (1, 2, 3), run)

if __name__ == "__main__":
    STUDY.main()
