"""Schematics of autoencoders, and of latent diffusion as a whole.

Each function returns the figure and its alt text: `show(*vae_schematic(x[0].shape, z[0].shape))`.
"""

from collections.abc import Sequence

from course_lib.teaching.schematics import Schematic
from course_lib.teaching.shapes import BODY, Shape, Sheet, times
from course_lib.teaching.style import BLUE, GREEN, GREY, ORANGE, PINK, styled


@styled
def autoencoder_schematic(image: Sequence[int], latent: Sequence[int]) -> Schematic:
    """An ordinary autoencoder. image, latent: their shapes, for example (1, 8, 8) and (16,)."""
    sheet, y = Sheet(7.6, 2.0), 1.1
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
def latent_diffusion_schematic(
    image: Sequence[int], latent: Sequence[int], training: bool = True
) -> Schematic:
    """Latent diffusion, sampled and (dashed) trained; each part names the chapter that builds it.

    image, latent: their shapes. training=False omits the parts that only run in training.
    """
    sheet = Sheet(9.6, 3.75 if training else 2.6)
    y, text_y = 1.75, 0.5
    noise = sheet.feature_map(2.05, y, side=0.36, colour=PINK)
    sheet.label(noise.left[0] - 0.1, noise.y, f"noise ε, {times(latent)}\nchapter 01", ha="right")
    caption = sheet.box(0.9, text_y, 1.5, 0.5, "caption", GREY, "“a red ring”")
    text = sheet.box(2.85, text_y, 1.5, 0.6, "text encoder", GREEN, "chapter 06")
    parts = "loss 02 · network 04\nattention to words 07\nguidance 08"
    unet = sheet.box(5.55, y, 1.6, 1.0, "U-Net", BLUE, parts)
    decode = sheet.funnel(7.55, y, 1.4, (0.65, 1.15), "VAE decoder", ORANGE, "chapter 05")
    drawn = sheet.feature_map(8.98, y, f"image\n{times(image)}", side=0.45)
    sheet.arrow(noise.right, unet.left)
    sheet.arrow(caption.right, text.left)
    sheet.arrow(text.right, (unet.x, text_y), unet.bottom)
    sheet.label((text.right[0] + unet.x) / 2, text_y + 0.12, "one vector per token")
    sheet.arrow(unet.right, decode.left)
    sheet.arrow(decode.right, drawn.left)
    back, low = unet.right[0] + 0.17, unet.bottom[1] - 0.3
    sheet.arrow((back, y), (back, low), (unet.x + 0.4, low), (unet.x + 0.4, unet.bottom[1]))
    sheet.label(back + 0.08, low, "step by step, chapter 03", ha="left")
    alt = (
        "Sampling: noise passes the U-Net step by step, then the VAE decoder turns the latent of "
        f"{times(latent)} into an image of {times(image)}. The text encoder's vectors of the "
        "caption enter the U-Net."
    )
    if training:
        _training(sheet, unet, y, image, latent)
        alt += (
            " Training, dashed: the VAE encoder turns an image into a latent z, which is mixed "
            "with noise and enters the U-Net, whose prediction enters the loss."
        )
    return sheet.figure, alt


def _training(
    sheet: Sheet, unet: Shape, noise_y: float, image: Sequence[int], latent: Sequence[int]
) -> None:
    """The upper row of `latent_diffusion_schematic`: an image, the U-Net, the loss."""
    y, dashed = 3.0, dict(line="dashed")
    picture = sheet.feature_map(0.6, y, f"image\n{times(image)}", side=0.45)
    encode = sheet.funnel(
        2.05, y, 1.4, (1.15, 0.65), "VAE encoder", ORANGE, "chapter 05", dashed=True
    )
    z = sheet.feature_map(3.4, y, f"latent z\n{times(latent)}", ORANGE, side=0.36)
    mix = sheet.node(4.35, y)
    loss = sheet.box(7.55, y, 1.4, 0.5, "loss", GREY, "chapter 02", dashed=True)
    sheet.arrow(picture.right, encode.left, **dashed)
    sheet.arrow(encode.right, z.left, **dashed)
    sheet.arrow(z.right, mix.left, text="α", **dashed)
    sheet.arrow((mix.x, noise_y), mix.bottom, **dashed)
    sheet.label(mix.x + 0.08, (noise_y + y) / 2, "σ", ha="left")
    enter, leave = unet.x - 0.3, unet.x + 0.3
    sheet.arrow(mix.right, (enter, y), (enter, unet.top[1]), text="α z + σ ε", **dashed)
    sheet.arrow((leave, unet.top[1]), (leave, y), loss.left, **dashed)
    sheet.label(6.85, 0.35, "dashed: in training only", ha="left")
