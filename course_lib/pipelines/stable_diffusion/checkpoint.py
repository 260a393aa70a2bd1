"""Reading a checkpoint strictly: every weight found, of the right shape, none left over."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from course_lib.diffusion import Diffusion, scaled_linear
from course_lib.models import (
    SD15_TEXT,
    SD15_UNET,
    SD15_VAE,
    AutoencoderKL,
    PromptEncoder,
    TextEncoder,
    Tokenizer,
    UNet,
)
from course_lib.pipelines.stable_diffusion.key_map import (
    DIFFUSERS,
    TRANSFORMERS,
    Names,
    compvis_unet,
    compvis_vae,
    renamed,
)

Weights = Mapping[str, Any]  # their name -> a slice of the file: its shape, and `[:]` to read it


class StableDiffusion(NamedTuple):
    """The parts of a checkpoint: the process, and the three components of latent diffusion."""

    process: Diffusion
    unet: UNet
    vae: AutoencoderKL
    clip: PromptEncoder


class Sizes(NamedTuple):
    """Keywords of the three networks, and what the U-Net answers."""

    unet: dict = SD15_UNET
    vae: dict = SD15_VAE
    text: dict = SD15_TEXT
    target: str = "eps"


def load_stable_diffusion(
    path: str | Path,
    tokenizer: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    sizes: Sizes | None = None,
) -> StableDiffusion:
    """A checkpoint: a folder as diffusers writes it, or the single original .safetensors file.

    tokenizer: the folder with vocab.json and merges.txt, for a single file, which has none.
    dtype: of the U-Net's weights; the two smaller networks are kept in float32.
    sizes: of the networks; by default those that the folder states, for a file Stable Diffusion
        1.5's.
    Raises FileNotFoundError for what is missing; ValueError for what is damaged, was pickled, or
    holds other weights than these networks have.
    """
    path = Path(path)
    if tokenizer is None and path.is_file():
        raise ValueError(f"{path} holds no vocabulary: name a tokenizer's folder as well")
    words = Path(tokenizer) if tokenizer else path / "tokenizer"
    with ExitStack() as files:
        parts = open_parts(path, files)
        if path.is_dir():
            sizes = sizes or read_sizes(path)
            maps = FOLDER_NAMES
        else:
            sizes = sizes or Sizes()
            maps = file_names(sizes)
        unet = filled(UNet, sizes.unet, parts["unet"], maps["unet"], dtype)
        vae = filled(AutoencoderKL, sizes.vae, parts["vae"], maps["vae"])
        text = filled(TextEncoder, sizes.text, parts["text_encoder"], maps["text_encoder"])
    clip = PromptEncoder(read_tokenizer(words, text.length), text).eval()
    return StableDiffusion(Diffusion(scaled_linear(), sizes.target), unet, vae, clip)


def times(steps: int, timesteps: int = 1000) -> list[float]:
    """The times at which Stable Diffusion samples, as `spacing` of `trajectory`.

    "Leading" with an offset of one: table entries 1 + k·(T // steps), and at the end entry 0, the
    table's first level, not the clean one (diffusers: steps_offset=1, set_alpha_to_one=False).
    """
    if not 1 <= steps < timesteps:
        raise ValueError(f"steps must lie in 1..{timesteps - 1}, got {steps}")
    entries = [1 + k * (timesteps // steps) for k in reversed(range(steps))]
    return [(entry + 1) / timesteps for entry in [*entries, 0]]


# ---- weights -----------------------------------------------------------------------------------

FOLDERS = ("unet", "vae", "text_encoder")
PREFIXES = {  # of their names in the single file
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
}
# what a single file holds beside the weights: tables of the schedule, and a second, averaged U-Net
BESIDE = re.compile(
    r"(betas|alphas_cumprod(_prev)?|sqrt_\w+|log_one_minus_alphas_cumprod|posterior_\w+|"
    r"lvlb_weights|logvar|model_ema\..+)$"
)
# older names of the same weights -> today's
OLDER = [
    (r"^text_model\.", ""),
    (r"\.(query|key|value)\.", lambda found: f".to_{found[1][0]}."),
    (r"\.proj_attn\.", ".to_out.0."),
]


FOLDER_NAMES = {"unet": DIFFUSERS, "vae": DIFFUSERS, "text_encoder": TRANSFORMERS}


def file_names(sizes: Sizes) -> dict[str, Names]:
    unet = sizes.unet["attention"], sizes.unet.get("layers_per_block", 2)
    return {
        "unet": compvis_unet(*unet),
        "vae": compvis_vae(len(sizes.vae["multipliers"])),
        "text_encoder": TRANSFORMERS,
    }


def filled(cls, kwargs: dict, theirs: Weights, names: Names, dtype=torch.float32) -> nn.Module:
    """The network of these keywords with their weights, in eval mode.

    It is built without memory and receives each weight as it is read: the peak is one copy.
    """
    with torch.device("meta"):
        model = cls(**kwargs)
    ours = {renamed(name, names): name for name, _ in model.named_parameters()}
    if ours.keys() != theirs.keys():
        raise ValueError(f"{cls.__name__}: {difference(ours.keys(), theirs.keys())}")
    state = {}
    for their_name, name in ours.items():
        wanted, shape = model.get_parameter(name).shape, theirs[their_name].get_shape()
        # a linear layer on pixels may have been written as a 1 × 1 convolution
        if shape not in ([*wanted], [*wanted, 1, 1]):
            got = f"{tuple(shape)}, expected {tuple(wanted)}"
            raise ValueError(f"{cls.__name__}: {their_name} is {got}")
        state[name] = theirs[their_name][:].to(dtype).reshape(wanted)
    if cls is AutoencoderKL:
        channels = model.latent_channels
        state["shift_factor"] = torch.zeros(channels)
        state["scaling_factor"] = torch.full((channels,), kwargs["scaling_factor"])
    model.load_state_dict(state, assign=True)
    return model.eval()


def difference(wanted, found) -> str:
    """How two sets of names differ, in one line with up to three examples of each."""
    parts = []
    for what, some in (("missing", wanted - found), ("left over", found - wanted)):
        if some:
            parts.append(f"{len(some)} weights {what} ({', '.join(sorted(some)[:3])}, …)")
    return "; ".join(parts)


def count_weights(path: str | Path) -> dict[str, int]:
    """How many numbers each part of a checkpoint has; nothing but the files' headers is read."""
    with ExitStack() as files:
        return {
            part: sum(prod(weight.get_shape()) for weight in weights.values())
            for part, weights in open_parts(Path(path), files).items()
        }


def open_parts(path: Path, files: ExitStack) -> dict[str, Weights]:
    """The weights of the U-Net, the autoencoder and the text encoder, in either layout."""
    if path.is_dir():
        return {part: modern(open_weights(find_weights(path / part), files)) for part in FOLDERS}
    if path.exists():
        return split_file(open_weights(path, files), path)
    raise FileNotFoundError(f"there is no Stable Diffusion checkpoint {path}")


def find_weights(folder: Path) -> Path:
    """The folder's one file of weights, whatever its precision."""
    found = sorted(folder.glob("*.safetensors"), key=lambda path: (path.name.count("."), path.name))
    if found:
        return found[0]
    if pickled := sorted(folder.glob("*.bin")):
        raise ValueError(f"{pickled[0]} is pickled, and may run any code: use .safetensors files")
    raise FileNotFoundError(f"there are no .safetensors weights in {folder}")


def open_weights(path: Path, files: ExitStack) -> Weights:
    """Their names, each with its place in the file; nothing is read yet."""
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} is no .safetensors file; others may run any code when opened")
    try:
        file = files.enter_context(safe_open(path, "pt"))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged, or no .safetensors file: {error}") from error
    weights = {}
    for name in file.keys():  # noqa: SIM118 (a safetensors file is no dict)
        if not name.endswith("position_ids"):
            weights[name] = file.get_slice(name)
    return weights


def modern(weights: Weights) -> Weights:
    """The same under today's names; ValueError if two names mean one weight."""
    renewed = {renamed(name, OLDER): weight for name, weight in weights.items()}
    if len(renewed) < len(weights):
        raise ValueError(f"{len(weights) - len(renewed)} weights are there under two names")
    return renewed


def split_file(weights: Weights, path: Path) -> dict[str, Weights]:
    """A single file's weights by part; ValueError if some belong to none."""
    parts = {
        part: modern(
            {
                name.removeprefix(prefix): weight
                for name, weight in weights.items()
                if name.startswith(prefix)
            }
        )
        for part, prefix in PREFIXES.items()
    }
    strange = [
        name
        for name in weights
        if not BESIDE.match(name) and not name.startswith(tuple(PREFIXES.values()))
    ]
    if strange:
        raise ValueError(f"{path} is not Stable Diffusion 1: it holds {', '.join(strange[:3])}, …")
    return parts


# ---- sizes and words ---------------------------------------------------------------------------


def read_sizes(folder: Path) -> Sizes:
    """What the folder's config.json files state; ValueError for a model that ours can't be."""
    unet, vae, text = (read_json(folder / part / "config.json") for part in FOLDERS)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    targets = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
    betas = [("beta_schedule", "scaled_linear"), ("beta_start", 0.00085), ("beta_end", 0.012)]
    table = [("trained_betas", None), ("rescale_betas_zero_snr", False)]
    same(scheduler, "scheduler", [*betas, ("num_train_timesteps", 1000), *table])
    clock = [("flip_sin_to_cos", True), ("freq_shift", 0)]
    blocks = [("norm_num_groups", 32), ("act_fn", "silu")]
    plain = [("class_embed_type", None), ("center_input_sample", False)]
    same(unet, "unet", [*blocks, ("norm_eps", 1e-5), ("mid_block_scale_factor", 1), *clock, *plain])
    same(vae, "vae", blocks)
    same(text, "text_encoder", [("hidden_act", "quick_gelu"), ("layer_norm_eps", 1e-5)])
    try:
        heads = unet["attention_head_dim"]
        layers = unet["layers_per_block"], vae["layers_per_block"]
        if not all(isinstance(each, int) for each in (heads, *layers)):
            raise ValueError(
                f"{folder} is not Stable Diffusion 1: heads or layers differ by stage, "
                f"{heads} and {layers}"
            )
        return Sizes(
            unet=dict(
                in_channels=unet["in_channels"],
                **widths(unet["block_out_channels"]),
                layers_per_block=unet["layers_per_block"],
                attention=tuple("CrossAttn" in kind for kind in unet["down_block_types"]),
                heads=heads,  # diffusers' name for the number of heads
                context_dim=unet["cross_attention_dim"],
            ),
            vae=dict(
                **widths(vae["block_out_channels"]),
                layers_per_block=vae["layers_per_block"],
                latent_channels=vae["latent_channels"],
                scaling_factor=vae.get("scaling_factor", SD15_VAE["scaling_factor"]),
            ),
            text=dict(
                vocab_size=text["vocab_size"],
                length=text["max_position_embeddings"],
                dim=text["hidden_size"],
                layers=text["num_hidden_layers"],
                heads=text["num_attention_heads"],
                mlp_ratio=text["intermediate_size"] / text["hidden_size"],
            ),
            target=targets[scheduler.get("prediction_type", "epsilon")],
        )
    except KeyError as error:
        raise ValueError(f"a config.json in {folder} lacks, or has a strange, {error}") from None
    except (TypeError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"a config.json in {folder} holds a strange value: {error}") from None


def widths(channels: Sequence[int]) -> dict:
    if any(width < 128 for width in channels):  # ours have fewer than 32 groups there
        raise ValueError(f"block_out_channels are {list(channels)}, but ours must be 128 or more")
    return dict(channels=channels[0], multipliers=tuple(c / channels[0] for c in channels))


def same(config: dict, part: str, expected) -> None:
    """ValueError where a configuration has another value than the one that ours is built on."""
    for key, value in expected:
        if config.get(key, value) != value:
            raise ValueError(f"{part}: {key} is {config[key]!r}, but the course has {value!r}")


def read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content


def read_tokenizer(folder: Path, length: int) -> Tokenizer:
    """CLIP's tokenizer from vocab.json and merges.txt; any word may be used."""
    vocabulary, merges = read_json(folder / "vocab.json"), folder / "merges.txt"
    if not merges.exists():
        raise FileNotFoundError(f"{merges} is missing")
    lines = merges.read_text("utf-8").splitlines()
    pairs = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    try:
        return Tokenizer(vocabulary, pairs, words=None, length=length)
    except Exception as error:  # KeyError for special tokens, the library's own for strange merges
        raise ValueError(f"{folder} holds no tokenizer of CLIP's: {error!r}") from error
