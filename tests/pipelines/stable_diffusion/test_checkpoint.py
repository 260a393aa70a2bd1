"""Stable Diffusion checkpoints, in both layouts, read by ours as their own libraries read them.

Nothing is downloaded: diffusers and transformers write small random checkpoints, and diffusers'
own converter, not ours, says what the names in the original single file mean.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from course_lib.diffusion import initial_noise, sample
from course_lib.diffusion.guidance import guided
from course_lib.models import SD15_TEXT, SD15_UNET, SD15_VAE, AutoencoderKL, TextEncoder, UNet
from course_lib.models.tokenizer import Tokenizer
from course_lib.pipelines.stable_diffusion import load_stable_diffusion, times
from course_lib.pipelines.stable_diffusion.checkpoint import PREFIXES, Sizes, file_names
from course_lib.pipelines.stable_diffusion.key_map import renamed
from tests.parity import agree

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
from diffusers.loaders import single_file_utils as converter  # noqa: E402

TOKENIZER = Tokenizer.train(["a red circle", "two cats on a mat"], 60, 77)
SIZES = Sizes(
    unet=dict(
        in_channels=4, channels=128, multipliers=(1, 2), layers_per_block=2, attention=(True, False)
    )
    | dict(heads=4, context_dim=32),
    vae=dict(
        channels=128,
        multipliers=(1, 2),
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.18215,
    ),
    text=dict(vocab_size=len(TOKENIZER), length=77, dim=32, layers=2, heads=4, mlp_ratio=2),
)


def stirred(network):
    """Random weights all over, so that no norm is 1 and no bias 0."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture(scope="module")
def twins():
    """The three networks as diffusers and transformers have them."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(128, 256),
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        attention_head_dim=4,
        cross_attention_dim=32,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(128, 256),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        layers_per_block=2,
    )
    config = transformers.CLIPTextConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=len(TOKENIZER) - 2,
        eos_token_id=len(TOKENIZER) - 1,
    )
    return {
        "unet": stirred(unet),
        "vae": stirred(vae),
        "text_encoder": stirred(transformers.CLIPTextModel(config)),
    }


@pytest.fixture(scope="module")
def folder(twins, tmp_path_factory):
    """A checkpoint in the folder layout, written by its own libraries."""
    folder = tmp_path_factory.mktemp("checkpoint")
    for part, twin in twins.items():
        twin.save_pretrained(folder / part)
    scheduler = diffusers.PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    )
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir()
    merges = ["#version: 0.2", *(" ".join(pair) for pair in TOKENIZER.kwargs["merges"])]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(merges), "utf-8")
    vocabulary = json.dumps(TOKENIZER.kwargs["vocabulary"])
    (folder / "tokenizer" / "vocab.json").write_text(vocabulary, "utf-8")
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    """The same checkpoint, to be damaged: links to all its files."""
    for file in folder.rglob("*.*"):
        place = tmp_path / file.relative_to(folder)
        place.parent.mkdir(exist_ok=True)
        place.hardlink_to(file)
    return tmp_path


def rewrite(path, change):
    """Replace a .safetensors file by `change` of its weights."""
    weights = change(load_file(path))
    path.unlink()
    save_file(weights, path)


def original_names(sizes, models):
    """The weights of ours under the names of the original single file."""
    names, text = file_names(sizes), PREFIXES["text_encoder"] + "text_model."
    prefixes = PREFIXES | {"text_encoder": text}
    return {
        f"{prefixes[part]}{renamed(name, names[part])}": parameter.data
        for part, model in models.items()
        for name, parameter in model.named_parameters()
    }


def same_answers(parts, twins, tolerance=1e-5):
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 721.0])
    context, captions = torch.randn(2, 77, 32), ["a red circle", ""]
    with torch.inference_mode():
        pairs = [
            (parts.unet(x, t, context), twins["unet"](x, t, context).sample),
            (parts.vae.decode(0.18215 * x), twins["vae"].decode(x).sample),
            (
                parts.clip.context(captions),
                twins["text_encoder"](TOKENIZER(captions)).last_hidden_state,
            ),
        ]
    for ours, theirs in pairs:
        agree(ours, theirs, tolerance)


def test_a_folder_written_by_diffusers_answers_as_theirs(folder, twins):
    same_answers(load_stable_diffusion(folder), twins)


def test_a_folder_of_older_names_and_half_precision(copy, twins):
    """`text_model.` in front, query/key/value in the autoencoder, fp16 files with their mark."""
    older = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}

    def aged(name):
        for new, old in older.items():
            name = name.replace(f"attentions.0.{new}", f"attentions.0.{old}")
        return name

    rewrite(
        copy / "vae" / "diffusion_pytorch_model.safetensors",
        lambda weights: {aged(name): w.half() for name, w in weights.items()},
    )
    text = copy / "text_encoder" / "model.safetensors"
    rewrite(text, lambda ws: {f"text_model.{name}": w.half() for name, w in ws.items()})
    text.rename(text.with_name("model.fp16.safetensors"))
    same_answers(load_stable_diffusion(copy), twins, tolerance=5e-3)  # half: 11 bits


def test_the_single_file_says_what_diffusers_converter_says(folder, tmp_path, twins):
    """Ours under the original names; their converter must find the very same networks."""
    parts = load_stable_diffusion(folder)
    models = {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.clip.text}
    weights = original_names(SIZES, models)
    unet = converter.convert_ldm_unet_checkpoint(dict(weights), dict(twins["unet"].config))
    vae = converter.convert_ldm_vae_checkpoint(dict(weights), dict(twins["vae"].config))
    for part, converted in (("unet", unet), ("vae", vae)):
        theirs = twins[part].state_dict()
        assert converted.keys() == theirs.keys()
        for name, weight in theirs.items():
            assert torch.equal(converted[name].reshape(weight.shape), weight), name
    beside = {
        "betas": torch.rand(1000),
        "model_ema.decay": torch.rand(1),
        f"{PREFIXES['text_encoder']}text_model.embeddings.position_ids": torch.arange(77)[None],
    }
    path = tmp_path / "model.safetensors"
    save_file({name: w.contiguous() for name, w in (weights | beside).items()}, path)
    same_answers(load_stable_diffusion(path, folder / "tokenizer", sizes=SIZES), twins)


def test_the_original_names_at_full_size():
    """Stable Diffusion 1.5 itself, without its numbers: 686 + 248 + 196 names in both layouts."""
    with torch.device("meta"):
        models = {
            "unet": UNet(**SD15_UNET),
            "vae": AutoencoderKL(**SD15_VAE),
            "text_encoder": TextEncoder(**SD15_TEXT),
        }
        unet_config = dict(diffusers.UNet2DConditionModel().config) | {"layers_per_block": 2}
        config = dict(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=2,
        )
        twins = {
            "unet": diffusers.UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8),
            "vae": diffusers.AutoencoderKL(**config),
        }
    weights = original_names(Sizes(), models)
    assert len(weights) == 686 + 248 + 196
    for part, converted in (
        ("unet", converter.convert_ldm_unet_checkpoint(dict(weights), unet_config)),
        ("vae", converter.convert_ldm_vae_checkpoint(dict(weights), config)),
    ):
        theirs = twins[part].state_dict()
        assert converted.keys() == theirs.keys()
        assert all(converted[name].numel() == theirs[name].numel() for name in theirs)


def test_the_whole_pipeline_draws_what_stable_diffusion_pipeline_draws(folder, twins):
    """Same weights, same seed, same picture: guidance 4, DDIM, five steps."""
    parts = load_stable_diffusion(folder)
    tokenizer = transformers.CLIPTokenizer(
        vocab=TOKENIZER.kwargs["vocabulary"],
        merges=[tuple(pair) for pair in TOKENIZER.kwargs["merges"]],
        model_max_length=77,
    )
    pipe = diffusers.StableDiffusionPipeline(
        **dict(vae=twins["vae"], text_encoder=twins["text_encoder"], unet=twins["unet"]),
        tokenizer=tokenizer,
        scheduler=diffusers.DDIMScheduler(
            **dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
            **dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    noise = initial_noise(generators, (4, 8, 8))
    captions = ["a red circle", "two cats on a mat"]
    options = dict(num_inference_steps=5, guidance_scale=4.0, output_type="pt")
    expected = pipe(captions, latents=noise, height=16, width=16, **options).images
    with torch.inference_mode():
        network = guided(parts.unet, parts.clip.context([""]), 4.0)
        context = parts.clip.context(captions)
        z = sample(parts.process, network, noise, context, spacing=times(5))
        ours = (parts.vae.decode(z) / 2 + 0.5).clamp(0, 1)
    assert expected.std() > 0.01  # a picture, not a plain surface
    agree(ours, expected, 2e-5)  # ten calls of the U-Net


@pytest.mark.parametrize("steps", [1, 7, 20, 50, 999])
def test_times_are_those_of_diffusers(steps):
    scheduler = diffusers.DDIMScheduler(steps_offset=1)
    scheduler.set_timesteps(steps)
    assert [round(1000 * t) - 1 for t in times(steps)[:-1]] == scheduler.timesteps.tolist()
    assert times(steps)[-1] == 1 / 1000


# ---- refusals: one clear line each ---------------------------------------------------------------


def refused(error, words, *args, **kwargs):
    with pytest.raises(error) as caught:
        load_stable_diffusion(*args, **kwargs)
    line = str(caught.value)
    assert all(word in line for word in words) and "\n" not in line, line


UNET = "unet/diffusion_pytorch_model.safetensors"


def test_refuses_what_is_not_there(copy, tmp_path):
    refused(FileNotFoundError, ["nowhere"], tmp_path / "nowhere")
    (copy / "tokenizer" / "merges.txt").unlink()
    refused(FileNotFoundError, ["merges.txt"], copy)
    (copy / UNET).unlink()
    refused(FileNotFoundError, ["unet", "safetensors"], copy)


def test_refuses_pickles(copy):
    (copy / UNET).rename(copy / "unet" / "diffusion_pytorch_model.bin")
    refused(ValueError, ["pickled", "safetensors"], copy)
    torch.save({}, copy / "model.ckpt")
    refused(ValueError, ["model.ckpt", "run any code"], copy / "model.ckpt", copy / "tokenizer")
    torch.save({}, copy / "renamed.safetensors")
    refused(ValueError, ["renamed.safetensors", "damaged"], copy / "renamed.safetensors", copy)


def test_refuses_a_truncated_file(copy):
    content = (copy / UNET).read_bytes()
    (copy / UNET).unlink()
    (copy / UNET).write_bytes(content[:-100])
    refused(ValueError, ["damaged"], copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "conv_in.bias"}, ["1 weights missing"]),
        (lambda w: w | {"extra.weight": torch.ones(1)}, ["1 weights left over", "extra.weight"]),
        (lambda w: w | {"conv_in.bias": torch.ones(7)}, ["conv_in.bias is (7,), expected (128,)"]),
        (lambda w: w | {"conv_in.bias": torch.ones(1, 128)}, ["conv_in.bias is (1, 128)"]),
    ],
)
def test_refuses_other_weights(copy, change, words):
    rewrite(copy / UNET, change)
    refused(ValueError, ["UNet", *words], copy)


def test_refuses_one_weight_under_two_names(copy):
    """An older and a newer name: taking either would leave the other unused."""
    old, new = (f"decoder.mid_block.attentions.0.{name}.bias" for name in ("query", "to_q"))
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    rewrite(file, lambda weights: weights | {old: weights[new].clone()})
    refused(ValueError, ["1 weights are there under two names"], copy)


@pytest.mark.parametrize(
    ("part", "key", "value", "words"),
    [
        ("unet", "norm_num_groups", 16, ["norm_num_groups is 16"]),
        ("unet", "block_out_channels", [64, 128], ["block_out_channels are [64, 128]"]),
        ("vae", "block_out_channels", [32, 64], ["block_out_channels are [32, 64]"]),
        ("unet", "flip_sin_to_cos", False, ["flip_sin_to_cos is False, but the course has True"]),
        ("unet", "freq_shift", 1, ["freq_shift is 1"]),
        ("unet", "act_fn", "gelu", ["act_fn is 'gelu'"]),
        ("unet", "norm_eps", 1e-3, ["norm_eps is 0.001"]),
        ("unet", "center_input_sample", True, ["center_input_sample is True"]),
        ("unet", "mid_block_scale_factor", 2.0, ["mid_block_scale_factor is 2.0"]),
        ("vae", "act_fn", "relu", ["act_fn is 'relu'"]),
        ("text_encoder", "layer_norm_eps", 1e-2, ["layer_norm_eps is 0.01"]),
        ("scheduler", "num_train_timesteps", 500, ["num_train_timesteps is 500"]),
        ("scheduler", "rescale_betas_zero_snr", True, ["rescale_betas_zero_snr is True"]),
        ("scheduler", "trained_betas", [0.01], ["trained_betas is [0.01]"]),
        ("unet", "attention_head_dim", [5, 10], ["not Stable Diffusion 1", "[5, 10]"]),
        ("text_encoder", "hidden_act", "gelu", ["hidden_act is 'gelu'"]),
        ("scheduler", "beta_schedule", "linear", ["beta_schedule is 'linear'"]),
        ("scheduler", "prediction_type", "flow", ["'flow'"]),
        ("scheduler", "prediction_type", [], ["a strange value"]),
        ("unet", "block_out_channels", 320, ["a strange value"]),
        ("unet", "block_out_channels", [], ["a strange value"]),
        ("unet", "down_block_types", None, ["a strange value"]),
        ("unet", "layers_per_block", [2, 2], ["not Stable Diffusion 1", "[2, 2]"]),
        ("text_encoder", "hidden_size", 0, ["a strange value"]),
    ],
)
def test_refuses_models_that_ours_cannot_be(copy, part, key, value, words):
    file = "scheduler_config.json" if part == "scheduler" else "config.json"
    config = json.loads((copy / part / file).read_text()) | {key: value}
    (copy / part / file).unlink()
    (copy / part / file).write_text(json.dumps(config))
    refused(ValueError, words, copy)


def test_refuses_a_file_that_is_another_model(tmp_path, folder):
    path = tmp_path / "other.safetensors"
    save_file({"model.diffusion_model.x": torch.ones(1), "conditioner.y": torch.ones(1)}, path)
    refused(ValueError, ["not Stable Diffusion 1", "conditioner.y"], path, folder / "tokenizer")
    refused(ValueError, ["tokenizer"], path)
