"""A schematic of LoRA: a frozen layer, and two thin ones beside it."""

from course_lib.teaching.schematics import Schematic
from course_lib.teaching.shapes import Sheet
from course_lib.teaching.style import BLUE, GREY, ORANGE, styled


@styled
def lora_schematic(inner: int, outer: int, rank: int) -> Schematic:
    """LoRA (Hu et al. 2022, figure 1) beside a layer from `inner` to `outer` numbers."""
    sheet = Sheet(9.0, 2.6)
    high, low = 1.75, 0.7
    x = sheet.bar(1.0, high, 0.16, 1.1, BLUE)
    sheet.label(x.x, x.top[1] + 0.14, f"x: {inner} numbers")
    layer = sheet.box(4.2, high, 2.0, 0.95, "W", GREY, f"{outer} × {inner}\nfrozen")
    add = sheet.node(7.2, high)
    y = sheet.bar(8.3, high, 0.16, 1.1, BLUE)
    sheet.label(y.x, y.top[1] + 0.14, f"y: {outer} numbers")
    A = sheet.box(2.9, low, 1.1, 0.62, "A", ORANGE, f"{rank} × {inner}, random")
    thin = sheet.bar(4.2, low, 0.16, 0.3, ORANGE)
    sheet.label(thin.x, thin.bottom[1] - 0.16, f"{rank} numbers")
    B = sheet.box(5.5, low, 1.1, 0.62, "B", ORANGE, f"{outer} × {rank}, zero")
    sheet.arrow(x.right, layer.left)
    sheet.arrow(layer.right, add.left)
    sheet.arrow(add.right, y.left)
    fork = (1.6, high)
    sheet.arrow(fork, (fork[0], low), A.left)
    sheet.arrow(A.right, thin.left)
    sheet.arrow(thin.right, B.left)
    sheet.arrow(B.right, (add.x, low), add.bottom)
    sheet.label(add.x + 0.12, (low + high) / 2, "times s · α / r", ha="left")
    alt = (
        f"A vector x of {inner} numbers goes two ways. Above, it is multiplied by the frozen "
        f"matrix W to {outer} numbers. Below, A, random at first, turns it into {rank}, and "
        f"B, zero at first, turns these into {outer}. The lower way, times s · α / r, is "
        "added to the upper one."
    )
    return sheet.figure, alt
