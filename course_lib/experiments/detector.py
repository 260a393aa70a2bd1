"""A classifier that tells drawn digits from real ones, and what its verdicts are worth: chapter 16.

    python -m course_lib.experiments.detector digits-ddpm 0

A variant is the model on whose samples the detector was trained, beside the real digits of the
training split. It is tested on new samples of this model and of two that it has never seen, against
the held-out real digits. "auc" and "tpr" (at no more than 5 % false alarms) have a value for each
model, and for its samples after JPEG, as are the real digits then. "precision" is the share of
alarms that are right if one picture in so many is drawn by the model that the detector knows.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.registry import choose
from course_lib.datasets.digits import digits
from course_lib.diffusion import generators, guided, initial_noise, sample
from course_lib.evaluation.attacks import jpeg
from course_lib.evaluation.roc import precision, roc
from course_lib.experiments.study import Outcome, Study
from course_lib.models import VAE, Classifier, UNet
from course_lib.recipes.digits import NULL, SIZE, DigitsClasses, DigitsDDPM
from course_lib.teaching.augmentation import finished
from course_lib.training.seeding import seeded

STEPS, BATCH = 400, 64  # of the detector's training; half of each batch is real
TRAINING, TESTED = 1000, 500  # samples of a model
SAMPLING = 20  # steps of DDIM
FPR, QUALITY = 0.05, 50  # false alarms that are allowed; of JPEG
ONE_IN = 2, 10, 100, 1000  # pictures
Draw = Callable[[range], Tensor]


@torch.no_grad()
def ddpm_digits(seeds: range) -> Tensor:
    noise = initial_noise(generators(seeds), (1, SIZE, SIZE))
    model = load_checkpoint(UNet, "digits-ddpm")
    return sample(DigitsDDPM.process, model, noise, steps=SAMPLING, clip=1.0)


@torch.no_grad()
def guided_digits(seeds: range) -> Tensor:
    noise = initial_noise(generators(seeds), (1, SIZE, SIZE))
    network = guided(load_checkpoint(UNet, "digits-classes"), NULL, DigitsClasses.scale)
    wanted = torch.tensor(seeds) % 10
    return sample(DigitsClasses.process, network, noise, wanted, steps=SAMPLING, clip=1.0)


@torch.no_grad()
def decoded_digits(seeds: range) -> Tensor:
    model = load_checkpoint(VAE, "digits-vae")
    return model.decode(initial_noise(generators(seeds), (model.latent,))).clamp(-1, 1)


MODELS: dict[str, Draw] = {
    "digits-ddpm": ddpm_digits,
    "digits-classes": guided_digits,
    "digits-vae": decoded_digits,
}


def train_detector(real: Tensor, drawn: Tensor, seed: int, steps: int = STEPS) -> nn.Module:
    """A classifier whose logit is large for pictures (B, 1, 16, 16) like the drawn ones."""

    def batch(index: int) -> Tensor:
        halves = (x[torch.randint(len(x), (BATCH // 2,))] for x in (real, drawn))
        return torch.cat([*halves])

    def loss(model: nn.Module, images: Tensor) -> Tensor:
        is_drawn = torch.arange(len(images)) >= len(images) // 2
        return F.binary_cross_entropy_with_logits(model(images)[:, 0], is_drawn.float())

    with seeded(seed, 0, torch.device("cpu")):
        model = Classifier(1, in_channels=1, size=SIZE, patch_size=2, channels=(16, 32), dim=32)
    return finished(model, loss, batch, steps, seed)


@torch.no_grad()
def scores(detector: nn.Module, images: Tensor) -> Tensor:
    """The logits that the pictures were drawn: (B,)."""
    return detector(images)[:, 0]


def run(variant: str, seed: int) -> Outcome:
    """Train a detector on that model's samples and test it on those of all three."""
    draw, start = choose("variant", variant, MODELS), 10**6 * (seed + 1)
    real, held_out = digits(SIZE, "train")[0], digits(SIZE, "test")[0]
    detector = train_detector(real, draw(range(start, start + TRAINING)), seed)
    tested = range(start + TRAINING, start + TRAINING + TESTED)
    drawn = {name: new(tested) for name, new in MODELS.items()}

    metrics = {}
    for suffix, change in (("", lambda x: x), (", JPEG", lambda x: jpeg(x, QUALITY))):
        negatives = scores(detector, change(held_out))
        for name, images in drawn.items():
            curve = roc(scores(detector, change(images)), negatives)
            metrics[f"auc, {name}{suffix}"] = curve.auc
            metrics[f"tpr, {name}{suffix}"], threshold = curve.at(FPR)
            if (name, suffix) == (variant, ""):
                alarms = (negatives >= threshold).double().mean().item()
                right = {n: precision(metrics[f"tpr, {name}"], alarms, 1 / n) for n in ONE_IN}
                metrics |= {f"precision, one in {n}": share for n, share in right.items()}
    rows = [held_out[:8], *(images[:8] for images in drawn.values())]
    return Outcome(
        settings={"steps": STEPS, "trained_on": TRAINING, "tested_on": TESTED, "fpr": FPR}
        | {"real": len(held_out), "sampling_steps": SAMPLING, "quality": QUALITY},
        metrics=metrics,
        samples=torch.stack(rows).expand(-1, -1, 3, -1, -1),
        captions=[[name] * 8 for name in ("real", *drawn)],
    )


STUDY = Study("detector", ["digits-ddpm", "digits-vae"], (0, 1, 2), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
