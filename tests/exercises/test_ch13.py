"""Chapter 13: its counts, compared with our modules and diffusers', and its equations."""

import json

import pytest
import torch
from torch import nn

from course_lib.common.paths import ROOT
from course_lib.diffusion import Diffusion, point, scaled_linear
from course_lib.exercises.ch13 import (
    EXERCISES,
    all_entries,
    entries_after_noising,
    names_of_the_first_checkpoint,
    one_scale,
    their_name,
    transformer_parameters,
)
from course_lib.models import SD15_UNET, SD15_VAE, AutoencoderKL, UNet
from course_lib.models.attention import SpatialTransformer
from course_lib.models.layers import ResnetBlock
from course_lib.pipelines.stable_diffusion import times


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def cell(name):
    """The source of one of the chapter's cells."""
    notebook = json.loads((ROOT / "notebooks" / "13_stable_diffusion.ipynb").read_text("utf-8"))
    return "".join(next(cell["source"] for cell in notebook["cells"] if cell["id"] == name))


@pytest.fixture(scope="module")
def unet():
    with torch.device("meta"):
        return UNet(**SD15_UNET)


@pytest.mark.parametrize(("a", "b", "e"), [(4, 4, 8), (4, 8, 16), (320, 640, 1280)])
def test_a_residual_blocks_parameters(a, b, e):
    """(13.1)"""
    formula = 9 * b * (a + b) + e * b + 5 * b + 2 * a + (a != b) * (a * b + b)
    with torch.device("meta"):
        assert count(ResnetBlock(a, b, time_dim=e)) == formula


@pytest.mark.parametrize(("c", "d"), [(8, 3), (320, 768), (1280, 2048)])
def test_a_transformers_parameters(c, d):
    with torch.device("meta"):
        assert count(SpatialTransformer(c, context_dim=d)) == transformer_parameters(c, d)


def test_one_scale_gives_all_numbers_together_the_spread_1():
    """(13.2), which is `fit_scaling` if all channels are alike and have no noise."""
    z = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double() * 5.49
    assert (one_scale(z.split(24)) * z).std(correction=0).item() == pytest.approx(1, abs=1e-9)
    vae = AutoencoderKL(channels=16)
    vae.encode_moments = lambda x: (x, torch.full_like(x, -30))
    vae.fit_scaling(z)
    assert vae.scaling_factor.double() == pytest.approx(one_scale(z.split(24)).item(), rel=0.02)
    assert 1 / SD15_VAE["scaling_factor"] == pytest.approx(5.49, abs=0.005)


@pytest.mark.parametrize("steps", [1, 20, 30, 50])
def test_the_exercises_entries_are_the_librarys_times(steps):
    """(13.3)"""
    assert times(steps) == [(entry + 1) / 1000 for entry in [*all_entries(steps), 0]]


def test_noise_and_picture_out_of_v():
    """(13.4): the conversion of the library, and the numbers by hand."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 4, 2, 2, generator=generator).double()
    process = Diffusion(scaled_linear(), "v")
    for t in (0.001, 0.4, 1.0):
        at_t = point(process.schedule, t)
        zt, v = at_t.alpha * x0 + at_t.sigma * eps, at_t.alpha * eps - at_t.sigma * x0
        torch.testing.assert_close(at_t.alpha * v + at_t.sigma * zt, eps)
        torch.testing.assert_close(at_t.alpha * zt - at_t.sigma * v, x0)
        torch.testing.assert_close(process.target(x0, eps, t), v)


@pytest.mark.parametrize(("steps", "strength"), [(50, 0.8), (30, 0.5), (20, 1.0), (10, 0.05)])
def test_the_entries_of_image_to_image_are_diffusers(steps, strength):
    """`get_timesteps` of diffusers' image-to-image pipeline, with Stable Diffusion's scheduler."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(steps_offset=1)
    scheduler.set_timesteps(steps)
    start = max(steps - min(int(steps * strength), steps), 0)
    assert entries_after_noising(steps, strength) == scheduler.timesteps[start:].tolist()


def test_the_exercises_names_are_diffusers():
    """As in diffusers' conversion script, written out for one entry of each kind."""
    expected = {
        "input_blocks.1.0.in_layers.0.weight": "down_blocks.0.resnets.0.in_layers.0.weight",
        "input_blocks.4.1.proj_in.bias": "down_blocks.1.attentions.0.proj_in.bias",
        "input_blocks.8.0.out_layers.3.weight": "down_blocks.2.resnets.1.out_layers.3.weight",
        "input_blocks.3.0.op.weight": "down_blocks.0.downsamplers.0.conv.weight",
        "input_blocks.9.0.op.bias": "down_blocks.2.downsamplers.0.conv.bias",
        "input_blocks.11.0.emb_layers.1.weight": "down_blocks.3.resnets.1.emb_layers.1.weight",
        "input_blocks.2.1.norm.weight": "down_blocks.0.attentions.1.norm.weight",
    }
    assert [name for (name,) in names_of_the_first_checkpoint()] == list(expected)
    for name, theirs in expected.items():
        assert their_name(name) == theirs


def test_a_wider_context_costs_what_the_exercise_says(unet):
    with torch.device("meta"):
        wider = UNet(**SD15_UNET | dict(context_dim=1024))
    assert (count(wider) - count(unet)) / 1e6 == pytest.approx(EXERCISES["13.5"].right)
    assert count(wider) == 865_910_724


def test_xl_and_3_have_as_many_parameters_as_the_chapter_says():
    """Counted on diffusers' networks at the published sizes, and with the chapter's sum."""
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        xl = diffusers.UNet2DConditionModel(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(320, 640, 1280),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            transformer_layers_per_block=(1, 2, 10),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        third = diffusers.SD3Transformer2DModel(
            **dict(sample_size=128, num_layers=24, num_attention_heads=24, attention_head_dim=64),
            **dict(joint_attention_dim=4096, caption_projection_dim=1536),
            **dict(in_channels=16, out_channels=16, pos_embed_max_size=192),
        )
    names = dict(torch=torch, nn=nn, UNet=UNet, count=count)
    exec(cell("xl"), names)
    assert names["total"] == count(xl) == 2_567_463_684
    assert count(third) == 2_028_328_000


@pytest.mark.parametrize("side", [8, 64])
def test_the_chapters_arithmetic_is_what_pytorch_counts(unet, side):
    from torch.utils.flop_counter import FlopCounterMode

    names = dict(torch=torch, nn=nn)
    exec(cell("parameters") + "\n" + cell("arithmetic"), names)
    x, clock = torch.empty(1, 4, side, side, device="meta"), torch.empty(1, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        unet(x, clock, torch.empty(1, 77, 768, device="meta"))
    assert sum(names["arithmetic"](unet, side).values()) == counter.get_total_flops()
    assert sum(names["parameters"](unet).values()) == count(unet)
