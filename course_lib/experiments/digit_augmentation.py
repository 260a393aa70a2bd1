"""Do synthetic digits help a classifier that has few real ones?

    python -m course_lib.experiments.digit_augmentation "10 per class" 0

Each run takes a few real digits of each class, trains a diffusion model on them alone, and then one
classifier for each way to enlarge the data. All classifiers train for the same number of steps on
batches of the same size. Runs with 10 per class also vary the number of synthetic digits and the
guidance scale. Chapter 15c shows the results.
"""

import torch
from torch import Tensor

from course_lib.datasets.augment import shift_and_rotate
from course_lib.datasets.digits import digits
from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.experiments.study import Outcome, Study
from course_lib.teaching.augmentation import (
    CLASSIFIER_STEPS,
    MODEL_STEPS,
    SIZE,
    Labelled,
    accuracy,
    batches,
    copies,
    distances,
    few_digits,
    first_of_each,
    right_digit,
    synthesize,
    train_classifier,
    train_model,
)

SIZES = {f"{count} per class": count for count in (5, 10, 50, 100)}
SYNTHETIC = 50  # of each class
SWEPT = "10 per class"
AMOUNTS = (5, 20)  # of synthetic digits per class, without guidance, beside SYNTHETIC
SCALES = (2.0, 4.0)  # of guidance, with SYNTHETIC per class, beside 1


def run(variant: str, seed: int) -> Outcome:
    """Train the diffusion model and the classifiers, and measure both."""
    real, test = few_digits(SIZES[variant], seed), digits(SIZE, "test")
    model = train_model(real, seed)
    synthetic = synthesize(model, SYNTHETIC, seed=seed)
    arms = {
        "real": batches(real),
        "classical": batches(real, change=shift_and_rotate),
        "synthetic": batches(real, synthetic),
        "both": batches(real, synthetic, change=shift_and_rotate),
        "synthetic alone": batches(synthetic),
    }
    scores = {arm: accuracy(train_classifier(batch, seed), test) for arm, batch in arms.items()}
    curve = row(1.0, SYNTHETIC, synthetic, real, scores["synthetic"])
    if variant == SWEPT:
        for amount in AMOUNTS:
            some = first_of_each(synthetic, amount)
            append(curve, row(1.0, amount, some, real, trained(real, some, seed)))
        for scale in SCALES:
            guided = synthesize(model, SYNTHETIC, scale, seed)
            append(curve, row(scale, SYNTHETIC, guided, real, trained(real, guided, seed)))
    return Outcome(
        settings={
            "steps": MODEL_STEPS,
            "classifier_steps": CLASSIFIER_STEPS,
            "synthetic_per_class": SYNTHETIC,
            "test_digits": len(test[1]),
        },
        metrics=scores
        | {
            "distance of synthetic": distances(synthetic[0], real[0]).median().item(),
            "distance of held-out": distances(test[0], real[0]).median().item(),
            "copies": copies(synthetic[0], real[0], test[0]),
            "right digit": right_digit(synthetic),
            "right digit of held-out": right_digit(test),
        },
        curve=curve,
        samples=shown(real[0], synthetic[0][:20]),
        captions=[["synthetic"] * 20, ["nearest real"] * 20],
    )


def trained(real: Labelled, synthetic: Labelled, seed: int) -> float:
    """Accuracy on the held-out digits after training on both."""
    return accuracy(train_classifier(batches(real, synthetic), seed), digits(SIZE, "test"))


def row(scale: float, amount: int, synthetic: Labelled, real: Labelled, score: float) -> dict:
    """One entry for each column of the sweep."""
    held_out = digits(SIZE, "test")[0]
    return {
        "guidance": [scale],
        "per class": [amount],
        "accuracy": [score],
        "copies": [copies(synthetic[0], real[0], held_out)],
        "right digit": [right_digit(synthetic)],
    }


def append(curve: dict[str, list], entries: dict[str, list]) -> None:
    for name, values in entries.items():
        curve[name] += values


def shown(real: Tensor, synthetic: Tensor) -> Tensor:
    """Synthetic digits above the real ones nearest to them: (2, 20, 1, 8, 8)."""
    nearest = nearest_neighbours(synthetic, real)[1][:, 0]
    return torch.stack([synthetic, real[nearest]])


STUDY = Study("digit_augmentation", list(SIZES), range(5), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
