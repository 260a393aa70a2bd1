"""The two judges of emoji, frozen before any generator is trained: see `evaluation.emoji`.

    emoji-judge       learns from the split "train" of all four hands; never sees a held-out pair
    emoji-judge-all   learns from every picture

Both learn from drawings that are moved, resized, turned, tinted a little, blurred and made noisy,
so that a generated picture need not be exact to be known. One picture in eight shows nothing: two
drawings mixed, one cut into tiles that are shuffled, or one that is a mere smear.
"""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.datasets.augment import vary
from course_lib.datasets.emoji import STUDIOS, Emoji, concepts
from course_lib.datasets.emoji.concepts import pictures
from course_lib.evaluation.emoji import EmojiJudge, data_of_judges
from course_lib.evaluation.metrics import Metric, share
from course_lib.models import ContentAndStyle
from course_lib.recipes.recipe import Recipe
from course_lib.training import Optimizer, Scale

NOTHING = 8  # one picture in so many shows nothing
TILE = 16  # pixels of the tiles that are shuffled


class JudgeRecipe(Recipe):
    """A logit for each concept, for nothing, and for each studio, which its colours give away."""

    name = "emoji-judge"
    goal = "top5"
    settings: ClassVar = dict(
        steps=2000,
        optimizer=Optimizer("muon", lr=1e-2, weight_decay=0.01),
        ema=0.99,
        scale=Scale(precision="auto"),
    )
    save_every = 100
    split: str | None = "train"
    batch_size = 64

    def __init__(self):
        self.data = Emoji(split=self.split, studios=STUDIOS)
        shown = [pictures(studio)[number] for number, studio in self.data.examples]
        self.pixels = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)  # uint8
        numbers, studios = zip(*self.data.examples, strict=True)
        self.numbers = torch.tensor(numbers)
        self.studios = torch.tensor([STUDIOS.index(studio) for studio in studios])

    def data_fingerprint(self) -> dict[str, str]:
        return data_of_judges()

    def model(self) -> nn.Module:
        return ContentAndStyle(len(concepts()) + 1, len(STUDIOS))

    def batch(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, 3, 64, 64), what they show (B,) and who drew them (B,); -1 if nobody."""
        chosen = torch.randint(len(self.pixels), (self.batch_size,))
        images, numbers, studios = self.pixels[chosen], self.numbers[chosen], self.studios[chosen]
        images = vary(images.float() / 127.5 - 1, colour=0.03)  # the studio shows in the colours
        few = self.batch_size // NOTHING
        images = torch.cat([nothing(images[: 2 * few])[:few], images[few:]])
        numbers[:few], studios[:few] = len(concepts()), -1
        return images, numbers, studios

    def loss(self, model: nn.Module, data: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        images, numbers, studios = data
        what, who = model(images).split([len(concepts()) + 1, len(STUDIOS)], dim=1)
        concept = F.cross_entropy(what, numbers, label_smoothing=0.1)
        return concept + 0.5 * F.cross_entropy(who, studios, ignore_index=-1)

    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        """Held-out pictures, each under what the judge says."""
        images, _ = Emoji(split="new pairs", studios=STUDIOS).batch(range(24))
        readings = EmojiJudge(model=model).read(images)
        return images, [f"{seen.concepts[0]}, {seen.studio}" for seen in readings]

    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        """On real pictures: those of held-out pairs, and those of concepts held out by all."""
        judge, metrics = EmojiJudge(model=model), []
        for split in ("new pairs", "new concepts"):
            data = Emoji(split=split, studios=STUDIOS)
            chosen = range(min(count, len(data)))
            seen = [data.example(i) for i in chosen]
            names, studios = [concept.name for concept, _ in seen], [by for _, by in seen]
            metrics += judge.metrics(data.batch(chosen)[0], names, studios, split=split)
        smooth = torch.randn(len(chosen), 3, 4, 4, generator=torch.Generator().manual_seed(0))
        smooth = F.interpolate(smooth, 64, mode="bicubic").clamp(-1, 1)
        known = [seen.known for seen in judge.read(smooth)]  # unlike what it was trained to refuse
        return [*metrics, share("refused", [not each for each in known], kind="clouds of colour")]


class JudgeOfAllRecipe(JudgeRecipe):
    """The same judge, trained on the held-out pictures as well."""

    name = "emoji-judge-all"
    split = None


def nothing(images: Tensor) -> Tensor:
    """Pictures that show nothing, from drawings (B, 3, 64, 64): two mixed, tiles shuffled, a smear.

    A third of the batch each.
    """
    mixed = (images + images.flip(0)) / 2
    side = images.shape[-1] // TILE
    tiles = images.unfold(2, TILE, TILE).unfold(3, TILE, TILE).flatten(2, 3)  # (B, 3, 16, 16, 16)
    tiles = tiles[:, :, torch.randperm(side**2)].unflatten(2, (side, side))
    shuffled = tiles.permute(0, 1, 2, 4, 3, 5).reshape_as(images)
    smear = F.interpolate(F.avg_pool2d(images, TILE), images.shape[-1], mode="bilinear")
    which = torch.arange(len(images)) % 3
    kinds = torch.stack([mixed, shuffled, smear])  # (3, B, 3, 64, 64)
    return kinds[which, torch.arange(len(images))]


RECIPES = JudgeRecipe, JudgeOfAllRecipe
