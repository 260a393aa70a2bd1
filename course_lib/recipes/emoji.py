"""The text-to-image model of emoji, in two steps.

    emoji-vae       pictures (3, 64, 64) <-> latents (24, 8, 8)
    emoji-latent    the U-Net that turns noise into latents, guided by a caption, and the text
                    encoder, which learns with it from the start: there is no CLIP here

They are the scenes' recipes on other data: 3,831 pictures that come again and again, in other
words. Held-out pairs are drawings that no training saw, of things that other studios drew in it.
"""

import functools
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.datasets.augment import vary
from course_lib.datasets.emoji import STUDIOS, Emoji, concepts
from course_lib.datasets.emoji.captions import FRAME, review, words, write
from course_lib.datasets.emoji.concepts import checksums
from course_lib.datasets.order import endless
from course_lib.datasets.shards import Shards
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.emoji_prompts import emoji_metrics
from course_lib.evaluation.metrics import Metric, mean_share, share
from course_lib.evaluation.prompts import in_batches
from course_lib.models import AutoencoderKL, PromptEncoder, TextEncoder, TextUNet, Tokenizer
from course_lib.recipes.scenes import ScenesDiffusion, ScenesRecipe, ScenesVAE, to
from course_lib.training import Optimizer, Scale

Pair = tuple[Tensor, list[str]]
LENGTH = 32  # tokens of a caption, with its start and end


class EmojiRecipe(ScenesRecipe):
    """What the two share: the data. A reader's own pictures may take its place, as for scenes."""

    def __init__(self, data=None):
        super().__init__(data or Emoji(self.size))

    @property
    def has_emoji(self) -> bool:
        return isinstance(self.data, Emoji)

    def data_fingerprint(self) -> dict[str, str] | None:
        return checksums() if self.has_emoji else super().data_fingerprint()

    def held_out(self, count: int) -> Pair:
        """Held-out pairs with their plain captions; of a reader's own pictures a tenth."""
        if not self.has_emoji:
            return super().held_out(count)
        data = Emoji(self.size, "new pairs")
        chosen = range(min(count, len(data)))
        return data.batch(chosen)[0], [write(*data.example(i)) for i in chosen]


class EmojiVAE(ScenesVAE, EmojiRecipe):
    """The scenes' autoencoder with twice as many channels in its latents.

    Half of each batch is varied: tinted, resized, turned, and mirrored by chance, since there are
    few pictures and an autoencoder need not know left from right.
    """

    name = "emoji-vae"
    goal = "right"  # the judge names the reconstruction as it names the original
    settings = dict(
        steps=6000,
        optimizer=Optimizer("muon", lr=4e-3),
        ema=0.995,
        scale=Scale(accumulate=2, precision="auto"),  # two processes take a batch each
    )
    save_every = 100
    noise = 0.5  # less than for the scenes, whose outlines are simpler

    def model(self) -> nn.Module:
        return AutoencoderKL(
            latent_channels=24,
            channels=128,
            multipliers=(1,),
            decoder_layers_per_block=2,
            patch_size=8,
            stem_channels=24,
            attention=False,
        )

    def batch(self, index: int) -> Tensor:
        images = super().batch(index)
        half = len(images) // 2
        flipped = torch.where(torch.rand(half, 1, 1, 1) < 0.5, images[:half].flip(3), images[:half])
        return torch.cat([vary(flipped, colour=0.3, blur=0, noise=0), images[half:]])

    @torch.no_grad()
    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        metrics = super().measure(model, count)  # of the held-out pairs
        return metrics + ([self.read_alike(model, count)] if self.has_emoji else [])

    def read_alike(self, model: nn.Module, count: int) -> Metric:
        """How often the judge gives the reconstruction the name that it gives the original."""
        images, _ = self.held_out(count)
        again = in_batches(lambda some: model(to(model, some)).clamp(-1, 1), images)
        judge = EmojiJudge("emoji-judge-all")
        pairs = zip(judge.read(images), judge.read(again), strict=True)
        return share("right", [a.concepts[0] == b.concepts[0] and b.known for a, b in pairs])

    def score(self, model: nn.Module, count: int = 32) -> float:
        return self.read_alike(model, count).value


class EmojiLatent(ScenesDiffusion, EmojiRecipe):
    """Latent diffusion of emoji; U-Net and text encoder learn together from the start.

    All pictures are encoded once. Each epoch has their latents again, and captions in new words.
    """

    name = "emoji-latent"
    components = ("emoji-vae", None)
    goal = "top5"
    settings = dict(
        steps=5000,
        optimizer=Optimizer("muon", lr=3e-3, warmup=30),
        ema=0.999,
        scale=Scale(accumulate=2, precision="auto"),  # two processes take a batch each
    )
    batch_size = 32
    unet: ClassVar[dict] = dict(
        in_channels=24,
        channels=128,
        multipliers=(1, 1),
        layers_per_block=1,
        attention=(False, True),
        mlp_ratio=2,
        context_dim=192,
        film=True,
        size=8,
    )
    text: ClassVar[dict] = dict(dim=192, layers=3, heads=6)
    review = staticmethod(review)

    @property
    def words(self) -> frozenset[str]:
        return words()

    def prompt_encoder(self) -> PromptEncoder:
        """A tokenizer that knows every word of the concepts, of held-out ones too."""
        if self.has_emoji:
            said = [
                ", ".join([concept.phrase, *concept.keywords, f"{studio} style"])
                for concept in concepts()
                for studio in STUDIOS
            ]
            said.append(FRAME)
        else:
            said = self.said()
        tokenizer = self.tokenizer(said)
        if not self.has_emoji:
            tokenizer(said)  # refuses captions that are too long now, not during training
        return PromptEncoder(tokenizer, TextEncoder(len(tokenizer), LENGTH, **self.text))

    @staticmethod
    def tokenizer(captions: list[str]) -> Tokenizer:
        """A tokenizer for the words of these captions."""
        return Tokenizer.train(captions, 2048, LENGTH)

    def model(self) -> nn.Module:
        return TextUNet(self.unet, self.clip.text_encoder.kwargs, self.clip.tokenizer.kwargs)

    @functools.cached_property
    def latents(self) -> Tensor:
        """Of every training picture: (N, 24, 8, 8)."""
        first = range(len(self.data))  # epoch, in its shuffled order
        z = in_batches(lambda some: self.encode(*self.data.batch(some))[0], first)
        return z[np.argsort(endless(first, len(first), self.data.seed))]

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        if isinstance(self.data, Shards):  # a stream: no picture is kept
            return super().batch(index)
        places = range(index * self.batch_size, (index + 1) * self.batch_size)
        said = [self.data.caption(place) for place in places]
        chosen = endless(places, len(self.data), self.data.seed)
        return self.latents[chosen], self.clip.tokenizer(said)

    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        """The test loss, and what both judges see in as many trained as held-out pairs."""
        metrics = self.losses(model, count)
        return metrics + (emoji_metrics(self.draw(model), count) if self.has_emoji else [])

    def score(self, model: nn.Module, count: int = 32) -> float:
        return mean_share(emoji_metrics(self.draw(model), count), self.goal)


RECIPES = EmojiVAE, EmojiLatent
