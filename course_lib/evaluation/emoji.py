"""The emoji judges: classifiers that say what a picture shows and who drew it.

    judge = EmojiJudge()                     # has never seen a held-out pair
    judge.read(images)                       # [Reading(concepts=('penguin', …), studio='Noto', …)]
    judge.judge(images, ["penguin"], ["Noto"])   # [{'top1': True, 'top5': True, 'studio': True, …}]

They share nothing with a generator, and are frozen before one is trained. There are two.
"emoji-judge" learned from the pictures of the split "train", so it names a held-out drawing as
someone would who knows the concept by other hands. "emoji-judge-all" has seen every picture, so it
also knows the concepts that the other has never seen; but it might name a copy of a held-out
picture by heart. Report both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.registry import choose
from course_lib.datasets.emoji import STUDIOS, concepts
from course_lib.datasets.emoji.concepts import checksums
from course_lib.evaluation.metrics import Metric, share
from course_lib.models import ContentAndStyle

BATCH = 250  # pictures looked at together


@dataclass(frozen=True)
class Reading:
    """What a judge sees: the five most probable concepts, best first, and the studio.

    known: False where the judge says: nothing that I know.
    """

    concepts: tuple[str, ...]
    studio: str
    known: bool


class EmojiJudge:
    """Reads and judges pictures (B, 3, 64, 64) in [-1, 1].

    name: "emoji-judge" or "emoji-judge-all"; model: a classifier that is still being trained takes
    the checkpoint's place. Its logits are one for each concept, one for "nothing that I know", and
    one for each studio.
    Raises FileNotFoundError without the checkpoint, ValueError for one of other concepts, and for
    pictures of another size.
    """

    def __init__(
        self,
        name: str = "emoji-judge",
        device: str | torch.device = "cpu",
        model: ContentAndStyle | None = None,
    ):
        self.model = model or load_checkpoint(ContentAndStyle, name, device)
        known = getattr(self.model, "card", {}).get("settings", {}).get("data") or data_of_judges()
        if known != data_of_judges():
            raise ValueError(f"{name} was trained on another list of concepts: train it again")
        self.device = self.model.head.weight.device

    @torch.no_grad()
    def logits(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the concepts (B, N), of nothing (B, 1) and of the studios (B, 4)."""
        parts = [self.model(part.to(self.device)).cpu() for part in images.split(BATCH)]
        return torch.cat(parts).split([len(concepts()), 1, len(STUDIOS)], dim=1)

    def read(self, images: Tensor) -> list[Reading]:
        """What each picture shows."""
        what, nothing, who = self.logits(images)
        best = what.topk(5).indices.tolist()
        names = [tuple(concepts()[n].name for n in row) for row in best]
        studios = [STUDIOS[n] for n in who.argmax(1).tolist()]
        known = (what.amax(1) > nothing[:, 0]).tolist()
        return [Reading(*each) for each in zip(names, studios, known, strict=True)]

    def judge(
        self, images: Tensor, names: Sequence[str], studios: Sequence[str]
    ) -> list[dict[str, bool]]:
        """For each picture whether it shows what was asked for.

        "top1" and "top5": the concept is the first, or among the first five, and the picture is
        "known"; "studio": it looks like that studio's. Raises ValueError for an unknown concept or
        studio, or too many or too few.
        """
        if not len(images) == len(names) == len(studios):
            counts = f"{len(images)} pictures, {len(names)} names and {len(studios)} studios"
            raise ValueError(f"expected as many names and studios as pictures, got {counts}")
        known = {concept.name: concept.name for concept in concepts()}
        for name in names:
            choose("emoji", name, known)
        for studio in studios:
            choose("studio", studio, {s: s for s in STUDIOS})
        return [
            {
                "top1": seen.known and seen.concepts[0] == name,
                "top5": seen.known and name in seen.concepts,
                "studio": seen.studio == studio,
                "known": seen.known,
            }
            for seen, name, studio in zip(self.read(images), names, studios, strict=True)
        ]

    def metrics(self, images: Tensor, names, studios, **where) -> list[Metric]:
        """The share of each of these verdicts, with Wilson's interval. where: kind, split."""
        verdicts = self.judge(images, names, studios)
        return [
            share(key, [verdict[key] for verdict in verdicts], **where)
            for key in ("top1", "top5", "studio", "known")
        ]


def data_of_judges() -> dict[str, str]:
    """The checksum of the list of concepts: a judge's logits are in its order."""
    return {"concepts": checksums()["concepts.jsonl"]}
