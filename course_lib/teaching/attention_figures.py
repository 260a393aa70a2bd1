"""Figures of attention: which position reads which word, and how much.

In a heat map, brighter means a larger attention weight. A thin line outlines the objects in the
picture, so that you can compare the map with the picture.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.teaching.plots import pixels
from course_lib.teaching.style import BLUE, ORANGE, RED, canvas, styled


@styled
def attention_figure(
    image: Tensor,
    words: Sequence[str],
    heat: Tensor,
    title: str = "",
    columns: int = 8,
    outline: bool = True,
    top: float | None = None,
) -> Figure:
    """An image, and for each word a heat map of the weights with which positions read it.

    image (1, 3, H, W) in [-1, 1]; heat (len(words), h, w), at least 0. Each map goes from 0, dark,
    to its own maximum, bright, or to `top`; its smallest and largest weight are below it.
    """
    if len(words) != len(heat):
        raise ValueError(f"heat: expected a map for each of {len(words)} words, got {len(heat)}")
    rows = -(-(1 + len(words)) // columns)
    figure, axes = canvas(rows, columns, (1.2 * columns, 1.65 * rows + 0.35 * bool(title)), title)
    axes = np.ravel(axes)
    for axis in axes[1 + len(words) :]:
        axis.axis("off")
    picture_on(axes[0], image)
    axes[0].set_xlabel("the picture\n", size=9)
    for axis, word, weights in zip(axes[1:], words, heat, strict=False):
        heat_on(axis, weights, image if outline else None, top)
        axis.set_xlabel(f"{word}\n{weights.min():.3f} to {weights.max():.3f}", size=9)
    return figure


@styled
def token_figure(
    image: Tensor, tokens: Sequence[str], heat: Tensor, token: str, top: float = 1
) -> Figure:
    """The picture, the heat map of one token, and the mean weight of each token as bars.

    image (1, 3, H, W) in [-1, 1]; heat (len(tokens), h, w): at each position the weights sum to 1;
    top: where the bars' axis ends.
    """
    figure, (left, middle, right) = canvas(1, 3, size=(8, 2.9))
    chosen = list(tokens).index(token)
    picture_on(left, image)
    left.set_title("the picture", size=9)
    heat_on(middle, heat[chosen], image)
    low, high = heat[chosen].min(), heat[chosen].max()
    middle.set_title(f"“{token}”: {low:.3f} to {high:.3f}", size=9)
    colours = [ORANGE if i == chosen else BLUE for i in range(len(tokens))]
    right.barh(range(len(tokens)), heat.mean((1, 2)), color=colours)
    right.set_yticks(range(len(tokens)), tokens, size=8)
    right.invert_yaxis()
    right.set(xlim=(0, 1.05 * top), xlabel="mean attention weight")
    return figure


def picture_on(axis: Axes, image: Tensor) -> None:
    axis.imshow(pixels(image)[0].numpy(), extent=(0, 1, 1, 0))
    _bare(axis)


def heat_on(
    axis: Axes, weights: Tensor, image: Tensor | None = None, top: float | None = None
) -> None:
    """One heat map (h, w), from 0 to its maximum or to `top`, with the image's outlines over it."""
    axis.imshow(weights.cpu().numpy(), vmin=0, vmax=top, extent=(0, 1, 1, 0))
    if image is not None and 0 < (shape := objects(image)).mean() < 1:
        height, width = shape.shape
        x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        axis.contour(x, y, shape, levels=[0.5], colors=RED, linewidths=1.2)
    _bare(axis)


def objects(image: Tensor) -> np.ndarray:
    """1 where an image (1, 3, H, W) in [-1, 1] is unlike its background, else 0: (H, W).

    The background is the median colour of the edge.
    """
    rgb = pixels(image)[0].numpy()  # (H, W, 3)
    edge = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    return (np.abs(rgb - np.median(edge, axis=0)).max(axis=2) > 0.25).astype(float)


def number_table(
    axis: Axes,
    values: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    form: str = "{:.2f}",
    top: float | None = None,
) -> None:
    """A table of numbers (rows, columns) in cells from dark, 0, to bright, `top`."""
    image = axis.imshow(values, vmin=0, vmax=top, aspect="auto")
    for (i, j), value in np.ndenumerate(np.asarray(values)):
        ink = "black" if value > 0.6 * image.norm.vmax else "white"
        axis.text(j, i, form.format(value), ha="center", va="center", color=ink, size=9)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.grid(visible=False)


def _bare(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
