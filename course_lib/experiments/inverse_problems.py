"""What a prior contributes to too few measurements, and what it invents: chapter 15b.

    python -m course_lib.experiments.inverse_problems "Fourier 4" 0

A variant is a type of measurement and a ratio of pixels to measurements. Each run draws its own
phantoms, each without and with a lesion, its own frequencies and its own noise. All methods get the
same measurements: zero filling (the pseudo-inverse), total variation with the strength that is best
on other phantoms, and posterior sampling with each of the three priors.

The curve has a row for each picture: first the healthy phantoms, then the same ones with a lesion.
"lesion seen, METHOD" is the share of the method's reconstructions that show a lesion at its place
(in a healthy phantom: where it would be); "anywhere" is the share that show one at any place.
"""

import torch
from torch import Tensor

from course_lib.common.checkpoints import load_checkpoint
from course_lib.datasets.phantoms import phantoms
from course_lib.evaluation.lesions import lesion_seen
from course_lib.experiments.study import Outcome, Study
from course_lib.models import UNet
from course_lib.pipelines import Operator, fourier, frequency_mask, tomography, total_variation
from course_lib.recipes.phantoms import (
    EITHER,
    HEALTHY,
    LESION,
    NOISE_STD,
    SIZE,
    STEPS,
    PhantomPrior,
)

PAIRS = 8  # of phantoms in a run
SAMPLES = {"healthy": (HEALTHY, 1), "lesion": (LESION, 1), "either": (EITHER, 4)}
STRENGTHS = [0.002, 0.004, 0.008, 0.016, 0.032, 0.064]  # of the total-variation penalty
SHOWN = 4  # pictures, with a row of reconstructions each


def operator_of(variant: str, generator: torch.Generator) -> Operator:
    """ "Fourier 4": a quarter of the frequencies; "tomography 4": a quarter of 32 views."""
    kind, acceleration = variant.split()
    if kind == "Fourier":
        return fourier(frequency_mask(SIZE, int(acceleration), generator))
    return tomography(SIZE, SIZE // int(acceleration))


def measured(operator: Operator, images: Tensor, generator: torch.Generator) -> Tensor:
    y = operator(images)
    return y + NOISE_STD * torch.randn(y.shape, generator=generator)


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """In dB, for each picture (..., 1, H, W) in [-1, 1]."""
    return 10 * (4 / (images - truth).square().mean((-3, -2, -1))).log10()


def best_strength(operator: Operator, generator: torch.Generator) -> float:
    """The total-variation strength with the lowest error on eight phantoms, four with a lesion."""
    drawn = phantoms(4, generator, SIZE)
    truth = torch.cat([drawn.healthy, drawn.lesion])
    y = measured(operator, truth, generator)
    return max(STRENGTHS, key=lambda s: psnr(total_variation(operator, y, s), truth).mean())


def ranks(samples: Tensor, truth: Tensor, where: Tensor) -> list[int]:
    """The number of pixels with 0, 1, ..., K of the K samples below the truth: K + 1 counts."""
    below = (samples < truth).sum(0)[where]
    return torch.bincount(below, minlength=len(samples) + 1).tolist()


def run(variant: str, seed: int) -> Outcome:
    """Measure that seed's phantoms and reconstruct them with every method."""
    recipe, model = PhantomPrior(), load_checkpoint(UNet, "phantoms")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(10_000 + seed)
    operator = operator_of(variant, generator)
    strength = best_strength(operator, generator)
    drawn = phantoms(PAIRS, generator, SIZE)
    truth = torch.cat([drawn.healthy, drawn.lesion])  # (B, 1, H, W)
    y = measured(operator, truth, generator)

    found = {
        "zero filling": operator.pseudo_inverse(y)[None],
        "total variation": total_variation(operator, y, strength)[None],
    }
    for name, (label, samples) in SAMPLES.items():
        found[name] = recipe.reconstruct(model, operator, y, label, samples)  # (K, B, 1, H, W)
        print(f"{variant}, seed {seed}: {name}", flush=True)
    mean, spread = found["either"].mean(0), found["either"].std(0)

    spot, places = (torch.cat([each, each]) for each in (drawn.spot, drawn.places))
    curve = {"lesion": [0] * PAIRS + [1] * PAIRS}
    for name, images in found.items():
        curve[f"psnr, {name}"] = psnr(images, truth)[0].tolist()
        for event, where in (("lesion seen", spot), ("anywhere", places)):
            seen = torch.stack([lesion_seen(each, where) for each in images])  # (K, B)
            curve[f"{event}, {name}"] = seen.float().mean(0).tolist()
    curve["psnr, mean"] = psnr(mean, truth).tolist()
    curve["error, mean"] = (mean - truth).square().mean((1, 2, 3)).sqrt().tolist()
    curve["spread"] = spread.square().mean((1, 2, 3)).sqrt().tolist()

    metrics = {name: sum(each) / len(each) for name, each in curve.items() if "psnr" in name}
    head = truth > -0.9
    metrics |= {f"rank {k}": n for k, n in enumerate(ranks(found["either"], truth, head))}
    rows = truth, *(each[0] for each in found.values()), mean, 4 * spread - 1
    shown = [i + half for i in range(SHOWN // 2) for half in (0, PAIRS)]
    return Outcome(
        settings={"steps": STEPS, "strength": strength, "measurements": operator.count}
        | {"phantoms": 2 * PAIRS}
        | {f"samples, {name}": samples for name, (_, samples) in SAMPLES.items()},
        metrics=metrics,
        curve=curve,
        samples=torch.stack(rows, 1)[shown],
        captions=[["truth", *found, "mean", "spread x 4"]] * SHOWN,
    )


VARIANTS = [f"{kind} {times}" for kind in ("Fourier", "tomography") for times in (2, 4, 8)]
STUDY = Study("inverse_problems", VARIANTS, (0, 1, 2), run)

if __name__ == "__main__":
    STUDY.main()
