"""How a ControlNet learns layouts: graded while it trains, and at several scales of control.

    python -m course_lib.experiments.scene_control shipped 0

"shipped" is the training of `scenes-control`. "default weights" is the same, but the layers that
read the layout start with PyTorch's default weights; it stops after a quarter. Between steps the
oracle grades the raw weights on 48 fixed prompts with fixed seeds, so the curves show whether
obedience appears gradually or all at once (Zhang et al. 2023, §3.3, figure 4). The samples of
"shipped" are three of these prompts, one of each kind, after some of the steps. Its final model
stays in outputs/scene_control/shipped/seed-SEED.

"scales" measures the published checkpoint with each caption's own layout and with one that
contradicts it. "rewards" trains nothing: it guides `scenes-latent` by the reward of a layout, and
without captions by CLIP's similarity, on the 48 prompts.
"""

import time
from pathlib import Path

import torch
from torch import Tensor

from course_lib.common.checkpoints import load_checkpoint, read_card
from course_lib.common.registry import choose
from course_lib.datasets.scenes import KINDS
from course_lib.diffusion import initial_noise, reward_guided, sample
from course_lib.evaluation.rewards import Reward, caption_reward, layout_reward
from course_lib.experiments.study import Outcome, Study
from course_lib.models import CLIP, ControlNet
from course_lib.pipelines import LatentDiffusion
from course_lib.pipelines.text_to_image import prepare
from course_lib.recipes import load_pipeline
from course_lib.recipes.scenes_control import Prompts, ScenesControl

LAST_STEP = {"shipped": 1200, "default weights": 300}
GRADED = 0, 10, 20, 30, 40, 50, 60, 80, 100, 125, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1200
SHOWN = 0, 40, 50, 60, 80, 100, 1200  # steps whose pictures are kept
PICTURED = 3, 2, 3  # of which prompt of each kind: the caption alone puts its shapes elsewhere
PROMPTS = 16  # of each kind, while it trains
SCALES = 0.0, 0.5, 1.0, 1.5, 2.0, 3.0
LAYOUT_SCALES = 0.0, 0.03, 0.1, 0.3, 1.0  # of the layout's reward
CLIP_SCALES = 0.0, 100.0, 300.0
OUTPUTS = Path("outputs") / "scene_control"


def run(variant: str, seed: int) -> Outcome:
    """Train and grade, or measure the scales or the rewards."""
    choose("variant", variant, dict.fromkeys(STUDY.variants))
    measured = {"scales": scales, "rewards": rewards}
    return measured[variant]() if variant in measured else train(variant, seed)


def train(variant: str, seed: int) -> Outcome:
    """The recipe's training with one change, graded between steps."""
    recipe, folder = ScenesControl(), OUTPUTS / variant.replace(" ", "-") / f"seed-{seed}"
    recipe.he = variant != "default weights"
    training = recipe.begin(folder=folder, resume=False, seed=seed, device="cpu")
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
        if step in SHOWN and variant == "shipped":
            rows.append(torch.stack([some[i] for some, i in zip(images, PICTURED, strict=True)]))

    look(0)
    while training.done < LAST_STEP[variant]:
        step = training.advance()
        losses.append(step.loss)
        if step.index in GRADED:
            look(step.index)
    training.close()
    if variant == "shipped":
        recipe.publish(training, folder / recipe.name)
    return Outcome(
        settings={"steps": training.done, "prompts": PROMPTS * len(KINDS)},
        metrics={"cpu_minutes": training.cpu_seconds / 60}
        | grade(prompts, [recipe.draw(training.ema, each) for each in prompts]),
        curve=curve,
        samples=torch.stack(rows, 1) if rows else None,
        captions=[
            [each.captions[i]] * len(rows)
            for each, i in zip(prompts, PICTURED, strict=True)
            if rows
        ],
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


def rewards() -> Outcome:
    """The grades, the reward and the CPU seconds a picture at each scale of two rewards.

    The layout's reward guides the captioned model, with its usual guidance; CLIP's similarity
    guides the model without captions, so that only the reward says what to draw.
    """
    pipeline, clip = load_pipeline("scenes-latent"), load_checkpoint(CLIP, "scenes-clip")
    for model in (pipeline.unet, pipeline.vae, clip):
        model.requires_grad_(False)
    prompts = [Prompts.of(kind, PROMPTS) for kind in KINDS]
    of_layout = [layout_reward(pipeline.vae, each.layouts) for each in prompts]
    of_clip = [caption_reward(pipeline.vae, clip, each.captions) for each in prompts]
    metrics = {}
    for name, made, guidance, scales in (
        ("layout", of_layout, pipeline.scale, LAYOUT_SCALES),
        ("clip", of_clip, 0.0, CLIP_SCALES),
    ):
        for scale in scales:
            start = time.process_time()
            z = [
                climbed(pipeline, each.captions, reward, scale, guidance)
                for each, reward in zip(prompts, made, strict=True)
            ]
            seconds = (time.process_time() - start) / (PROMPTS * len(KINDS))
            with torch.no_grad():
                images = [pipeline.vae.decode(each).clamp(-1, 1) for each in z]
                reached = torch.cat([reward(each) for reward, each in zip(made, z, strict=True)])
            grades = grade(prompts, images) | {"reward": reached.mean().item(), "seconds": seconds}
            metrics |= {f"{key}, {name} at {scale:g}": value for key, value in grades.items()}
            print(name, scale, grades, flush=True)
    card = read_card("scenes-latent")
    return Outcome({"steps": card["steps"], "prompts": PROMPTS * len(KINDS)}, metrics)


def climbed(
    pipeline: LatentDiffusion, captions: list[str], reward: Reward, scale: float, guidance: float
) -> Tensor:
    """The latents that guidance by this reward draws; with a scale of 0 it isn't computed."""
    network, context, draws = prepare(pipeline, captions, None, guidance, "")
    if scale:
        network = reward_guided(pipeline.process, network, reward, scale)
    noise = initial_noise(draws, pipeline.latent)
    how = dict(sampler=pipeline.sampler, generators=draws)
    with torch.no_grad():
        return sample(pipeline.process, network, noise, context, **how)


STUDY = Study(
    "scene_control", ("shipped", "default weights", "scales", "rewards"), (0,), run, threads=1
)

if __name__ == "__main__":
    STUDY.main()
