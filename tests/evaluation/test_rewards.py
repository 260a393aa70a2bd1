"""Rewards: highest for the right picture, one number for each, with a gradient that improves it."""

import pytest
import torch

from course_lib.common.checkpoints import load_checkpoint
from course_lib.datasets.scenes import Scenes
from course_lib.evaluation.rewards import caption_reward, layout_reward
from course_lib.models import CLIP, AutoencoderKL


@pytest.fixture(scope="module")
def scenes():
    """The autoencoder, CLIP, and 16 scenes: latents, captions and layouts."""
    vae, clip = load_checkpoint(AutoencoderKL, "scenes-vae"), load_checkpoint(CLIP, "scenes-clip")
    data = Scenes(64, "new combinations", seed=7, unsaid=0)
    images, captions = data.batch(range(16))
    with torch.no_grad():
        return vae, clip, vae.encode(images), captions, data.layouts(range(16))


def test_a_picture_earns_most_for_its_own_caption_and_layout(scenes):
    vae, clip, z, captions, layouts = scenes
    with torch.no_grad():
        for reward in (caption_reward(vae, clip, captions), layout_reward(vae, layouts)):
            own, others = reward(z), reward(z.roll(1, 0))
            assert own.shape == (16,) and (own > others).float().mean() > 0.9
        assert (caption_reward(vae, clip, captions)(z).abs() <= 1 + 1e-6).all()
        assert (layout_reward(vae, layouts)(z) <= 0).all()


@pytest.mark.parametrize("name, step", [("caption", 1.0), ("layout", 1e-3)])
def test_a_step_along_its_gradient_raises_it(scenes, name, step):
    vae, clip, z, captions, layouts = scenes
    reward = (
        caption_reward(vae, clip, captions) if name == "caption" else layout_reward(vae, layouts)
    )
    z = z.roll(1, 0).requires_grad_()
    before = reward(z)
    (slope,) = torch.autograd.grad(before.sum(), z)
    with torch.no_grad():
        after = reward(z + step * slope)
    assert (after > before).all()
