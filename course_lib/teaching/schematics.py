"""Schematics of U-Nets: the whole one, one block, and the copy that ControlNet adds.

Every function here and in `schematics_latent.py` and `schematics_text.py` returns the figure and
its alt text, so a chapter writes `show(*unet_schematic(unet, size=16))`.
"""

from itertools import pairwise

from matplotlib.figure import Figure

from course_lib.models import UNet, UNetBlock
from course_lib.teaching.shapes import BODY, Shape, Sheet, legend_width
from course_lib.teaching.style import BLUE, GREEN, GREY, ORANGE, styled

Schematic = tuple[Figure, str]


def feature_maps(unet: UNet, size: int) -> list[tuple[int, int]]:
    """(channels, side) at each resolution from the top, for inputs of size × size."""
    channels, multipliers = unet.kwargs["channels"], unet.kwargs["multipliers"]
    return [(round(channels * m), size // 2**i) for i, m in enumerate(multipliers)]


@styled
def unet_schematic(unet: UNet, size: int) -> Schematic:
    """A schematic of this UNet for inputs of size × size: each bar is one block's output.

    A network that is too large to build can be on PyTorch's "meta" device:
    `with torch.device("meta"): schematic = unet_schematic(UNet(**SD15_UNET), 64)`.
    """
    kwargs, maps = unet.kwargs, feature_maps(unet, size)
    layers, attention = kwargs["layers_per_block"], kwargs["attention"]
    outputs = kwargs["out_channels"] or kwargs["in_channels"]
    heights = [max(0.3, 1.1 * (side / size) ** 0.6) for _, side in maps]
    widths = [min(0.25, 0.15 * (channels / maps[0][0]) ** 0.6) for channels, _ in maps]
    gap, deepest = 0.05, len(maps) - 1
    reads = "cross-attention to the context" if kwargs["context_dim"] else "self-attention"
    told = "time and class" if kwargs["classes"] else "time"
    keys = {
        f"residual block, which gets the {told} embedding": BLUE,
        f"the same, then {reads}": ORANGE,
        "convolution": GREY,
    }

    ys = [0.0]  # rows from the top; then all are moved so that the last one is above the legend
    for above, below in zip(heights, [*heights[1:], heights[-1]], strict=True):
        ys.append(ys[-1] - (above + below) / 2 - 0.42)
    ys = [y - ys[-1] + heights[-1] / 2 + 1.0 for y in ys]
    height = ys[0] + heights[0] / 2 + 0.35

    def span(level: int, bars: int) -> float:
        return bars * widths[level] + (bars - 1) * gap

    def rise(level: int) -> float:
        """From a "cat" node to the middle bar behind it, which is below the next node."""
        return 0.36 + (layers + 1) // 2 * (widths[level] + gap) + widths[level] / 2

    left = 1.75
    starts = [left]  # left edges of the bars on the way down, then of the middle's
    for level in range(len(maps)):
        starts.append(starts[-1] + span(level, layers) - widths[level] / 2 + 0.36)
    right = starts[-1] + span(deepest, 2) + 0.36  # where the way up begins
    nodes = []
    for level in reversed(range(len(maps))):
        nodes.append(right)
        right += rise(level)
    nodes, width = nodes[::-1], nodes[-1] + 0.36 + span(0, layers + 1) + 1.5
    sheet = Sheet(max(width, 0.3 + legend_width(keys)), height)

    def bars(x: float, row: int, count: int, level: int, attends: list[bool]) -> Shape:
        """`count` outputs of one resolution, from x to the right."""
        for i in range(count):
            colour = ORANGE if attends[i] else BLUE
            centre = x + widths[level] / 2 + i * (widths[level] + gap)
            sheet.bar(centre, ys[row], widths[level], heights[level], colour)
        total = span(level, count)
        return Shape(x + total / 2, ys[row], total, heights[level])

    image = sheet.feature_map(
        0.6, ys[0], f"input $x_t$\n{kwargs['in_channels']} × {size} × {size}", deep=2
    )
    enter = sheet.bar(left - 0.32, ys[0], 0.1, heights[0], GREY)
    sheet.arrow(image.right, enter.left)
    sheet.arrow(enter.right, (left, ys[0]))
    down = []
    for level, (channels, side) in enumerate(maps):
        group = bars(starts[level], level, layers, level, [attention[level]] * layers)
        text = f"{channels} × {side} × {side}"
        sheet.label(group.left[0], group.top[1] + 0.1, text, ha="left")
        down.append(group)
        last, below = group.right[0] - widths[level] / 2, (starts[level + 1], ys[level + 1])
        sheet.arrow((last, group.bottom[1]), (last, below[1]), below)
        if level < deepest:
            sheet.label(last - 0.07, below[1], "÷ 2", ha="right")
    middle = bars(starts[-1], len(maps), 2, deepest, [any(attention), False])
    sheet.label(middle.x, middle.bottom[1] - 0.12, "middle")

    source = middle.right
    for level in reversed(range(len(maps))):
        cat = sheet.node(nodes[level], ys[level], "cat")
        sheet.arrow(source, (cat.x, source[1]), cat.bottom)
        if level < deepest:
            sheet.label(cat.x + 0.07, (source[1] + cat.bottom[1]) / 2, "× 2", ha="left")
        sheet.arrow(down[level].right, cat.left, text=f"{layers + 1} skips", line="dotted")
        group = bars(cat.x + 0.36, level, layers + 1, level, [attention[level]] * (layers + 1))
        sheet.arrow(cat.right, group.left)
        source = (cat.x + rise(level), group.top[1])
    leave = sheet.bar(group.right[0] + 0.27, ys[0], 0.1, heights[0], GREY)
    sheet.arrow(group.right, leave.left)
    text = f"prediction\n{outputs} × {size} × {size}"
    prediction = sheet.feature_map(leave.x + 0.72, ys[0], text, deep=2)
    sheet.arrow(leave.right, prediction.left)

    sheet.legend(0.3, 0.3, keys)
    shapes = ", ".join(f"{channels} × {side} × {side}" for channels, side in maps)
    alt = (
        f"A U. Down its left side {layers} residual blocks at each of {len(maps)} resolutions "
        f"({shapes}), a middle of two blocks, and up its right side {layers + 1} blocks at each. "
        "Each step down halves the resolution, each step up doubles it. "
        f"At each resolution {layers + 1} skips cross from left to right and are concatenated. "
        f"Attention at {_places(maps, attention)}."
    )
    return sheet.figure, alt


def _places(maps: list[tuple[int, int]], attention: list[bool]) -> str:
    sides = [f"{side} × {side}" for (_, side), here in zip(maps, attention, strict=True) if here]
    return ", ".join(sides) + " and in the middle" if sides else "no resolution"


@styled
def unet_block_schematic(block: UNetBlock) -> Schematic:
    """A schematic of UNetBlock that follows its `forward` line by line, with its widths."""
    widths = block.kwargs
    inside, outside = widths["in_c"], widths["out_c"]
    sheet = Sheet(9.3, 2.95)
    y, height = 1.55, 0.8
    x = sheet.feature_map(0.5, y, f"x\n{inside} × H × W", BLUE, side=0.42)
    first = sheet.box(1.7, y, 0.95, height, "conv1", BLUE, "norm, SiLU,\n3 × 3")
    add_time = sheet.node(2.62, y)
    attention = sheet.box(
        4.15, y, 1.5, height, "cross-attention", ORANGE, "norm; queries\nfrom pixels"
    )
    add_text = sheet.node(5.45, y)
    second = sheet.box(6.6, y, 0.95, height, "conv2", BLUE, "norm, SiLU,\n3 × 3, zero")
    add_input = sheet.node(7.75, y)
    out = sheet.feature_map(8.7, y, f"output\n{outside} × H × W", BLUE, side=0.42)
    main = (x, first, add_time, attention, add_text, second, add_input, out)
    for a, b in pairwise(main):
        sheet.arrow(a.right, b.left)

    time = sheet.box(
        add_time.x, 0.55, 1.15, 0.5, "Linear", GREEN, f"{widths['time_emb_dim']} → {outside}"
    )
    sheet.arrow(time.top, add_time.bottom)
    sheet.label(add_time.x, 0.17, "time embedding")
    sheet.tokens(attention.x, 0.5, 5, GREEN, cell=0.24)
    sheet.arrow((attention.x, 0.62), attention.bottom)
    sheet.label(attention.x, 0.17, f"text tokens, {widths['text_emb_dim']} numbers each")
    sheet.label(attention.x + 0.08, 0.87, "keys, values", ha="left")

    fork = (add_time.x + 0.4, y)
    over = y + 0.62
    sheet.arrow(fork, (fork[0], over), (add_text.x, over), add_text.top, line="dotted")
    over, start = y + 1.05, (x.right[0] + 0.17, y)
    sheet.arrow(start, (start[0], over), (add_input.x, over), add_input.top, line="dotted")
    skip = "1 × 1 convolution" if inside != outside else "identity"
    sheet.label((start[0] + add_input.x) / 2, over + 0.12, f"skip: {skip}")
    alt = (
        f"From left to right: {inside} channels enter a convolution to {outside} channels; a "
        "linear layer of the time embedding is added; cross-attention (queries from the pixels, "
        "keys and values from the text tokens) is added to what entered it; a second convolution, "
        f"which starts at zero; and the input, through a skip ({skip}), is added at the end."
    )
    return sheet.figure, alt


@styled
def controlnet_schematic(unet: UNet, size: int) -> Schematic:
    """ControlNet (Zhang et al. 2023, figure 3): a frozen UNet, and a trained copy of its way down.

    The copy also sees the condition, and adds to the skips and the middle through convolutions
    that start at zero, so that training starts from the unchanged UNet.
    """
    rows = [f"{channels} × {side} × {side}" for channels, side in feature_maps(unet, size)]
    step, width, height = 0.84, 1.35, 0.44
    down_x, copy_x, zero_x, add_x, up_x = 1.2, 3.6, 5.15, 6.1, 7.6
    top = step * len(rows) + 0.95
    sheet = Sheet(9.4, top + 1.5)

    y = top + 0.95
    x = sheet.feature_map(down_x, y, side=0.4)
    sheet.label(x.left[0] - 0.1, y, "$x_t$", ha="right", size=10)
    join = sheet.node(copy_x, y)
    zero = sheet.box(zero_x, y, 0.75, 0.34, "zero", ORANGE)
    condition = sheet.feature_map(up_x, y, colour=BLUE, side=0.4)
    sheet.label(condition.right[0] + 0.1, y, "condition", ha="left", size=BODY)
    sheet.arrow(x.right, join.left)
    sheet.arrow(condition.left, zero.right)
    sheet.arrow(zero.left, join.right)

    over_down, over_copy, below_up = x.bottom, join.bottom, None
    for i, text in enumerate([*rows, "middle"]):
        y, at_bottom = top - step * i, i == len(rows)
        down = sheet.box(down_x, y, width, height, text, GREY)
        copy = sheet.box(copy_x, y, width, height, text, BLUE)
        zero = sheet.box(zero_x, y, 0.75, 0.34, "zero", ORANGE)
        add = sheet.node(add_x, y)
        sheet.arrow(over_down, down.top)
        sheet.arrow(over_copy, copy.top)
        over_down, over_copy = down.bottom, copy.bottom
        sheet.arrow(copy.right, zero.left)
        sheet.arrow(zero.right, add.left)
        turn = (down.right[0] + 0.2, y + 0.43)
        path = (down.right, (turn[0], y), turn, (add_x, turn[1]), add.top)
        sheet.arrow(*path, line="solid" if at_bottom else "dotted")
        if at_bottom:
            sheet.arrow(add.right, (up_x, y), below_up.bottom)
        else:
            up = sheet.box(up_x, y, width, height, text, GREY)
            sheet.arrow(add.right, up.left)
            if below_up:
                sheet.arrow(up.top, below_up.bottom)
            else:
                end = (up.right[0] + 0.3, y)
                sheet.arrow(up.right, end)
                sheet.label(end[0] + 0.05, y, "prediction", ha="left")
            below_up = up
    keys = {
        "the U-Net, frozen": GREY,
        "a copy of its way down, trained": BLUE,
        "1 × 1 convolution that starts at zero": ORANGE,
    }
    sheet.legend(0.5, 0.25, keys)
    alt = (
        f"Left, a frozen U-Net's way down in {len(rows)} resolutions and its middle; right, its "
        "way up. Between them a trained copy of the way down, whose input is the same noisy "
        "picture plus the condition. Every output of the copy passes a convolution that starts at "
        "zero and is added to the skip of the same size, and in the middle to what goes up."
    )
    return sheet.figure, alt
