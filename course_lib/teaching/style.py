"""The style of the course's figures: colours, fonts, and the size of image files."""

import io
from functools import wraps

import matplotlib
from matplotlib.figure import Figure
from PIL import Image as Picture

BLUE, ORANGE, GREEN, RED, PINK, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
INK, GREY = "#222222", "#777777"
COLOURS = [BLUE, ORANGE, GREEN, RED, PINK, SKY]  # Okabe & Ito's palette
STYLE = {
    "figure.facecolor": "white",  # opaque: the same on light and dark pages
    "axes.facecolor": "white",
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "axes.titlesize": 11,
    "font.size": 10,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.cmap": "cividis",
}
DASHES = ["-", "--", "-.", ":"]
DPI, PNG_LIMIT = 144, 150_000


def styled(function):
    """A decorator: the function draws in the course's style; matplotlib's settings are kept."""

    @wraps(function)
    def inner(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return inner


def use_style() -> None:
    """Switch to the course's style for all later figures; a chapter's set-up cell calls this."""
    matplotlib.rcParams.update(STYLE)


@styled
def canvas(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7, 3.4), title: str = ""):
    """An empty figure and its axes, laid out so that nothing overlaps.

    >>> figure, (left, right) = canvas(1, 2, title="Two panels")
    """
    figure = Figure(figsize=size, layout="constrained")
    if title:
        figure.suptitle(title, size=11, x=0.01, ha="left")
    return figure, figure.subplots(rows, columns)


def png(figure: Figure, limit: int | None = PNG_LIMIT) -> bytes:
    """The figure as an opaque PNG of at most `limit` bytes; None means any size, and is faster."""
    buffer = io.BytesIO()
    fast = {"compress_level": 1}  # `shrink` compresses it again
    figure.savefig(buffer, format="png", dpi=DPI, pil_kwargs=fast)
    return shrink(buffer.getvalue(), limit) if limit else buffer.getvalue()


def few_colours(image: Picture.Image) -> Picture.Image:
    """The image in 256 colours, including rare ones; Pillow's median cut loses small circles."""
    return image.quantize(256, method=Picture.Quantize.MAXCOVERAGE, kmeans=1)


def shrink(picture: bytes, limit: int = PNG_LIMIT) -> bytes:
    """The same PNG without metadata in at most `limit` bytes: fewer colours, then fewer pixels.

    Drawings have few colours and always get 256: a third of the bytes, no visible difference.
    ValueError if even a quarter of the pixels in 256 colours takes more.
    """
    full = Picture.open(io.BytesIO(picture)).convert("RGB")
    palettes = (256,) if full.getcolors(maxcolors=4096) else (None, 256)
    for share in (1, 0.7, 0.5):
        size = int(full.width * share), int(full.height * share)
        image = full if share == 1 else full.resize(size)
        for colours in palettes:
            buffer = io.BytesIO()
            version = few_colours(image) if colours else image
            version.save(buffer, format="png", optimize=True)
            if buffer.tell() <= limit:
                return buffer.getvalue()
    raise ValueError(f"figure: expected at most {limit} bytes, got at least {buffer.tell()}")
