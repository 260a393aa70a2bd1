"""A classifier of scenes, which provides the features for Fréchet distances.

It learns what is in a picture and where, so its features keep what matters and drop the rest. No
generator is trained with it, and it is never trained on generated pictures.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.datasets.scenes import Scenes, render
from course_lib.datasets.scenes.grammar import COLOURS, SHAPES, SIZES, Scene
from course_lib.evaluation.metrics import Metric, share
from course_lib.models import Classifier
from course_lib.recipes.scenes import ScenesRecipe, to
from course_lib.training import Optimizer, Scale

QUESTIONS = [
    *(f"on {colour}" for colour in COLOURS),
    *(f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES)),
    *SIZES,
    *(f"{count} objects" for count in (1, 2, 3, 4)),
    *(f"row {row}, column {column}" for row, column in product(range(3), repeat=2)),
]


def answers(scene: Scene, centres) -> Tensor:
    """The answers to all questions: (71,), each 0 or 1. centres: (N, 2) in picture widths."""
    hold = {f"on {scene.background}", f"{len(centres)} objects"}
    for thing in scene.objects:
        hold |= {f"{thing.colour} {thing.shape}", thing.size}
    hold |= {f"row {int(3 * y)}, column {int(3 * x)}" for x, y in centres}
    return torch.tensor([float(question in hold) for question in QUESTIONS])


class ScenesFeatures(ScenesRecipe):
    """Is there a red circle? Are there three objects? Is one at the top left?"""

    name = "scenes-features"
    goal = "pictures_right"
    settings = dict(
        steps=1200,
        optimizer=Optimizer("muon", lr=3e-3),
        ema=0.99,
        scale=Scale(precision="auto"),
    )
    takes_folder = False  # only scenes have answers to the questions

    def model(self) -> nn.Module:
        return Classifier(len(QUESTIONS), size=self.size)

    def examples(self, data: Scenes, indices) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, 64, 64) and the answers (B, 71)."""
        drawn = [data.scene(index) for index in indices]
        scenes, centres, radii = zip(*((s, c, r) for s, (c, r) in drawn), strict=True)
        truth = torch.stack([answers(s, c) for s, c in zip(scenes, centres, strict=True)])
        return render(scenes, centres, radii, self.size), truth

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self.batch_size
        return self.examples(self.data, range(start, start + self.batch_size))

    def loss(self, model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        images, truth = data
        return F.binary_cross_entropy_with_logits(model(images), truth)

    @torch.no_grad()
    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        """Held-out pictures, each with the answers above one half."""
        images, _ = self.examples(Scenes(self.size, "new combinations"), range(24))
        says = model(to(model, images)).cpu() > 0
        return images, [
            ", ".join(q for q, yes in zip(QUESTIONS, row, strict=True) if yes) for row in says
        ]

    @torch.no_grad()
    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        """The share of right answers on held-out pictures, and of pictures with all right."""
        images, truth = self.examples(Scenes(self.size, "new combinations"), range(count))
        says = torch.cat([model(to(model, part)).cpu() > 0 for part in images.split(100)])
        right = says == (truth > 0.5)
        return [
            Metric("answers_right", right.float().mean().item(), count),
            share("pictures_right", right.all(1)),
        ]


RECIPES = (ScenesFeatures,)
