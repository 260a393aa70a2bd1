"""Chapter 15a's molecules: masked diffusion, its autoregressive twin, and two cheap baselines.

    python -m course_lib.experiments.molecules "masked surest first" 0

The two networks train for the same number of steps on the same batches; the masked one is sampled
in two orders. RDKit, which the chapter
does without, judges a thousand molecules of each; those of seed 0 are kept in a file, one in a
line, with drawings of the first. `molecule_sampling` goes on with the trained networks.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from course_lib.common.files import make_folder, write_files
from course_lib.common.registry import choose
from course_lib.datasets.molecules import decode, molecules
from course_lib.evaluation.molecules import Verdict, distance, drawing, judge, quality
from course_lib.experiments.study import Outcome, Study
from course_lib.recipes.molecules import (
    CLASSES,
    Molecules,
    MoleculesAutoregressive,
    MoleculesMasked,
    draw_trigram,
    trigram,
)
from course_lib.recipes.recipe import curve
from course_lib.teaching.molecules import as_lines, drawings_as_text, samples_path
from course_lib.training import Training

SAMPLES = 1000
PROPERTIES = "logp", "qed", "weight"
DRAWN = 8
NONSENSE = [  # valid for RDKit, and nothing that a chemist would look for in a bottle
    *("OOOOOOO", "NNNNNNNN", "C#CC#CC#CC#CC#C", "C1=CC=C1", "C1#CC1", "ClN(Cl)Cl"),
    *("C=C=C=C=C=O", "FOOF"),
]


@dataclass(frozen=True)
class Drawn:
    """A thousand verdicts, what else was measured, and how long the training was."""

    verdicts: Sequence[Verdict]
    metrics: dict[str, float] = field(default_factory=dict)
    curve: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0


def trained(recipe: Molecules, seed: int, **options) -> Drawn:
    """Train one network and judge what it draws, all classes equally often."""
    training = finished(recipe, seed)
    model, losses = training.ema, curve(training.folder.log, points=50)
    verdicts = judged(recipe.draw(model, torch.arange(SAMPLES) % CLASSES, seed, **options))
    metrics = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "cpu_minutes": training.cpu_seconds / 60,
        "nats": recipe.test_nats(model).value,
    }
    steps, means = zip(*losses, strict=True)
    return Drawn(verdicts, metrics, {"step": list(steps), "loss": list(means)}, training.steps)


def finished(recipe: Molecules, seed: int) -> Training:
    """The recipe's training with that seed, done now unless its folder holds the last state."""
    folder = Path("outputs") / "molecules" / f"{recipe.name}-{seed}"
    training = recipe.begin(folder=folder, seed=seed, device="cpu")
    for step in training:
        if step.index % 50 == 0:
            print(recipe.name, seed, step.index, round(step.loss, 3), flush=True)
    return training


def from_trigram(seed: int) -> Drawn:
    """Counts of three tokens in a row."""
    table = trigram(MoleculesMasked().ids)
    return Drawn(judged(draw_trigram(table, SAMPLES, seed)))


def one_more_carbon(seed: int) -> Drawn:
    """Training molecules with a carbon put in somewhere: nothing is learned (Renz et al. 2019)."""
    chance, (training, _) = random.Random(seed), molecules("train")
    return Drawn([with_a_carbon(smiles, chance) for smiles in chance.sample(training, SAMPLES)])


def with_a_carbon(smiles: str, chance: random.Random) -> Verdict:
    """The first valid molecule with a C at a random place; where there is none, what failed."""
    places = range(len(smiles) + 1)
    for place in chance.sample(places, len(places)):
        verdict = judge(smiles[:place] + "C" + smiles[place:])
        if not verdict.problem:
            break
    return verdict


def held_out(seed: int) -> Drawn:
    """Molecules of the test split, another thousand for each seed: as good as it gets."""
    smiles = molecules("test")[0]
    return Drawn([judge(each) for each in smiles[seed * SAMPLES : (seed + 1) * SAMPLES]])


VARIANTS: dict[str, Callable[[int], Drawn]] = {
    "masked random order": lambda seed: trained(MoleculesMasked(), seed, order="random"),
    "masked surest first": lambda seed: trained(MoleculesMasked(), seed, order="surest"),
    "autoregressive": lambda seed: trained(MoleculesAutoregressive(), seed),
    "trigram": from_trigram,
    "one more carbon": one_more_carbon,
    "held-out molecules": held_out,
}


def judged(ids: Tensor) -> list[Verdict]:
    return [judge(smiles) for smiles in decode(ids)]


def run(variant: str, seed: int) -> Outcome:
    """The quality of one variant's molecules, and how far their properties are from real ones."""
    drawn = choose("variant", variant, VARIANTS)(seed)
    if seed == 0:
        keep(variant, drawn.verdicts)
    others = [judge(smiles) for smiles in molecules("test")[0][-SAMPLES:]]
    distances = {f"{name} distance": distance(drawn.verdicts, others, name) for name in PROPERTIES}
    found = quality(drawn.verdicts, set(molecules("train")[0])) | distances
    settings = {"steps": drawn.steps, "samples": len(drawn.verdicts)}
    return Outcome(settings, found | drawn.metrics, drawn.curve)


def keep(name: str, verdicts: Sequence[Verdict]) -> None:
    """Write the verdicts, and drawings of the first valid ones, beside the study's results."""
    path = samples_path(name)
    molecules = [verdict.smiles for verdict in verdicts if not verdict.problem][:DRAWN]
    drawings = drawings_as_text({smiles: drawing(smiles) for smiles in molecules})
    make_folder(path.parent)
    write_files({path: as_lines(verdicts).encode(), path.with_suffix(".txt"): drawings.encode()})


STUDY = Study("molecules", list(VARIANTS), (0, 1, 2), run, threads=1)

if __name__ == "__main__":
    keep("valid nonsense", [judge(smiles) for smiles in NONSENSE])
    STUDY.main()
