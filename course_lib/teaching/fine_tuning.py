"""Chapter 11: a few pictures to learn from, lessons made of them, and what the judges say.

data = blobs(20)                                # drawings of a studio that training never saw
for z, context in lessons(model, data, 200):    # 8 latents and contexts each
    loss = model.process.loss(network, z, context)
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.datasets.augment import vary
from course_lib.datasets.emoji import Emoji, concepts, picture
from course_lib.datasets.emoji.captions import write
from course_lib.datasets.order import endless, shuffled
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.evaluation.prompts import in_batches
from course_lib.pipelines import LatentDiffusion, text_to_image
from course_lib.training.seeding import seeded

BATCH = 8


def blobs(count: int | None = None, seed: int = 0, split: str = "train") -> Emoji:
    """Drawings by Blob, `count` of them by chance (by default all); captions name the studio.

    >>> blobs(2).caption(0)
    'scissors, Blob style'
    """
    data = Emoji(split=split, studios=["Blob"], unsaid=0)
    data.examples = [data.examples[n] for n in shuffled(len(data), seed)[:count]]
    return data


def owls() -> Tensor:
    """Noto's owl five times, moved, resized, turned and twice mirrored: (5, 3, 64, 64).

    The owl is held out by all studios, so `emoji-latent` has never seen one.

    >>> owls().shape
    torch.Size([5, 3, 64, 64])
    """
    owl = picture("owl", "Noto").expand(5, -1, -1, -1)
    with seeded(0, 0, owl.device):
        poses = vary(owl, degrees=15, colour=0, blur=0, noise=0)
    return torch.cat([poses[:3], poses[3:].flip(3)])


@torch.no_grad()
def lessons(
    model: LatentDiffusion, data: Emoji, steps: int, batch: int = BATCH
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each step latents (B, C, h, w) and contexts (B, L, D); each picture is encoded once.

    The captions come in new words each time.
    """
    images = [picture(concepts()[number].name, studio) for number, studio in data.examples]
    z = encoded(model, torch.stack(images))
    for step in range(steps):
        places = range(step * batch, (step + 1) * batch)
        captions = [data.caption(place) for place in places]
        yield z[endless(places, len(data), data.seed)], model.clip.context(captions)


@torch.no_grad()
def encoded(model: LatentDiffusion, images: Tensor) -> Tensor:
    """The latents of any number of pictures."""
    return torch.cat([model.vae.encode(some.to(model.device)) for some in images.split(100)])


def draw(model: LatentDiffusion, captions: Sequence[str], first: int = 0) -> Tensor:
    """A picture for each caption, with the seeds first, first + 1, …: (B, 3, 64, 64)."""
    seeds = range(first, first + len(captions))
    return in_batches(lambda *some: text_to_image(model, *some), captions, seeds).cpu()


def plain_captions(data: Emoji, count: int) -> list[str]:
    """The plain captions of the first `count` examples: "an ear, Blob style"."""
    return [write(*data.example(i)) for i in range(count)]


def shares(images: Tensor, data: Emoji) -> dict[str, float]:
    """Which shares of these drawings of the first examples show the right "studio" and concept.

    The studio is read by the judge that has seen no held-out pair. "top5" is the concept, read by
    the one that has seen every picture: the other one hardly knows Blob's drawings of things that
    it has seen by other studios only.
    """
    pairs = [data.example(i) for i in range(len(images))]
    names, studios = [concept.name for concept, _ in pairs], [studio for _, studio in pairs]
    verdicts = {
        key: [seen[key] for seen in EmojiJudge(judge).judge(images, names, studios)]
        for key, judge in (("studio", "emoji-judge"), ("top5", "emoji-judge-all"))
    }
    return {key: sum(each) / len(each) for key, each in verdicts.items()}


def distance_to(images: Tensor, training: Tensor) -> Tensor:
    """Root-mean-square difference to the nearest of the training pictures, at 32 pixels: (B,)."""
    return nearest_neighbours(F.avg_pool2d(images, 2), F.avg_pool2d(training, 2))[0][:, 0]


@torch.no_grad()
def held_out_loss(model: LatentDiffusion, data: Emoji, count: int = 100, repeat: int = 4) -> float:
    """The denoising loss of the first `count` examples, at fixed draws of time and noise."""
    z = encoded(model, data.batch(range(count))[0])
    context = model.clip.context(plain_captions(data, count))
    with seeded(0, 0, z.device):
        losses = [
            model.process.loss(model.unet, z, context, time_sampling="logit_normal")
            for _ in range(repeat)
        ]
    return torch.stack(losses).mean().item()
