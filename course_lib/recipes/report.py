"""The figures of `course evaluate`: a recipe's own, and for the scenes what the prompt oracle says.

    figures = measure(recipe, model, count=500)    # {"single, new combinations": 0.98, ...}

Everything is measured on what no training picture showed: "new combinations" are a tenth of all
combinations, "new pairs" whole (shape, colour) pairs.
"""

import time
from collections.abc import Callable, Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.datasets.scenes import KINDS, SPLITS, Scenes
from course_lib.evaluation import PromptOracle
from course_lib.evaluation.distances import floor, frechet_distance
from course_lib.models import Classifier
from course_lib.pipelines import LatentDiffusion, as_pipeline, text_to_image
from course_lib.recipes import Recipe
from course_lib.recipes.scenes import ScenesDiffusion, ScenesVAE
from course_lib.training import load_checkpoint

BATCH = 64


def measure(recipe: Recipe, model, count: int) -> dict[str, float]:
    """All figures of a recipe's model, from `count` samples (of each kind and split)."""
    figures = recipe.measure(model, count)
    if isinstance(recipe, ScenesVAE):
        figures |= reconstruction_report(model, count)
    if isinstance(recipe, ScenesDiffusion):
        pipeline = assemble(recipe, model)
        figures |= pictures_report(pipeline, count) | distance_report(pipeline, count)
    return figures


def score(recipe: Recipe, model, count: int = 32) -> float:
    """The one share, 0 to 1, by which a training is judged: `course train --until`.

    For the scenes' pictures and reconstructions what the oracle finds right, over all kinds and
    both splits, `count` of each; for other recipes the figure that they name as their `goal`.
    """
    if isinstance(recipe, ScenesDiffusion):
        figures = pictures_report(assemble(recipe, model), count)
        shares = [share for name, share in figures.items() if ", new " in name]
    elif isinstance(recipe, ScenesVAE):
        figures = reconstruction_report(model, count)
        shares = [share for name, share in figures.items() if name.endswith("read right")]
    else:
        shares = [recipe.measure(model, count)[recipe.goal]]
    return sum(shares) / len(shares)


def assemble(recipe: ScenesDiffusion, model) -> LatentDiffusion:
    """The recipe's pipeline around this model of it."""
    device = next(model.parameters()).device
    return as_pipeline(recipe, model, recipe.vae.to(device), recipe.clip.to(device))


def held_out(count: int) -> Iterator[tuple[str, Tensor, list[str]]]:
    """("single, new pairs", pictures, captions that say it all), for each kind and split."""
    for split, kind in product(SPLITS[1:], KINDS):
        yield f"{kind}, {split}", *Scenes(64, split, kind, seed=1, unsaid=0).batch(range(count))


def faithful(images: Tensor, captions: list[str]) -> tuple[float, dict[str, float]]:
    """The share of pictures in which all that the caption says holds; and each property's share,
    of the pictures whose captions say it."""
    verdicts = PromptOracle().judge(images, captions)
    names = {name.removeprefix("first ").removeprefix("second ") for v in verdicts for name in v}
    shares = {}
    for name in sorted(names):
        said = [[ok for key, ok in v.items() if key.endswith(name)] for v in verdicts]
        said = [each for each in said if each]  # not every caption says it of its picture
        shares[name] = sum(map(all, said)) / len(said)
    return shares.pop("all"), shares


def in_batches(function: Callable, *lists) -> Tensor:
    """function(lists[0][:64], ...), then the next 64, and so on, as one tensor on the CPU."""
    starts = range(0, len(lists[0]), BATCH)
    return torch.cat([function(*(each[i : i + BATCH] for each in lists)).cpu() for i in starts])


def pictures_report(model: LatentDiffusion, count: int, **options) -> dict[str, float]:
    """Of `count` prompts of each kind and split: how many pictures follow theirs in everything.

    options: steps, scale, sampler of `text_to_image`.
    """
    figures = {}
    for name, _, captions in held_out(count):
        images = in_batches(
            lambda texts, seeds: text_to_image(model, texts, seeds, **options),
            *(captions, range(count)),
        )
        figures[name], properties = faithful(images, captions)
        if name.endswith("new combinations"):
            kind = name.split(",")[0]
            figures |= {f"{kind}: {word}": share for word, share in properties.items()}
    return figures


@torch.no_grad()
def distance_report(model: LatentDiffusion, count: int, **options) -> dict[str, float]:
    """Fréchet distance of `count` pictures to as many real ones, in the features of a classifier.

    The captions are new ones of the training's kind. The floor is what `count` real pictures
    score against as many others: no model can be expected below it. Smaller pictures are drawn
    larger for the classifier, the real ones too.
    """
    eye = load_checkpoint(Classifier, "scenes-features", model.device)
    data = Scenes(model.size, "train", seed=1)

    def features(images: Tensor) -> Tensor:
        return eye.features(F.interpolate(images.to(model.device), eye.size))

    real = in_batches(lambda some: features(data.batch(some)[0]), range(2 * count))
    captions = [data.caption(i) for i in range(count)]
    drawn = in_batches(
        lambda texts, seeds: features(text_to_image(model, texts, seeds, **options)),
        *(captions, range(count)),
    )
    return {
        "frechet distance": frechet_distance(drawn, real[count:]),
        "frechet floor": floor(frechet_distance, real, count)[0],
    }


@torch.no_grad()
def reconstruction_report(vae, count: int) -> dict[str, float]:
    """Mean PSNR in dB, and the share of reconstructions that the oracle reads as before."""
    figures, device = {}, vae.scaling_factor.device
    for name, images, captions in held_out(count):
        again = in_batches(lambda some: vae(some.to(device)).clamp(-1, 1), images)
        errors = (again - images).square().flatten(1).mean(1)
        figures[f"{name}: psnr"] = (10 * torch.log10(4 / errors)).mean().item()
        figures[f"{name}: read right"] = faithful(again, captions)[0]
    return figures


def milliseconds_per_picture(model: LatentDiffusion, steps: int = 20, threads: int = 1) -> float:
    """Wall-clock time of one guided picture in a batch of 64: the best of three."""
    captions = [Scenes(64).caption(i) for i in range(BATCH)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            text_to_image(model, captions, steps=steps).cpu()
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 1000 * min(times) / BATCH
