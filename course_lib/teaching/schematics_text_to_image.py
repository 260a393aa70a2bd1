"""Schematics of what stands around the U-Net: autoencoders, CLIP, attention to words, guidance.

Each function returns the figure and its alt text, as in `schematics.py`: `show(*clip_schematic())`.
"""

from collections.abc import Sequence

from course_lib.teaching.schematics import Schematic
from course_lib.teaching.shapes import BODY, Sheet, times
from course_lib.teaching.style import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, styled


@styled
def autoencoder_schematic(image: Sequence[int], latent: Sequence[int]) -> Schematic:
    """The plain autoencoder. image, latent: their shapes, for example (1, 8, 8) and (16,)."""
    sheet, y = Sheet(7.6, 1.9), 1.05
    x = sheet.feature_map(0.65, y, f"image x\n{times(image)}")
    encode = sheet.funnel(2.25, y, 1.4, (1.5, 0.7), "encoder", BLUE)
    z = sheet.tokens(3.8, y, 4, ORANGE, cell=0.2, upright=True)
    decode = sheet.funnel(5.35, y, 1.4, (0.7, 1.5), "decoder", GREEN)
    out = sheet.feature_map(6.95, y, f"reconstruction\n{times(image)}")
    for a, b in ((x, encode), (encode, z), (z, decode), (decode, out)):
        sheet.arrow(a.right, b.left)
    sheet.label(z.x, z.bottom[1] - 0.07, f"latent z\n{times(latent)}", va="top")
    alt = (
        f"An image of {times(image)} enters the encoder, which narrows to a latent z of "
        f"{times(latent)}; the decoder widens it again to a reconstruction of {times(image)}."
    )
    return sheet.figure, alt


@styled
def vae_schematic(image: Sequence[int], latent: Sequence[int]) -> Schematic:
    """The variational autoencoder: the encoder gives a distribution, and z is a sample from it."""
    sheet, y = Sheet(9.4, 2.75), 1.55
    x = sheet.feature_map(0.65, y, f"image x\n{times(image)}")
    encode = sheet.funnel(2.05, y, 1.3, (1.7, 0.9), "encoder", BLUE)
    mu = sheet.box(3.65, y + 0.45, 0.8, 0.5, "μ", ORANGE)
    spread = sheet.box(3.65, y - 0.45, 0.8, 0.5, "log σ²", ORANGE)
    multiply, add = sheet.node(4.75, y - 0.45, "×"), sheet.node(5.3, y)
    z = sheet.tokens(6.1, y, 4, ORANGE, cell=0.2, upright=True)
    decode = sheet.funnel(7.3, y, 1.3, (0.9, 1.7), "decoder", GREEN)
    out = sheet.feature_map(8.7, y, f"reconstruction\n{times(image)}")

    fork = encode.right[0] + 0.2
    sheet.arrow(x.right, encode.left)
    for moment in (mu, spread):
        sheet.arrow(encode.right, (fork, y), (fork, moment.y), moment.left)
    sheet.arrow(spread.right, multiply.left)
    sheet.label((spread.right[0] + multiply.left[0]) / 2 - 0.03, spread.y + 0.11, "σ")
    sheet.arrow(mu.right, (add.x, mu.y), add.top)
    sheet.arrow(multiply.right, (add.x, multiply.y), add.bottom)
    sheet.arrow(add.right, z.left)
    sheet.arrow(z.right, decode.left)
    sheet.arrow(decode.right, out.left)
    noise = sheet.box(multiply.x, 0.3, 1.5, 0.34, "ε ~ N(0, I)", PINK)
    sheet.arrow(noise.top, multiply.bottom)
    sheet.label(mu.x, mu.top[1] + 0.12, f"{times(latent)} each")
    sheet.label(z.x, z.top[1] + 0.12, "z = μ + σ ε", BODY)
    sheet.label(z.x, z.bottom[1] - 0.07, f"latent\n{times(latent)}", va="top")
    alt = (
        f"An image of {times(image)} enters the encoder, which gives μ and log σ², {times(latent)} "
        "each. σ is multiplied by noise ε from N(0, I) and added to μ: the latent z = μ + σ ε of "
        f"{times(latent)}. The decoder makes a reconstruction of {times(image)} of it."
    )
    return sheet.figure, alt


@styled
def clip_schematic(dim: int, pairs: int = 4) -> Schematic:
    """CLIP's two encoders and the similarity matrix of a batch (Radford et al. 2021, figure 1)."""
    sheet, cell = Sheet(8.9, 4.3), 0.46
    left, top = 6.0, 3.1  # the matrix's corner
    side, rows = pairs * cell, (pairs - 1) / 2
    values = [[0.85 if i == j else 0.08 for j in range(pairs)] for i in range(pairs)]
    centre = (left + side / 2, top - side / 2)

    text_y, image_y = 3.72, centre[1]
    captions = sheet.box(0.95, text_y, 1.5, 0.62, f"{pairs} captions", GREY, "token ids")
    text = sheet.box(2.85, text_y, 1.5, 0.62, "text encoder", GREEN, "end-of-text token")
    project_text = sheet.box(4.7, text_y, 1.35, 0.62, "projection", GREEN, f"to {dim} numbers")
    images = sheet.feature_map(0.95, image_y, f"{pairs} images", GREY)
    image = sheet.box(2.85, image_y, 1.5, 0.62, "image encoder", BLUE, "one vector each")
    project = sheet.box(4.7, image_y, 1.35, 0.62, "projection", BLUE, f"to {dim} numbers")
    columns = sheet.tokens(centre[0], text_y, pairs, GREEN, [f"$T_{i + 1}$" for i in range(pairs)],
                           cell, depth=0.34)  # fmt: skip
    lines = sheet.tokens(left - 0.3, image_y, pairs, BLUE, [f"$I_{i + 1}$" for i in range(pairs)],
                         cell, upright=True, depth=0.34)  # fmt: skip
    matrix = sheet.matrix(*centre, values, ORANGE, cell)
    for i in range(pairs):
        for j in range(pairs):
            x, y = centre[0] + (j - rows) * cell, centre[1] + (rows - i) * cell
            sheet.label(x, y, f"$I_{i + 1}$·$T_{j + 1}$")
    for a, b in ((captions, text), (text, project_text), (project_text, columns)):
        sheet.arrow(a.right, b.left)
    for a, b in ((images, image), (image, project), (project, lines)):
        sheet.arrow(a.right, b.left)
    sheet.label(*(matrix.x, matrix.bottom[1] - 0.1), "one row: softmax over captions\n"
                "one column: softmax over images\ndiagonal: the true pairs", va="top")  # fmt: skip
    sheet.label(2.85, 0.5, "All vectors have length 1, so each product is a cosine.")
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
