"""Ways to draw in few steps: each distilled from `scenes-latent` at one budget, then compared.

    python -m course_lib.experiments.few_steps shortcut 0

Each method trains on one core for the same CPU time, which includes making its data. Then the
oracle grades 2,004 pictures of held-out captions for each number of steps; a step is one evaluation
of the network. The teacher draws the same prompts from the same seeds in 20 guided steps, two
evaluations each, and every metric "difference at N" is the mean over prompts of right or wrong
minus the teacher's, with its 95 % interval. A training that was stopped resumes in its folder,
outputs/few_steps/METHOD/seed-SEED. The final weights stay there as model.safetensors.

"teacher" isn't trained, but measured: with guidance and DDIM at each number of steps, so its
evaluations are twice as many. Its verdicts are kept for `course leaderboard few-steps`.
"scenes-fast" is the published checkpoint. "reflow again" needs the weights of "reflow", and
"guidance only, ancestral" draws with those of "guidance only".
"""

import functools
from pathlib import Path

import torch
from torch import Tensor

from course_lib.common.checkpoints import load_checkpoint, save_checkpoint
from course_lib.common.registry import choose
from course_lib.datasets.scenes import Scenes
from course_lib.diffusion import initial_noise, time_grid, trajectory
from course_lib.diffusion.few_steps import straightness
from course_lib.evaluation.metrics import mean
from course_lib.evaluation.prompts import Draw, right
from course_lib.experiments.budget import resumable
from course_lib.experiments.study import Outcome, Study
from course_lib.models import TextUNet
from course_lib.pipelines import LatentDiffusion, text_to_image
from course_lib.pipelines.text_to_image import prepare
from course_lib.recipes import RECIPES, Recipe, load_pipeline
from course_lib.recipes.scenes_fast import (
    Backward,
    Consistency,
    Distilled,
    FlowMap,
    MeanFlow,
    MultistepConsistency,
    Reflow,
    ReflowAgain,
    Shortcut,
)
from course_lib.teaching.results import load_results, result_path

BUDGET = 600  # seconds of CPU time
PROMPTS = 334  # of each kind and split: 2,004 in all
STEPS = 1, 2, 4, 8, 20
OUTPUTS = Path("outputs") / "few_steps"
WEIGHTS = "model.safetensors"


class GuidanceOnly(Distilled):
    """The guided velocity in one evaluation, with Euler's steps as ever."""

    sampler = "ddim"


class Ancestral(GuidanceOnly):
    """The same network with the teacher's sampler, which adds noise."""

    sampler = "ancestral"


METHODS = {
    "guidance only": GuidanceOnly,
    "reflow": Reflow,
    "reflow again": ReflowAgain,
    "consistency": Consistency,
    "multistep consistency": MultistepConsistency,
    "flow map": FlowMap,
    "shortcut": Shortcut,
    "mean flow": MeanFlow,
    "backward consistency": Backward,
}


def run(variant: str, seed: int) -> Outcome:
    """Train one method and compare it with the teacher, or measure what is there."""
    choose("variant", variant, dict.fromkeys(STUDY.variants))
    if variant == "teacher":
        return teacher()
    if variant == "scenes-fast":
        model = load_checkpoint(TextUNet, "scenes-fast")
        return Outcome(
            settings=settings(model.card["steps"], model),
            metrics={"cpu_minutes": model.card["cpu_minutes"]} | grade(RECIPES[variant](), model),
        )
    if variant == "guidance only, ancestral":
        model = load_checkpoint(TextUNet, folder_of("guidance only", seed) / WEIGHTS)
        return Outcome(settings(model.card["steps"], model), grade(Ancestral(), model))
    folder, recipe = folder_of(variant, seed), method(variant, seed)
    training = resumable(recipe, seed, BUDGET, folder)
    for _ in training:
        pass
    save_checkpoint(folder / WEIGHTS, training.ema, half=True, **training.card)
    return Outcome(
        settings=settings(training.steps, training.ema),
        metrics={"cpu_minutes": training.cpu_seconds / 60} | grade(recipe, training.ema),
    )


def folder_of(variant: str, seed: int) -> Path:
    """Where a run of that method keeps its state, and leaves its weights."""
    return OUTPUTS / variant.replace(" ", "-") / f"seed-{seed}"


def method(variant: str, seed: int) -> Recipe:
    """The recipe of that method; reflow keeps its pairs in a folder."""
    if variant == "reflow again":
        recipe = ReflowAgain(folder_of("reflow", seed) / WEIGHTS)
    else:
        recipe = METHODS[variant]()
    if isinstance(recipe, Reflow):
        recipe.folder = folder_of(variant, seed) / "pairs"
    return recipe


def teacher() -> Outcome:
    """The teacher's verdicts at 20 guided steps, and its shares with few guided DDIM steps."""
    pipeline = load_pipeline("scenes-latent")
    verdicts = right(functools.partial(text_to_image, pipeline), PROMPTS)
    metrics = {"right": verdicts.double().mean().item()}
    for steps in STEPS:
        draw = functools.partial(text_to_image, pipeline, sampler="ddim", steps=steps)
        metrics |= {f"right at {steps}": right(draw, PROMPTS).double().mean().item()}
    metrics["straightness"] = mean_straightness(pipeline)
    model = load_checkpoint(TextUNet, "scenes-latent")
    curve = {"right": [int(each) for each in verdicts.flatten()]}
    return Outcome(settings(model.card["steps"], model), metrics, curve)


def settings(steps: int, model: TextUNet) -> dict[str, float]:
    """The training steps, the number of prompts, and the size of the network."""
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"steps": steps, "prompts": 6 * PROMPTS, "parameters": parameters}


def teachers_verdicts(count: int = PROMPTS) -> Tensor | None:
    """The recorded verdicts of the teacher on `count` prompts of each kind and split: (6, count).

    None if they aren't recorded, or for more prompts than are.
    """
    if not result_path("few_steps", "teacher", 0).exists():
        return None
    (result,) = load_results("few_steps", "teacher")
    verdicts = torch.tensor(result.curve["right"]).view(6, -1).bool()
    return verdicts[:, :count] if count <= verdicts.shape[1] else None


def grade(recipe: Distilled, model: TextUNet) -> dict[str, float]:
    """The shares that are right, each with its difference from the teacher; the straightness."""
    pipeline = recipe.pipeline(model)
    reference = teachers_verdicts()
    if reference is None:
        raise ValueError("the teacher isn't measured yet: first run this study's variant 'teacher'")
    metrics = {}
    few = callable(recipe.sampler)  # one that is made for few steps; the others have a name
    for steps in STEPS[:-1] if few else STEPS:
        metrics |= compared(
            functools.partial(text_to_image, pipeline, steps=steps), steps, reference
        )
    return metrics | {"straightness": mean_straightness(pipeline)}


def compared(draw: Draw, steps: int, reference: Tensor) -> dict[str, float]:
    """The share of right pictures, and its difference from the teacher's with its interval."""
    verdicts = right(draw, reference.shape[1])
    difference = mean("difference", verdicts.double().flatten() - reference.double().flatten())
    low, high = difference.interval
    return {
        f"right at {steps}": verdicts.double().mean().item(),
        f"difference at {steps}": difference.value,
        f"low at {steps}": low,
        f"high at {steps}": high,
    }


@torch.no_grad()
def mean_straightness(pipeline: LatentDiffusion, count: int = 64) -> float:
    """The mean straightness of the ODE's paths, in 20 steps of DDIM: 0 for straight ones."""
    captions = Scenes(64, "new combinations", seed=1, unsaid=0).batch(range(count))[1]
    network, context, draws = prepare(pipeline, captions, range(len(captions)), None, "")
    noise = initial_noise(draws, pipeline.latent)
    path = [*trajectory(pipeline.process, network, noise, context, steps=20)]
    times = time_grid(pipeline.process.schedule, 20)
    sigmas = pipeline.process.schedule(torch.tensor(times, dtype=torch.float64))[1].tolist()
    return straightness(path, sigmas).mean().item()


VARIANTS = ["teacher", *METHODS, "guidance only, ancestral", "scenes-fast"]
STUDY = Study("few_steps", VARIANTS, (0,), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
