"""The shapes that all schematics are drawn with, so that they look alike.

The unit of a `Sheet` is the inch, and its origin is the lower left corner. Each method draws one
shape around a centre (x, y) and returns it, and `arrow` joins the middles of two sides:

    sheet = Sheet(4, 1)
    x, network = sheet.feature_map(0.6, 0.5, "x"), sheet.box(2.5, 0.5, 1.4, 0.6, "U-Net", BLUE)
    sheet.arrow(x.right, network.left)
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.path import Path

from course_lib.teaching.style import BLUE, GREY, INK, styled

SMALL, BODY = 8, 9  # points; no text is smaller
LINE = 0.152  # inches from one small line to the next

Point = tuple[float, float]


def tint(colour: str, share: float = 0.16) -> tuple[float, ...]:
    """This share of the colour, mixed with white, for the inside of a shape."""
    return tuple(1 - share * (1 - part) for part in to_rgb(colour))


def times(shape: Sequence[int]) -> str:
    """A shape in words: (4, 8, 8) -> "4 × 8 × 8", (16,) -> "16 numbers"."""
    if len(shape) == 1:
        return f"{shape[0]} numbers"
    return " × ".join(str(size) for size in shape)


def legend_width(keys: Mapping[str, str]) -> float:
    """The inches that `Sheet.legend` needs for these keys."""
    return sum(0.42 + 0.064 * len(text) for text in keys)


class Shape(NamedTuple):
    """The place of a drawn shape: its centre, its size, and the middles of its sides."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> Point:
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> Point:
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> Point:
        return self.x, self.y - self.height / 2


class Sheet:
    """A drawing of `width` by `height` inches, empty at first, and methods to draw shapes on it."""

    @styled
    def __init__(self, width: float, height: float):
        self.figure = Figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def label(self, x: float, y: float, text: str, size: float = SMALL, **text_options) -> None:
        """Text around (x, y); further options are matplotlib's."""
        options = dict(ha="center", va="center", linespacing=1.35, color=INK) | text_options
        self.axes.text(x, y, text, size=size, **options)

    def titled(self, x: float, y: float, title: str, detail: str = "") -> None:
        """A bold line and smaller lines below it, together centred on (x, y)."""
        lines = detail.count("\n") + 1 if detail else 0
        self.label(x, y + lines * (LINE + 0.02) / 2, title, BODY, weight="bold")
        self.label(x, y - (LINE + 0.02) / 2, detail)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        title: str,
        colour: str = BLUE,
        detail: str = "",
        dashed: bool = False,
    ) -> Shape:
        """A layer or a whole network. Dashed: it only runs in training."""
        corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.08"
        patch = FancyBboxPatch(corner, width, height, boxstyle=style, linewidth=1.6)
        patch.set(facecolor=tint(colour, 0.1), edgecolor=colour)
        patch.set_linestyle("--" if dashed else "-")
        self.axes.add_patch(patch)
        self.titled(x, y, title, detail)
        return Shape(x, y, width, height)

    def funnel(
        self,
        x: float,
        y: float,
        width: float,
        heights: tuple[float, float],
        title: str,
        colour: str = BLUE,
        detail: str = "",
        dashed: bool = False,
    ) -> Shape:
        """A network whose output is smaller or larger: `heights` at its left and right."""
        (a, b), half = heights, width / 2
        corners = [(x - half, y - a / 2), (x - half, y + a / 2)]
        corners += [(x + half, y + b / 2), (x + half, y - b / 2)]
        patch = Polygon(corners, linewidth=1.6, joinstyle="round")
        patch.set(facecolor=tint(colour, 0.1), edgecolor=colour)
        patch.set_linestyle("--" if dashed else "-")
        self.axes.add_patch(patch)
        self.titled(x, y, title, detail)
        return Shape(x, y, width, (a + b) / 2)

    def bar(self, x: float, y: float, width: float, height: float, colour: str = BLUE) -> Shape:
        """A feature map, drawn as high as its resolution and as wide as its number of channels."""
        corner = (x - width / 2, y - height / 2)
        patch = Rectangle(corner, width, height, linewidth=1.2)
        patch.set(facecolor=tint(colour, 0.35), edgecolor=colour)
        self.axes.add_patch(patch)
        return Shape(x, y, width, height)

    def feature_map(
        self, x: float, y: float, text: str = "", colour: str = GREY, side: float = 0.5, deep=3
    ) -> Shape:
        """A picture or feature map: `deep` sheets behind each other, with a text below."""
        step = 0.07
        for i in reversed(range(deep)):
            shift = step * (i - (deep - 1) / 2)
            corner = (x - side / 2 + shift, y - side / 2 + shift)
            patch = Rectangle(corner, side, side, linewidth=1.2, edgecolor=colour)
            patch.set_facecolor(tint(colour, 0.3))
            self.axes.add_patch(patch)
        size = side + step * (deep - 1)
        self.label(x, y - size / 2 - 0.07, text, va="top")
        return Shape(x, y, size, size)

    def tokens(
        self,
        x: float,
        y: float,
        count: int,
        colour: str = GREY,
        words: Sequence[str] = (),
        cell: float = 0.2,
        upright: bool = False,
        depth: float | None = None,
    ) -> Shape:
        """A row of vectors (upright: a column), each a cell with its word inside.

        cell: the size of a cell along the row; depth: across it.
        """
        depth = depth or cell
        for i in range(count):
            along = (i - (count - 1) / 2) * cell
            centre = (x, y - along) if upright else (x + along, y)
            width, height = (depth, cell) if upright else (cell, depth)
            corner = (centre[0] - width / 2, centre[1] - height / 2)
            patch = Rectangle(corner, width, height, linewidth=1.2, edgecolor=colour)
            patch.set_facecolor(tint(colour, 0.3))
            self.axes.add_patch(patch)
            if words:
                self.label(centre[0], centre[1] - 0.04, words[i], va="baseline")
        return Shape(x, y, *((depth, count * cell) if upright else (count * cell, depth)))

    def matrix(
        self, x: float, y: float, values: Sequence[Sequence[float]], colour: str, cell: float = 0.2
    ) -> Shape:
        """A table of numbers in 0..1, from white to the colour: rows from the top."""
        rows, columns = len(values), len(values[0])
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                corner = (x + (j - columns / 2) * cell, y + (rows / 2 - i - 1) * cell)
                patch = Rectangle(corner, cell, cell, linewidth=0.8, edgecolor="white")
                patch.set_facecolor(tint(colour, 0.08 + 0.92 * value))
                self.axes.add_patch(patch)
        return Shape(x, y, columns * cell, rows * cell)

    def node(self, x: float, y: float, symbol: str = "+", colour: str = INK) -> Shape:
        """Where two arrows meet: "+" adds, "×" multiplies, "cat" concatenates."""
        radius = 0.16 if len(symbol) > 1 else 0.12
        self.axes.add_patch(
            Circle((x, y), radius, facecolor="white", edgecolor=colour, linewidth=1.3)
        )
        size = SMALL if len(symbol) > 1 else 11
        self.label(x, y, symbol, size, va="center_baseline")
        return Shape(x, y, 2 * radius, 2 * radius)

    def dot(self, x: float, y: float, colour: str = INK) -> None:
        """A point."""
        self.axes.add_patch(Circle((x, y), 0.045, color=colour, zorder=3))

    def legend(self, x: float, y: float, keys: Mapping[str, str]) -> None:
        """The meaning of each bar's colour ({text: colour}), side by side, starting at x."""
        for text, colour in keys.items():
            self.bar(x + 0.06, y, 0.12, 0.22, colour)
            self.label(x + 0.2, y, text, ha="left")
            x += legend_width({text: colour})

    def arrow(
        self, *points: Point, text: str = "", colour: str = GREY, line: str = "solid"
    ) -> None:
        """An arrow from point to point, with `text` above its first stretch.

        line: "dotted" for a skip connection; "dashed" for parts that only run in training.
        """
        (x, y), (tip_x, tip_y) = points[-2:]
        share = 0.11 / max(0.11, abs(tip_x - x) + abs(tip_y - y))
        neck = (tip_x + share * (x - tip_x), tip_y + share * (y - tip_y))  # the head is solid
        strokes = {"solid": "-", "dotted": (0, (1.2, 1.4)), "dashed": (0, (4, 2))}
        for path, stroke, head in (
            ((*points[:-1], neck), strokes[line], "-"),
            ((neck, points[-1]), "-", "-|>"),
        ):
            patch = FancyArrowPatch(path=Path(path), arrowstyle=head, mutation_scale=11)
            patch.set(color=colour, linewidth=1.4, linestyle=stroke)
            patch.set(joinstyle="miter", capstyle="butt")
            self.axes.add_patch(patch)
        (x0, y0), (x1, y1) = points[:2]
        self.label((x0 + x1) / 2, (y0 + y1) / 2 + 0.11, text)
