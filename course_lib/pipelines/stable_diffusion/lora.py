"""LoRA files for Stable Diffusion 1, in the layouts of diffusers and of kohya's scripts.

loras = load_lora("style.safetensors", model, scale=0.8)    # {"unet": ..., "text_encoder": ...}
for lora in loras.values():
    lora.merge()                                            # now the model uses it
save_lora("outputs/mine.safetensors", unet=loras["unet"])   # diffusers reads it

A file may adapt the U-Net, the text encoder, or both, and each layer has its own rank and alpha.
Every name must be known, every shape must fit, and no weight may be left over.
"""

import json
import re
from collections import defaultdict
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from course_lib.common.checks import finite, require
from course_lib.common.files import make_folder, write_files
from course_lib.models import LoRA
from course_lib.models.lora import adaptable
from course_lib.pipelines.stable_diffusion.checkpoint import (
    FLOATS,
    FOLDER_NAMES,
    StableDiffusion,
    open_weights,
)
from course_lib.pipelines.stable_diffusion.key_map import renamed

KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_"}  # prefixes of the layers' names
SPELLINGS = [  # older names of the weights, and kohya's -> those of diffusers and peft today
    (r"\.processor\.", "."),
    (r"^(text_encoder\..*)\.to_([qkv])_lora\.", r"\1.\2_proj.lora."),
    (r"^(text_encoder\..*)\.to_out_lora\.", r"\1.out_proj.lora."),
    (r"\.to_([qkv])_lora\.", r".to_\1.lora."),
    (r"\.to_out_lora\.", ".to_out.0.lora."),
    (r"\.(lora\.|lora_linear_layer\.|lora_)down\.weight$", ".lora_A.weight"),
    (r"\.(lora\.|lora_linear_layer\.|lora_)up\.weight$", ".lora_B.weight"),
    (r"^text_encoder\.text_model\.", "text_encoder."),
    (r"^lora_te1?_(text_model_)?", "lora_te_"),
]
KINDS = ("lora_A.weight", "lora_B.weight", "alpha")  # of a layer's weights
WRAPS = {"unet": ["UNet", "DiT"], "text_encoder": ["TextEncoder"]}

SETTINGS = "lora_adapter_metadata"  # where diffusers writes peft's settings, in a file's header
# settings that don't change pictures, or that follow from the weights; all others must be off
FREE = (
    "r rank_pattern target_modules exclude_modules layers_to_transform layers_pattern lora_dropout "
    "task_type peft_type peft_version auto_mapping base_model_name_or_path revision inference_mode "
    "megatron_core qalora_group_size lora_alpha alpha_pattern"
)
OFF = {"bias": ["none"], "init_lora_weights": [True, "gaussian"]}  # or false, like the others


def load_lora(path: str | Path, model: StableDiffusion, scale: float = 1.0) -> dict[str, LoRA]:
    """The LoRAs in a file, for the `unet` and the `text_encoder` of a model, not merged yet.

    model: a StableDiffusion, or a pipeline from `load_published`.
    Raises FileNotFoundError if there is no such file; ValueError if it is damaged or not a
    .safetensors file, for unknown names, wrong shapes, and weights that are not finite.
    """
    path = Path(path)
    check_lora(path, scale)
    networks = {"unet": model.unet, "text_encoder": model.clip.text_encoder}
    theirs = {part: layer_names(part, network) for part, network in networks.items()}
    found, settings, loras = read_layers(path, theirs), read_settings(path), {}
    for part in [part for part in networks if part in found]:
        layers, header = found[part], settings.get(part, {})
        alphas = {name: alpha_of(theirs[part][name], each, header) for name, each in layers.items()}
        loras[part] = assembled(networks[part], layers, alphas, f"{path}, {part}")
        loras[part].scale = scale
    return loras


def check_lora(path: Path, scale: float) -> None:
    """Check the file's type and the scale, before a model is loaded."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no LoRA file {path}")
    require(-inf < scale < inf, "scale of LoRA", "a finite number", scale)
    with ExitStack() as files:
        open_weights([path], files)


def save_lora(path: str | Path, unet: LoRA | None = None, text_encoder: LoRA | None = None) -> None:
    """Write LoRAs of Stable Diffusion's networks so that diffusers' `load_lora_weights` reads them.

    α/r is multiplied into B, so that alpha equals the rank, which is what other programs assume if
    a file has no alpha. The scale isn't stored, because it is chosen when sampling. ValueError for
    weights that are not finite.
    """
    require(Path(path).suffix == ".safetensors", "a LoRA file", "a name in .safetensors", path)
    loras = {"unet": unet, "text_encoder": text_encoder}
    loras = {part: lora for part, lora in loras.items() if lora is not None}
    require(bool(loras), "save_lora", "a LoRA of the U-Net or of the text encoder", "none")
    weights = {}
    for part, lora in loras.items():
        kind, wanted = type(lora.network).__name__, WRAPS[part]
        require(kind in wanted, part, f"a LoRA of {' or '.join(wanted)}", f"one of {kind}")
        theirs = layer_names(part, lora.network)
        for name, update in lora.updates.items():
            layer = f"{part}.{'text_model.' * (part == 'text_encoder')}{theirs[name]}"
            B, A = update.factors()
            kernel = update.shape[1:]  # (in,), or (in, k, k) for a convolution
            if re.search(r"attentions\.\d+\.proj_(in|out)$", layer):
                kernel = (*kernel, 1, 1)  # a convolution in published models
            weights[f"{layer}.lora_A.weight"] = A.reshape(-1, *kernel)
            weights[f"{layer}.lora_B.weight"] = B.reshape(*B.shape, *([1] * (len(kernel) - 1)))
    for name, weight in weights.items():
        finite(name, weight)
    make_folder(Path(path).parent)
    content = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    write_files({Path(path): save(content, {"format": "pt"})})


def layer_names(part: str, network: nn.Module) -> dict[str, str]:
    """Our name of each layer that can be adapted -> diffusers' or transformers' name."""
    weights = {name: f"{name}.weight" for name in adaptable(network)}
    names = FOLDER_NAMES[part]
    return {
        name: renamed(weight, names).removesuffix(".weight") for name, weight in weights.items()
    }


def read_layers(path: Path, theirs: dict[str, dict[str, str]]) -> dict[str, dict[str, dict]]:
    """A file's weights: part -> our layer -> {"lora_A.weight": ..., ...}; none is left over."""
    places = {}
    for part, layers in theirs.items():
        for name, layer in layers.items():
            places[f"{part}.{layer}"] = part, name
            places[KOHYA[part] + layer.replace(".", "_")] = part, name
    found, unknown = defaultdict(lambda: defaultdict(dict)), []
    with ExitStack() as files:
        for name, weight in open_weights([path], files).items():
            layer, kind = split(renamed(name, SPELLINGS))
            if layer not in places:
                unknown.append(name)
                continue
            part, ours = places[layer]
            if kind in found[part][ours]:
                raise ValueError(f"{path}: {name} is there twice, under two names")
            found[part][ours][kind] = read(name, weight, path)
    if unknown:
        few = ", ".join(unknown[:3])
        raise ValueError(f"{path}: {len(unknown)} weights fit no layer of this model ({few}, …)")
    if not found:
        raise ValueError(f"{path} contains no LoRA: it is empty")
    return found


def split(name: str) -> tuple[str, str]:
    """Splits a weight's name into its layer and one of KINDS; if it is none, the layer is "".

    >>> split("unet.conv_in.lora_A.weight")
    ('unet.conv_in', 'lora_A.weight')
    """
    kind = next((kind for kind in KINDS if name.endswith(f".{kind}")), "")
    return (name.removesuffix(f".{kind}"), kind) if kind else ("", "")


def read(name: str, weight: Any, path: Path) -> Tensor:
    """A weight of the file in float32; ValueError unless it is floating point and finite."""
    kind, is_alpha = weight.get_dtype(), name.endswith(".alpha")
    if kind not in FLOATS and not is_alpha:  # kohya's alpha may be a whole number
        raise ValueError(f"{path}: {name} is {kind}, expected floating point")
    value = weight[...].float()
    require(value.numel() == 1 or not is_alpha, f"{path}: {name}", "one number", value)
    finite(f"{path}, {name}", value)
    return value


def assembled(network: nn.Module, layers: dict, alphas: dict, label: str) -> LoRA:
    """The LoRA of one network; ValueError for shapes that aren't those of its layers."""
    weights, ranks = adaptable(network), {}
    for name, parts in layers.items():
        if missing := [kind for kind in KINDS[:2] if kind not in parts]:
            raise ValueError(f"{label} {name}: {missing[0]} is missing")
        A, B, (out, *inner) = parts["lora_A.weight"], parts["lora_B.weight"], weights[name].shape
        check_shape(f"{label} {name}: A", A, ("rank", *inner))
        check_shape(f"{label} {name}: B", B, (out, len(A)))
        ranks[name] = len(A)
        alpha = alphas[name] = len(A) if alphas[name] is None else alphas[name]
        fits = type(alpha) in (int, float) and 0 < alpha < torch.finfo(torch.float32).max
        require(fits, f"{label} {name}: alpha", "a positive number", alpha)
    lora = LoRA(network, ranks, alphas)
    with torch.no_grad():
        for name, update in lora.updates.items():
            update.A.copy_(layers[name]["lora_A.weight"].flatten(1))
            update.B.copy_(layers[name]["lora_B.weight"].flatten(1))
    return lora.requires_grad_(False)


def check_shape(what: str, weight: Tensor, wanted: tuple) -> None:
    """ValueError unless it has this shape; a matrix may be written as a 1 × 1 convolution."""
    shape = tuple(weight.shape)
    if len(shape) == len(wanted) + 2 == 4 and shape[2:] == (1, 1):
        shape = shape[:2]
    fits = len(shape) == len(wanted) and len(weight) > 0
    fits = fits and all(w in ("rank", n) for n, w in zip(shape, wanted, strict=True))
    require(fits, what, f"({', '.join(map(str, wanted))})", tuple(weight.shape))


def alpha_of(theirs: str, parts: dict[str, Tensor], settings: dict) -> float | None:
    """A layer's alpha, from its weights (kohya) or the header (diffusers); None means its rank."""
    if "alpha" in parts:
        return parts["alpha"].item()
    for layers, alpha in settings.get("alpha_pattern", {}).items():
        if f".text_model.{theirs}".endswith(f".{layers}"):
            return alpha
    return settings.get("lora_alpha")


def read_settings(path: Path) -> dict[str, dict]:
    """peft's settings in the file's header, by part; ValueError for those that change results."""
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(SETTINGS, "{}")
    try:
        content = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: its {SETTINGS} is not a JSON object: {error}") from None
    settings = defaultdict(dict)
    for key, value in content.items():
        part, _, key = key.partition(".")
        if key not in FREE.split() and value and value not in OFF.get(key, []):
            raise ValueError(f"{path}: unknown setting {key}={value!r}, which may change pictures")
        settings[part][key] = value
    for each in settings.values():
        patterns = each.get("alpha_pattern") or {}
        plain = isinstance(patterns, dict) and all(re.fullmatch(r"[\w.]+", p) for p in patterns)
        require(plain, f"{path}: alpha_pattern", "names of layers", patterns)
        each["alpha_pattern"] = patterns
    return settings
