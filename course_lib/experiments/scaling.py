"""Transformer against U-Net at equal CPU time, and the loss against size and data for both.

    python -m course_lib.experiments.scaling "DiT, medium" 0

Every run trains on the latents of `scenes-latent` for the same CPU time on one core, without the
alignment with CLIP (REPA), at a constant learning rate, so that each point of its curve is what a
training of that length would reach. The curve has the held-out loss of the averaged weights at
five times, each twice the one before, and the data seen and the arithmetic done until then.
`python -m course_lib.experiments.scaling --fit` prints the fitted exponents with their intervals.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from course_lib.common.files import write_files
from course_lib.common.registry import choose
from course_lib.evaluation.scaling import bootstrap, columns, fit
from course_lib.experiments.budget import resumable
from course_lib.experiments.study import Outcome, Study
from course_lib.models import DiT
from course_lib.recipes.scenes import ScenesDiffusion, ScenesLatent
from course_lib.teaching.results import load_results
from course_lib.training import Optimizer, Scale

BUDGET = 240  # seconds of CPU time
HELD_OUT = 300  # scenes for the loss
POINTS = 5
OUTPUTS = Path("outputs") / "scaling"
UNETS = {"small": 48, "medium": 96, "large": 128}  # channels
DITS = {"small": (96, 3), "medium": (192, 4), "large": (256, 6)}  # width, layers


class Plain(ScenesLatent):
    """`scenes-latent` without its alignment with CLIP."""

    save_every = 50
    encode = ScenesDiffusion.encode
    settings = dict(
        steps=1000,
        optimizer=Optimizer("muon", lr=3e-3, warmup=30, decay="constant"),
        ema=0.98,
        scale=Scale(accumulate=2, precision="auto"),
    )
    model = ScenesDiffusion.model
    loss = ScenesDiffusion.loss

    def __init__(self, size: str):
        super().__init__()
        self.unet = self.unet | dict(channels=UNETS[size])


class Transformer(Plain):
    """DiT on the 64 tokens of the latents (Peebles & Xie 2023); its learning rate is its own."""

    settings = Plain.settings | dict(
        optimizer=Optimizer("muon", lr=8e-3, warmup=30, decay="constant")
    )

    def __init__(self, size: str):
        super().__init__("small")
        dim, layers = DITS[size]
        self.dit = dict(in_channels=12, size=8, patch_size=1, dim=dim, layers=layers)

    def model(self):
        model = ScenesDiffusion.model(self)
        model.unet = DiT(**self.dit, heads=4, mlp_ratio=2, context_dim=128)
        return model


VARIANTS = {
    f"{name}, {size}": (recipe, size)
    for name, recipe, sizes in (("U-Net", Plain, UNETS), ("DiT", Transformer, DITS))
    for size in sizes
}


def run(variant: str, seed: int) -> Outcome:
    """Train one network, and measure its loss on the way."""
    make, size = choose("variant", variant, VARIANTS)
    recipe = make(size)
    folder = OUTPUTS / variant.replace(", ", "-") / f"seed-{seed}"
    training = resumable(recipe, seed, BUDGET, folder)
    stops = [training.steps // 2**back for back in reversed(range(POINTS))]
    flops = batch_flops(recipe) * training.settings["accumulate"]
    samples = training.settings["accumulate"] * recipe.batch_size
    kept = folder / "points.json"  # they survive an interruption
    points = json.loads(kept.read_text()) if kept.exists() else []
    points = [point for point in points if point["step"] <= training.done]

    def measure_if_due() -> None:
        step = training.done
        if step in stops and all(point["step"] != step for point in points):
            loss = recipe.test_loss(training.ema, HELD_OUT).value
            seen = dict(samples=step * samples, flops=step * flops)
            points.append(dict(step=step, cpu_seconds=training.cpu_seconds, loss=loss) | seen)
            write_files({kept: json.dumps(points).encode()})

    measure_if_due()  # the process may have been stopped while it measured
    for _ in training:
        measure_if_due()
    curve = {name: [point[name] for point in points] for name in points[0]}
    parameters = sum(weight.numel() for weight in training.model.unet.parameters())
    return Outcome(
        settings={"steps": training.steps, "parameters": parameters},
        metrics={"loss": curve["loss"][-1], "cpu_seconds": training.cpu_seconds},
        curve=curve,
    )


def batch_flops(recipe: Plain) -> int:
    """The floating-point operations of one batch, forward and backward."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, data = recipe.model(), recipe.batch(0)
        with FlopCounterMode(display=False) as counter:
            recipe.loss(model, data).backward()
    return counter.get_total_flops()


def exponents(name: str) -> str:
    """One line for "U-Net" or "DiT": the fitted exponents with their 95 % intervals."""
    results = [result for result in load_results("scaling") if result.variant.startswith(name)]
    runs = [(r.settings["parameters"], r.curve["samples"], r.curve["loss"]) for r in results]
    law, laws = fit(*columns(runs)), bootstrap(runs)
    parts = [f"floor {law.floor:.3f}"]
    for what in ("size_exponent", "samples_exponent"):
        low, high = np.quantile([getattr(each, what) for each in laws], [0.025, 0.975])
        parts.append(f"{what} {getattr(law, what):.2f} ({low:.2f} to {high:.2f})")
    return f"{name}: {', '.join(parts)}, {len(runs)} runs"


STUDY = Study("scaling", list(VARIANTS), (0, 1), run, threads=1)

if __name__ == "__main__":
    if sys.argv[1:] == ["--fit"]:
        print(*map(exponents, ("U-Net", "DiT")), sep="\n")
    else:
        STUDY.main()
