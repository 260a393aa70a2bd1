"""LoRA files, read and written, compared with diffusers, peft and kohya's scripts.

diffusers writes the files from layers that peft made. The names of kohya's scripts are made by
their rule, from diffusers' networks, and diffusers' converter reads them as well.
"""

import copy
import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from course_lib.models import SD15_TEXT, SD15_UNET, LoRA, TextEncoder, UNet
from course_lib.pipelines.stable_diffusion import load_lora, load_stable_diffusion, save_lora
from course_lib.pipelines.stable_diffusion.lora import KOHYA as OURS
from course_lib.pipelines.stable_diffusion.lora import layer_names
from tests.parity import agree
from tests.pipelines.stable_diffusion.test_checkpoint import (
    TOKENIZER,
    diffusers,
    folder,
    transformers,
    twins,
)

peft = pytest.importorskip("peft")
from diffusers.utils import state_dict_utils  # noqa: E402

FIXTURES = (folder, twins)
PIPELINE = diffusers.StableDiffusionPipeline
SETTINGS = "lora_adapter_metadata"


@pytest.fixture
def model(folder):
    return load_stable_diffusion(folder)


@pytest.fixture
def fresh(twins):
    """diffusers' own networks with the same weights, to be adapted by diffusers."""
    return {part: copy.deepcopy(twins[part]) for part in ("unet", "text_encoder")}


def loaded_by_diffusers(fresh, path):
    """The networks after diffusers' `load_lora_weights`."""
    words = dict(vocab=TOKENIZER.kwargs["vocabulary"])
    words |= dict(merges=[tuple(pair) for pair in TOKENIZER.kwargs["merges"]])
    pipe = PIPELINE(
        **dict(vae=None, scheduler=None, safety_checker=None, feature_extractor=None),
        **fresh,
        tokenizer=transformers.CLIPTokenizer(**words, model_max_length=77),
        requires_safety_checker=False,
    )
    pipe.load_lora_weights(path.parent, weight_name=path.name)
    return fresh


def trained(twins, unet=None, text_encoder=None):
    """Copies of the networks with peft's layers, whose B is not zero any more."""
    torch.manual_seed(1)
    adapted = {}
    for part, config in (("unet", unet), ("text_encoder", text_encoder)):
        if config:
            adapted[part] = copy.deepcopy(twins[part])
            adapted[part].add_adapter(peft.LoraConfig(**config))
            for name, weight in adapted[part].named_parameters():
                if "lora_B" in name:
                    weight.data = 0.2 * torch.randn_like(weight)
    return adapted


def older(tables, weights):
    """The names that diffusers has replaced, from its own tables of old names."""
    back = [(new, old) for table in tables for old, new in table.items()]

    def aged(name):
        for new, old in back:
            if f"{new}." in f"{name}." and "mlp" not in name:
                return name.replace(new, old)
        return name

    return {aged(name): weight for name, weight in weights.items()}


def of_processors(weights):
    """diffusers up to 0.18: the U-Net's layers belonged to attention processors."""
    renamed = older([state_dict_utils.UNET_TO_DIFFUSERS], weights)
    return {name.replace(".to_", ".processor.to_"): weight for name, weight in renamed.items()}


WRITERS = {  # layers' names in the file, for U-Net and text encoder
    "peft": (dict, dict),
    "diffusers": (state_dict_utils.convert_state_dict_to_diffusers,) * 2,
    "oldest": (of_processors, partial(older, [state_dict_utils.DIFFUSERS_OLD_TO_PEFT])),
}


def written(path, adapted, writer="peft", settings=True):
    """The file that diffusers' training scripts write, with or without peft's settings."""
    layers, metadata = {}, {}
    for rename, part in zip(WRITERS[writer], ("unet", "text_encoder"), strict=True):
        if part in adapted:
            state = peft.get_peft_model_state_dict(adapted[part], adapter_name="default")
            layers[f"{part}_lora_layers"] = rename(state)
            config = adapted[part].peft_config["default"].to_dict()
            metadata[f"{part}_lora_adapter_metadata"] = config
    PIPELINE.save_lora_weights(
        path.parent, **layers, **(metadata if settings else {}), weight_name=path.name
    )
    return path


def answers(unet, text_encoder):
    torch.manual_seed(2)
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 721.0]), torch.randn(2, 77, 32)
    with torch.inference_mode():
        return unet(x, t, context), text_encoder(TOKENIZER(["a red circle", ""]))


def theirs(unet, text_encoder):
    prediction, encoding = answers(unet, text_encoder)
    return prediction.sample, encoding.last_hidden_state


def same(model, loras, expected, before=None):
    """Our model gives the expected output, with separate and with merged LoRAs."""
    networks = {"unet": model.unet, "text_encoder": model.clip.text_encoder}
    before = before or answers(**networks)
    for ours, theirs in zip(answers(**networks | loras), expected, strict=True):
        agree(ours, theirs, 1e-5)
    for part, (unadapted, theirs) in zip(networks, zip(before, expected, strict=True), strict=True):
        changed = (unadapted - theirs).abs().max() > 1e-2 * theirs.abs().max()
        assert changed or part not in loras, "the LoRA has no effect: nothing is tested"
    for lora in loras.values():
        lora.merge()
    for ours, theirs in zip(answers(**networks), expected, strict=True):
        agree(ours, theirs, 1e-5)


ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
EVERYTHING = [*ATTENTION, "proj_in", "proj_out", "net.0.proj", "net.2", "conv1", "conv_shortcut"]
EVERYTHING += ["conv", "conv_in", "conv_out", "linear_1", "time_emb_proj"]
WORDS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
TEXT = dict(r=3, lora_alpha=3, target_modules=WORDS)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_of_attention_layers_in_each_of_diffusers_layouts(
    model,
    fresh,
    twins,
    tmp_path,
    writer,
):
    unet = dict(r=4, lora_alpha=4, target_modules=ATTENTION)
    adapted = trained(twins, unet, TEXT)
    path = written(tmp_path / "style.safetensors", adapted, writer, settings=False)
    spelled = {"peft": "to_q.lora_A.", "diffusers": "to_q.lora.down.", "oldest": "to_q_lora.down."}
    assert any(spelled[writer] in name for name in load_file(path))
    if writer != "oldest":  # today's diffusers has left the oldest U-Net names behind
        loaded_by_diffusers(fresh, path)
        agree(theirs(**fresh)[0], theirs(**adapted)[0], 1e-6)
    same(model, load_lora(path, model), theirs(**adapted))


def test_every_layer_with_ranks_and_alphas_of_their_own(model, fresh, twins, tmp_path):
    """peft's settings in the header: alpha isn't the rank, and patterns change single layers."""
    unet = dict(r=4, lora_alpha=6, target_modules=EVERYTHING)
    unet |= dict(rank_pattern={"to_q": 2, "conv_in": 7}, alpha_pattern={"to_k": 3, "attn2.to_q": 9})
    text = TEXT | dict(lora_alpha=5, alpha_pattern={"layers.1.self_attn.q_proj": 2})
    adapted = trained(twins, unet, text)
    path = written(tmp_path / "style.safetensors", adapted)
    loras = load_lora(path, model)
    alphas = {name: (len(u.A), u.alpha) for name, u in loras["unet"].updates.items()}
    block = "mid_block.attentions.0.transformer_blocks.0"
    assert alphas[f"{block}.attn1.to_q"] == (2, 6) and alphas[f"{block}.attn2.to_q"] == (2, 9)
    assert alphas[f"{block}.attn1.to_k"] == (4, 3) and alphas["conv_in"] == (7, 6)
    same(model, loras, theirs(**adapted))
    loaded_by_diffusers(fresh, path)
    agree(theirs(**fresh)[0], theirs(**adapted)[0], 1e-6)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_file_of_one_network_leaves_the_other_alone(model, twins, tmp_path, part):
    configs = {"unet": dict(r=4, lora_alpha=2, target_modules=ATTENTION), "text_encoder": TEXT}
    adapted = trained(twins, **{part: configs[part]})
    loras = load_lora(written(tmp_path / "one.safetensors", adapted), model)
    assert list(loras) == [part]
    expected = theirs(**{"unet": twins["unet"], "text_encoder": twins["text_encoder"]} | adapted)
    same(model, loras, expected)


def test_the_scale_is_diffusers_scale(model, twins, tmp_path):
    adapted = trained(twins, dict(r=4, lora_alpha=2, target_modules=ATTENTION), TEXT)
    path = written(tmp_path / "style.safetensors", adapted)
    for network in adapted.values():
        diffusers.utils.peft_utils.scale_lora_layers(network, 0.3)
    same(model, load_lora(path, model, scale=0.3), theirs(**adapted))


def test_half_precision(model, twins, tmp_path):
    adapted = trained(twins, dict(r=4, lora_alpha=4, target_modules=ATTENTION))
    for name, weight in adapted["unet"].named_parameters():
        if "lora" in name:
            weight.data = weight.half().float()
    path = written(tmp_path / "style.safetensors", adapted)
    save_file({name: weight.half() for name, weight in load_file(path).items()}, path)
    expected = theirs(adapted["unet"], twins["text_encoder"])
    same(model, load_lora(path, model), expected)


# ---- kohya's layout ------------------------------------------------------------------------------

# kohya-ss/sd-scripts, networks/lora.py, LoRANetwork: `UNET_TARGET_REPLACE_MODULE`,
# `UNET_TARGET_REPLACE_MODULE_CONV2D_3X3` and `TEXT_ENCODER_TARGET_REPLACE_MODULE` name the modules
# within which each Linear and Conv2d is adapted; `create_modules` calls it
# (prefix + "." + name + "." + child_name).replace(".", "_"), and LoRAModule has the weights
# lora_down, lora_up and alpha. transformers' names began with "text_model." then.
KOHYA = {
    "unet": ("lora_unet", "", ["Transformer2DModel"]),
    "text_encoder": ("lora_te", "text_model.", ["CLIPAttention", "CLIPMLP"]),
}
KERNELS = ["ResnetBlock2D", "Downsample2D", "Upsample2D"]


def kohya_names(part, network, kernels=False):
    """The adapted layers of diffusers' network, by the name that kohya's scripts give them."""
    prefix, start, classes = KOHYA[part]
    classes = classes + KERNELS * (kernels and part == "unet")
    return {
        f"{prefix}.{start}{name}.{child_name}".replace(".", "_"): child
        for name, module in network.named_modules()
        if type(module).__name__ in classes
        for child_name, child in module.named_modules()
        if isinstance(child, torch.nn.Linear)
        or (isinstance(child, torch.nn.Conv2d) and (kernels or child.kernel_size == (1, 1)))
    }


def kohya_file(path, fresh, kernels=False, alphas=(1.0,)):
    """Random weights in kohya's layout; `fresh` gets the update that their `merge_to` computes.

    W + up·down·alpha/dim, where down is a k × k convolution and up a 1 × 1 convolution.
    """
    torch.manual_seed(3)
    weights = {}
    for part, network in fresh.items():
        for i, (name, layer) in enumerate(kohya_names(part, network, kernels).items()):
            rank, alpha, (out, inner, *kernel) = (
                2 + i % 3,
                alphas[i % len(alphas)],
                layer.weight.shape,
            )
            down = torch.randn(rank, inner, *kernel) / layer.weight[0].numel() ** 0.5
            up = 0.2 * torch.randn(out, rank, *([1, 1] if kernel else []))
            weights[f"{name}.lora_down.weight"], weights[f"{name}.lora_up.weight"] = down, up
            weights[f"{name}.alpha"] = torch.tensor(alpha)
            update = torch.einsum("or...,ri...->oi...", up.expand(out, rank, *kernel), down)
            layer.weight.data += alpha / rank * update
    save_file(weights, path, {"ss_network_module": "networks.lora", "ss_network_dim": "2"})
    return path


@pytest.mark.parametrize("kernels", [False, True], ids=["linear", "with kernels"])
@pytest.mark.parametrize("alphas", [(1.0,), (1.0, 3.0, 0.5, 4.0), (1, 2)])
def test_a_file_in_kohyas_layout(model, fresh, tmp_path, kernels, alphas):
    path = kohya_file(tmp_path / "style.safetensors", fresh, kernels, alphas)
    loras = load_lora(path, model)
    assert {u.alpha for lora in loras.values() for u in lora.low_rank} == {*map(float, alphas)}
    same(model, loras, theirs(**fresh))


def test_diffusers_reads_that_file_as_we_do(model, fresh, twins, tmp_path):
    path = kohya_file(tmp_path / "style.safetensors", fresh)
    loaded = {part: copy.deepcopy(twins[part]) for part in fresh}
    loaded_by_diffusers(loaded, path)
    same(model, load_lora(path, model), theirs(**loaded))


def test_diffusers_own_translation_into_kohyas_layout(model, twins, tmp_path):
    """Its text encoder's names begin with lora_te1, as in SDXL."""
    adapted = trained(twins, dict(r=4, lora_alpha=4, target_modules=ATTENTION), TEXT)
    weights = load_file(written(tmp_path / "a.safetensors", adapted))
    kohya = state_dict_utils.convert_state_dict_to_kohya(weights)
    save_file(kohya, tmp_path / "b.safetensors")
    assert any(name.startswith("lora_te1_encoder") for name in kohya)
    same(model, load_lora(tmp_path / "b.safetensors", model), theirs(**adapted))


def test_kohyas_names_at_full_size():
    """For Stable Diffusion 1.5: 192 layers of the U-Net and 72 of the text encoder."""
    with torch.device("meta"):
        ours = {"unet": UNet(**SD15_UNET), "text_encoder": TextEncoder(**SD15_TEXT)}
        config = transformers.CLIPTextConfig(hidden_size=768, intermediate_size=3072)
        config.num_attention_heads = 12
        peers = {
            "unet": diffusers.UNet2DConditionModel(cross_attention_dim=768),
            "text_encoder": transformers.CLIPTextModel(config),
        }
    counts = {}
    for part, peer in peers.items():
        layers = layer_names(part, ours[part]).items()
        known = {OURS[part] + theirs.replace(".", "_"): name for name, theirs in layers}
        for name, layer in kohya_names(part, peer).items():
            place = known[name.replace("lora_te_text_model_", "lora_te_")]
            weight = ours[part].get_submodule(place).weight
            assert weight.numel() == layer.weight.numel(), name
        counts[part] = len(kohya_names(part, peer))
        assert {*kohya_names(part, peer, kernels=True)} <= {
            name.replace("lora_te_", "lora_te_text_model_") for name in known
        }
    assert counts == {"unet": 192, "text_encoder": 72}


# ---- writing -------------------------------------------------------------------------------------

SAVED = {"attention": r"\bto_(q|k|v|out)$", "all that attends": "attentions|attn|mlp", "all": ""}


def ours_trained(model, layers):
    torch.manual_seed(4)
    loras = {
        "unet": LoRA(model.unet, rank=3, alpha=2, layers=layers),
        "text_encoder": LoRA(model.clip.text_encoder, rank=2, alpha=5, layers=layers),
    }
    for lora in loras.values():
        for update in lora.low_rank:
            update.B.data = 0.2 * torch.randn_like(update.B)
    return loras


@pytest.mark.parametrize("layers", SAVED.values(), ids=SAVED)
def test_diffusers_loads_what_was_trained_here(model, fresh, tmp_path, layers):
    loras = ours_trained(model, layers)
    save_lora(tmp_path / "new" / "mine.safetensors", **loras)
    loaded_by_diffusers(fresh, tmp_path / "new" / "mine.safetensors")
    same(model, loras, theirs(**fresh))


def test_what_was_written_is_read_back(model, tmp_path):
    path, loras = tmp_path / "mine.safetensors", ours_trained(model, "attentions|attn|mlp|conv")
    loras["unet"].scale = 0.5  # is chosen when drawing, and not written
    save_lora(path, **loras)
    again = load_lora(path, model)
    for part, lora in loras.items():
        assert again[part].scale == 1
        for name, update in lora.updates.items():
            agree(again[part].updates[name](), update(), 1e-6)


def test_the_names_are_those_that_diffusers_writes(model, twins, tmp_path):
    targets = dict(r=3, lora_alpha=2, target_modules=[*ATTENTION, "proj_in", "net.2", "conv1"])
    text = TEXT | dict(target_modules=["q_proj", "fc1"])
    adapted = trained(twins, targets, text)
    diffusers_file = load_file(written(tmp_path / "theirs.safetensors", adapted))
    layers = "to_(q|k|v|out)|proj_in|ff.proj_out|conv1"
    unet = LoRA(model.unet, rank=3, layers=rf"({layers})$")
    unet = LoRA(model.unet, {name: 3 for name in unet.names if "ff.proj_in" not in name})
    text = LoRA(model.clip.text_encoder, rank=3, layers="to_q|fc1")
    save_lora(tmp_path / "ours.safetensors", unet, text)
    ours = load_file(tmp_path / "ours.safetensors")
    older = {
        name.replace("text_encoder.", "text_encoder.text_model."): weight
        for name, weight in diffusers_file.items()
    }  # transformers has left out `text_model.` since
    assert {n: w.shape for n, w in ours.items()} == {n: w.shape for n, w in older.items()}


# ---- refusals ------------------------------------------------------------------------------------


def refused(error, words, *arguments, **keywords):
    with pytest.raises(error) as caught:
        load_lora(*arguments, **keywords)
    line = str(caught.value)
    assert all(word in line for word in words) and "\n" not in line and len(line) < 300, line


LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
GOOD = {f"{LAYER}.lora_A.weight": torch.ones(2, 32), f"{LAYER}.lora_B.weight": torch.ones(256, 2)}
A, B = GOOD


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unet.nowhere.to_k.lora_A.weight": torch.ones(2, 4)}, ["1 weights fit no layer"]),
        ({"lora_unet_output_blocks_3_1_proj_in.alpha": torch.ones(())}, ["lora_unet_output_blo"]),
        ({f"{LAYER}.lora_magnitude_vector.weight": torch.ones(256)}, ["lora_magnitude_vector"]),
        ({f"{LAYER}.lora_B.bias": torch.ones(256)}, ["lora_B.bias"]),
        ({"lora_unet_conv_in.hada_w1_a": torch.ones(4)}, ["hada_w1_a"]),
        ({"text_encoder_2.encoder.layers.0.mlp.fc1.lora_A.weight": torch.ones(1)}, ["encoder_2"]),
        ({A: None}, ["to_k", "lora_A.weight is missing"]),
        ({B: None}, ["to_k", "lora_B.weight is missing"]),
        ({A: torch.ones(2, 768)}, ["A: expected (rank, 32), got (2, 768)"]),
        ({A: torch.ones(0, 32)}, ["A: expected (rank, 32), got (0, 32)"]),
        ({A: torch.ones(2, 32, 3, 3)}, ["A: expected (rank, 32), got (2, 32, 3, 3)"]),
        ({B: torch.ones(256, 3)}, ["B: expected (256, 2), got (256, 3)"]),
        ({A: torch.full((2, 32), torch.nan)}, [A, "not all finite"]),
        ({B: torch.full((256, 2), torch.inf)}, [B, "not all finite"]),
        ({A: torch.full((2, 32), 1e300, dtype=torch.float64)}, [A, "not all finite"]),
        ({A: torch.ones(2, 32).long()}, [A, "is I64, expected floating point"]),
        ({f"{LAYER}.alpha": torch.tensor(0.0)}, ["alpha: expected a positive number, got 0.0"]),
        ({f"{LAYER}.alpha": torch.tensor(torch.nan)}, ["alpha", "not all finite"]),
        ({f"{LAYER}.alpha": torch.ones(2)}, ["alpha: expected one number, got (2,)"]),
        ({A.replace("lora_A", "lora.down"): torch.ones(2, 32)}, ["under two names"]),
        ({A: None, B: None}, ["contains no LoRA: it is empty"]),
    ],
)
def test_refuses_other_weights(model, tmp_path, change, words):
    weights = {name: weight for name, weight in (GOOD | change).items() if weight is not None}
    save_file(weights, tmp_path / "bad.safetensors")
    refused(ValueError, ["bad.safetensors", *words], tmp_path / "bad.safetensors", model)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{", ["lora_adapter_metadata is not a JSON object"]),
        ("7", ["lora_adapter_metadata is not a JSON object"]),
        ('{"unet.use_rslora": true}', ["unknown setting use_rslora=True"]),
        ('{"unet.use_dora": true}', ["unknown setting use_dora=True"]),
        ('{"unet.bias": "all"}', ["unknown setting bias='all'"]),
        ('{"unet.init_lora_weights": "pissa"}', ["init_lora_weights='pissa'"]),
        ('{"unet.from_the_future": 3}', ["unknown setting from_the_future=3"]),
        ('{"unet.lora_alpha": -1}', ["alpha: expected a positive number, got -1"]),
        ('{"unet.lora_alpha": NaN}', ["alpha: expected a positive number, got nan"]),
        ("[" * 100_000, ["lora_adapter_metadata is not a JSON object"]),
        (f'{{"unet.lora_alpha": {10**100}}}', ["alpha: expected a positive number, got 1000"]),
        ('{"unet.lora_alpha": "8"}', ["alpha: expected a positive number, got 8"]),
        ('{"unet.alpha_pattern": {"(a+)+b": 8}}', ["alpha_pattern: expected names of layers"]),
        ('{"unet.alpha_pattern": [1]}', ["alpha_pattern: expected names of layers"]),
    ],
)
def test_refuses_other_settings(model, tmp_path, settings, words):
    save_file(GOOD, tmp_path / "bad.safetensors", {SETTINGS: settings})
    refused(ValueError, words, tmp_path / "bad.safetensors", model)


def test_every_setting_of_peft_is_known():
    """With peft's own defaults nothing is refused, and a new setting that is on is."""
    from course_lib.pipelines.stable_diffusion.lora import FREE, OFF

    for key, value in peft.LoraConfig(target_modules=["to_q"]).to_dict().items():
        assert key in FREE.split() or not value or value in OFF[key], key


def test_refuses_files_that_are_no_lora(model, tmp_path):
    refused(FileNotFoundError, ["there is no LoRA file", "nowhere"], tmp_path / "nowhere", model)
    refused(FileNotFoundError, ["there is no LoRA file"], tmp_path, model)  # a folder
    torch.save(GOOD, tmp_path / "lora.bin")
    refused(ValueError, ["lora.bin", "run any code"], tmp_path / "lora.bin", model)
    torch.save(GOOD, tmp_path / "renamed.safetensors")
    refused(ValueError, ["damaged"], tmp_path / "renamed.safetensors", model)
    save_file(GOOD, tmp_path / "torn.safetensors")
    content = (tmp_path / "torn.safetensors").read_bytes()
    (tmp_path / "torn.safetensors").write_bytes(content[:-9])
    refused(ValueError, ["damaged"], tmp_path / "torn.safetensors", model)
    save_file({"conv_in.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    refused(ValueError, ["1 weights fit no layer"], tmp_path / "model.safetensors", model)


def test_refuses_a_scale_that_is_no_number(model, tmp_path):
    save_file(GOOD, tmp_path / "good.safetensors", {SETTINGS: json.dumps({"unet.r": 2})})
    assert list(load_lora(tmp_path / "good.safetensors", model)) == ["unet"]
    refused(ValueError, ["scale of LoRA"], tmp_path / "good.safetensors", model, scale=torch.nan)


def test_what_is_not_written(model, tmp_path):
    lora = LoRA(model.unet)
    with pytest.raises(ValueError, match=r"a LoRA file: expected a name in \.safetensors"):
        save_lora(tmp_path / "mine.bin", unet=lora)
    with pytest.raises(ValueError, match="save_lora: expected a LoRA of the U-Net or of the text"):
        save_lora(tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match="text_encoder: expected a LoRA of TextEncoder, got"):
        save_lora(tmp_path / "mine.safetensors", text_encoder=lora)
    with pytest.raises(ValueError, match="unet: expected a LoRA of UNet or DiT, got one of LoRA"):
        save_lora(tmp_path / "mine.safetensors", LoRA(lora))
    lora.low_rank[0].B.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"lora_B\.weight: not all finite"):
        save_lora(tmp_path / "mine.safetensors", unet=lora)
    assert not any(tmp_path.iterdir())
