"""ControlNets in diffusers' layout, read and written, compared with diffusers' own.

The fixture `controlnet_sd15.txt` lists the names and shapes of a ControlNet for Stable Diffusion
1.5, as diffusers has them; `python -m tests.pipelines.stable_diffusion.test_controlnet` writes it.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from course_lib.diffusion import initial_noise, sample
from course_lib.diffusion.guidance import guided
from course_lib.models import SD15_UNET, Controlled, ControlNet, LoRA, UNet
from course_lib.pipelines.stable_diffusion import (
    configs,
    load_controlnet,
    load_stable_diffusion,
    save_controlnet,
    times,
)
from course_lib.pipelines.stable_diffusion.controlnet import check_controlnet, count_controlnet
from course_lib.pipelines.stable_diffusion.key_map import DIFFUSERS, renamed
from tests.parity import agree
from tests.pipelines.stable_diffusion.test_checkpoint import (
    TOKENIZER,
    diffusers,
    folder,
    rewrite,
    stirred,
    transformers,
    twins,
)

FIXTURES = (folder, twins)
WEIGHTS = "diffusion_pytorch_model.safetensors"
NAMES = Path(__file__).with_name("controlnet_sd15.txt")


@pytest.fixture(scope="module")
def model(folder):
    return load_stable_diffusion(folder)


@pytest.fixture(scope="module")
def twin(twins):
    """diffusers' ControlNet for the small U-Net, with random weights everywhere."""
    torch.manual_seed(5)
    small = dict(conditioning_embedding_out_channels=(16, 32))  # images of twice the latents' size
    return stirred(diffusers.ControlNetModel.from_unet(twins["unet"], **small))


@pytest.fixture
def control(twin, tmp_path):
    """Its folder, written by diffusers."""
    twin.save_pretrained(tmp_path / "control")
    return tmp_path / "control"


def configure(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def given():
    torch.manual_seed(2)
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 721.0]), torch.randn(2, 77, 32)
    return x, t, context, torch.rand(2, 3, 16, 16)


def same_answers(model, control, twins, twin, bound=1e-5):
    """Our residuals and our steered prediction, and theirs."""
    x, t, context, images = given()
    controlnet = load_controlnet(control, model)
    with torch.inference_mode():
        down, middle = twin(x, t, context, images, conditioning_scale=0.7, return_dict=False)
        more = dict(down_block_additional_residuals=down, mid_block_additional_residual=middle)
        expected = twins["unet"](x, t, context, **more).sample
        residuals = controlnet(x, t, context, images)
        ours = Controlled(model.unet, controlnet, images, scale=0.7)(x, t, context)
        alone = model.unet(x, t, context)
    for residual, theirs in zip(residuals, [*down, middle], strict=True):
        agree(0.7 * residual, theirs, bound)
    agree(ours, expected, bound)
    assert (ours - alone).abs().max() > 1e-2 * ours.abs().max(), "it has no effect"


def test_a_folder_written_by_diffusers_answers_as_theirs(model, control, twins, twin):
    same_answers(model, control, twins, twin)


def test_the_whole_pipeline_draws_what_the_controlnet_pipeline_draws(model, control, twins, twin):
    """Same weights, same seed, same control image, same picture: guidance 4, DDIM, three steps."""
    words = dict(vocab=TOKENIZER.kwargs["vocabulary"])
    words |= dict(merges=[tuple(pair) for pair in TOKENIZER.kwargs["merges"]])
    pipe = diffusers.StableDiffusionControlNetPipeline(
        **dict(vae=twins["vae"], text_encoder=twins["text_encoder"], unet=twins["unet"]),
        tokenizer=transformers.CLIPTokenizer(**words, model_max_length=77),
        controlnet=twin,
        scheduler=diffusers.DDIMScheduler(
            **dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
            **dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    noise = initial_noise([torch.Generator().manual_seed(seed) for seed in (7, 8)], (4, 8, 8))
    captions, images = ["a red circle", "two cats on a mat"], given()[3]
    options = dict(num_inference_steps=3, guidance_scale=4.0, controlnet_conditioning_scale=0.8)
    options |= dict(latents=noise, height=16, width=16, output_type="pt")
    expected = pipe(captions, image=images, **options).images
    controlnet = load_controlnet(control, model)
    with torch.inference_mode():
        network = Controlled(model.unet, controlnet, images, scale=0.8)
        network = guided(network, model.clip.context([""]), 4.0)
        context = model.clip.context(captions)
        z = sample(model.process, network, noise, context, spacing=times(3))
        ours = (model.vae.decode(z) / 2 + 0.5).clamp(0, 1)
    assert expected.std() > 0.01  # a picture, not a plain surface
    agree(ours, expected, 2e-5)  # six calls of both networks


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_a_folder_of_shards(model, control, twins, twin, variant):
    (control / WEIGHTS).unlink()
    twin.save_pretrained(control, max_shard_size="20MB", variant=variant)
    assert len(list(control.glob("*-of-*.safetensors"))) > 1
    same_answers(model, control, twins, twin)


def test_half_precision(model, control, twins, twin):
    rewrite(control / WEIGHTS, lambda weights: {name: w.half() for name, w in weights.items()})
    (control / WEIGHTS).rename(control / WEIGHTS.replace(".s", ".fp16.s"))
    same_answers(model, control, twins, twin, bound=5e-3)  # half: 11 bits


def test_it_has_the_dtype_of_the_unet_and_is_frozen(folder, control):
    half = load_stable_diffusion(folder, dtype=torch.bfloat16)
    controlnet = load_controlnet(control, half)
    assert {p.dtype for p in controlnet.parameters()} == {torch.bfloat16}
    assert not controlnet.training and not any(p.requires_grad for p in controlnet.parameters())


def test_with_a_lora(model, control):
    """A merged LoRA of the U-Net is steered as an unmerged one."""
    x, t, context, images = given()
    controlnet, lora = load_controlnet(control, model), LoRA(model.unet, rank=2)
    for update in lora.low_rank:
        update.B.data = 0.2 * torch.randn_like(update.B)
    with torch.inference_mode():
        before = Controlled(model.unet, controlnet, images)(x, t, context)
        unmerged = Controlled(lora, controlnet, images)(x, t, context)
    lora.merge()
    with torch.inference_mode():
        agree(Controlled(model.unet, controlnet, images)(x, t, context), unmerged, 1e-5)
    lora.unmerge()
    assert (unmerged - before).abs().max() > 1e-2 * before.abs().max()


# ---- names and settings --------------------------------------------------------------------------

CANNY = dict(  # as the config.json of the first published ControlNets, from diffusers 0.14
    **dict(_class_name="ControlNetModel", _diffusers_version="0.14.0.dev0", act_fn="silu"),
    **dict(attention_head_dim=8, block_out_channels=[320, 640, 1280, 1280], class_embed_type=None),
    conditioning_embedding_out_channels=[16, 32, 96, 256],
    controlnet_conditioning_channel_order="rgb",
    cross_attention_dim=768,
    down_block_types=[*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    **dict(downsample_padding=1, flip_sin_to_cos=True, freq_shift=0, in_channels=4),
    **dict(layers_per_block=2, mid_block_scale_factor=1, norm_eps=1e-05, norm_num_groups=32),
    **dict(num_class_embeds=None, only_cross_attention=False, upcast_attention=False),
    projection_class_embeddings_input_dim=None,
    **dict(resnet_time_scale_shift="default", use_linear_projection=False),
)


def listed() -> dict[str, list[int]]:
    """The fixture: each weight's name and shape."""
    rows = [line.split() for line in NAMES.read_text().splitlines()]
    return {name: [*map(int, shape)] for name, *shape in rows}


def of_diffusers():
    """Names and shapes of diffusers' ControlNet at the size of Stable Diffusion 1.5."""
    with torch.device("meta"):
        peer = diffusers.ControlNetModel(cross_attention_dim=768)
    return {name: [*weight.shape] for name, weight in peer.state_dict().items()}


def test_the_fixture_is_what_diffusers_writes():
    assert listed() == of_diffusers()


def test_the_names_at_full_size(tmp_path):
    """340 weights, 361,279,120 numbers; a published config gives the copy of SD15_UNET."""
    (tmp_path / "config.json").write_text(json.dumps(CANNY))
    save_file({"conv_in.bias": torch.zeros(320)}, tmp_path / WEIGHTS)
    keywords = check_controlnet(tmp_path)
    assert keywords["unet"] == SD15_UNET | dict(layers_per_block=2)
    with torch.device("meta"):
        ours = ControlNet(**keywords)
    theirs, linear = listed(), {"proj_in", "proj_out"}
    named = {renamed(name, DIFFUSERS): p for name, p in ours.named_parameters()}
    assert named.keys() == theirs.keys() and len(named) == 340
    for name, weight in named.items():
        shape = theirs[name][:2] if linear & {*name.split(".")} else theirs[name]
        assert [*weight.shape] == shape, name
    assert sum(p.numel() for p in named.values()) == 361_279_120


def test_the_headers_count_the_weights(control, twin):
    assert count_controlnet(control) == sum(p.numel() for p in twin.parameters())


def test_diffusers_reads_what_was_trained_here(model, twins, twin, control, tmp_path):
    controlnet = ControlNet.from_unet(model.unet, embedding_channels=(16, 32))
    controlnet.load_state_dict(load_controlnet(control, model).state_dict())
    save_controlnet(controlnet, tmp_path / "new" / "mine")
    written = tmp_path / "new" / "mine"
    theirs, ours = load_file(control / WEIGHTS), load_file(written / WEIGHTS)
    assert ours.keys() == theirs.keys()
    peer = diffusers.ControlNetModel.from_pretrained(written, local_files_only=True).eval()
    same_answers(model, written, twins, peer)
    same_answers(model, written, twins, twin)


def test_what_is_not_written(tmp_path):
    small = dict(channels=8, multipliers=(1,), attention=(True,), context_dim=8)
    controlnet = ControlNet(small | dict(film=True))
    with pytest.raises(ValueError, match=r"save_controlnet: expected .*, got {'film': True}"):
        save_controlnet(controlnet, tmp_path / "mine")
    controlnet = ControlNet(small)
    controlnet.conv_in.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"conv_in\.bias: not all finite"):
        save_controlnet(controlnet, tmp_path / "mine")
    assert not any(tmp_path.iterdir())


# ---- refusals ------------------------------------------------------------------------------------


def refused(error, words, *arguments):
    with pytest.raises(error) as caught:
        load_controlnet(*arguments)
    line = str(caught.value)
    assert all(word in line for word in words) and "\n" not in line and len(line) < 300, line


XL = dict(
    **dict(addition_embed_type="text_time", addition_time_embed_dim=256, cross_attention_dim=2048),
    **dict(attention_head_dim=[5, 10, 20], transformer_layers_per_block=[1, 2, 10]),
    **dict(block_out_channels=[320, 640, 1280], projection_class_embeddings_input_dim=2816),
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
)
THREE = dict(
    block_out_channels=[128, 256, 256],
    down_block_types=["CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            XL,
            ["is a ControlNet for Stable Diffusion XL", "only opens those for Stable Diffusion 1"],
        ),
        (dict(cross_attention_dim=1024), ["is a ControlNet for Stable Diffusion 2"]),
        (dict(cross_attention_dim=64), ["a ControlNet for a U-Net with context_dim 32, got 64"]),
        (THREE, ["with multipliers (1.0, 2.0), got (1.0, 2.0, 2.0)"]),
        (dict(layers_per_block=1), ["with layers_per_block 2, got 1"]),
        (dict(block_out_channels=[160, 320]), ["with channels 128, got 160"]),
        (dict(in_channels=9), ["with in_channels 4, got 9"]),
        (dict(_class_name="FluxControlNetModel"), ["_class_name is 'FluxControlNetModel'"]),
        (dict(_class_name="UNet2DConditionModel"), ["expected 'ControlNetModel'"]),
        (dict(controlnet_conditioning_channel_order="bgr"), ["channel_order is 'bgr'"]),
        (dict(global_pool_conditions=True), ["global_pool_conditions is True"]),
        (dict(mid_block_type="UNetMidBlock2D"), ["mid_block_type is 'UNetMidBlock2D'"]),
        (dict(norm_num_groups=16), ["norm_num_groups is 16, expected 32"]),
        (dict(from_the_future=True), ["unknown setting from_the_future=True"]),
        (dict(attention_head_dim=[4, 8]), ["attention_head_dim", "got [4, 8]"]),
        (dict(down_block_types=["DownBlock2D", "AttnDownBlock2D"]), ["down_block_types"]),
        (dict(conditioning_channels=0), ["conditioning_channels", "at least 1; got 0"]),
        (dict(conditioning_embedding_out_channels=[]), ["out_channels is [], expected a value"]),
        (
            dict(conditioning_channels=1),
            ["(16, 3, 3, 3), expected (16, 1, 3, 3)"],
        ),
        (dict(conditioning_embedding_out_channels=[16, 32, 64]), ["4 weights missing"]),
    ],
)
def test_refuses_controlnets_of_another_kind(model, control, settings, words):
    configure(control, **settings)
    refused(ValueError, words, control, model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "conv_in.bias"}, ["1 weights missing"]),
        (lambda w: w | {"up_blocks.0.x": torch.ones(1)}, ["1 weights left over (up_blocks.0.x"]),
        (lambda w: w | {"controlnet_mid_block.bias": torch.ones(7)}, ["is (7,), expected (256,)"]),
        (lambda w: w | {"conv_in.bias": torch.full((128,), torch.nan)}, ["conv_in.bias", "finite"]),
        (lambda w: w | {"conv_in.bias": torch.ones(128).int()}, ["conv_in.bias is I32"]),
    ],
)
def test_refuses_other_weights(model, control, change, words):
    rewrite(control / WEIGHTS, change)
    refused(ValueError, ["ControlNet", *words], control, model)


def test_refuses_what_is_not_there_or_damaged(model, control, tmp_path):
    refused(FileNotFoundError, ["there is no ControlNet folder", "nowhere"], "nowhere", model)
    (tmp_path / "empty").mkdir()
    refused(FileNotFoundError, ["config.json is missing"], tmp_path / "empty", model)
    content = (control / WEIGHTS).read_bytes()
    (control / WEIGHTS).write_bytes(content[:-100])
    refused(ValueError, ["damaged"], control, model)
    (control / WEIGHTS).rename(control / "diffusion_pytorch_model.bin")
    refused(ValueError, ["pickled", "safetensors"], control, model)
    (control / "diffusion_pytorch_model.bin").unlink()
    refused(FileNotFoundError, ["no .safetensors weights"], control, model)


def test_refuses_the_unet_of_another_model(control):
    other = UNet(4, channels=8, multipliers=(1, 2), attention=(True, False), context_dim=8)
    with pytest.raises(ValueError, match="a ControlNet for a U-Net with channels 8, got 128"):
        load_controlnet(control, type("Model", (), dict(unet=other)))


def test_the_settings_are_those_of_the_unet_and_a_few_more():
    assert set(configs.CONTROLNET.fixed) - set(configs.UNET.fixed) == {
        "controlnet_conditioning_channel_order",
        "global_pool_conditions",
    }


if __name__ == "__main__":
    lines = [" ".join(map(str, [name, *shape])) for name, shape in of_diffusers().items()]
    NAMES.write_text("\n".join([*lines, ""]))
