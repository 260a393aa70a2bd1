"""Schematics of text conditioning: CLIP, attention to words, guidance.

Each function returns the figure and its alt text: `show(*clip_schematic(dim=128))`.
"""

from collections.abc import Sequence

from course_lib.teaching.schematics import Schematic
from course_lib.teaching.shapes import BODY, Sheet
from course_lib.teaching.style import BLUE, GREEN, GREY, ORANGE, RED, styled


@styled
def clip_schematic(dim: int, pairs: int = 4) -> Schematic:
    """CLIP's two encoders and the similarity matrix of a batch (Radford et al. 2021, figure 1)."""
    sheet, cell = Sheet(8.6, 3.85), 0.46
    left, top = 6.45, 2.7  # the matrix's corner
    side, rows = pairs * cell, (pairs - 1) / 2
    values = [[0.85 if i == j else 0.08 for j in range(pairs)] for i in range(pairs)]
    centre = (left + side / 2, top - side / 2)

    text_y, image_y = 3.35, centre[1]
    captions = sheet.box(0.95, text_y, 1.5, 0.62, f"{pairs} captions", GREY, "token ids")
    encode = sheet.box(2.85, text_y, 1.5, 0.62, "text encoder", GREEN, "end-of-text token")
    project_text = sheet.box(
        4.83, text_y, 1.65, 0.62, "projection", GREEN, f"{dim} numbers, length 1"
    )
    images = sheet.feature_map(0.95, image_y, f"{pairs} images", GREY)
    image = sheet.box(2.85, image_y, 1.5, 0.62, "image encoder", BLUE, "one vector each")
    project = sheet.box(4.83, image_y, 1.65, 0.62, "projection", BLUE, f"{dim} numbers, length 1")
    columns = sheet.tokens(centre[0], text_y, pairs, GREEN, [f"$T_{i + 1}$" for i in range(pairs)],
                           cell, depth=0.34)  # fmt: skip
    lines = sheet.tokens(left - 0.3, image_y, pairs, BLUE, [f"$I_{i + 1}$" for i in range(pairs)],
                         cell, upright=True, depth=0.34)  # fmt: skip
    matrix = sheet.matrix(*centre, values, ORANGE, cell)
    for i in range(pairs):
        for j in range(pairs):
            x, y = centre[0] + (j - rows) * cell, centre[1] + (rows - i) * cell
            sheet.label(x, y, f"$I_{i + 1}$·$T_{j + 1}$")
    for a, b in ((captions, encode), (encode, project_text), (project_text, columns)):
        sheet.arrow(a.right, b.left)
    for a, b in ((images, image), (image, project), (project, lines)):
        sheet.arrow(a.right, b.left)
    text = "cosines; the true pairs on the diagonal\nrow: softmax over captions"
    text += "\ncolumn: softmax over images"
    sheet.label(matrix.x, matrix.bottom[1] - 0.1, text, va="top")
    alt = (
        f"Two towers. {pairs} captions pass the text encoder and a projection to {dim} numbers, "
        f"{pairs} images the image encoder and another. A table holds the cosine of each image, by "
        "row, with each caption, by column. The diagonal, the true pairs, is highlighted."
    )
    return sheet.figure, alt


@styled
def cross_attention_schematic(
    pixels: int = 16, dim: int = 32, context_dim: int = 128, words: Sequence[str] = ()
) -> Schematic:
    """Queries come from the pixels, keys and values from the words (Rombach et al. 2022, §3.3).

    pixels: places of the feature map, each a vector of `dim` numbers; words: tokens of
    `context_dim` numbers.
    """
    words = list(words) or ["a", "red", "ring", "end"]
    count, cell = len(words), 0.5
    sheet, up, low = Sheet(9.6, 3.6), 2.55, 0.85
    image = sheet.feature_map(0.7, up, f"feature map\n{dim} × H × W", BLUE)
    flat = sheet.tokens(1.85, up, 6, BLUE, cell=0.2, upright=True)
    sheet.label(flat.x, flat.bottom[1] - 0.07, f"{pixels} pixels\nof {dim}", va="top")
    tokens = sheet.tokens(1.3, low, count, GREEN, words, cell=cell, depth=0.3)
    sheet.label(tokens.x, tokens.bottom[1] - 0.07, f"{count} words of {context_dim}", va="top")

    to_q = sheet.box(3.3, up, 0.85, 0.45, "to_q", BLUE)
    to_k = sheet.box(3.3, low + 0.35, 0.85, 0.45, "to_k", GREEN)
    to_v = sheet.box(3.3, low - 0.35, 0.85, 0.45, "to_v", GREEN)
    sheet.arrow(image.right, flat.left)
    sheet.arrow(flat.right, to_q.left)
    fork = to_k.left[0] - 0.25
    for layer in (to_k, to_v):
        sheet.arrow(tokens.right, (fork, low), (fork, layer.y), layer.left)

    scores = sheet.box(5.1, up, 1.35, 0.7, "QKᵀ / √d", ORANGE, "softmax over words")
    heat = [[0.1, 0.5, 0.3, 0.1], [0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1],
            [0.1, 0.7, 0.1, 0.1], [0.2, 0.3, 0.4, 0.1], [0.6, 0.1, 0.1, 0.2]]  # fmt: skip
    table = [(row * count)[:count] for row in heat]
    maps = sheet.matrix(6.75, up, table, ORANGE, 0.2)
    sheet.label(maps.x, maps.top[1] + 0.12, f"weights, {pixels} × {count}")
    mix = sheet.node(7.7, up, "×")
    out = sheet.box(8.75, up, 0.95, 0.45, "to_out", BLUE)
    sheet.arrow(to_q.right, scores.left, text="Q")
    sheet.arrow(to_k.right, (scores.x, to_k.y), scores.bottom, text="K")
    sheet.arrow(scores.right, maps.left)
    sheet.arrow(maps.right, mix.left)
    sheet.arrow(to_v.right, (mix.x, to_v.y), mix.bottom, text="V")
    sheet.arrow(mix.right, out.left)
    sheet.arrow(out.bottom, (out.x, up - 0.75))
    sheet.label(out.x, up - 0.85, f"{pixels} pixels of {dim},\nadded to the\nfeature map", va="top")
    alt = (
        f"A feature map becomes {pixels} pixel vectors, from which to_q makes queries. From "
        f"{count} words, to_k makes keys and to_v values. Queries times keys, divided by √d, and a "
        f"softmax over the words give {pixels} × {count} weights; weights times values pass to_out "
        "and are added to the feature map."
    )
    return sheet.figure, alt


@styled
def guidance_schematic(scale: float = 3.0) -> Schematic:
    """Classifier-free guidance as arrows, drawn for this scale; 2 to 4 are easiest to read.

    guided = null + scale · (conditional − null) (Ho & Salimans 2022, eq. 6).
    """
    sheet = Sheet(8.4, 3.3)
    start, null = (0.95, 0.7), (3.6, 0.62)
    step = 3.3 / scale, 2.1 / scale  # conditional − null
    on_line = lambda s: (null[0] + s * step[0], null[1] + s * step[1])  # noqa: E731
    conditional, guided = on_line(1), on_line(scale)
    sheet.arrow(conditional, guided, line="dotted")
    sheet.arrow(start, guided, colour=RED)
    sheet.arrow(start, null, colour=GREY)
    sheet.arrow(start, conditional, colour=BLUE)
    sheet.arrow(null, conditional, colour=GREEN)
    sheet.dot(*start)
    text = "guided = null + scale · (conditional − null)"
    sheet.label(start[0] - 0.5, 2.95, text, BODY, ha="left")
    sheet.label(start[0] - 0.15, start[1], "$x_t$", 11, ha="right")
    right = dict(ha="left", va="center")
    sheet.label(null[0] + 0.12, null[1] - 0.1, "null prediction: no caption", BODY, **right)
    text = "conditional prediction: with the caption"
    sheet.label(conditional[0] + 0.15, conditional[1] - 0.06, text, BODY, color=BLUE, **right)
    text = f"guided prediction, scale {scale:g}"
    sheet.label(guided[0] - 0.2, guided[1] + 0.08, text, BODY, color=RED, ha="right")
    middle = on_line(0.5)
    sheet.label(middle[0] + 0.15, middle[1] - 0.1, "the difference", color=GREEN, **right)
    for whole in range(2, int(scale) + 1):
        if whole < scale:
            x, y = on_line(whole)
            sheet.dot(x, y, GREY)
            sheet.label(x + 0.15, y - 0.08, f"scale {whole}", **right)
    alt = (
        "Two arrows leave the noisy picture: the null prediction and the conditional prediction. A "
        "third arrow leads from the tip of the first to the tip of the second. The guided "
        f"prediction ends on its extension, {scale:g} times as far from the null prediction."
    )
    return sheet.figure, alt
