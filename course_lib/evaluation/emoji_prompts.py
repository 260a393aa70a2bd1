"""How well a model of the emoji follows its captions, measured by both judges.

On held-out pairs, drawings that training never saw, and on as many that it saw. Beside each figure
stands the judge's own on the real drawings, "... of real": its share is what can be expected.

    emoji_metrics(lambda captions, seeds: text_to_image(pipeline, captions, seeds), count=500)
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.datasets.emoji import Emoji
from course_lib.datasets.emoji.captions import write
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.metrics import Metric, clustered, find
from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.evaluation.prompts import Draw, in_batches

JUDGES = "emoji-judge", "emoji-judge-all"
SEEDS = 2  # pictures of each pair


def emoji_metrics(draw: Draw, count: int) -> list[Metric]:
    """Of `count` pairs of each split (there are 453 held-out ones), twice each: which shares are
    right in concept and studio, and how far they are from the nearest training picture.

    kind: the judge. Intervals are clustered by concept.
    """
    count, metrics = min(count, len(Emoji(split="new pairs"))), []
    for split in ("train", "new pairs"):
        data = Emoji(split=split)
        seen = [data.example(i) for i in range(count)]
        real, captions = data.batch(range(count))[0], [write(*pair) for pair in seen]
        drawn = in_batches(draw, captions * SEEDS, range(SEEDS * count))
        for name in JUDGES:
            metrics += judged(name, drawn, seen * SEEDS, split, "")
            metrics += judged(name, real, seen, split, " of real")
        where = dict(clusters=[concept.name for concept, _ in seen], split=split)
        for kind, images in (("", drawn[:count]), (" of real", real)):
            metrics.append(clustered(f"distance{kind}", distances(images), **where))
    return metrics


def relative(metrics: Iterable[Metric], property: str, **where) -> Metric:
    """A share as a share of the judge's own on the real pictures of the same pairs.

    Its interval is that of the drawn pictures alone: the real ones are all that there are.

    >>> said = [Metric("top5", 0.3, 10, (0.2, 0.4)), Metric("top5 of real", 0.6, 5, (0.5, 0.7))]
    >>> relative(said, "top5").value
    0.5
    """
    metrics = list(metrics)
    drawn, real = (find(metrics, p, **where) for p in (property, f"{property} of real"))
    interval = tuple(end / real.value for end in drawn.interval)
    return replace(drawn, value=drawn.value / real.value, interval=interval)


def judged(judge: str, images: Tensor, pairs, split: str, suffix: str) -> list[Metric]:
    """One judge's verdicts as shares, with intervals clustered by concept."""
    names, studios = [concept.name for concept, _ in pairs], [studio for _, studio in pairs]
    verdicts = EmojiJudge(judge).judge(images, names, studios)
    return [
        clustered(key + suffix, [float(v[key]) for v in verdicts], names, kind=judge, split=split)
        for key in verdicts[0]
    ]


def distances(images: Tensor) -> Tensor:
    """Root-mean-square difference to the nearest training picture, at 32 pixels: (B,).

    A training picture that is drawn as it is has distance 0; for a real one the second nearest
    counts, the nearest being itself.
    """
    found, _ = nearest_neighbours(F.avg_pool2d(images, 2), training_pictures(), k=2)
    itself = found[:, 0] < 1e-6
    return torch.where(itself, found[:, 1], found[:, 0])


@cache
def training_pictures() -> Tensor:
    """All of them, at half their size: (3831, 3, 32, 32)."""
    data = Emoji(32)
    return data.batch(range(len(data)))[0]
