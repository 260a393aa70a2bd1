"""Schematics: numbers match the network, and nothing is outside the sheet or too small."""

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.models import SD15_UNET, DiT, UNet, UNetBlock
from course_lib.teaching import (
    gan_figures,
    schematics,
    schematics_dit,
    schematics_latent,
    schematics_lora,
    schematics_reward,
    schematics_text,
)
from course_lib.teaching.style import PNG_LIMIT, png


def on_meta(**kwargs):
    with torch.device("meta"):
        return UNet(**kwargs)


DIGITS = dict(in_channels=1, channels=32, multipliers=(1, 2), attention=(False, True), classes=10)
DRAWN = {
    "digits": lambda: schematics.unet_schematic(on_meta(**DIGITS), 16),
    "sd15": lambda: schematics.unet_schematic(on_meta(**SD15_UNET), 64),
    "block": lambda: schematics.unet_block_schematic(UNetBlock(16, 32, 64, 128)),
    "controlnet": lambda: schematics.controlnet_schematic(on_meta(**SD15_UNET), 64),
    "dit": lambda: schematics_dit.dit_schematic(DiT(in_channels=12, size=8, patch_size=1)),
    "lora": lambda: schematics_lora.lora_schematic(192, 128, 4),
    "reward": lambda: schematics_reward.reward_schematic(),
    "autoencoder": lambda: schematics_latent.autoencoder_schematic((64,), (16,)),
    "vae": lambda: schematics_latent.vae_schematic((3, 64, 64), (12, 8, 8)),
    "clip": lambda: schematics_text.clip_schematic(128),
    "cross-attention": lambda: schematics_text.cross_attention_schematic(),
    "guidance": lambda: schematics_text.guidance_schematic(3),
    "gan": lambda: gan_figures.gan_schematic(64, (1, 16, 16)),
    "latent diffusion": lambda: schematics_latent.latent_diffusion_schematic(
        (3, 64, 64), (12, 8, 8)
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_all_text_is_on_the_sheet_legible_and_apart(name):
    figure, alt = DRAWN[name]()
    assert len(alt) > 80 and len(png(figure)) <= PNG_LIMIT
    assert figure.get_figwidth() <= 10.5  # inches: 8 points are 10 dots high at 1000 dots
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert text.get_fontsize() >= 8
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text.get_text()
    for i, box in enumerate(boxes):
        for j in range(i):
            assert not box.overlaps(boxes[j]), (texts[i].get_text(), texts[j].get_text())


def test_the_u_nets_numbers_are_those_of_a_run():
    unet, shapes = on_meta(**DIGITS), []
    convolutions = [m for m in unet.mid_block.modules() if isinstance(m, torch.nn.Conv2d)]
    hooks = [
        layer.register_forward_pre_hook(lambda m, args: shapes.append(args[0].shape))
        for layer in convolutions
    ]
    with torch.device("meta"):
        unet(torch.zeros(1, 1, 16, 16), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    assert hooks
    channels, side, _ = shapes[0][1:]
    figure, alt = schematics.unet_schematic(unet, 16)
    assert schematics.feature_maps(unet, 16)[-1] == (channels, side)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert f"{channels} × {side} × {side}" in texts
    assert texts.count("3 skips") == 2 and "Attention at 8 × 8 and in the middle" in alt


def test_guidance_is_drawn_to_scale():
    figure, _ = schematics_text.guidance_schematic(2.5)
    heads = [patch.get_path().vertices[-1] for patch in figure.axes[0].patches]
    tip = lambda n: torch.tensor(heads[n])  # noqa: E731
    # arrows in the order in which they are drawn: on the line, guided, null, conditional; each is
    # a shaft and a head
    guided, null, conditional = tip(3), tip(5), tip(7)
    torch.testing.assert_close(guided - null, 2.5 * (conditional - null))
