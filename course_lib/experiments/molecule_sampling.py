"""Chapter 15a: other ways to sample from the networks that `molecules` trained, and mistakes.

    python -m course_lib.experiments.molecule_sampling "masked diffusion" 0

For both networks, guidance to the highest fifth of logP. For masked diffusion also fewer and more
steps, in both orders, and samplers with a mistake in them. Each number is a share of 200 molecules,
judged by RDKit.
"""

from collections.abc import Sequence
from itertools import pairwise, product

import torch
from torch import Tensor, nn

from course_lib.common.registry import choose
from course_lib.datasets.molecules import LENGTH, MASK
from course_lib.evaluation.molecules import Verdict, quality
from course_lib.experiments.molecules import finished, judged
from course_lib.experiments.study import Outcome, Study
from course_lib.recipes.molecules import (
    CLASSES,
    Molecules,
    MoleculesAutoregressive,
    MoleculesMasked,
)

SAMPLES = 200
SCALES = 0, 1, 2, 4  # 0 ignores the class, 1 is the class without guidance
WISH = CLASSES - 1  # the fifth with the highest logP
STEPS = 1, 2, 5, 10, 20, 40
ORDERS = "random", "surest"
MISTAKES = "the likeliest token, always", "visible tokens drawn again"
VARIANTS = {"masked diffusion": MoleculesMasked, "autoregressive": MoleculesAutoregressive}


def guidance(recipe: Molecules, model: nn.Module, seed: int) -> dict[str, list[float]]:
    """What guidance buys and costs, a number for each scale."""
    columns = {"scale": list(map(float, SCALES)), "valid": [], "hits": [], "unique": [], "logp": []}
    for scale in SCALES:
        verdicts = judged(recipe.draw(model, torch.full((SAMPLES,), WISH), seed, scale))
        logp = torch.tensor([v.logp for v in verdicts if not v.problem])
        hits = (recipe.classes_of(logp) == WISH).double().mean().item()
        columns["valid"].append(valid(verdicts))
        columns["unique"].append(quality(verdicts, ())["unique"])
        columns["hits"].append(hits)  # of the valid
        columns["logp"].append(logp.mean().item())
    return columns


@torch.no_grad()
def mistaken(model: nn.Module, labels: Tensor, mistake: str, seed: int) -> Tensor:
    """Molecules from a sampler of masked diffusion with that mistake, in 20 steps."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((len(labels), LENGTH), MASK)
    for t, s in pairwise(torch.linspace(1, 0, LENGTH + 1).tolist()):
        logits = model(x, None, labels)
        x0 = logits.softmax(-1).flatten(0, 1).multinomial(1, generator=generator).view_as(x)
        if mistake == "the likeliest token, always":
            x0 = logits.argmax(-1)
        lifted = torch.rand(x.shape, generator=generator) < (t - s) / t
        if mistake != "visible tokens drawn again":
            lifted &= x == MASK
        x = torch.where(lifted, x0, x)
    return x


def run(variant: str, seed: int) -> Outcome:
    recipe = choose("variant", variant, VARIANTS)()
    training = finished(recipe, seed)
    model, labels, metrics = training.ema, torch.arange(SAMPLES) % CLASSES, {}
    if variant == "masked diffusion":
        for order, steps in product(ORDERS, STEPS):
            verdicts = judged(recipe.draw(model, labels, seed, steps=steps, order=order))
            metrics[f"valid, {order}, {steps} steps"] = valid(verdicts)
        for mistake in MISTAKES:
            found = quality(judged(mistaken(model, labels, mistake, seed)), ())
            metrics |= {f"{what}, {mistake}": found[what] for what in ("valid", "unique")}
    settings = {"steps": training.steps, "samples": SAMPLES}
    return Outcome(settings, metrics, guidance(recipe, model, seed))


def valid(verdicts: Sequence[Verdict]) -> float:
    return quality(verdicts, ())["valid"]


STUDY = Study("molecule_sampling", list(VARIANTS), (0, 1, 2), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
