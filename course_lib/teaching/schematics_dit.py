"""A schematic of the diffusion transformer: the whole network, and below it one of its blocks."""

from itertools import pairwise

from course_lib.models import DiT
from course_lib.teaching.schematics import Schematic
from course_lib.teaching.shapes import Shape, Sheet
from course_lib.teaching.style import BLUE, GREEN, GREY, ORANGE, styled


@styled
def dit_schematic(dit: DiT) -> Schematic:
    """A DiT (Peebles & Xie 2023, figure 3) line by line, with its own sizes."""
    sheet = Sheet(10.0, 4.55)
    network(sheet, 3.55, dit.kwargs)
    block(sheet, 1.3, dit.kwargs)
    size, patch, layers = (dit.kwargs[name] for name in ("size", "patch_size", "layers"))
    count, dim = (size // patch) ** 2, dit.kwargs["dim"]
    alt = (
        f"Above: the input is cut into {count} patches, each patch becomes a token of {dim} "
        f"numbers, a position is added, {layers} blocks follow, and the tokens are laid back as a "
        "picture. Below: in a block, each of its layers sits in a residual branch. The time "
        "embedding gives three vectors: a scale and a shift before the layer, and a gate after it "
        "that starts at zero."
    )
    return sheet.figure, alt


def network(sheet: Sheet, y: float, kwargs: dict) -> None:
    """The upper row: from the noisy input to the prediction."""
    size, patch, dim = kwargs["size"], kwargs["patch_size"], kwargs["dim"]
    channels, out = kwargs["in_channels"], kwargs["out_channels"] or kwargs["in_channels"]
    count, numbers = (size // patch) ** 2, channels * patch**2
    x = sheet.feature_map(0.65, y, f"$x_t$\n{channels} × {size} × {size}", BLUE)
    cut = sheet.tokens(2.2, y, 6, BLUE, upright=True)
    sheet.label(cut.x, cut.bottom[1] - 0.25, f"{count} tokens\nof {numbers} numbers")
    enter = sheet.box(3.55, y, 0.95, 0.8, "Linear", GREY, f"{numbers} → {dim}")
    add = sheet.node(4.45, y)
    sheet.label(add.x, y - 0.52, "position")
    sheet.arrow((add.x, y - 0.44), add.bottom)
    blocks = sheet.box(5.6, y, 1.2, 0.95, "block", ORANGE, f"{kwargs['layers']} times")
    leave = sheet.box(
        7.25, y, 1.25, 0.95, "Linear", GREY, f"norm, scale, shift,\n{dim} → {out * patch**2}"
    )
    laid = sheet.tokens(8.3, y, 6, BLUE, upright=True)
    result = sheet.feature_map(9.4, y, f"prediction\n{out} × {size} × {size}", BLUE)
    parts = x, cut, enter, add, blocks, leave, laid, result
    for a, b in pairwise(parts):
        sheet.arrow(a.right, b.left)
    sheet.label((x.right[0] + cut.left[0]) / 2, y + 0.13, "patchify")
    sheet.label((laid.right[0] + result.left[0]) / 2, y + 0.13, "unpatchify")


def block(sheet: Sheet, y: float, kwargs: dict) -> None:
    """The lower row: one residual branch with its modulation, and what it is repeated for."""
    dim = kwargs["dim"]
    x = sheet.tokens(0.5, y, 6, BLUE, upright=True)
    norm = sheet.box(1.75, y, 0.8, 0.6, "norm", GREY)
    scale, shift = sheet.node(2.75, y, "×"), sheet.node(3.35, y)
    what = "self-attention,\ncross-attention\nor feed-forward"
    layer = sheet.box(4.75, y, 1.3, 0.85, "layer", ORANGE, what)
    gate, add = sheet.node(6.05, y, "×"), sheet.node(6.95, y)
    out = sheet.tokens(7.75, y, 6, BLUE, upright=True)
    for a, b in pairwise((x, norm, scale, shift, layer, gate, add, out)):
        sheet.arrow(a.right, b.left)
    over, fork = y + 0.78, (x.right[0] + 0.2, y)
    sheet.arrow(fork, (fork[0], over), (add.x, over), add.top, line="dotted")
    sheet.label((fork[0] + add.x) / 2, over + 0.12, "the layer's input, unchanged")
    time = sheet.box(4.75, 0.38, 2.2, 0.5, "Linear, starts at zero", GREEN, f"{dim} → 3 · {dim}")
    modulated(sheet, time, scale, shift, gate)
    sheet.label(8.15, y, "the next layer,\nor the next block", ha="left")


def modulated(sheet: Sheet, time: Shape, scale: Shape, shift: Shape, gate: Shape) -> None:
    """The time embedding's three vectors, and where they enter."""
    for node, text, y in ((scale, "1 + scale", 0.3), (shift, "shift", 0.46)):
        sheet.arrow((time.left[0], y), (node.x, y), node.bottom, colour=GREEN)
        side = "right" if node is scale else "left"
        away = -0.07 if node is scale else 0.07
        sheet.label(node.x + away, node.bottom[1] - 0.25, text, ha=side)
    edge, high, low = time.right[0], time.y + 0.1, time.y - 0.1
    sheet.arrow((edge, high), (gate.x, high), gate.bottom, colour=GREEN)
    sheet.label(gate.x + 0.07, gate.bottom[1] - 0.25, "gate, 0 at first", ha="left")
    sheet.arrow((8.05, low), (edge, low))
    sheet.label(8.15, low, "time embedding", ha="left")
