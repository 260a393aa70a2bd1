"""The data set `Emoji`: captioned pictures by position of an endless shuffled list."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.checks import whole_numbers
from course_lib.common.registry import choose
from course_lib.datasets.emoji import captions
from course_lib.datasets.emoji.concepts import (
    COMMON,
    SIZE,
    SPLITS,
    STUDIOS,
    Concept,
    concepts,
    pictures,
    split_of,
)
from course_lib.datasets.order import endless, positions


class Emoji:
    """Emoji with captions: example `index` is a function of the arguments and the index alone.

    Every picture comes once in `len(data)` examples, each time in other words.

    split: "train"; "new pairs", whose concept training has seen by other studios only; "new
        concepts", which it has never seen; or None for all.
    studios: those whose pictures are taken; "Blob" is left out unless it is named.
    kind: a group such as "food & drink", or None for all of them.
    unsaid: the probability with which a caption leaves out the studio.
    Raises ValueError for an unknown split, studio or kind, or a size other than 32 or 64.

        images, texts = Emoji().batch(range(4))    # (4, 3, 64, 64) in [-1, 1] and four captions
    """

    def __init__(
        self,
        size: int = SIZE,
        split: str | None = "train",
        studios: Sequence[str] = COMMON,
        kind: str | None = None,
        seed: int = 0,
        unsaid: float = 0.2,
    ):
        if size not in (32, 64):
            raise ValueError(f"emoji are 32 or 64 pixels wide, not {size}")
        if not 0 <= unsaid <= 1:
            raise ValueError(f"unsaid is a probability, got {unsaid}")
        self.split = split and choose("split", split, {s: s for s in SPLITS})
        self.studios = [choose("studio", studio, {s: s for s in STUDIOS}) for studio in studios]
        self.kind = kind and choose("kind of emoji", kind, {c.group: c.group for c in concepts()})
        whole_numbers(0, seed=seed)
        self.size, self.seed, self.unsaid = size, seed, unsaid
        self.examples = [  # (number of the concept, studio)
            (number, studio)
            for studio in self.studios
            for number, concept in enumerate(concepts())
            if studio in concept.studios
            and split in (None, split_of(concept, studio))
            and kind in (None, concept.group)
        ]

    def __len__(self) -> int:
        return len(self.examples)

    def example(self, index: int) -> tuple[Concept, str]:
        """The concept and the studio at a position of the endless shuffled list."""
        number, studio = self.examples[endless([index], len(self), self.seed)[0]]
        return concepts()[number], studio

    def caption(self, index: int) -> str:
        """The caption alone, without its picture."""
        (index,) = positions([index])
        concept, studio = self.example(index)
        rng = np.random.default_rng([self.seed, index])
        said = None if rng.random() < self.unsaid else studio
        return captions.write(concept, said, rng)

    def batch(self, indices: Iterable[int]) -> tuple[Tensor, list[str]]:
        """Pictures (B, 3, size, size) in [-1, 1] and their captions."""
        indices = positions(indices)
        chosen = [self.examples[i] for i in endless(indices, len(self), self.seed)]
        images = as_images([pictures(studio)[number] for number, studio in chosen], self.size)
        return images, [self.caption(index) for index in indices]


def picture(name: str, studio: str, size: int = SIZE) -> Tensor:
    """One studio's picture of the concept of that name: (3, size, size) in [-1, 1].

    Raises ValueError for an unknown name or studio, or where the studio has not drawn it.
    """
    number = choose("emoji", name, {c.name: i for i, c in enumerate(concepts())})
    if studio not in concepts()[number].studios:
        choose("studio", studio, {s: s for s in concepts()[number].studios})
    return as_images([pictures(studio)[number]], size)[0]


def as_images(pixels: Sequence[np.ndarray], size: int = SIZE) -> Tensor:
    """(64, 64, 3) uint8 each -> (B, 3, size, size) in [-1, 1]; 32 pixels are means of four."""
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.avg_pool2d(images, SIZE // size)
