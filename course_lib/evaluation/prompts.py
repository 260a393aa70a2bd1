"""How well a model of the scenes follows captions, measured on scenes that training never shows.

"new combinations" are a tenth of all combinations; "new pairs" are (shape, colour) pairs that never
occur in training. The model is passed as a function, so you can measure anything that makes images:

    prompt_metrics(lambda captions, seeds: text_to_image(pipeline, captions, seeds), count=500)
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.datasets.scenes import KINDS, SPLITS, Scenes
from course_lib.evaluation.distances import floor, frechet_distance
from course_lib.evaluation.metrics import Metric, mean, share
from course_lib.evaluation.oracle import PromptOracle

BATCH = 64
Draw = Callable[[Sequence[str], Sequence[int]], Tensor]  # (captions, seeds) -> (B, 3, H, W)


def held_out(count: int) -> Iterator[tuple[dict, Tensor, list[str]]]:
    """({kind, split}, pictures, captions that state every property), for each kind and split."""
    for split, kind in product(SPLITS[1:], KINDS):
        scenes = Scenes(64, split, kind, seed=1, unsaid=0)
        yield dict(kind=kind, split=split), *scenes.batch(range(count))


def faithful(images: Tensor, captions: Sequence[str], **where) -> list[Metric]:
    """The oracle's verdict: "right" is the share of pictures in which the whole caption is true;
    each property's share is among the pictures whose captions mention it."""
    verdicts = PromptOracle().judge(images, captions)
    names = {name.removeprefix("first ").removeprefix("second ") for v in verdicts for name in v}
    metrics = [share("right", [verdict["all"] for verdict in verdicts], **where)]
    for name in sorted(names - {"all"}):
        said = [[ok for key, ok in v.items() if key.endswith(name)] for v in verdicts]
        metrics.append(share(name, [all(each) for each in said if each], **where))
    return metrics


def prompt_metrics(draw: Draw, count: int) -> list[Metric]:
    """The share of pictures that are right, for `count` prompts of each kind and split.

    For new combinations, also the share for each property.
    """
    metrics = []
    for where, _, captions in held_out(count):
        found = faithful(in_batches(draw, captions, range(count)), captions, **where)
        metrics += found if where["split"] == "new combinations" else found[:1]
    return metrics


def right(draw: Draw, count: int) -> Tensor:
    """Whether each picture is right in everything that its caption says: (6, count) bools.

    A row for each kind and split, whose first prompts and seeds are the same for every model and
    for every count, so that two models can be compared prompt by prompt.
    """
    rows = []
    for _, _, captions in held_out(count):
        verdicts = PromptOracle().judge(in_batches(draw, captions, range(count)), captions)
        rows.append([verdict["all"] for verdict in verdicts])
    return torch.tensor(rows)


def distance_metrics(draw: Draw, classifier, size: int, count: int) -> list[Metric]:
    """The Fréchet distance between `count` pictures and as many real ones, in classifier features.

    The captions are new, but from the training distribution. The floor is what `count` real
    pictures score against as many others, so no model can be expected to score lower. Smaller
    pictures are enlarged for the classifier, and so are the real ones.
    """
    data, device = Scenes(size, "train", seed=1), next(classifier.parameters()).device

    def features(images: Tensor) -> Tensor:
        return classifier.features(F.interpolate(images.to(device), classifier.size))

    with torch.no_grad():
        real = in_batches(lambda indices: features(data.batch(indices)[0]), range(2 * count))
        captions = [data.caption(i) for i in range(count)]
        drawn = in_batches(lambda *some: features(draw(*some)), captions, range(count))
    level, spread = floor(frechet_distance, real, count)
    return [
        Metric("frechet distance", frechet_distance(drawn, real[count:]), count),
        Metric("frechet floor", level, count, (level - 1.96 * spread, level + 1.96 * spread)),
    ]


def reconstruction_metrics(vae, count: int) -> list[Metric]:
    """PSNR in dB, and the share of reconstructions that the oracle reads like the original."""
    metrics, device = [], vae.scaling_factor.device
    for where, images, captions in held_out(count):
        with torch.no_grad():
            again = in_batches(lambda some: vae(some.to(device)).clamp(-1, 1), images)
        errors = (again - images).square().flatten(1).mean(1)
        metrics.append(mean("psnr", 10 * torch.log10(4 / errors), **where))  # pixels span 2
        metrics.append(faithful(again, captions, **where)[0])
    return metrics


def in_batches(function: Callable, *lists) -> Tensor:
    """function(lists[0][:64], ...), then the next 64, and so on, joined in one CPU tensor."""
    starts = range(0, len(lists[0]), BATCH)
    return torch.cat([function(*(each[i : i + BATCH] for each in lists)).cpu() for i in starts])
