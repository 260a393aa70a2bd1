"""Schematics of how the components fit together."""

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from course_lib.teaching.style import BLUE, GREEN, GREY, ORANGE, PINK, styled

BOXES = {  # name: (x, y, width, lines, colour)
    "caption": (0.0, 0.0, 1.75, "“a large red circle\nat the top on blue”", GREY),
    "text": (2.3, 0.0, 1.75, "text encoder\nwords → vectors\nchapter 06", GREEN),
    "noise": (2.3, 1.35, 1.75, "noise\nfrom a seed\nchapter 01", GREY),
    "unet": (
        4.6,
        0.65,
        2.3,
        "U-Net, 20 steps\nchapters 02 loss · 03 sampler\n04 network · 07 reading\n08 guidance",
        BLUE,
    ),
    "vae": (7.45, 0.65, 1.75, "VAE decoder\nlatent → pixels\nchapter 05", ORANGE),
    "picture": (9.75, 0.65, 1.1, "picture", PINK),
}
ARROWS = [
    ("caption", "text"),
    ("text", "unet"),
    ("noise", "unet"),
    ("unet", "vae"),
    ("vae", "picture"),
]


@styled
def components_figure() -> Figure:
    """From caption to picture, each component with the number of the chapter that builds it."""
    figure = Figure(figsize=(9.4, 2.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    sides = {}
    for name, (x, y, width, lines, colour) in BOXES.items():
        height = 0.25 + 0.24 * (lines.count("\n") + 1)
        style = "round,pad=0.06,rounding_size=0.1"
        box = FancyBboxPatch((x, y - height / 2), width, height, boxstyle=style, linewidth=1.6)
        box.set(facecolor="white", edgecolor=colour)
        axes.add_patch(box)
        title, _, rest = lines.partition("\n")
        if name in ("caption", "picture"):
            axes.text(x + width / 2, y, lines, size=9, ha="center", va="center")
        else:
            lift, middle = 0.12 * lines.count("\n"), dict(ha="center", va="center")
            axes.text(x + width / 2, y + lift, title, size=9, weight="bold", **middle)
            axes.text(x + width / 2, y - 0.12, rest, size=8, **middle)
        sides[name] = (x - 0.08, x + width + 0.08, y)
    for start, end in ARROWS:
        (_, right, y0), (left, _, y1) = sides[start], sides[end]
        arrow = FancyArrowPatch((right, y0), (left, y1 + 0.25 * (y0 > y1) - 0.25 * (y0 < y1)))
        arrow.set(arrowstyle="-|>", mutation_scale=12, color=GREY, linewidth=1.3)
        axes.add_patch(arrow)
    axes.set(xlim=(-0.15, 11.0), ylim=(-0.65, 2.05))
    return figure
