"""Stable Diffusion checkpoints in both layouts: we read them as their own libraries do.

Nothing is downloaded: diffusers and transformers write small random checkpoints, and diffusers'
own converter, not ours, says what the names in the original single file mean.
"""

import inspect
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from course_lib.diffusion import initial_noise, sample
from course_lib.diffusion.guidance import guided
from course_lib.diffusion.schedules import cosine, scaled_linear
from course_lib.models import SD15_TEXT, SD15_UNET, SD15_VAE, AutoencoderKL, TextEncoder, UNet
from course_lib.models.tokenizer import END, START, Tokenizer
from course_lib.pipelines.stable_diffusion import configs, load_stable_diffusion, times
from course_lib.pipelines.stable_diffusion.checkpoint import PREFIXES, Sizes, file_names
from course_lib.pipelines.stable_diffusion.key_map import renamed
from tests.parity import agree

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
from diffusers import training_utils  # noqa: E402
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
    """Random weights everywhere, so that no norm is 1 and no bias 0."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture(scope="module")
def twins():
    """The three networks of diffusers and transformers."""
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
    """A copy of the checkpoint that tests can damage: links to all its files."""
    for file in folder.rglob("*.*"):
        place = tmp_path / file.relative_to(folder)
        place.parent.mkdir(exist_ok=True)
        place.hardlink_to(file)
    return tmp_path


def configure(folder, part, **values):
    """Replace values of a part's config, or write a new one."""
    name = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
    path = folder / part / name.get(part, "config.json")
    config = json.loads(path.read_text()) if path.exists() else {}
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(config | values))


def rewrite(path, change):
    """Apply `change` to the weights in a .safetensors file."""
    weights = change(load_file(path))
    path.unlink()
    save_file(weights, path)


def original_names(sizes, models):
    """Our weights under the names of the original single file."""
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


@pytest.fixture(scope="module")
def single(folder):
    """The weights under the names of the original single file."""
    parts = load_stable_diffusion(folder)
    models = {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.clip.text_encoder}
    return original_names(SIZES, models)


def write_single(path, weights):
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
    return path


BESIDE = {  # what published files and those of today's tools contain besides the weights
    "betas": torch.rand(1000),
    "alphas_cumprod": scaled_linear().alpha_bars.half(),
    "model_ema.decay": torch.rand(1),
    "scale_factor": torch.tensor(0.18215),
    "global_step": torch.tensor(470000),
    "denoiser.sigmas": torch.rand(1000),
    "first_stage_model.loss.logvar": torch.zeros(1),
    "first_stage_model.loss.discriminator.main.0.weight": torch.rand(4, 3, 4, 4),
    "cond_stage_model.logit_scale": torch.tensor(4.6),
    f"{PREFIXES['text_encoder']}text_projection.weight": torch.rand(32, 32),
    f"{PREFIXES['text_encoder']}text_model.embeddings.position_ids": torch.arange(77)[None],
}


def test_the_single_file_says_what_diffusers_converter_says(folder, single, tmp_path, twins):
    """Ours under the original names; their converter must find the same networks."""
    unet = converter.convert_ldm_unet_checkpoint(dict(single), dict(twins["unet"].config))
    vae = converter.convert_ldm_vae_checkpoint(dict(single), dict(twins["vae"].config))
    for part, converted in (("unet", unet), ("vae", vae)):
        theirs = twins[part].state_dict()
        assert converted.keys() == theirs.keys()
        for name, weight in theirs.items():
            assert torch.equal(converted[name].reshape(weight.shape), weight), name
    path = write_single(tmp_path / "model.safetensors", single | BESIDE)
    same_answers(load_stable_diffusion(path, folder / "tokenizer", sizes=SIZES), twins)


def test_a_single_file_whose_autoencoder_is_half_converted(folder, single, tmp_path, twins):
    """Some tools wrote diffusers' `to_q` and `to_out.0` next to CompVis' other names."""
    newer = {".attn_1.q.": ".attn_1.to_q.", ".attn_1.k.": ".attn_1.to_k."}
    newer |= {".attn_1.v.": ".attn_1.to_v.", ".attn_1.proj_out.": ".attn_1.to_out.0."}

    def half_converted(name):
        for old, new in newer.items():
            name = name.replace(old, new)
        return name

    weights = {half_converted(name): weight for name, weight in single.items()}
    assert len(weights.keys() - single.keys()) == 16  # 4 layers, in encoder and decoder
    path = write_single(tmp_path / "model.safetensors", weights)
    same_answers(load_stable_diffusion(path, folder / "tokenizer", sizes=SIZES), twins)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("scale_factor", torch.tensor(0.13025)),  # Stable Diffusion XL's
        ("alphas_cumprod", cosine().alpha_bars),
        ("alphas_cumprod", scaled_linear().alpha_bars[:500]),
    ],
)
def test_refuses_a_single_file_with_another_table(folder, single, tmp_path, name, table):
    path = write_single(tmp_path / "model.safetensors", single | {name: table})
    refused(ValueError, [f"{name} differs"], path, folder / "tokenizer", sizes=SIZES)


def test_the_original_names_at_full_size():
    """Stable Diffusion 1.5 itself, without values: 686 + 248 + 196 names in both layouts."""
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


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_a_folder_of_shards(copy, twins, variant):
    """Weights in several files and the index that lists them, as diffusers writes large ones."""
    for part, twin in twins.items():
        for file in (copy / part).iterdir():
            file.unlink()
        size = "10KB" if part == "text_encoder" else "1MB"
        twin.save_pretrained(copy / part, max_shard_size=size, variant=variant)
        assert len(list((copy / part).glob("*-of-*.safetensors"))) > 1
    same_answers(load_stable_diffusion(copy), twins)
    shard = sorted((copy / "vae").glob("*-of-*.safetensors"))[0]
    aside = shard.rename(shard.with_suffix(".aside"))
    refused(FileNotFoundError, ["index", shard.name, "missing"], copy)
    aside.rename(shard)
    next((copy / "vae").glob("*index*.json")).unlink()
    refused(FileNotFoundError, ["one of several", "index.json is missing"], copy)


def test_full_precision_comes_first(copy, twins):
    """There are also weights in half precision and those before averaging; both are marked."""
    for mark in ("fp16", "non_ema"):
        save_file({"another.weight": torch.ones(1)}, copy / UNET.replace(".s", f".{mark}.s"))
    same_answers(load_stable_diffusion(copy), twins)


def test_one_value_for_all_stages_may_be_given_for_each(copy, twins):
    configure(
        copy,
        "unet",
        **dict(attention_head_dim=[4, 4], layers_per_block=[2, 2]),
        **dict(only_cross_attention=[False, False], transformer_layers_per_block=[1, 1]),
        mid_block_only_cross_attention=False,
        from_the_future=None,
    )
    same_answers(load_stable_diffusion(copy), twins)


CAPTIONS = [
    "",
    "a red circle",
    "Two  CATS\ton a mat!",
    "it's a cat's mat, isn't it? they'll've 2024 cats...",
    "café cafe\u0301 naïve İstanbul straße",
    "猫と円 🙂👍🏽 <a> & {b}",
    "".join(map(chr, range(32, 64))),
    "".join(map(chr, range(64, 127))),
]


def test_a_tokenizer_of_one_file(copy):
    """transformers doesn't write vocab.json any more; the tokens are those of transformers."""
    for file in (copy / "tokenizer").iterdir():
        file.unlink()
    theirs = transformers.CLIPTokenizer(
        vocab=TOKENIZER.kwargs["vocabulary"],
        merges=[tuple(pair) for pair in TOKENIZER.kwargs["merges"]],
        model_max_length=77,
    )
    theirs.save_pretrained(copy / "tokenizer")
    assert not (copy / "tokenizer" / "vocab.json").exists()
    ours = load_stable_diffusion(copy).clip.tokenizer
    theirs = transformers.CLIPTokenizer.from_pretrained(copy / "tokenizer")
    for caption in CAPTIONS:
        padded = theirs(caption, padding="max_length", return_tensors="pt").input_ids
        assert torch.equal(ours(caption), padded), caption
    whole = copy / "tokenizer" / "tokenizer.json"
    content = json.loads(whole.read_text("utf-8"))
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]  # older
    whole.write_text(json.dumps(content))
    assert torch.equal(load_stable_diffusion(copy).clip.tokenizer(CAPTIONS[:4]), ours(CAPTIONS[:4]))
    whole.write_text("{}")
    refused(ValueError, ["tokenizer.json holds no byte-pair encoding"], copy)


def test_a_tokenizer_as_older_libraries_describe_it(copy):
    """Tokens with their properties, once in each of two files."""
    properties = dict(lstrip=False, normalized=True, rstrip=False, single_word=False)
    start, end = (dict(content=token, **properties) for token in (START, END))
    tokens = dict(bos_token=start, eos_token=end, pad_token=END, unk_token=end)
    configure(
        copy,
        "tokenizer",
        **dict(tokens, add_prefix_space=False, do_lower_case=True, errors="replace"),
        **dict(model_max_length=77, tokenizer_class="CLIPTokenizer", extra_special_tokens={}),
        added_tokens_decoder={str(len(TOKENIZER) - 1): end},
    )
    (copy / "tokenizer" / "special_tokens_map.json").write_text(json.dumps(tokens))
    any_word = Tokenizer(**TOKENIZER.kwargs | dict(words=None))
    assert torch.equal(load_stable_diffusion(copy).clip.tokenizer(CAPTIONS), any_word(CAPTIONS))
    (copy / "tokenizer" / "special_tokens_map.json").write_text(json.dumps(dict(pad_token="!")))
    refused(ValueError, ["pad_token is '!'"], copy)  # Stable Diffusion 2's


def test_the_tokenizers_length_is_the_contexts(copy):
    """As in diffusers, which pads captions to `model_max_length`."""
    configure(copy, "tokenizer", model_max_length=40)
    assert load_stable_diffusion(copy).clip.context([""]).shape == (1, 40, 32)


def test_refuses_a_tokenizer_with_added_tokens(copy):
    vocabulary = TOKENIZER.kwargs["vocabulary"] | {"<cat-toy>": len(TOKENIZER)}
    (copy / "tokenizer" / "vocab.json").unlink()
    (copy / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    refused(ValueError, [f"{len(TOKENIZER) + 1} tokens", "textual inversion"], copy)


# ---- every setting of a config is known ----------------------------------------------------------

TABLES = {
    "unet": (configs.UNET, [diffusers.UNet2DConditionModel]),
    "controlnet": (configs.CONTROLNET, [diffusers.ControlNetModel]),
    "vae": (configs.VAE, [diffusers.AutoencoderKL]),
    "text_encoder": (configs.TEXT, [transformers.CLIPTextConfig]),
    "tokenizer": (configs.TOKENIZER, [transformers.CLIPTokenizer]),
    "scheduler": (
        configs.SCHEDULER,
        [
            getattr(diffusers, kind.name)
            for kind in diffusers.schedulers.KarrasDiffusionSchedulers
            if kind.name not in ("EDMEulerScheduler", "DPMSolverSDEScheduler")  # other; torchsde
        ],
    ),
}
CLASSES = [(keys, cls) for keys, classes in TABLES.values() for cls in classes]
LIBRARY = {"vocab", "merges", "kwargs", "self"}  # parameters that no config states
HEUNS = {"beta_start", "beta_end"}  # three schedulers have Stable Diffusion's own as defaults


@pytest.mark.parametrize(("keys", "cls"), CLASSES, ids=lambda each: getattr(each, "__name__", ""))
def test_every_parameter_of_the_libraries_is_read_fixed_or_free(keys, cls):
    """And if a config omits a setting, it has the library's default value."""
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name in LIBRARY or name in keys.free.split():
            continue
        ours = (keys.fixed | keys.read)[name]
        default = parameter.default
        default = list(default) if isinstance(default, tuple) else default
        if default != ours:
            assert name in HEUNS and default == keys.fixed[name], name


@pytest.mark.parametrize("part", TABLES)
def test_no_fixed_setting_may_differ(part):
    keys, _ = TABLES[part]
    defaults = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    stated = defaults if part == "scheduler" else {}
    configs.read_settings(stated, part, keys)
    for key, value in keys.fixed.items():
        for other in ("another", 7, [value, "another"], [value, 7]):
            with pytest.raises(ValueError, match=f"{part}: {key} is .*, expected"):
                configs.read_settings(stated | {key: other}, part, keys)


@pytest.mark.parametrize("name", ["LCM", "TCD", "EDMEuler", "FlowMatchEulerDiscrete"])
def test_refuses_the_schedulers_of_other_models(copy, name):
    """Distilled models and flow matching, for which our sampler would give wrong pictures."""
    configure(copy, "scheduler", **getattr(diffusers, f"{name}Scheduler")().config)
    refused(ValueError, ["scheduler: unknown setting"], copy)


def test_free_settings_change_nothing(twins):
    free = dict(sample_size=99, dropout=0.5, upcast_attention=True)
    free |= dict(addition_embed_type_num_heads=8, use_linear_projection=True)
    assert free.keys() <= set(configs.UNET.free.split())
    twin = diffusers.UNet2DConditionModel.from_config(twins["unet"].config, **free).eval()
    weights = twins["unet"].state_dict()
    shapes = {name: weight.shape for name, weight in twin.state_dict().items()}
    twin.load_state_dict({name: w.reshape(shapes[name]) for name, w in weights.items()})
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([321.0]), torch.randn(1, 77, 32)
    with torch.inference_mode():
        agree(twin(*inputs).sample, twins["unet"](*inputs).sample, 1e-5)


def test_the_settings_of_an_average_are_free(copy, twins):
    """diffusers' EMAModel writes its own settings into the U-Net's config."""
    unet = twins["unet"]
    average = training_utils.EMAModel(  # takes a copy
        unet.parameters(), model_cls=type(unet), model_config=unet.config
    )
    for file in (copy / "unet").iterdir():
        file.unlink()
    average.save_pretrained(copy / "unet")
    assert "inv_gamma" in json.loads((copy / "unet" / "config.json").read_text())
    same_answers(load_stable_diffusion(copy), twins)


# ---- the picture ---------------------------------------------------------------------------------


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
    refused(ValueError, ["1 weights are there twice, under two names"], copy)


@pytest.mark.parametrize(
    ("part", "key", "value", "words"),
    [
        ("unet", "norm_num_groups", 16, ["norm_num_groups is 16"]),
        ("unet", "block_out_channels", [64, 128], ["block_out_channels are [64, 128]"]),
        ("vae", "block_out_channels", [32, 64], ["block_out_channels are [32, 64]"]),
        ("unet", "flip_sin_to_cos", False, ["flip_sin_to_cos is False, expected True"]),
        ("unet", "downsample_padding", 0, ["downsample_padding is 0, expected 1"]),
        ("unet", "time_embedding_act_fn", "silu", ["time_embedding_act_fn is 'silu'"]),
        ("unet", "timestep_post_act", "silu", ["timestep_post_act is 'silu', expected None"]),
        ("unet", "only_cross_attention", [False, True], ["only_cross_attention is [False, True]"]),
        ("unet", "up_block_types", ["UpBlock2D"] * 2, ["up_block_types", "CrossAttnUpBlock2D"]),
        ("unet", "_class_name", "UNet3DConditionModel", ["_class_name is 'UNet3DCondition"]),
        ("unet", "from_the_future", True, ["unknown setting from_the_future=True"]),
        ("unet", "out_channels", 8, ["out_channels is 8, expected 4"]),
        ("unet", "cross_attention_dim", 64, ["cross_attention_dim is 64, expected 32"]),
        ("unet", "block_out_channels", [128, 144], ["block_out_channels are [128, 144]"]),
        ("vae", "shift_factor", 0.1, ["shift_factor is 0.1"]),
        ("vae", "scaling_factor", float("nan"), ["scaling_factor must be a positive number"]),
        ("vae", "scaling_factor", 0, ["scaling_factor must be a positive number, got 0"]),
        ("vae", "down_block_types", ["DownEncoderBlock2D"], ["down_block_types"]),
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
        ("scheduler", "sigma_data", 0.5, ["scheduler: unknown setting sigma_data=0.5"]),
        ("unet", "attention_head_dim", [5, 10], ["attention_head_dim", "got [5, 10]"]),
        ("text_encoder", "hidden_act", "gelu", ["hidden_act is 'gelu'"]),
        ("scheduler", "beta_schedule", "linear", ["beta_schedule is 'linear'"]),
        ("scheduler", "prediction_type", "flow", ["'flow'"]),
        (
            "scheduler",
            "prediction_type",
            [],
            ["prediction_type is [], expected a value such as 'epsilon'"],
        ),
        (
            "unet",
            "block_out_channels",
            320,
            ["block_out_channels is 320, expected a value such as [320"],
        ),
        (
            "unet",
            "block_out_channels",
            [],
            ["block_out_channels is [], expected a value such as [320"],
        ),
        ("unet", "down_block_types", None, ["down_block_types is None, expected a value such as"]),
        ("unet", "layers_per_block", [2, 3], ["layers_per_block", "got [2, 3]"]),
        ("text_encoder", "hidden_size", 0, ["hidden_size", "at least 1; got 0"]),
        ("tokenizer", "pad_token", "!", ["pad_token is '!', expected '<|endoftext|>'"]),
    ],
)
def test_refuses_models_that_ours_cannot_be(copy, part, key, value, words):
    configure(copy, part, **{key: value})
    refused(ValueError, words, copy)


def test_refuses_the_betas_that_diffusers_takes_where_none_are_stated(copy):
    (copy / "scheduler" / "scheduler_config.json").unlink()
    configure(copy, "scheduler", prediction_type="epsilon")
    refused(ValueError, ["beta_schedule is 'linear' by default, expected 'scaled_linear'"], copy)


def test_refuses_a_file_that_is_another_model(tmp_path, folder):
    path = tmp_path / "other.safetensors"
    save_file({"model.diffusion_model.x": torch.ones(1), "conditioner.y": torch.ones(1)}, path)
    refused(ValueError, ["not Stable Diffusion 1", "conditioner.y"], path, folder / "tokenizer")
    refused(ValueError, ["tokenizer"], path)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda weight: weight.index_fill(0, torch.tensor([0]), torch.nan), "not finite"),
        (lambda weight: weight.index_fill(0, torch.tensor([0]), -torch.inf), "not finite"),
        (lambda weight: weight.double() * 1e300, "not finite"),  # more than float32 holds
        (lambda weight: weight.int(), "is I32, expected floating point"),
        (lambda weight: weight > 0, "is BOOL, expected floating point"),
    ],
)
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_refuses_weights_that_are_no_numbers(copy, part, bad, words):
    """Without the check they gave a white picture, from NaN or from truncated numbers."""
    file = next((copy / part).glob("*.safetensors"))
    name = list(load_file(file))[-1]
    rewrite(file, lambda weights: weights | {name: bad(weights[name])})
    refused(ValueError, [name, words], copy)


@pytest.mark.parametrize(("channels", "kind"), [(9, "inpainting"), (8, "pix2pix"), (5, "another")])
def test_says_what_a_model_is_whose_unet_reads_more_than_a_latent(
    copy, folder, tmp_path_factory, channels, kind
):
    wide = torch.randn(128, channels, 3, 3)
    rewrite(copy / UNET, lambda weights: weights | {"conv_in.weight": wide})
    configure(copy, "unet", in_channels=channels)
    refused(ValueError, [kind, f"{channels} input channels"], copy)
    file = tmp_path_factory.mktemp("single") / "model.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": wide}, file)
    refused(ValueError, [kind, f"{channels} input channels"], file, folder / "tokenizer")
