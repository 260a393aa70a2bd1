"""Image quality against training time, for `scenes-latent`, `scenes-pixel` and `emoji-latent`.

    python -m course_lib.experiments.quality_over_time scenes-latent

Trains the recipes unchanged and stops every 750 steps to let the oracle, or the emoji's two judges,
grade images of held-out captions, drawn with the averaged weights. This takes as long as the
trainings. The samples of the result have a row for each grade, of the same eight captions.
Several processes can share a latent model: replace `python -m` with
`torchrun --standalone --nproc-per-node=2 -m`. The training stays complete in its folder, so
`course train NAME --device cpu --folder outputs/quality_over_time/NAME/seed-0 --publish` publishes
it afterwards. Chapters 09 and 10 draw the curves.
"""

import json
from pathlib import Path

import torch

from course_lib.common.files import write_files
from course_lib.common.registry import choose
from course_lib.experiments.study import Outcome, Study, png
from course_lib.recipes import RECIPES
from course_lib.teaching.results import read_samples

EVERY = 750  # steps
CAPTIONS = 32  # of each kind and split; of scenes 192 in all: a share of 0.5 is known to ± 0.07
SHOWN = 8  # captions whose samples are kept


def run(recipe_name: str, seed: int) -> Outcome | None:
    """Train that recipe and grade it on the way; the graded steps survive an interruption."""
    recipe = choose("recipe", recipe_name, RECIPES)()
    folder = Path("outputs") / "quality_over_time" / recipe_name / f"seed-{seed}"
    training = recipe.begin(folder=folder, device="cpu", seed=seed)
    graded_file = folder / "graded.json"
    graded = json.loads(graded_file.read_text()) if graded_file.exists() else []
    graded = [each for each in graded if each["step"] <= training.done]

    def picture(step: int) -> Path:
        return folder / f"graded_{step:06d}.png"

    def grade_if_due() -> None:
        step = training.done
        due = step and (step % EVERY == 0 or step == training.steps)
        if training.is_main and due and all(each["step"] != step for each in graded):
            graded.append(grade(recipe, training.ema, step, training.cpu_seconds))
            print(recipe_name, graded[-1], flush=True)
            shown = recipe.samples(training.ema)[0][:SHOWN]
            files = {graded_file: json.dumps(graded).encode(), picture(step): png(shown[None])}
            write_files(files)

    grade_if_due()  # the process may have been stopped while it graded this step
    for _ in training:
        grade_if_due()
    training.close()
    if not training.is_main:
        return None
    return Outcome(
        settings={
            "steps": training.steps,
            "captions": CAPTIONS,
            "processes": training.card["processes"],
        },
        metrics={name: graded[-1][name] for name in ("cpu_minutes", "right")},
        curve={name: [each[name] for each in graded] for name in graded[0]},
        samples=torch.cat([read_samples(picture(each["step"]), 1, SHOWN) for each in graded]),
        captions=[recipe.held_out(SHOWN)[1]] * len(graded),
    )


def grade(recipe, network, step: int, cpu_seconds: float) -> dict[str, float]:
    """The share of images that are right in everything their captions say."""
    right = recipe.score(network, CAPTIONS)
    return {"step": step, "cpu_minutes": round(cpu_seconds / 60, 2), "right": right}


STUDY = Study("quality_over_time", ["scenes-latent", "scenes-pixel", "emoji-latent"], (0,), run)

if __name__ == "__main__":
    STUDY.main()
