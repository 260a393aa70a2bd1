"""Small trainings with one mistake each, and sound ones, with what every check measures on them.

    python -m course_lib.experiments.broken_runs "digits, data from 0 to 1" 0

The checks' intervals were set on the digits, with seeds 0 and 1. The emoji, with seeds 2 to 4 for
the mistakes and 2 and 3 for the sound trainings, test them. Chapter 18 shows both.
"""

import sys
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from course_lib.common.registry import choose
from course_lib.evaluation.distances import floor, frechet_distance
from course_lib.experiments.study import Outcome, Study
from course_lib.teaching.broken_runs import CASES, MISTAKES, SoundRun, make, pictures
from course_lib.teaching.diagnosis import CHECKS, Evidence, checks
from course_lib.teaching.reference_runs import curve_steps, smooth
from course_lib.training import Folder

VARIANTS = [f"{data}, {case}" for data in ("digits", "emoji") for case in CASES]
SHOWN = 16  # samples


def seeds(variant: str) -> range:
    """The seeds of that variant."""
    data, _, case = variant.partition(", ")
    return range(2) if data == "digits" else range(2, 5 if case in MISTAKES else 4)


def runs() -> list[tuple[str, int]]:
    """All runs: one of each variant, then the others of the emoji, then those of the digits."""
    order = [
        ((n > 0) * (1 + variant.startswith("digits")), n, variant, seed)
        for variant in VARIANTS
        for n, seed in enumerate(seeds(variant))
    ]
    return [(variant, seed) for _, _, variant, seed in sorted(order, key=lambda each: each[:2])]


def run(variant: str, seed: int) -> Outcome:
    """Train one variant and let every check measure it."""
    data, _, name = choose("variant", variant, {v: v for v in VARIANTS}).partition(", ")
    case = make(name, data, seed)
    folder = Path("outputs") / "broken_runs" / data / name / f"seed-{seed}"
    training = case.train(Folder(folder, save_every=case.steps, resume=False))
    losses = [step.loss for step in training]
    evidence = Evidence(folder, case)
    steps = curve_steps(case.steps)
    return Outcome(
        settings={"steps": case.steps, "cpu_seconds": round(training.cpu_seconds, 1)},
        metrics=measured(evidence) | quality(evidence.samples, case),
        curve={"step": steps, "loss": smooth(losses, steps)},
        samples=shown(evidence.samples, case) if seed == seeds(variant)[0] else None,
        captions=[["sample"] * SHOWN] if seed == seeds(variant)[0] else [],
    )


def measured(evidence: Evidence) -> dict[str, float]:
    """What each check measures, unless this run doesn't show it, and the loss by timestep."""
    findings = [check(evidence) for check in CHECKS.values()]
    values = {finding.name: finding.value for finding in findings if finding.value is not None}
    bands = enumerate(checks.loss_by_timestep(evidence), start=1)
    return values | {f"loss in band {band}": loss for band, loss in bands}


def quality(samples: Tensor, case: SoundRun) -> dict[str, float]:
    """The Fréchet distance of the samples from real pictures, and its floor for as many."""
    real = pooled(pictures(case.data)[0])
    distance = frechet_distance(pooled(case.as_pictures(samples)), real)
    return {"distance": distance, "distance floor": floor(frechet_distance, real, len(samples))[0]}


def pooled(images: Tensor) -> Tensor:
    """Pictures of 4 x 4 pixels, as features: (N, 16 C)."""
    return F.avg_pool2d(images, 2).flatten(1)


def shown(samples: Tensor, case: SoundRun) -> Tensor:
    """A row of samples as pictures: (1, 16, C, H, W)."""
    return case.as_pictures(samples[:SHOWN])[None]


STUDY = Study("broken_runs", VARIANTS, range(5), run, threads=1)

if __name__ == "__main__":
    if len(sys.argv) > 1:
        STUDY.main()
    else:
        for variant, seed in runs():
            STUDY.main([variant, str(seed)])
