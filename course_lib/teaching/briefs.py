"""An advertiser's brief for chapter 12: a product whose pixels stay, a palette, room for text.

    brief = Brief()
    captions = brief.variations(8, seed=0)
    images = constrained(model, captions, brief.projection(["product", "text", "palette"]))
    kept("palette", images, captions, brief)      # [True, ...]

Each condition on pixels has a projection: the nearest picture that satisfies it.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from course_lib.common.registry import choose
from course_lib.datasets.scenes.captions import write
from course_lib.datasets.scenes.dataset import render
from course_lib.datasets.scenes.grammar import COLOURS, SHAPES, Object, Scene
from course_lib.evaluation.oracle import PromptOracle

CONDITIONS = ("product", "text", "palette", "caption")
ORDER = {  # name of a method -> the conditions that it enforces
    "the caption alone": (),
    "+ product": ("product",),
    "+ room for text": ("product", "text"),
    "+ palette": ("product", "text", "palette"),
}
CLOSE = 0.2  # of [-1, 1]: a pixel is as wanted if no channel is farther off


class Brief:
    """A red circle is the product; the colours are red, yellow and white; the top is for text.

    product, where: the pixels that stay, (1, 3, 64, 64), and where they are, (1, 1, 64, 64).
    rows: the number of rows at the top that stay white. palette: (3, 3) in [-1, 1].
    """

    palette_names = ("red", "yellow", "white")
    rows = 20

    def __init__(self):
        circle = Scene("single", (Object("large", "red", "circle"),), "white")
        centre, radius = np.array([0.26, 0.66]), 0.19
        self.product = render([circle], [centre[None]], [np.array([radius])])
        away = (torch.arange(64) + 0.5) / 64
        distance = torch.hypot(away[None] - centre[0], away[:, None] - centre[1])  # (64, 64)
        self.where = (distance < radius)[None, None]
        self.palette = 2 * torch.tensor([COLOURS[name] for name in self.palette_names]) - 1

    def variations(self, count: int, seed: int) -> list[str]:
        """Captions: the product and another object, whose colour is the model's choice."""
        rng = np.random.default_rng([15, seed])
        product = Object("large", "red", "circle")
        others = [
            Object(str(rng.choice(["small", "large"])), None, str(rng.choice(SHAPES)))
            for _ in range(count)
        ]
        return [
            write(Scene("pair", (product, other), "white", relation="left of", count=2))
            for other in others
        ]

    def with_product(self, images: Tensor) -> Tensor:
        return torch.where(self.where, self.product, images)

    def with_room(self, images: Tensor) -> Tensor:
        plain = self.palette[-1].view(1, 3, 1, 1).expand_as(images)
        top = torch.arange(64).view(1, 1, 64, 1) < self.rows
        return torch.where(top, plain, images)

    def in_palette(self, images: Tensor) -> Tensor:
        """Each pixel in the nearest colour of the palette."""
        away = (images[:, None] - self.palette.view(1, -1, 3, 1, 1)).square().sum(2)  # (B, K, H, W)
        return self.palette[away.argmin(1)].permute(0, 3, 1, 2)

    def projection(self, parts: Iterable[str]) -> Callable[[Tensor], Tensor]:
        """The function that enforces these conditions, the product last."""
        known = {"product": self.with_product, "text": self.with_room, "palette": self.in_palette}
        chosen = [choose("condition", part, known) for part in parts]

        def project(images: Tensor) -> Tensor:
            for each in reversed(chosen):
                images = each(images)
            return images

        return project


def kept(condition: str, images: Tensor, captions: Sequence[str], brief: Brief) -> list[bool]:
    """Whether each picture satisfies a condition.

    "product": its pixels are as they were; "text": the rows at the top are plain; "palette": 99 %
    of the pixels have one of its colours, or lie between two of them, as edges do; "caption": the
    oracle finds everything that the caption says.
    """
    if condition == "caption":
        return [verdict["all"] for verdict in PromptOracle().judge(images, captions)]
    images = images.cpu()
    if condition == "palette":
        return (off_palette(images, brief.palette) <= 0.01).tolist()
    project = brief.projection([condition])
    return ((images - project(images)).abs().amax((1, 2, 3)) <= CLOSE).tolist()


def off_palette(images: Tensor, palette: Tensor) -> Tensor:
    """The share of pixels that are neither a colour of the palette nor a blend of two: (B,)."""
    x = images.permute(0, 2, 3, 1)  # (B, H, W, 3)
    nearest = torch.full(x.shape[:3], torch.inf)
    for i, a in enumerate(palette):
        for b in palette[i + 1 :]:
            along = ((x - a) @ (b - a) / (b - a).square().sum()).clamp(0, 1)
            on = a + along[..., None] * (b - a)
            nearest = torch.minimum(nearest, (x - on).abs().amax(3))
    return (nearest > CLOSE).float().mean((1, 2))
