"""Does a ring in the noise survive what happens to pictures? Chapter 16.

    python -m course_lib.experiments.watermark digits 0

A variant is a model and the way it samples:

- digits: digits-ddpm, in pixel space, with DDIM;
- emoji: emoji-latent with DDIM, all channels of the latent marked;
- scenes: scenes-latent, in the same way;
- scenes, latents: as scenes, but the detector gets the latents, before the decoder or after it.

Each run draws pictures with each of three keys, attacks them, inverts DDIM without knowing the
caption, and scores them by their distance from the key. The negatives are unmarked samples and as
many real pictures, attacked in the same way. A metric is the mean over the keys: "auc" and
"tpr" (at 1 % false alarms) for each attack; "worst" is the lowest auc of a key; "another key" is
the auc of the same pictures under a key that they don't carry; "p < 0.01" is the share of negatives
for which the formula says so, 0.01 if it were right. The curve is the ROC.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.registry import choose
from course_lib.datasets.digits import digits
from course_lib.datasets.emoji import STUDIOS, Emoji
from course_lib.datasets.emoji.captions import write
from course_lib.datasets.scenes import Scenes
from course_lib.diffusion import generators, initial_noise, invert, sample, time_grid
from course_lib.evaluation import PromptOracle
from course_lib.evaluation.attacks import add_noise, crop, jpeg, resize, rotate
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.roc import ROC, roc
from course_lib.experiments.study import Outcome, Study
from course_lib.models import UNet
from course_lib.pipelines import image_to_image
from course_lib.pipelines.text_to_image import LatentDiffusion, prepare
from course_lib.pipelines.watermark import RingKey, distance, p_value, ring_key, ring_watermark
from course_lib.recipes import load_pipeline
from course_lib.recipes.digits import SIZE, DigitsDDPM, nearest

STEPS, INVERSION = 20, 10  # steps of the sampler, and of DDIM's inversion
KEYS, MARKED, NEGATIVES = 3, 100, 1000  # pictures with each key; unmarked and real ones together
BATCH = 50
STRENGTH = 0.3  # of the noise in image to image
FPR = 0.01
GRID = [i / 50 for i in range(51)]  # false alarms at which the curve is recorded
SEEDS = 2**20  # between the seeds of two runs
Change = Callable[[Tensor], Tensor]

ATTACKS: dict[str, Change] = {
    "none": lambda images: images,
    "JPEG 25": partial(jpeg, quality=25),
    "crop to 75 %": partial(crop, side=0.75),
    "resize to 50 %": partial(resize, side=0.5),
    "rotate by 15°": partial(rotate, degrees=15),
    "rotate by 90°": partial(rotate, degrees=90),
    "noise 0.1": partial(add_noise, std=0.1),
}


@dataclass(frozen=True)
class Subject:
    """A model under test. shape: of its noise, (C, size, size); radius and channels: of the key.

    draw: noise (B, ...) and the indices of the pictures -> pictures
    find: pictures -> the noise that DDIM would have drawn them from
    real: a range of indices -> held-out real pictures
    attacks: what happens to the pictures before they are inverted
    right: pictures and their indices -> which of them are what was asked for
    shown: what is recorded of the pictures, (B, 1 or 3, H, W) in [-1, 1]
    """

    shape: tuple[int, int, int]
    radius: int
    channels: int
    draw: Callable[[Tensor, range], Tensor]
    find: Change
    real: Callable[[range], Tensor]
    attacks: dict[str, Change]
    right: Callable[[Tensor, range], list[bool]]
    shown: Change = lambda images: images


def digits_subject() -> Subject:
    recipe, model = DigitsDDPM(), load_checkpoint(UNet, "digits-ddpm")
    process, (real, _) = recipe.process, digits(SIZE)  # all: the detector has learned from none
    limit = nearest(recipe.test_images, recipe)[0].quantile(0.99)

    def redraw(images: Tensor) -> Tensor:
        times = time_grid(process.schedule, round(STRENGTH * STEPS), start=STRENGTH)
        noise = initial_noise(generators(range(len(images))), images.shape[1:])
        return sample(process, model, process.add_noise(images, times[0], noise), spacing=times)

    return Subject(
        shape=(1, SIZE, SIZE),
        radius=4,
        channels=1,
        draw=lambda noise, _: sample(process, model, noise, steps=STEPS).clamp(-1, 1),
        find=lambda images: invert(process, model, images, steps=INVERSION),
        real=lambda indices: real[list(indices)],
        attacks=ATTACKS | {"image to image": lambda images: redraw(images).clamp(-1, 1)},
        right=lambda images, _: (nearest(images, recipe)[0] <= limit).tolist(),
    )


def scenes_subject() -> Subject:
    data, oracle = Scenes(64, "new combinations"), PromptOracle()

    def right(images: Tensor, indices: range) -> list[bool]:
        captions = [data.caption(i) for i in indices]
        return [verdict["all"] for verdict in oracle.judge(images, captions)]

    return captioned(
        load_pipeline("scenes-latent"),
        caption=data.caption,
        radius=3,
        real=lambda indices: data.batch([SEEDS + i for i in indices])[0],
        right=right,
    )


def emoji_subject() -> Subject:
    data, held_out = Emoji(), Emoji(split="new pairs", studios=STUDIOS)

    def right(images: Tensor, indices: range) -> list[bool]:
        asked = [data.example(i) for i in indices]
        names, studios = [concept.name for concept, _ in asked], [studio for _, studio in asked]
        return [seen["top5"] for seen in EmojiJudge().judge(images, names, studios)]

    return captioned(
        load_pipeline("emoji-latent"),
        caption=lambda index: write(*data.example(index)),
        radius=2,
        real=lambda indices: held_out.batch(indices)[0],
        right=right,
    )


def captioned(
    model: LatentDiffusion,
    caption: Callable[[int], str],
    radius: int,
    real: Callable[[range], Tensor],
    right: Callable[[Tensor, range], list[bool]],
) -> Subject:
    """A text-to-image model, with the key in all channels of its latents."""
    null = model.clip.context([""])

    @torch.no_grad()
    def draw(noise: Tensor, indices: range) -> Tensor:
        captions = [caption(i) for i in indices]
        network, context, _ = prepare(model, captions, indices, None, "")
        z = sample(model.process, network, noise, context, steps=STEPS)
        return model.vae.decode(z).clamp(-1, 1)

    def find(images: Tensor) -> Tensor:
        context = null.expand(len(images), -1, -1)  # the detector doesn't know the caption
        return invert(model.process, model.unet, encoded(images), context, steps=INVERSION)

    @torch.no_grad()
    def encoded(images: Tensor) -> Tensor:
        return model.vae.encode(images)

    @torch.no_grad()
    def round_trip(images: Tensor) -> Tensor:
        return model.vae.decode(model.vae.encode(images)).clamp(-1, 1)

    def redraw(images: Tensor) -> Tensor:
        how: dict[str, Any] = dict(strength=STRENGTH, scale=1.0, steps=STEPS, sampler="ddim")
        return image_to_image(model, images, [""] * len(images), **how)

    return Subject(
        shape=model.latent,
        radius=radius,
        channels=model.latent[0],
        draw=draw,
        find=find,
        real=real,
        attacks=ATTACKS | {"autoencoder": round_trip, "image to image": redraw},
        right=right,
    )


def latents_subject() -> Subject:
    """The scenes without the decoder: what the mark loses there, and what it loses elsewhere."""
    model, pictures = load_pipeline("scenes-latent"), scenes_subject()

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        return model.vae.encode(images)

    @torch.no_grad()
    def decode(z: Tensor) -> Tensor:
        return model.vae.decode(z).clamp(-1, 1)

    @torch.no_grad()
    def draw(noise: Tensor, indices: range) -> Tensor:
        captions = [Scenes(64, "new combinations").caption(i) for i in indices]
        network, context, _ = prepare(model, captions, indices, None, "")
        return sample(model.process, network, noise, context, steps=STEPS)

    def find(z: Tensor) -> Tensor:
        null = model.clip.context([""]).expand(len(z), -1, -1)
        return invert(model.process, model.unet, z, null, steps=INVERSION)

    return replace(
        pictures,
        draw=draw,
        find=find,
        real=lambda indices: encode(pictures.real(indices)),
        attacks={"none": ATTACKS["none"], "decoder": lambda z: encode(decode(z))},
        right=lambda z, indices: pictures.right(decode(z), indices),
        shown=decode,
    )


VARIANTS: dict[str, Callable[[], Subject]] = {
    "digits": digits_subject,
    "emoji": emoji_subject,
    "scenes": scenes_subject,
    "scenes, latents": latents_subject,
}


def drawn(subject: Subject, indices: range, key: RingKey | None) -> Tensor:
    """Pictures of these indices, whose noise carries the key, if there is one."""
    parts = []
    for first in indices[::BATCH]:
        some = range(first, min(first + BATCH, indices.stop))
        noise = initial_noise(generators(some), subject.shape)
        parts.append(subject.draw(ring_watermark(noise, key) if key else noise, some))
    return torch.cat(parts)


def found(subject: Subject, images: Tensor, attack: Change) -> Tensor:
    return torch.cat([subject.find(attack(some)) for some in images.split(BATCH)])


def curves(marked: list[Tensor], negatives: Tensor, keys: list[RingKey]) -> list[ROC]:
    """A ROC for each key: the inverted pictures that carry it against those without."""
    pairs = zip(marked, keys, strict=True)
    return [roc(-distance(noise, key), -distance(negatives, key)) for noise, key in pairs]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def run(variant: str, seed: int) -> Outcome:
    """Draw, attack, invert and score with that seed's keys."""
    subject, start = choose("variant", variant, VARIANTS)(), SEEDS * (seed + 1)
    shape, radius, channels = subject.shape, subject.radius, subject.channels
    keys = [ring_key(shape, radius, channels, seed=KEYS * seed + k) for k in range(KEYS)]
    others = [*keys[1:], keys[0]]
    indices = [range(start + k * MARKED, start + (k + 1) * MARKED) for k in range(KEYS)]
    marked = [drawn(subject, some, key) for some, key in zip(indices, keys, strict=True)]
    half = range(start + KEYS * MARKED, start + KEYS * MARKED + NEGATIVES // 2)
    unmarked = torch.cat([drawn(subject, half, None), subject.real(range(NEGATIVES // 2))])

    metrics, curve = {}, {"fpr": GRID}
    for name, attack in subject.attacks.items():
        noise = [found(subject, images, attack) for images in marked]
        negatives = found(subject, unmarked, attack)
        by_key = curves(noise, negatives, keys)
        metrics[f"auc, {name}"] = mean([each.auc for each in by_key])
        metrics[f"worst, {name}"] = min(each.auc for each in by_key)
        metrics[f"tpr, {name}"] = mean([each.at(FPR)[0] for each in by_key])
        metrics[f"another key, {name}"] = mean([e.auc for e in curves(noise, negatives, others)])
        small = [(p_value(negatives, key) < 0.01).float().mean().item() for key in keys]
        metrics[f"p < 0.01, {name}"] = mean(small)
        curve[name] = [mean([each.at(fpr)[0] for each in by_key]) for fpr in GRID]
        print(variant, seed, name, metrics[f"auc, {name}"], flush=True)

    asked = [subject.right(*pair) for pair in zip(marked, indices, strict=True)]
    metrics["right, marked"] = mean([float(each) for some in asked for each in some])
    plain = unmarked[: len(half)]
    metrics["right, unmarked"] = mean([float(each) for each in subject.right(plain, half)])
    few = indices[0][:4]
    rows = [drawn(subject, few, None), *(each(marked[0][:4]) for each in subject.attacks.values())]
    return Outcome(
        settings={
            "steps": STEPS,
            "inversion": INVERSION,
            "keys": KEYS,
            "marked": KEYS * MARKED,
            "negatives": NEGATIVES,
        }
        | {"radius": radius, "channels": channels, "strength": STRENGTH, "fpr": FPR},
        metrics=metrics,
        curve=curve,
        samples=torch.stack([subject.shown(each).expand(-1, 3, -1, -1) for each in rows], 1),
        captions=[["without the mark", *subject.attacks]] * 4,
    )


STUDY = Study("watermark", [*VARIANTS], (0,), run)

if __name__ == "__main__":
    STUDY.main()
