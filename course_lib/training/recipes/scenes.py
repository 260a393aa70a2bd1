"""The text-to-image model, in the three steps of Stable Diffusion, and its rival in pixel space.

    scenes-vae      pictures (3, 64, 64) <-> latents (12, 8, 8)
    scenes-clip     captions <-> pictures in one space; its text encoder is what the U-Net reads
    scenes-latent   the U-Net that turns noise into latents, guided by a caption
    scenes-pixel    the same job without the autoencoder

Every batch is drawn anew, by the step's number: no picture is seen twice.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.datasets.captions import contradict
from course_lib.datasets.folder import CaptionedFolder
from course_lib.datasets.scenes import KINDS, Scenes
from course_lib.diffusion import (
    Diffusion,
    drop_condition,
    generators,
    guided,
    initial_noise,
    sample,
    straight,
)
from course_lib.models import CLIP, AutoencoderKL, Pixels, Tokenizer, UNet, retrieval
from course_lib.training.checkpoints import load_checkpoint
from course_lib.training.loop import Training, seeded
from course_lib.training.recipes.recipe import Recipe

SIZE = 64  # pixels
LENGTH = 24  # tokens of a caption, with its start and end


class ScenesRecipe(Recipe):
    """What they share: the data, the captioned scenes, or a reader's own `CaptionedFolder`."""

    batch_size = 64
    takes_folder = True

    def __init__(self, data: Scenes | CaptionedFolder | None = None):
        self.data = data or Scenes(SIZE, "train")

    def pairs(self, step: int) -> tuple[Tensor, list[str]]:
        """Pictures and captions of a step: (B, 3, 64, 64) and B sentences."""
        return self.data.batch(range(step * self.batch_size, (step + 1) * self.batch_size))

    def held_out(self, count: int) -> tuple[Tensor, list[str]]:
        """New combinations, a third of each kind: pictures and captions that leave nothing unsaid.

        A folder holds nothing out: its own pictures.
        """
        if isinstance(self.data, CaptionedFolder):
            return self.data.batch(range(count))
        images, captions = [], []
        for n, kind in enumerate(KINDS):
            data = Scenes(SIZE, "new combinations", kind, unsaid=0.0)
            some = data.batch(range(len(range(n, count, 3))))
            images.append(some[0])
            captions += some[1]
        return torch.cat(images), captions

    def lies(self, captions: list[str], seed: Sequence[int]) -> list[str]:
        """A caption like each of these that its picture refutes; none where no grammar is known."""
        if isinstance(self.data, CaptionedFolder):
            return []
        rng = np.random.default_rng(seed)
        return [contradict(caption, rng) for caption in captions]


class ScenesVAE(ScenesRecipe):
    """The autoencoder: 16 times fewer numbers than pixels (Rombach et al. 2022, §3.1).

    Encoding such plain pictures is easy: a linear map does it, and leaves the time to the decoder.
    """

    name = "scenes-vae"
    settings = dict(steps=4000, lr=4e-3, optimizer="muon", ema=0.99, precision="auto")
    batch_size = 32
    kl_weight = 2e-4  # its noise costs half of it in squared error, and makes decoding robust

    def model(self) -> nn.Module:
        return AutoencoderKL(
            latent_channels=12,
            channels=128,
            multipliers=(1,),
            decoder_blocks=1,
            patch=8,
            planes=16,
            linear=True,
            attention=False,
        )

    def batch(self, step: int) -> Tensor:
        return self.pairs(step)[0]

    def loss(self, model: nn.Module, images: Tensor) -> Tensor:
        return model.loss(images, self.kl_weight)[0]

    def pictures(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        real, _ = self.held_out(15)
        return torch.cat([real, model(to(model, real)).cpu()]), ["real"] * 15 + ["again"] * 15

    def publish(self, run: Training, *args, **kwargs):
        """With shift and scale of the latents, from a thousand training pictures."""
        run.ema.fit_scaling(to(run.ema, self.data.batch(range(1000))[0]))
        return super().publish(run, *args, **kwargs)

    @torch.no_grad()
    def measure(self, model: nn.Module, count: int) -> dict[str, float]:
        images, _ = self.held_out(count)
        again = torch.cat([model(to(model, part)).cpu() for part in images.split(100)])
        errors = (again.clamp(-1, 1) - images).square().flatten(1).mean(1)
        return {"psnr": (10 * torch.log10(4 / errors)).mean().item()}  # dB; pixels span 2


class ScenesCLIP(ScenesRecipe):
    """Captions and pictures in one space (Radford et al. 2021), with captions that lie."""

    name = "scenes-clip"
    settings = dict(steps=550, lr=3e-3, optimizer="muon", ema=0.99, precision="auto")
    batch_size = 96

    def model(self) -> nn.Module:
        tokenizer = Tokenizer.train(map(self.data.caption, range(5000)), 256, LENGTH)
        return CLIP(
            tokenizer=tokenizer.kwargs,
            text=dict(dim=128, layers=2, heads=4),
            image=dict(size=SIZE, patch=4, channels=32, dim=128, layers=2, heads=4),
        )

    def batch(self, step: int) -> tuple[Tensor, list[str], list[str]]:
        images, captions = self.pairs(step)
        return images, captions, self.lies(captions, [self.data.seed, step])

    def loss(self, model: nn.Module, data) -> Tensor:
        return model.loss(*data)

    def pictures(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        """Pictures, each under the caption that the model finds for it."""
        images, captions = self.held_out(24)
        with torch.no_grad():
            similarity = model.embed_image(to(model, images)) @ model.embed_text(captions).T
        return images, [captions[i] for i in similarity.argmax(1).tolist()]

    @torch.no_grad()
    def measure(self, model: nn.Module, count: int) -> dict[str, float]:
        """Of 64 captions, how often is the right one found; of two, the right and a lie."""
        images, captions = self.held_out(count // 64 * 64)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        pictures = torch.cat([model.embed_image(to(model, part)) for part in images.split(64)])
        right = model.embed_text(captions)
        found = [retrieval(pictures[some], right[some]) for some in order.split(64)]
        figures = dict(zip(("image_to_text", "text_to_image"), np.mean(found, 0), strict=True))
        if lies := self.lies(captions, [0]):
            wrong = model.embed_text(lies)
            refused = (pictures * right).sum(1) > (pictures * wrong).sum(1)
            figures["lies_refused"] = refused.double().mean()
        return {name: float(share) for name, share in figures.items()}


class ScenesDiffusion(ScenesRecipe):
    """What the two diffusion models share: the process, the captions, and an autoencoder."""

    process = Diffusion(straight(shift=2.0), "flow")
    components: tuple[str | None, str]  # the checkpoints it is built on: autoencoder and CLIP
    scale = 2.0  # of guidance
    look_every = 500

    def __init__(self, data: Scenes | CaptionedFolder | None = None):
        super().__init__(data)
        vae, clip = self.components
        self.vae = load_checkpoint(AutoencoderKL, vae) if vae else Pixels()
        self.clip = load_checkpoint(CLIP, clip)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        images, captions = self.pairs(step)
        return images, self.clip.tokenizer(captions)  # (B, 3, 64, 64), (B, 24)

    def loss(self, model: nn.Module, data: tuple[Tensor, Tensor], p=0.1) -> Tensor:
        images, ids = data
        vae, clip = self.vae.to(images.device), self.clip.to(images.device)
        with torch.no_grad():
            x0 = vae.encode(images)  # (B, 12, 8, 8)
            context, empty = clip.text(ids), clip.context([""])  # (B, 24, 128), (1, 24, 128)
        return self.process.loss(model, x0, drop_condition(context, empty, p), times="logit_normal")

    @torch.no_grad()
    def pictures(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        images, captions = self.held_out(24)
        shape = self.vae.encode(to(self.vae, images[:1])).shape[1:]
        network = guided(model, self.clip.context([""]), self.scale)
        noise = to(model, initial_noise(generators(range(24)), shape))
        z = sample(self.process, network, noise, self.clip.context(captions))
        return self.vae.decode(z).clamp(-1, 1).cpu(), captions

    @torch.no_grad()
    def measure(self, model: nn.Module, count: int) -> dict[str, float]:
        """The training loss on held-out scenes, with fixed noise; `course evaluate` does more."""
        images, captions = self.held_out(count)
        ids, losses = self.clip.tokenizer(captions), []
        with seeded(0, 0, torch.device("cpu")):
            for data in zip(images.split(100), ids.split(100), strict=True):
                losses.append(self.loss(model, to(model, data), p=0.0))
        return {"test_loss": torch.stack(losses).mean().item()}


class ScenesLatent(ScenesDiffusion):
    """Latent diffusion (Rombach et al. 2022): the three components working together."""

    name = "scenes-latent"
    components = ("scenes-vae", "scenes-clip")
    settings = dict(steps=4600, lr=3e-3, warmup=30, optimizer="muon", ema=0.999, precision="auto")

    def model(self) -> nn.Module:
        return UNet(
            in_channels=12,
            channels=64,
            multipliers=(1, 2),
            blocks=1,
            attention=(False, True),
            mlp=2,
            context_dim=128,
            pooled=True,
            film=True,
            size=8,
        )


class ScenesPixel(ScenesDiffusion):
    """The same job on the pixels themselves: three more stages above the U-Net's."""

    name = "scenes-pixel"
    components = (None, "scenes-clip")
    settings = dict(steps=400, lr=3e-3, warmup=30, optimizer="muon", ema=0.999, precision="auto")

    def model(self) -> nn.Module:
        return UNet(
            in_channels=3,
            channels=16,
            multipliers=(1, 2, 3, 4, 8),
            blocks=1,
            attention=(False, False, False, True, True),
            heads=2,
            mlp=2,
            context_dim=128,
        )


def to(model: nn.Module, x):
    """A tensor, or a tuple of them, on the model's device."""
    device = next(model.parameters()).device
    return tuple(to(model, each) for each in x) if isinstance(x, tuple) else x.to(device)
