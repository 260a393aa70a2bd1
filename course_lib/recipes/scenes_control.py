"""`scenes-control`: a ControlNet that steers `scenes-latent` with a layout (Zhang et al. 2023).

    course train scenes-control
    course sample "a red circle" --control scenes-control --control-image layout.png

A layout shows what is where, in white on black (`datasets.scenes.draw_layout`); the caption brings
the colours. Only the ControlNet trains. The U-Net, its text encoder and the autoencoder are those
of `scenes-latent`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.common.checkpoints import check_components, load_checkpoint
from course_lib.datasets.scenes import KINDS, Scenes
from course_lib.evaluation.layouts import overlap, placed
from course_lib.evaluation.metrics import Metric, mean, share
from course_lib.evaluation.oracle import PromptOracle
from course_lib.evaluation.prompts import in_batches
from course_lib.models import Controlled, ControlNet, TextUNet
from course_lib.pipelines import LatentDiffusion, text_to_image
from course_lib.recipes.scenes import ScenesDiffusion, ScenesLatent
from course_lib.training import Optimizer, Scale

BASE = "scenes-latent"  # the model that it steers
HELD_OUT = "new combinations"


@dataclass(frozen=True)
class Prompts:
    """Captions, and for each a layout: (B, 1, 64, 64) in [0, 1], with the centres of its shapes."""

    captions: list[str]
    layouts: Tensor
    centres: list[np.ndarray]

    @classmethod
    def of(cls, kind: str, count: int, contradict: bool = False) -> "Prompts":
        """Held-out scenes of a kind, each with its own layout, or with one that contradicts it.

        That one is the layout of the next scene none of whose shapes are in the caption.
        """
        scenes = Scenes(64, HELD_OUT, kind, seed=1, unsaid=0)
        captions = [scenes.caption(index) for index in range(count)]
        chosen = [another(scenes, index) for index in range(count)] if contradict else range(count)
        centres = [scenes.scene(index)[1][0] for index in chosen]
        return cls(captions, scenes.layouts(chosen), centres)

    def grade(self, images: Tensor) -> dict[str, Tensor]:
        """For each picture: "right" by its caption; "placed" and "overlap" by its layout."""
        verdicts = PromptOracle().judge(images, self.captions)
        return {
            "right": torch.tensor([verdict["all"] for verdict in verdicts]),
            "placed": torch.tensor(placed(images, self.centres)),
            "overlap": overlap(images, self.layouts),
        }


def another(scenes: Scenes, index: int) -> int:
    """The next scene that has no shape in common with this one."""
    shapes = names(scenes, index)
    while names(scenes, other := index + 1) & shapes:
        index = other
    return other


def names(scenes: Scenes, index: int) -> set[str]:
    return {thing.shape for thing in scenes.scene(index)[0].objects}


class ScenesControl(ScenesLatent):
    """A ControlNet for layouts, trained as in the paper: half of the captions are empty (§3.3)."""

    name, steers = "scenes-control", BASE
    goal, draws_captions, takes_folder = "placed", False, False
    settings = dict(
        steps=1200,
        optimizer=Optimizer("muon", lr=2e-3, warmup=30),
        ema=0.99,
        scale=Scale(precision="auto"),
    )
    pool = 600  # batches
    embedding_channels = 8, 16, 24, 32  # of the convolutions from 64 × 64 to 8 × 8
    he = True  # whether the layers for the layout start with weights that keep its contrast
    empty = 0.5  # the share of captions that training replaces by ""

    def __init__(self):
        super().__init__()
        self.base = load_checkpoint(TextUNet, BASE).requires_grad_(False)
        self.encoded = functools.cache(self.drawn)

    def data_fingerprint(self) -> dict[str, str]:
        return super().data_fingerprint() | {BASE: self.base.card["sha256"]}

    def begin(self, **changes):
        run = super().begin(**changes)
        self.base.to(run.device)
        return run

    def model(self) -> nn.Module:
        """A copy of the U-Net; random are only its layers for the layout, which start as `he`."""
        channels = self.embedding_channels
        controlnet = ControlNet.from_unet(self.base.unet, embedding_channels=channels)
        if self.he:
            he_initialised(controlnet)
        return controlnet.requires_grad_(True)

    def drawn(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, 12, 8, 8), token ids (B, 24), and layouts (B, 1, 64, 64) in bytes."""
        x0, ids = ScenesDiffusion.encode(self, *self.pairs(index))
        layouts = []
        for kind, part in self.kinds.items():
            count = int(part * self.batch_size)
            some = range(index * count, (index + 1) * count)
            layouts.append(Scenes(self.size, "train", kind).layouts(some))
        return x0, ids, as_bytes(torch.cat(layouts))

    def loss(self, model: nn.Module, data: tuple[Tensor, ...], p: float | None = None) -> Tensor:
        x0, ids, layouts = data
        controlled = Controlled(self.base.unet, model, as_image(layouts))

        def network(x: Tensor, timestep: Tensor, ids: Tensor) -> Tensor:
            with torch.no_grad():
                context = self.base.text_encoder(ids)  # (B, 24, 128)
            return controlled(x, timestep, context)

        return ScenesDiffusion.loss(self, network, (x0, ids), self.empty if p is None else p)

    def for_inference(self, model: nn.Module) -> nn.Module:
        return model

    def steered(self, model: nn.Module, layouts: Tensor, scale: float = 1.0) -> LatentDiffusion:
        """The pipeline of `scenes-latent`, steered by layouts (1 or B, 1, 64, 64) in [0, 1]."""
        check_components(model, {BASE: self.base})
        pipeline = self.pipeline(self.base)
        images = layouts.expand(-1, 3, -1, -1).to(pipeline.device)
        return replace(pipeline, unet=Controlled(pipeline.unet, model, images, scale))

    def draw(self, model: nn.Module, prompts: Prompts, scale: float | None = 1.0) -> Tensor:
        """A picture for each prompt, with seeds 0, 1, …: (B, 3, 64, 64); scale None: no control."""

        def some(captions: Sequence[str], layouts: Tensor, seeds: Sequence[int]) -> Tensor:
            steered = scale is not None
            pipeline = self.steered(model, layouts, scale) if steered else self.pipeline(self.base)
            return text_to_image(pipeline, captions, seeds)

        seeds = range(len(prompts.captions))
        return in_batches(some, prompts.captions, prompts.layouts, seeds)

    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        """Eight layouts, and below each its picture."""
        model = model.eval()
        prompts = [Prompts.of(kind, 3) for kind in KINDS]
        captions = [caption for each in prompts for caption in each.captions][:8]
        layouts = torch.cat([each.layouts for each in prompts])[:8]
        images = self.draw(model, Prompts(captions, layouts, []))
        return torch.cat([2 * layouts.expand(-1, 3, -1, -1) - 1, images]), ["layout"] * 8 + captions

    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        """The obedience to layouts and captions, for `count` prompts, a third of each kind.

        With each caption's own layout, without control, and with a layout that contradicts it.
        """
        metrics = []
        for case, scale, contradict in CASES:
            for n, kind in enumerate(KINDS):
                prompts = Prompts.of(kind, len(range(n, max(count, 6), 3)), contradict)
                grades = prompts.grade(self.draw(model, prompts, scale))
                where = dict(kind=kind, split=HELD_OUT)
                metrics += [
                    (mean if name == "overlap" else share)(name + case, values, **where)
                    for name, values in grades.items()
                ]
        return metrics

    def score(self, model: nn.Module, count: int = 32) -> float:
        """The share of pictures that follow their layouts."""
        prompts = [Prompts.of(kind, count) for kind in KINDS]
        verdicts = [each.grade(self.draw(model, each))["placed"] for each in prompts]
        return torch.cat(verdicts).double().mean().item()


def he_initialised(controlnet: ControlNet) -> None:
    """Weights of He et al. 2015, eq. 10, for the layers that read the layout, except the last.

    PyTorch's own are smaller by a factor of √6, so each layer would shrink the difference between
    two layouts to about a third, and little would be left of it after seven layers.
    """
    embedding = controlnet.controlnet_cond_embedding
    for layer in (embedding.conv_in, *embedding.blocks):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)


CASES = (  # name, scale of control, whether the layout contradicts the caption
    ("", 1.0, False),
    (" without control", None, False),
    (" with another layout", 1.0, True),
)


def as_bytes(layouts: Tensor) -> Tensor:
    """Layouts in [0, 1] as a PNG file stores them: 0 to 255."""
    return (255 * layouts).round().byte()


def as_image(layouts: Tensor) -> Tensor:
    """The ControlNet's input (B, 3, H, W) in [0, 1] from layouts (B, 1, H, W) in bytes."""
    return (layouts / 255).expand(-1, 3, -1, -1)


RECIPES = (ScenesControl,)
