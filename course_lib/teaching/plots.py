"""The course's figures: one style, colours that colour-blind readers can tell apart.

Each `..._figure` function builds a matplotlib `Figure`, and `show` displays it in a notebook. No
function uses pyplot's global state, so the command line can call them too.
"""

import functools
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from course_lib.teaching.lettering import columns as columns_of
from course_lib.teaching.lettering import drawable, families
from course_lib.teaching.style import COLOURS, DASHES, GREY, PNG_LIMIT, canvas, png, styled


def pixels(images: Tensor) -> Tensor:
    """Images (B, 1 or 3, H, W) in [-1, 1] -> (B, H, W, 3) in [0, 1], clipped.

    ValueError: another shape, or integers (pictures in 0..255).

    >>> pixels(torch.zeros(1, 1, 2, 2)).shape
    torch.Size([1, 2, 2, 3])
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a tensor (B, 1 or 3, H, W), got {type(images).__name__}")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"images must be (B, 1 or 3, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be floats in [-1, 1], got {images.dtype}")
    rgb = images.detach().float().cpu().expand(-1, 3, -1, -1)  # (B, 3, H, W)
    return ((rgb + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)


@styled
def grid_figure(
    images: Tensor,
    captions: Sequence[str] | None = None,
    title: str | None = None,
    columns: int | None = None,
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    cell: float = 1.3,
) -> Figure:
    """A grid of images, each with its caption below, as it was typed.

    images (B, 1 or 3, H, W) in [-1, 1]; captions: B strings, wrapped to the width of an image;
    columns: at most 8 by default; row_labels on the left, column_labels on top;
    cell: the width of an image in inches. ValueError: images of another kind, a list too short.

    >>> show(grid_figure(torch.zeros(2, 3, 8, 8), ["left", "right"]))  # doctest: +SKIP
    """
    rgb, count = pixels(images), len(images)
    columns = columns or min(count, 8)
    rows = -(-count // columns)
    for name, labels, expected in (
        ("captions", captions, count),
        ("row_labels", row_labels, rows),
        ("column_labels", column_labels, columns),
    ):
        if labels is not None and len(labels) != expected:
            raise ValueError(f"{name} must hold {expected} texts, got {len(labels)}")

    line, gap = 0.155, 0.12  # inches: a line of 8-point text, the space between images
    letters = max(8, int(cell * 15))  # of 8 points, to the width of an image
    wrapped = [_wrap(text, letters) for text in ([""] * count if captions is None else captions)]
    above = [_wrap(label, letters) for label in column_labels or []]
    beside = [_wrap(label, 24) for label in row_labels or []]
    title = drawable(title or "")
    below = line * max(text.count("\n") + bool(text) for text in wrapped)
    widest = max((columns_of(line) for label in beside for line in label.split("\n")), default=0)
    left = gap + (0.05 + 0.075 * widest if beside else 0)
    top = gap + (0.3 if title else 0)
    if above:
        top += line * (1.2 + max(label.count("\n") for label in above))
    step_x, step_y = cell + gap, cell + below + gap
    width, height = left + columns * step_x, top + rows * step_y
    if title:
        width = max(width, 0.092 * columns_of(title))

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    family = families("".join([title, *wrapped, *above, *beside]))
    write = functools.partial(axes.text, family=family, parse_math=False)
    for i in range(count):
        x, y = left + i % columns * step_x, top + i // columns * step_y
        box = (x, x + cell, y + cell, y)
        axes.imshow(rgb[i].numpy(), extent=box, interpolation="nearest", aspect="auto")
        axes.add_patch(Rectangle((x, y), cell, cell, fill=False, edgecolor=GREY, linewidth=0.5))
        write(x + cell / 2, y + cell + 0.04, wrapped[i], size=8, ha="center", va="top")
    for row, label in enumerate(beside):
        y = top + row * step_y + cell / 2
        write(left - 0.08, y, label, size=9, ha="right", va="center")
    for column, label in enumerate(above):
        x = left + column * step_x + cell / 2
        write(x, top - 0.05, label, size=9, ha="center", va="bottom")
    if title:
        write(gap, gap, title, size=11, ha="left", va="top")
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def _wrap(text: str, width: int) -> str:
    """The text, wrapped to lines of `width` letters; a wide letter counts as two."""
    text = "".join(letter + "\0" * (columns_of(letter) - 1) for letter in drawable(str(text)))
    return "\n".join(textwrap.wrap(text, width)).replace("\0", "")


def as_image(figure: Figure, alt: str = "", limit: int | None = PNG_LIMIT) -> Image:
    """The figure as a notebook displays it, sharp on any screen; `alt` describes it in words.

    limit: the PNG's maximal size in bytes; None if it won't be saved in the notebook.
    """
    return Image(png(figure, limit), width=int(figure.get_figwidth() * 90), alt=alt or None)


def show(figure: Figure, alt: str = "", limit: int = PNG_LIMIT) -> None:
    """Display the figure in the notebook; `alt` describes it for those who can't see it.

    limit: the PNG's maximal size in bytes, for chapters with many pictures.
    """
    display(as_image(figure, alt, limit))


def show_grid(
    images: Tensor,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    *,
    alt: str = "",
    limit: int = PNG_LIMIT,
    **layout,
) -> None:
    """Display a `grid_figure`; `layout`: its other keywords."""
    show(grid_figure(images, labels, title, **layout), alt, limit)


@styled
def curves_figure(
    curves: Mapping[str, tuple[Sequence, Sequence]],
    title: str,
    x: str,
    y: str,
    *,
    smooth: int = 1,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Curves by name, each (xs, ys), distinguished by colour and dashes.

    smooth: average over this many neighbouring points, with the raw curve faint behind.

    >>> figure = curves_figure({"loss": ([1, 2, 3], [1.0, 0.5, 0.4])}, "Training", "step", "loss")
    """
    figure, axes = canvas()
    for i, (name, (xs, ys)) in enumerate(curves.items()):
        xs, ys = np.asarray(xs, float), np.asarray(ys, float)
        width = min(smooth, max(1, len(ys) // 3))
        if width > 1:
            axes.plot(xs, ys, color=COLOURS[i % 6], alpha=0.15, linewidth=0.8)
            ys = np.convolve(ys, np.ones(width) / width, mode="valid")
            xs = xs[width // 2 : width // 2 + len(ys)]
        axes.plot(xs, ys, color=COLOURS[i % 6], linestyle=DASHES[i % 4], label=name)
    axes.set(xlabel=x, ylabel=y, xscale="log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    if log_y:
        _plain_numbers(axes)
    axes.set_title(title, loc="left")
    if len(curves) > 1:
        axes.legend()
    return figure


def _plain_numbers(axes: Axes) -> None:
    """Label a logarithmic y axis 1, 2, 5, 10, ... where it spans less than two decades.

    Matplotlib labels powers of ten only, or 2 × 10⁰, 3 × 10⁰ and so on, on such an axis.
    """
    lowest, highest = axes.get_ylim()
    if highest < 100 * lowest:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def strip_figure(
    path: Sequence[Tensor], title: str, captions: Sequence[str] | None = None, columns: int = 8
) -> Figure:
    """A trajectory as film strips: a row for each sample, with `columns` steps from left to right.

    path: the images (B, C, H, W) at each step, first to last; captions: B strings at the left.
    """
    if not len(path):
        raise ValueError("path: expected the images of at least one step, got none")
    moments = np.linspace(0, len(path) - 1, min(columns, len(path))).round().astype(int)
    frames = torch.stack([path[i] for i in moments], dim=1).flatten(0, 1)  # (B·columns, C, H, W)
    steps = [f"step {i}" if i else "noise" for i in moments]
    return grid_figure(
        frames, None, title, len(moments), row_labels=captions, column_labels=steps, cell=1.0
    )
