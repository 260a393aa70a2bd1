"""How a ControlNet learns layouts: graded while it trains, and at several scales of control.

    python -m course_lib.experiments.scene_control shipped 0

"shipped" is the training of `scenes-control`. "default weights" is the same, but the layers that
read the layout start with PyTorch's default weights, as in the paper's code; "adamw" is the same
with the paper's optimiser. Between steps the oracle grades the raw weights on 48 fixed prompts with
fixed seeds, so the curves show whether obedience appears gradually or all at once (Zhang et al.
2023, §4.1, figure 4). The samples are three of these prompts, one of each kind, after some of the
steps. The final model stays in outputs/scene_control/VARIANT/seed-SEED.

"scales" measures the published checkpoint with each caption's own layout and with one that
contradicts it.
"""

from pathlib import Path

import torch
from torch import Tensor

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.registry import choose
from course_lib.datasets.scenes import KINDS
from course_lib.experiments.study import Outcome, Study
from course_lib.models import ControlNet
from course_lib.recipes.scenes_control import Prompts, ScenesControl
from course_lib.training import Optimizer

STEPS = {
    "shipped": ScenesControl.settings["steps"],
    "default weights": ScenesControl.settings["steps"],
    "adamw": ScenesControl.settings["steps"],
}
GRADED = 0, 10, 20, 30, 40, 50, 60, 80, 100, 125, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1200
SHOWN = 0, 20, 50, 100, 200, 400, 600, 1200  # steps whose pictures are kept
PROMPTS = 16  # of each kind, while it trains
SCALES = 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0
OUTPUTS = Path("outputs") / "scene_control"


def run(variant: str, seed: int) -> Outcome:
    """Train and grade, or measure the scales."""
    choose("variant", variant, dict.fromkeys(STUDY.variants))
    return scales() if variant == "scales" else train(variant, seed)


def train(variant: str, seed: int) -> Outcome:
    """The recipe's training with one change, graded between steps."""
    recipe, folder = ScenesControl(), OUTPUTS / variant.replace(" ", "-") / f"seed-{seed}"
    recipe.he = variant != "default weights"
    changes = {"optimizer": Optimizer(lr=1e-3, warmup=30)} if variant == "adamw" else {}
    training = recipe.begin(
        folder=folder, resume=False, steps=STEPS[variant], seed=seed, device="cpu", **changes
    )
    prompts = [Prompts.of(kind, PROMPTS) for kind in KINDS]
    curve = {name: [] for name in ("step", "loss", "right", "placed", "overlap")}
    rows, losses = [], []

    def look(step: int) -> None:
        images = [recipe.draw(training.model, each) for each in prompts]
        loss = sum(losses) / max(len(losses), 1)  # the mean since the previous look
        grades = {"step": step, "loss": loss, **grade(prompts, images)}
        for name, value in grades.items():
            curve[name].append(value)
        print(grades, f"{training.cpu_seconds:.0f} s", flush=True)
        losses.clear()
        if step in SHOWN:
            rows.append(torch.stack([some[0] for some in images]))

    look(0)
    for step in training:
        losses.append(step.loss)
        if step.index in GRADED:
            look(step.index)
    training.close()
    if variant == "shipped":
        recipe.publish(training, folder / recipe.name)
    return Outcome(
        settings={"steps": STEPS[variant], "prompts": PROMPTS * len(KINDS)},
        metrics={"cpu_minutes": training.cpu_seconds / 60}
        | grade(prompts, [recipe.draw(training.ema, each) for each in prompts]),
        curve=curve,
        samples=torch.stack(rows, 1),
        captions=[each.captions[:1] * len(rows) for each in prompts],
    )


def grade(prompts: list[Prompts], images: list[Tensor]) -> dict[str, float]:
    """The mean of each grade over all kinds."""
    grades = [some.grade(drawn) for some, drawn in zip(prompts, images, strict=True)]
    return {name: torch.cat([g[name] for g in grades]).double().mean().item() for name in grades[0]}


def scales(count: int = 32) -> Outcome:
    """The grades at each scale of control, for `count` prompts of each kind."""
    recipe, model = ScenesControl(), load_checkpoint(ControlNet, "scenes-control")
    metrics = {}
    for case, contradict in (("", False), (" against", True)):
        prompts = [Prompts.of(kind, count, contradict) for kind in KINDS]
        for scale in SCALES:
            images = [recipe.draw(model, each, scale) for each in prompts]
            grades = grade(prompts, images)
            metrics |= {f"{name}{case} at {scale:g}": value for name, value in grades.items()}
            print(case, scale, grades, flush=True)
    return Outcome({"steps": model.card["steps"], "prompts": count * len(KINDS)}, metrics)


STUDY = Study(
    "scene_control", ("shipped", "default weights", "adamw", "scales"), (0,), run, threads=1
)

if __name__ == "__main__":
    STUDY.main()
