"""LoRA files for Stable Diffusion 1: read in the layouts of diffusers and of kohya's scripts.

loras = load_lora("style.safetensors", model, scale=0.8)    # {"unet": ..., "text_encoder": ...}
for lora in loras.values():
    lora.merge()                                            # the model draws with it
save_lora("outputs/mine.safetensors", unet=loras["unet"])   # diffusers reads it

A file may be of the U-Net, of the text encoder, or of both, and each layer has a rank and an alpha
of its own. Every name must be known and every shape must fit: what is left over is refused.
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
from torch import Tensor

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

KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_"}  # in front of a layer's name
SPELLINGS = [  # of a weight's name: older ones, and kohya's -> those of diffusers and peft today
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
PARTS = ("lora_A.weight", "lora_B.weight", "alpha")

SETTINGS = "lora_adapter_metadata"  # where diffusers writes peft's settings, in a file's header
# of these settings, what changes no picture, or is read off the weights; others must be off
FREE = (
    "r rank_pattern target_modules exclude_modules layers_to_transform layers_pattern lora_dropout "
    "task_type peft_type peft_version auto_mapping base_model_name_or_path revision inference_mode "
    "megatron_core qalora_group_size lora_alpha alpha_pattern"
)
OFF = {"bias": ["none"], "init_lora_weights": [True, "gaussian"]}  # or false, as the others


def load_lora(path: str | Path, model: StableDiffusion, scale: float = 1.0) -> dict[str, LoRA]:
    """The LoRAs of a file, for the `unet` and the `text_encoder` of a model, not merged yet.

    model: a StableDiffusion, or the pipeline that `load_published` opens.
    Raises FileNotFoundError where there is no file; ValueError for one that is damaged or no
    .safetensors, for unknown names, other shapes, and weights that are not finite.
    """
    path = Path(path)
    check_lora(path, scale)
    networks = {"unet": model.unet, "text_encoder": model.clip.text_encoder}
    places = {theirs: place for part in networks for theirs, place in names(part, networks[part])}
    with ExitStack() as files:
        weights = open_weights([path], files)
        found, unknown = defaultdict(dict), []
        for name in weights:
            layer, part = split(renamed(name, SPELLINGS))
            if layer not in places:
                unknown.append(name)
                continue
            if part in found[places[layer]]:
                raise ValueError(f"{path}: {name} is there under two names")
            found[places[layer]][part] = read(name, weights[name], path)
    if unknown:
        few = ", ".join(unknown[:3])
        raise ValueError(f"{path}: {len(unknown)} weights are of no layer of this model ({few}, …)")
    if not found:
        raise ValueError(f"{path} holds no LoRA: it is empty")
    settings = read_settings(path)
    loras = {}
    for part, network in networks.items():
        layers = {name: parts for (of, name), parts in found.items() if of == part}
        if layers:
            loras[part] = assembled(network, layers, settings.get(part, {}), path, part)
            loras[part].scale = scale
    return loras


def check_lora(path: Path, scale: float) -> None:
    """Refuse at once, before a model is loaded, what is no .safetensors file or no scale."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no LoRA file {path}")
    require(-inf < scale < inf, "scale of LoRA", "a finite number", scale)
    with ExitStack() as files:
        open_weights([path], files)


def save_lora(path: str | Path, unet: LoRA | None = None, text_encoder: LoRA | None = None) -> None:
    """Write LoRAs of Stable Diffusion's networks so that diffusers' `load_lora_weights` reads them.

    α/r is multiplied into B, so that alpha is the rank, as a reader assumes who finds none; the
    scale is left out, for it is chosen when drawing. ValueError for weights that are not finite.
    """
    require(Path(path).suffix == ".safetensors", "a LoRA file", "a name in .safetensors", path)
    loras = {"unet": unet, "text_encoder": text_encoder}
    loras = {part: lora for part, lora in loras.items() if lora is not None}
    require(bool(loras), "save_lora", "a LoRA of the U-Net or of the text encoder", "none")
    weights = {}
    for part, lora in loras.items():
        theirs = {name: layer for layer, (_, name) in names(part, lora.network) if "." in layer}
        for name, update in lora.updates.items():
            B, A = update.factors()
            kernel = update.shape[1:]
            if re.search(r"attentions\.\d+\.proj_(in|out)$", theirs[name]):
                kernel = (*kernel, 1, 1)  # a 1 × 1 convolution in published models
            layer = theirs[name].replace("text_encoder.", "text_encoder.text_model.")
            weights[f"{layer}.lora_A.weight"] = A.reshape(-1, *kernel)
            weights[f"{layer}.lora_B.weight"] = B.reshape(*B.shape, *([1] * (len(kernel) - 1)))
    for name, weight in weights.items():
        finite(name, weight)
    make_folder(Path(path).parent)
    content = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    write_files({Path(path): save(content, {"format": "pt"})})


def names(part: str, network) -> list[tuple[str, tuple[str, str]]]:
    """What files call each layer of a network, in both layouts -> (part, our name)."""
    pairs = []
    for name in adaptable(network):
        theirs = renamed(f"{name}.weight", FOLDER_NAMES[part]).removesuffix(".weight")
        pairs.append((f"{part}.{theirs}", (part, name)))
        pairs.append((KOHYA[part] + theirs.replace(".", "_"), (part, name)))
    return pairs


def split(name: str) -> tuple[str, str]:
    """A weight's name as its layer's and one of PARTS; the layer is "" where it is none of them.

    >>> split("unet.conv_in.lora_A.weight")
    ('unet.conv_in', 'lora_A.weight')
    """
    part = next((part for part in PARTS if name.endswith(f".{part}")), "")
    return (name.removesuffix(f".{part}"), part) if part else ("", "")


def read(name: str, weight: Any, path: Path) -> Tensor:
    """A weight of the file in float32; ValueError unless it is floating point and finite."""
    kind, is_alpha = weight.get_dtype(), name.endswith(".alpha")
    if kind not in FLOATS and not is_alpha:  # kohya's alpha may be a whole number
        raise ValueError(f"{path}: {name} is {kind}, expected floating point")
    value = weight[...].float()
    finite(f"{path}, {name}", value)
    return value


def assembled(network, layers: dict[str, dict], settings: dict, path: Path, part: str) -> LoRA:
    """The LoRA of one network; ValueError for shapes that aren't those of its layers."""
    weights, ranks, alphas = adaptable(network), {}, {}
    for name, parts in layers.items():
        label = f"{path}, {part} {name}"
        if missing := [each for each in PARTS[:2] if each not in parts]:
            raise ValueError(f"{label}: {missing[0]} is missing")
        A, B, (out, *inner) = parts["lora_A.weight"], parts["lora_B.weight"], weights[name].shape
        check_shape(f"{label}: A", A, ("rank", *inner))
        ranks[name] = len(A)
        check_shape(f"{label}: B", B, (out, len(A)))
        alphas[name] = alpha_of(name, parts, len(A), settings, part, label)
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


def alpha_of(name: str, parts: dict, rank: int, settings: dict, part: str, label: str) -> float:
    """A layer's alpha: beside its weights (kohya), in the header (diffusers), or else its rank."""
    alpha = settings.get("lora_alpha", rank)
    theirs = renamed(f"{name}.weight", FOLDER_NAMES[part]).removesuffix(".weight")
    for layers, value in settings.get("alpha_pattern", {}).items():
        if f".text_model.{theirs}".endswith(f".{layers}"):
            alpha = value
            break
    if "alpha" in parts:
        require(parts["alpha"].numel() == 1, f"{label}: alpha", "one number", parts["alpha"])
        alpha = parts["alpha"].item()
    fits = type(alpha) in (int, float) and 0 < alpha < inf
    require(fits, f"{label}: alpha", "a positive number", alpha)
    return alpha


def read_settings(path: Path) -> dict[str, dict]:
    """peft's settings in the file's header, by part; ValueError for those that change the sum."""
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(SETTINGS, "{}")
    try:
        content = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: its {SETTINGS} is no JSON object: {error}") from None
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
