"""How well a model of the scenes follows its captions, measured on what training never showed.

"new combinations" are a tenth of all combinations, "new pairs" whole (shape, colour) pairs. A model
is given as a function, so that anything that draws can be measured:

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
    """({kind, split}, pictures, captions that leave nothing open), for each kind and split."""
    for split, kind in product(SPLITS[1:], KINDS):
        scenes = Scenes(64, split, kind, seed=1, unsaid=0)
        yield dict(kind=kind, split=split), *scenes.batch(range(count))


def faithful(images: Tensor, captions: Sequence[str], **where) -> list[Metric]:
    """What the oracle finds: the share of pictures in which all that the caption says is "right";
    and each property's share, of the pictures whose captions say it."""
    verdicts = PromptOracle().judge(images, captions)
    names = {name.removeprefix("first ").removeprefix("second ") for v in verdicts for name in v}
    metrics = [share("right", [verdict["all"] for verdict in verdicts], **where)]
    for name in sorted(names - {"all"}):
        said = [[ok for key, ok in v.items() if key.endswith(name)] for v in verdicts]
        metrics.append(share(name, [all(each) for each in said if each], **where))
    return metrics


def prompt_metrics(draw: Draw, count: int) -> list[Metric]:
    """Of `count` prompts of each kind and split: how many pictures are right in everything.

    For new combinations also how many are right in each property.
    """
    metrics = []
    for where, _, captions in held_out(count):
        found = faithful(in_batches(draw, captions, range(count)), captions, **where)
        metrics += found if where["split"] == "new combinations" else found[:1]
    return metrics


def distance_metrics(draw: Draw, classifier, size: int, count: int) -> list[Metric]:
    """Fréchet distance of `count` pictures to as many real ones, in a classifier's features.

    The captions are new ones of the training's kind. The floor is what `count` real pictures score
    against as many others: no model can be expected below it. Smaller pictures are enlarged for the
    classifier, the real ones too.
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
    """function(lists[0][:64], ...), then the next 64, and so on, as one tensor on the CPU."""
    starts = range(0, len(lists[0]), BATCH)
    return torch.cat([function(*(each[i : i + BATCH] for each in lists)).cpu() for i in starts])
