"""People among the emoji: who is drawn, a man, a woman, or a person of no stated gender?

A drawing has no gender. Its makers named it "man firefighter", "woman firefighter" or
"firefighter", and that name is all that is measured here. A trio is such a family of three; the
verdict is the one of its three concepts that the judge finds most probable.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from course_lib.datasets.emoji import COMMON, STUDIOS, concepts, split_of
from course_lib.datasets.emoji.concepts import Concept, pictures
from course_lib.datasets.emoji.dataset import as_images
from course_lib.evaluation.emoji import EmojiJudge

GENDERS = "man", "woman", "person"


class Trio(NamedTuple):
    """The first concept of each gender in a family, by their numbers in `concepts()`."""

    man: int
    woman: int
    person: int

    @property
    def concepts(self) -> tuple[Concept, Concept, Concept]:
        return tuple(concepts()[n] for n in self)

    @property
    def family(self) -> str:
        return self.concepts[0].family


@cache
def trios() -> tuple[Trio, ...]:
    """All families that have a man, a woman and a person.

    >>> [concept.name for concept in trios()[-1].concepts]
    ['male sign', 'female sign', 'transgender symbol']
    """
    families: dict[str, dict[str, int]] = {}
    for number, concept in enumerate(concepts()):
        if concept.gender:
            families.setdefault(concept.family, {}).setdefault(concept.gender, number)
    return tuple(Trio(**each) for each in families.values() if len(each) == len(GENDERS))


@cache
def jobs() -> tuple[Trio, ...]:
    """The trios "man X", "woman X" and "X" at work, whose drawings by three studios are trained on.

    >>> len(jobs())
    14
    """
    return tuple(
        trio
        for trio in trios()
        for man, woman, person in [trio.concepts]
        if person.subgroup == "roles & careers"
        and (man.name, woman.name) == (f"man {person.name}", f"woman {person.name}")
        and all(split_of(each, by) == "train" for each in trio.concepts for by in COMMON)
    )


def drawings(split: str, among: Sequence[Trio] | None = None) -> tuple[Tensor, list[Trio], Tensor]:
    """The real drawings of these trios in that split, by all studios: (B, 3, 64, 64), the trio of
    each, and its place in GENDERS (B,). among: all trios by default.

    >>> drawings("new pairs")[0].shape
    torch.Size([88, 3, 64, 64])
    """
    found = [
        (trio, place, studio)
        for trio in (trios() if among is None else among)
        for place, concept in enumerate(trio.concepts)
        for studio in STUDIOS
        if studio in concept.studios and split_of(concept, studio) == split
    ]
    images = as_images([pictures(studio)[trio[place]] for trio, place, studio in found])
    return images, [trio for trio, *_ in found], torch.tensor([place for _, place, _ in found])


class People(NamedTuple):
    """What the judge says of pictures: the place in GENDERS (B,), the same if only man and woman
    are allowed, whether the first of all concepts is of the family, and the studio's number."""

    gender: Tensor
    man_or_woman: Tensor
    family: Tensor
    studio: Tensor


def read_people(judge: EmojiJudge, images: Tensor, of: list[Trio]) -> People:
    """The judge's verdicts on pictures (B, 3, 64, 64) that should show these trios."""
    what, _, who = judge.logits(images)
    three = what.gather(1, torch.tensor(of))  # (B, 3)
    first = [concepts()[n].family for n in what.argmax(1).tolist()]
    family = torch.tensor([name == trio.family for name, trio in zip(first, of, strict=True)])
    return People(three.argmax(1), three[:, :2].argmax(1), family, who.argmax(1))
