"""The text-to-image model, in the three steps of Stable Diffusion, and a model in pixel space.

    scenes-vae      pictures (3, 64, 64) <-> latents (12, 8, 8)
    scenes-clip     captions and pictures in one embedding space; the U-Net uses its text encoder
    scenes-latent   the U-Net that turns noise into latents, guided by a caption; the text encoder
                    keeps training with it
    scenes-pixel    the same task without the autoencoder

Every batch is new and computed from its index, so no picture is used twice. Only `scenes-latent`
keeps the latents that it has encoded, and reuses them after 38,400 scenes.
"""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checkpoints import check_components, load_checkpoint
from course_lib.common.devices import autocast
from course_lib.datasets.fingerprint import fingerprint
from course_lib.datasets.folder import CaptionedFolder
from course_lib.datasets.scenes import KINDS, Scenes
from course_lib.datasets.scenes.captions import hard_negative
from course_lib.datasets.scenes.review import WORDS, review
from course_lib.datasets.shards import Shards
from course_lib.diffusion import (
    Diffusion,
    drop_condition,
    generators,
    guided,
    initial_noise,
    sample,
    straight,
)
from course_lib.evaluation.metrics import Metric, mean, mean_share, proportion, share
from course_lib.evaluation.prompts import (
    distance_metrics,
    prompt_metrics,
    reconstruction_metrics,
)
from course_lib.models import (
    CLIP,
    AutoencoderKL,
    Classifier,
    Pixels,
    PromptEncoder,
    TextUNet,
    Tokenizer,
    capture,
    retrieval,
)
from course_lib.pipelines import LatentDiffusion, text_to_image
from course_lib.recipes.recipe import Recipe
from course_lib.training import Optimizer, Scale, Training
from course_lib.training.seeding import seeded

Data = Scenes | CaptionedFolder | Shards
LENGTH = 24  # tokens of a caption, with its start and end


class ScenesRecipe(Recipe):
    """The data, which these recipes share: captioned scenes, or your own pictures."""

    size = 64  # pixels
    batch_size = 64
    kinds: ClassVar[dict] = {None: 1.0}  # kind of scene -> its share of a batch; None: all kinds
    takes_folder = True

    def __init__(self, data: Data | None = None):
        self.data, self.unseen = data or Scenes(self.size, "train"), None
        if isinstance(data, CaptionedFolder):
            self.data, self.unseen = data.split()

    @property
    def has_grammar(self) -> bool:
        """Whether the pictures are scenes, whose captions the oracle can check."""
        return isinstance(self.data, Scenes)

    def data_fingerprint(self) -> dict[str, str] | None:
        return None if self.has_grammar else {"pictures": fingerprint(self.data)}

    def pairs(self, index: int) -> tuple[Tensor, list[str]]:
        """Pictures and captions of a batch: (B, 3, 64, 64) and B sentences."""
        kinds = self.kinds if self.has_grammar else {None: 1.0}
        images, captions = [], []
        for kind, part in kinds.items():
            data = Scenes(self.size, "train", kind) if kind else self.data
            count = int(part * self.batch_size)
            some = data.batch(range(index * count, (index + 1) * count))
            images.append(some[0])
            captions += some[1]
        return torch.cat(images), captions

    def held_out(self, count: int) -> tuple[Tensor, list[str]]:
        """Pictures and complete captions of new combinations, a third for each kind of scene.

        Of the reader's own pictures a tenth; but those of training again if there are fewer than
        20, and if they are shards.
        """
        if self.unseen:
            return self.unseen.batch(range(min(count, len(self.unseen))))
        if not self.has_grammar:
            return self.data.batch(range(count))
        images, captions = [], []
        for n, kind in enumerate(KINDS[:count]):
            data = Scenes(self.size, "new combinations", kind, unsaid=0.0)
            some = data.batch(range(len(range(n, count, 3))))
            images.append(some[0])
            captions += some[1]
        return torch.cat(images), captions

    def said(self) -> list[str]:
        """Captions with all words that a tokenizer must know, those of held-out pictures too."""
        if self.unseen is not None:
            return self.data.captions + self.unseen.captions
        return [self.data.caption(index) for index in range(5000)]

    def hard_negatives(self, captions: list[str], seed: Sequence[int]) -> list[str]:
        """A hard negative for each caption; none without a grammar."""
        if not self.has_grammar:
            return []
        rng = np.random.default_rng(seed)
        return [hard_negative(caption, rng) for caption in captions]


class ScenesVAE(ScenesRecipe):
    """The autoencoder: 16 times fewer numbers than pixels (Rombach et al. 2022, §3.1).

    It trains with noise added to its latents, which makes diffusing them easier: important features
    get large values, and the decoder tolerates small errors (data/checkpoints/README.md).
    """

    name = "scenes-vae"
    goal = "right"  # the oracle reads the reconstruction like the original
    settings = dict(
        steps=4200,
        optimizer=Optimizer("muon", lr=4e-3),
        ema=0.99,
        scale=Scale(accumulate=2, precision="auto"),  # two processes take a batch each
    )
    batch_size = 16
    kinds: ClassVar[dict] = {None: 1 / 2, "pair": 1 / 2}  # pairs are the hardest
    kl_weight = 2e-4
    noise = 0.8  # at most, in standard deviations of the latents

    def model(self) -> nn.Module:
        return AutoencoderKL(
            latent_channels=12,
            channels=128,
            multipliers=(1,),
            decoder_layers_per_block=1,
            patch_size=8,
            stem_channels=16,
            attention=False,
        )

    def batch(self, index: int) -> Tensor:
        return self.pairs(index)[0]

    def loss(self, model: nn.Module, images: Tensor) -> Tensor:
        return model.loss(images, self.kl_weight, self.noise)[0]

    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        real, _ = self.held_out(16)  # two rows of eight, above two rows of reconstructions
        titles = ["real"] * len(real) + ["again"] * len(real)
        return torch.cat([real, model(to(model, real)).cpu()]), titles

    def publish(self, run: Training, *args, **kwargs):
        """First fits the latents' shift and scale to a thousand training pictures."""
        run.ema.fit_scaling(to(run.ema, self.data.batch(range(1000))[0]))
        return super().publish(run, *args, **kwargs)

    @torch.no_grad()
    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        images, _ = self.held_out(count)
        again = torch.cat([model(to(model, part)).cpu() for part in images.split(100)])
        errors = (again.clamp(-1, 1) - images).square().flatten(1).mean(1)
        psnr = mean("psnr", 10 * torch.log10(4 / errors))  # dB; pixels span 2
        return [psnr, *(reconstruction_metrics(model, count) if self.has_grammar else ())]

    def score(self, model: nn.Module, count: int = 32) -> float:
        return mean_share(reconstruction_metrics(model, count), self.goal)


class ScenesCLIP(ScenesRecipe):
    """Captions and pictures in one space (Radford et al. 2021), with hard negatives."""

    name = "scenes-clip"
    goal = "text_to_image"
    settings = dict(
        steps=550,
        optimizer=Optimizer("muon", lr=3e-3),
        ema=0.99,
        scale=Scale(precision="auto"),
    )
    batch_size = 96

    def model(self) -> nn.Module:
        captions = self.said()
        tokenizer = Tokenizer.train(captions, 256, LENGTH)
        tokenizer(captions)  # refuses captions that are too long now, not during training
        return CLIP(
            tokenizer=tokenizer.kwargs,
            text=dict(dim=128, layers=2, heads=4),
            image=dict(size=self.size, patch_size=4, channels=32, dim=128, layers=2, heads=4),
        )

    def batch(self, index: int) -> tuple[Tensor, list[str], list[str]]:
        images, captions = self.pairs(index)
        return images, captions, self.hard_negatives(captions, [self.data.seed, index])

    def loss(self, model: nn.Module, data) -> Tensor:
        return model.loss(*data)

    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        """Pictures, each with the caption that the model retrieves for it."""
        images, captions = self.held_out(24)
        with torch.no_grad():
            similarity = model.embed_image(to(model, images)) @ model.embed_text(captions).T
        return images, [captions[i] for i in similarity.argmax(1).tolist()]

    @torch.no_grad()
    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        """How often the right caption is found among 64, and how often it beats a hard negative.

        Measured on whole sets of 64: `count` is rounded down, to at least one set. Where fewer are
        held out, of a reader's own pictures, they are one set.
        """
        images, captions = self.held_out(max(64, count // 64 * 64))
        whole = len(images) // 64 * 64 or len(images)
        images, captions = images[:whole], captions[:whole]
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        pictures = torch.cat([model.embed_image(to(model, part)) for part in images.split(64)])
        right = model.embed_text(captions)
        found = [retrieval(pictures[some], right[some]) for some in order.split(64)]
        names = "image_to_text", "text_to_image"
        metrics = [
            proportion(name, value, len(images))
            for name, value in zip(names, np.mean(found, 0).tolist(), strict=True)
        ]
        if negatives := self.hard_negatives(captions, [0]):
            wrong = model.embed_text(negatives)
            refused = (pictures * right).sum(1) > (pictures * wrong).sum(1)
            metrics.append(share("hard_negatives_refused", refused))
        return metrics


class ScenesDiffusion(ScenesRecipe):
    """The process, the captions and the autoencoder, which the two diffusion models share.

    The text encoder starts as CLIP's and keeps training with the U-Net. To match whole captions,
    CLIP's encoder hardly needs to encode which of two objects is the red one, but a U-Net that
    draws both needs to know.
    """

    process = Diffusion(straight(shift=2.0), "flow")
    time_sampling, weighting = "logit_normal", "simple"
    unet: ClassVar[dict]  # keywords of the U-Net
    components: tuple[str | None, str | None]  # the checkpoints that it uses: autoencoder and CLIP
    scale = 2.5  # of guidance
    scales = -math.inf, math.inf  # the useful range of the guidance scale, if measured
    words, review = WORDS, staticmethod(review)  # of the captions, and what is unusual in one
    sampler = "ancestral"  # fresh noise at each step corrects errors of earlier steps
    steps = 20  # of the sampler, in `samples` and in what is measured
    goal, draws_captions = "right", True
    sample_every = 500

    def __init__(self, data: Data | None = None):
        super().__init__(data)
        vae = self.components[0]
        self.vae = load_checkpoint(AutoencoderKL, vae) if vae else Pixels()
        self.clip = self.prompt_encoder()

    def prompt_encoder(self) -> PromptEncoder:
        """The tokenizer, and the text encoder that the model's starts as."""
        return load_checkpoint(CLIP, self.components[1])

    def model(self) -> nn.Module:
        model = TextUNet(self.unet, self.clip.text_encoder.kwargs)
        model.text_encoder.load_state_dict(self.clip.text_encoder.state_dict())
        return model

    def data_fingerprint(self) -> dict[str, str]:
        """Includes the autoencoder and CLIP, because the latents and contexts depend on them."""
        parts = zip(self.components, (self.vae, self.clip), strict=True)
        sums = {name: part.card["sha256"] for name, part in parts if name}
        return (super().data_fingerprint() or {}) | sums

    def begin(self, **changes) -> Training:
        run = super().begin(**changes)
        self.vae.to(run.device), self.clip.to(run.device)
        return run

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        return self.encode(*self.pairs(index))

    @torch.no_grad()
    def encode(self, images: Tensor, captions: list[str]) -> tuple[Tensor, Tensor]:
        """The U-Net's training data: latents (B, 12, 8, 8) and token ids (B, 24)."""
        images = images.to(self.vae.scaling_factor.device)
        with autocast(images.device):
            return self.vae.encode(images).float(), self.clip.tokenizer(captions)

    def loss(self, model: nn.Module, data: tuple[Tensor, Tensor], p=0.1) -> Tensor:
        x0, ids = data  # ids (B, 24) are the condition; those of "" are the null condition
        ids = drop_condition(ids, self.clip.ids([""]), p)
        how = dict(weighting=self.weighting, time_sampling=self.time_sampling)
        return self.process.loss(model, x0, ids, **how)

    @torch.no_grad()
    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        images, captions = self.held_out(24)
        first = images[:1].to(self.vae.scaling_factor.device)
        shape = self.vae.encode(first).shape[1:]
        null, context = (model.text_encoder(to(model, self.clip.ids(c))) for c in ([""], captions))
        network = guided(model.unet, null, self.scale)
        draws = generators(range(len(captions)))
        noise = to(model, initial_noise(draws, shape))
        how = dict(steps=self.steps, generators=draws, sampler=self.sampler)
        z = sample(self.process, network, noise, context, **how)
        return self.vae.decode(z).clamp(-1, 1).cpu(), captions

    def pipeline(self, model: nn.Module) -> LatentDiffusion:
        """Uses CLIP's tokenizer, but the model's own text encoder, which kept training."""
        parts = zip(self.components, (self.vae, self.clip), strict=True)
        check_components(model, {name: part for name, part in parts if name})
        device = next(model.parameters()).device
        tokenizer = model.tokenizer or self.clip.tokenizer
        words = PromptEncoder(tokenizer, model.text_encoder)
        how = dict(size=self.size, scale=self.scale, steps=self.steps, sampler=self.sampler)
        if tokenizer.words == self.words:  # that is, not the reader's own captions
            how |= dict(scales=self.scales, review=self.review)
        return LatentDiffusion(self.process, model.unet, self.vae.to(device), words, **how)

    def draw(self, model: nn.Module) -> Callable[[Sequence[str], Sequence[int]], Tensor]:
        """The function (captions, seeds) -> pictures that samples with the pipeline."""
        return functools.partial(text_to_image, self.pipeline(model))

    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        """The test loss and, if the data is scenes, the oracle's verdict on samples."""
        draw, device = self.draw(model), next(model.parameters()).device
        metrics = self.losses(model, count)
        if self.has_grammar:
            features = load_checkpoint(Classifier, "scenes-features", device)
            metrics += prompt_metrics(draw, count)
            metrics += distance_metrics(draw, features, self.size, count)
        return metrics

    def score(self, model: nn.Module, count: int = 32) -> float:
        return mean_share(prompt_metrics(self.draw(model), count), self.goal)

    def losses(self, model: nn.Module, count: int) -> list[Metric]:
        """The test loss; of a reader's own pictures also the loss on as many that it trained on.

        The more the test loss is above the other, the more of the pictures were memorised.
        """
        if not self.unseen:
            images, captions = self.held_out(count)
            return [Metric("test_loss", self.fixed_loss(model, images, captions), len(images))]
        images, captions = self.held_out(min(count, len(self.data)))
        known = self.data.batch(range(len(images)))
        return [
            Metric(name, self.fixed_loss(model, *pair, draws=10), len(images))
            for name, pair in (("test_loss", (images, captions)), ("train_loss", known))
        ]

    @torch.no_grad()
    def fixed_loss(self, model: nn.Module, images: Tensor, captions: list[str], draws=1) -> float:
        """The training loss on these pictures, with fixed noise; `draws` times for each."""
        data = to(model, self.encode(images, captions))
        data = tuple(part.repeat(draws, *[1] * (part.dim() - 1)) for part in data)
        with seeded(0, 0, data[0].device):
            parts = zip(*(part.split(100) for part in data), strict=True)
            losses = [self.loss(model, part, p=0.0) for part in parts]
        return torch.stack(losses).mean().item()


class ScenesLatent(ScenesDiffusion):
    """Latent diffusion (Rombach et al. 2022): the three components working together.

    While it trains, a projection head also maps the features in the middle of the U-Net to those of
    CLIP's image encoder for the clean picture, position by position (REPA, Yu et al. 2025). This
    teaches the U-Net early what goes where. Sampling doesn't use the head, so it isn't published.
    """

    name = "scenes-latent"
    components = ("scenes-vae", "scenes-clip")
    # Of 384 pictures the oracle found right (± 1 to 2.4 %), python tests/benchmarks/guidance.py:
    #   scale       0    1   1.5  2.5   4    5    6    7    8   10   12   15   20   40
    #   right, %    0   80   93   96   94   90   84   78   71   55   42   24   10    0
    scales = 1.0, 6.0  # above 6, guidance does more harm than good
    settings = dict(
        steps=5000,
        optimizer=Optimizer("muon", lr=3e-3, warmup=30),
        ema=0.999,
        scale=Scale(accumulate=2, precision="auto"),  # two processes take a batch each
    )
    batch_size = 32
    kinds: ClassVar[dict] = {"single": 3 / 16, "pair": 5 / 8, "count": 3 / 16}
    pool = 1200  # batches that are drawn and encoded; later ones are mixed from these scenes
    alignment = 0.5  # the weight of the REPA loss
    unet = dict(
        in_channels=12,
        channels=128,
        multipliers=(1, 1),
        layers_per_block=1,
        attention=(False, True),
        mlp_ratio=2,
        context_dim=128,
        film=True,
        size=8,
    )

    def __init__(self, data: Data | None = None):
        super().__init__(data)
        self.encoded = functools.cache(super().batch)  # latents take 16 times less memory

    def batch(self, index: int) -> tuple[Tensor, ...]:
        if isinstance(self.data, Shards):  # a stream, so nothing is kept
            return super().batch(index)
        if index < self.pool:
            return self.encoded(index)
        share = index % 2  # so that each of two processes keeps only half of the pool
        chosen = torch.randint(self.pool // 2 * self.batch_size, (self.batch_size,)).tolist()
        places = [divmod(number, self.batch_size) for number in chosen]
        rows = ([part[n] for part in self.encoded(2 * b + share)] for b, n in places)
        return tuple(torch.stack(part) for part in zip(*rows, strict=True))

    def encode(self, images: Tensor, captions: list[str]) -> tuple[Tensor, ...]:
        """Latents, token ids, and CLIP's features on a grid of 4 × 4: (B, 128, 4, 4)."""
        images = images.to(self.vae.scaling_factor.device)
        x0, ids = super().encode(images, captions)
        with torch.no_grad(), autocast(images.device):
            seen = self.clip.image_encoder.patches(images).float()  # (B, 64, 128)
        seen = F.avg_pool2d(seen.mT.unflatten(2, (8, 8)), 2)  # (B, 128, 4, 4)
        return x0, ids, seen - seen.mean((0, 2, 3), keepdim=True)

    def model(self) -> nn.Module:
        model = super().model()
        width = round(self.unet["channels"] * self.unet["multipliers"][-1])
        model.projection_head = projection_head(width, self.clip.image_encoder.dim)
        return model

    def features(self, model: nn.Module) -> nn.Module:
        """The layer whose output is aligned with CLIP's features."""
        return model.unet.mid_block

    def project(self, model: nn.Module, h: Tensor) -> Tensor:
        """That output, in the space of CLIP's features: (B, 128, 4, 4)."""
        return model.projection_head(h)

    def loss(self, model: nn.Module, data: tuple[Tensor, ...], p=0.1) -> Tensor:
        *data, seen = data
        with capture(self.features(model)) as outputs:
            loss = super().loss(model, data, p)
        if not model.training:
            return loss
        projected = self.project(model, outputs[0]).float()  # (B, 128, 4, 4)
        return loss + self.alignment * (1 - F.cosine_similarity(projected, seen)).mean()

    def for_inference(self, model: nn.Module) -> nn.Module:
        model = copy.deepcopy(model)
        del model.projection_head
        return model


class ScenesPixel(ScenesDiffusion):
    """The same task in pixel space, with three more resolutions above those of the U-Net."""

    name = "scenes-pixel"
    ships = False  # too large for what it achieves in a few minutes
    components = (None, "scenes-clip")
    settings = dict(
        steps=400,
        optimizer=Optimizer("muon", lr=3e-3, warmup=30),
        ema=0.999,
        scale=Scale(precision="auto"),
    )
    unet = dict(
        in_channels=3,
        channels=16,
        multipliers=(1, 2, 3, 4, 8),
        layers_per_block=1,
        attention=(False, False, False, True, True),
        heads=2,
        mlp_ratio=2,
        context_dim=128,
    )


def projection_head(channels: int, dim: int) -> nn.Sequential:
    """Maps a denoiser's features (B, channels, h, w) to those of another network (B, dim, h, w)."""
    return nn.Sequential(nn.Conv2d(channels, 2 * dim, 1), nn.SiLU(), nn.Conv2d(2 * dim, dim, 1))


def to(model: nn.Module, x):
    """A tensor, or a tuple of them, on the model's device."""
    device = next(model.parameters()).device
    return tuple(to(model, each) for each in x) if isinstance(x, tuple) else x.to(device)


RECIPES = ScenesVAE, ScenesCLIP, ScenesLatent, ScenesPixel
