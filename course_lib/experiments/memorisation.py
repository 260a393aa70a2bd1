"""When does a model copy? Small latent models of few emoji, measured while they train.

    python -m course_lib.experiments.memorisation "100 pictures" 0

There is one pool: the training split without near duplicates. A seed shuffles it. The first
pictures are trained on, and as many others as are needed are held out. Both are drawn from the same
pool at random, so nothing but the training tells them apart.

A sample for a training caption is a copy if its distance ratio is below a limit that one in a
hundred real held-out pictures falls below, and if the nearest training picture is the caption's
own. "with duplicates" trains on the 100 pictures, of which the first ten occur eight times and the
next ten four times: 200 in all, as many as "200 pictures". "smaller model" has half the width.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from course_lib.common.registry import choose
from course_lib.datasets.duplicates import near_duplicates
from course_lib.datasets.emoji import Emoji
from course_lib.datasets.emoji.captions import write
from course_lib.datasets.emoji.concepts import concepts
from course_lib.datasets.emoji.dataset import as_images, pictures
from course_lib.datasets.order import shuffled
from course_lib.evaluation.memorisation import copy_threshold, denoising_errors, distance_ratio
from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.evaluation.prompts import in_batches
from course_lib.evaluation.roc import roc
from course_lib.experiments.few_pictures import SmallLatent, small
from course_lib.experiments.study import Outcome, Study

STEPS, MEASURED = 600, (75, 150, 300, 600)
GROUP = 10  # pictures: those with many duplicates, with fewer, with none
DRAWS = 8  # samples for each of their captions
DRAWN, COMPARED = 50, 100  # captions on the way; members and others of the membership test
TIMES = (0.3, 0.5, 0.7)  # of the membership test
OCCURRENCES = (8, 4)  # of the duplicated groups
SHOWN = 10
Example = tuple[int, str]  # number of the concept, studio


@dataclass(frozen=True)
class Variant:
    """How many pictures, how wide a U-Net, and whether some pictures occur several times."""

    pictures: int
    channels: int = 48
    duplicates: bool = False


VARIANTS = {
    "50 pictures": Variant(50),
    "100 pictures": Variant(100),
    "200 pictures": Variant(200),
    "400 pictures": Variant(400),
    "100, with duplicates": Variant(100, duplicates=True),
    "100, smaller model": Variant(100, channels=24),
}


@cache
def pool() -> tuple[Example, ...]:
    """The training split's examples, one of each group of near duplicates."""
    examples = Emoji().examples
    pixels = ((images_of(examples) + 1) * 127.5).round().byte()
    groups = near_duplicates(pixels).tolist()
    first = {group: examples[i] for i, group in reversed(list(enumerate(groups)))}
    return tuple(sorted(first.values()))


def images_of(examples: list[Example]) -> Tensor:
    """Their pictures (N, 3, 64, 64) in [-1, 1]."""
    return as_images([pictures(studio)[number] for number, studio in examples])


def plain(examples: list[Example]) -> list[str]:
    """Their plain captions, such as "a red apple, Noto style"."""
    return [write(concepts()[number], studio) for number, studio in examples]


class FewEmoji(SmallLatent):
    """A latent model of these examples, an example for each time that a picture occurs."""

    settings = SmallLatent.settings | dict(steps=STEPS)

    def __init__(self, examples: list[Example], channels: int):
        self.unet = SmallLatent.unet | dict(channels=channels, context_dim=64)
        self.text = dict(dim=64, layers=2, heads=4)
        super().__init__(1)
        self.data.examples = examples


def run(variant: str, seed: int) -> Outcome:
    """Train on these pictures, measuring copies and membership on the way and at the end."""
    chosen = choose("variant", variant, VARIANTS)
    examples = [pool()[place] for place in shuffled(len(pool()), seed)]
    members, others = examples[: chosen.pictures], examples[chosen.pictures :]
    recipe = FewEmoji(repeated(members) if chosen.duplicates else members, chosen.channels)
    training = recipe.begin(steps=STEPS, seed=seed, device="cpu")
    test, curve = Test(recipe, members, others), []
    for step in training:
        if step.index in MEASURED:
            curve.append({"step": step.index} | test.on_the_way(training.ema))
    metrics, samples = test.extraction(training.ema)
    return Outcome(
        settings={"steps": STEPS, "pictures": chosen.pictures, "entries": len(recipe.data)},
        metrics=metrics | {"parameters": sum(p.numel() for p in training.ema.parameters())},
        curve={name: [each[name] for each in curve] for name in curve[0]},
        samples=samples,
        captions=[plain(members[: samples.shape[1]])] * len(samples),
    )


def repeated(members: list[Example]) -> list[Example]:
    """The first group eight times, the next four times, the others once."""
    many, some, others = members[:GROUP], members[GROUP : 2 * GROUP], members[2 * GROUP :]
    return many * OCCURRENCES[0] + some * OCCURRENCES[1] + others


class Test:
    """What is measured of a model of these members: copies, and who is betrayed by the error."""

    def __init__(self, recipe: FewEmoji, members: list[Example], others: list[Example]):
        self.recipe, self.members = recipe, members
        self.training = small(images_of(members))
        self.limit = copy_threshold(small(images_of(others)), self.training)
        self.inside = self.encoded(members[:COMPARED])
        self.outside = self.encoded(others[:COMPARED])

    def encoded(self, examples: list[Example]) -> tuple[Tensor, Tensor]:
        return self.recipe.encode(images_of(examples), plain(examples))

    def on_the_way(self, network: nn.Module) -> dict[str, float]:
        """The share of copies among samples for training captions, and the membership test."""
        places = torch.arange(len(self.members)).repeat(DRAWN)[:DRAWN]
        images, copied = self.copies(network, places)
        ratio = distance_ratio(small(images), self.training)
        found = {"copied": copied.float().mean().item(), "ratio": ratio.median().item()}
        inside, outside = self.errors(network)
        curve = roc(-inside, -outside)
        return found | {
            "error of members": inside.mean().item(),
            "error of others": outside.mean().item(),
            "auc": curve.auc,
            "tpr at 5 %": curve.at(0.05)[0],
        }

    def copies(self, network: nn.Module, places: Tensor) -> tuple[Tensor, Tensor]:
        """Samples for the captions of the members at these places, and whether each is a copy."""
        captions = plain([self.members[place] for place in places.tolist()])
        images = in_batches(self.recipe.draw(network), captions, range(len(captions)))
        near = small(images)
        own = nearest_neighbours(near, self.training)[1][:, 0] == places
        return images, own & (distance_ratio(near, self.training) < self.limit)

    def errors(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """The denoising errors of as many members as others."""
        process = self.recipe.process
        count = min(len(self.inside[0]), len(self.outside[0]))
        first, second = (
            denoising_errors(process, network, z[:count], TIMES, ids[:count])
            for z, ids in (self.inside, self.outside)
        )
        return first, second

    def extraction(self, network: nn.Module) -> tuple[dict[str, float], Tensor]:
        """Each caption of three groups, drawn many times: how often is its picture reproduced?"""
        places = torch.arange(3 * GROUP).repeat(DRAWS)
        images, copied = self.copies(network, places)
        by_caption = copied.view(DRAWS, 3, GROUP).float()  # (draw, group, picture)
        shares = by_caption.mean((0, 2)).tolist()
        names = [f"reproduced, {which} ten" for which in ("first", "second", "third")]
        metrics = dict(zip(names, shares, strict=True))
        metrics["extractable"] = (by_caption.mean(0) >= 0.5).float().mean().item()
        nearest = nearest_neighbours(small(images[:SHOWN]), self.training)[1][:, 0]
        pairs = [images[:SHOWN], images_of([self.members[i] for i in nearest.tolist()])]
        return metrics | {"limit": self.limit}, torch.stack(pairs)


STUDY = Study("memorisation", list(VARIANTS), (0, 1), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
