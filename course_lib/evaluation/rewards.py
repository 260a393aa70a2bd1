"""Rewards that have a gradient, for `diffusion.reward_guided`: nothing is trained for them.

    reward = caption_reward(vae, clip, captions)     # CLIP's similarity of picture and caption
    reward = layout_reward(vae, layouts)             # how well the drawn area is the layout's
    network = reward_guided(process, network, reward, scale)

Each is a function z -> (B,) of latents, which it decodes. The prompt oracle has no gradient: it
labels regions and compares fits. So it stays the judge, and none of these rewards is the judge.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.evaluation.segmentation import SEEN, background_colour
from course_lib.models import CLIP, AutoencoderKL

Reward = Callable[[Tensor], Tensor]  # latents (B, C, h, w) -> (B,)
SOFT = 0.1  # colour distance over which a pixel turns from background to drawn


def caption_reward(vae: AutoencoderKL, clip: CLIP, captions: Sequence[str]) -> Reward:
    """CLIP's cosine similarity of each decoded picture and its caption, from -1 to 1."""
    with torch.no_grad():
        text = clip.embed_text(captions)  # (B, D), of length 1

    def reward(z: Tensor) -> Tensor:
        images = vae.decode(z).clamp(-1, 1)
        return (clip.embed_image(images) * text).sum(1)  # (B,)

    return reward


def layout_reward(vae: AutoencoderKL, layouts: Tensor) -> Reward:
    """Minus the squared difference of the drawn area and the layout, summed over the pixels.

    layouts: (B, 1, H, W) in [0, 1]. A pixel counts as drawn as it does in `layouts.overlap`, but
    with a soft edge, because a hard one has no gradient.
    """

    def reward(z: Tensor) -> Tensor:
        images = vae.decode(z)  # (B, 3, H, W)
        away = images - background_colour(images.detach())[:, :, None, None]
        seen = ((away.square().sum(1) + 1e-6).sqrt() - SEEN).div(SOFT).sigmoid()  # (B, H, W)
        return -F.mse_loss(seen, layouts[:, 0], reduction="none").flatten(1).sum(1)

    return reward
