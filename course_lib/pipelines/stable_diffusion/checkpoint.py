"""Reads a checkpoint strictly: every setting is known, every weight finite, none left over."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import inf, prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from course_lib.common.registry import choose
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
from course_lib.pipelines.stable_diffusion.configs import (
    SCHEDULER,
    TEXT,
    TOKENIZER,
    UNET,
    VAE,
    read_settings,
    same,
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
    """Keywords of the three networks, and what the U-Net predicts."""

    unet: dict = SD15_UNET
    vae: dict = SD15_VAE
    text: dict = SD15_TEXT
    prediction: str = "eps"


def load_stable_diffusion(
    path: str | Path,
    tokenizer: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    sizes: Sizes | None = None,
) -> StableDiffusion:
    """Loads a checkpoint: a folder in diffusers' layout, or an original single .safetensors file.

    tokenizer: for a single file, which has none: the folder with tokenizer.json, or with
        vocab.json and merges.txt.
    dtype: that of the U-Net's weights; the two smaller networks are float32.
    sizes: those of the networks; by default those in the folder's configs, or for a single file
        those of Stable Diffusion 1.5.
    Raises FileNotFoundError for missing files; ValueError for files that are damaged or pickled,
    or that contain other weights than these networks have.
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
            check_tables(open_weights([path], files), path, sizes.vae["scaling_factor"])
        first = renamed("conv_in.weight", maps["unet"])
        check_kind(parts["unet"], first, path, sizes.vae["latent_channels"])
        unet = with_weights(UNet, sizes.unet, parts["unet"], maps["unet"], dtype)
        vae = with_weights(AutoencoderKL, sizes.vae, parts["vae"], maps["vae"])
        text = with_weights(TextEncoder, sizes.text, parts["text_encoder"], maps["text_encoder"])
    clip = PromptEncoder(read_tokenizer(words, text.length, text.vocab_size), text).eval()
    return StableDiffusion(Diffusion(scaled_linear(), sizes.prediction), unet, vae, clip)


def times(steps: int, timesteps: int = 1000) -> list[float]:
    """The times at which Stable Diffusion samples, for the `spacing` of `trajectory`.

    They are "leading" with an offset of one: the table's entries 1 + k·(T // steps). The last is
    entry 0, not the clean end (diffusers: steps_offset=1, set_alpha_to_one=False).

    >>> times(4)
    [0.752, 0.502, 0.252, 0.002, 0.001]
    """
    if not 1 <= steps < timesteps:
        raise ValueError(f"steps must be in 1..{timesteps - 1}, got {steps}")
    entries = [1 + k * (timesteps // steps) for k in reversed(range(steps))]
    return [(entry + 1) / timesteps for entry in [*entries, 0]]


# ---- weights -----------------------------------------------------------------------------------

FOLDERS = ("unet", "vae", "text_encoder")
PREFIXES = {  # of the weights' names in a single file
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
}
# what a single file contains besides the weights: tables of the schedule, an averaged U-Net, ...
BESIDE = re.compile(
    r"(betas|alphas_cumprod(_prev)?|sqrt_\w+|log_one_minus_alphas_cumprod|posterior_\w+|"
    r"lvlb_weights|logvar|denoiser\.sigmas|scale_factor|global_step|model_ema\..+|"
    r"cond_stage_model\.(logit_scale|text_projection(\.weight)?))$"
)
# and within the parts: the autoencoder's discriminator, and CLIP's projections
UNUSED = re.compile(r"(.+\.)?(position_ids|logit_scale|text_projection(\.weight)?)$|loss\..+")
# older names of the same weights -> today's
OLDER = [
    (r"^text_model\.", ""),
    (r"\.(query|key|value)\.", lambda found: f".to_{found[1][0]}."),
    (r"\.proj_attn\.", ".to_out.0."),
    (r"\.attn_1\.to_([qkv])\.", r".attn_1.\1."),  # of the single file: half converted
    (r"\.attn_1\.to_out\.0\.", ".attn_1.proj_out."),
]
SHARD = re.compile(r"-\d+-of-\d+\.")  # in the name of a file with a share of the weights
SUFFIX = re.compile(r"\.safetensors|\.index|\.json$")
FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}  # safetensors' names of the types
INPUTS = {9: "an inpainting model", 8: "an instruct-pix2pix model"}  # by channels of the U-Net


FOLDER_NAMES = {"unet": DIFFUSERS, "vae": DIFFUSERS, "text_encoder": TRANSFORMERS}


def file_names(sizes: Sizes) -> dict[str, Names]:
    unet = sizes.unet["attention"], sizes.unet.get("layers_per_block", 2)
    return {
        "unet": compvis_unet(*unet),
        "vae": compvis_vae(len(sizes.vae["multipliers"])),
        "text_encoder": TRANSFORMERS,
    }


def with_weights(
    cls, kwargs: dict, theirs: Weights, names: Names, dtype=torch.float32
) -> nn.Module:
    """A network with these keywords and the weights from the file, in eval mode.

    It is built on the meta device and gets each weight as it is read, so memory holds one copy.
    """
    with torch.device("meta"):
        model = cls(**kwargs)
    ours = {renamed(name, names): name for name, _ in model.named_parameters()}
    if ours.keys() != theirs.keys():
        raise ValueError(f"{cls.__name__}: {difference(ours.keys(), theirs.keys())}")
    state = {}
    for their_name, name in ours.items():
        wanted, shape = model.get_parameter(name).shape, theirs[their_name].get_shape()
        if (kind := theirs[their_name].get_dtype()) not in FLOATS:
            raise ValueError(f"{cls.__name__}: {their_name} is {kind}, expected floating point")
        # a linear layer on pixels may be stored as a 1 × 1 convolution
        if shape not in ([*wanted], [*wanted, 1, 1]):
            got = f"{tuple(shape)}, expected {tuple(wanted)}"
            raise ValueError(f"{cls.__name__}: {their_name} is {got}")
        state[name] = theirs[their_name][:].to(dtype).reshape(wanted)
        low, high = state[name].aminmax()
        if not (-inf < low and high < inf):  # refuses NaN, too
            raise ValueError(f"{cls.__name__}: {their_name} is not finite: it holds inf or NaN")
    if cls is AutoencoderKL:
        channels = model.latent_channels
        state["shift_factor"] = torch.zeros(channels)
        state["scaling_factor"] = torch.full((channels,), kwargs["scaling_factor"])
    model.load_state_dict(state, assign=True)
    return model.eval()


def difference(wanted, found) -> str:
    """The difference of two sets of names, in one line with up to three examples of each."""
    parts = []
    for what, some in (("missing", wanted - found), ("left over", found - wanted)):
        if some:
            parts.append(f"{len(some)} weights {what} ({', '.join(sorted(some)[:3])}, …)")
    return "; ".join(parts)


def count_weights(path: str | Path) -> dict[str, int]:
    """The number of weights in each part of a checkpoint; reads only the files' headers."""
    with ExitStack() as files:
        return {
            part: sum(prod(weight.get_shape()) for weight in weights.values())
            for part, weights in open_parts(Path(path), files).items()
        }


def open_parts(path: Path, files: ExitStack) -> dict[str, Weights]:
    """The weights of the U-Net, the autoencoder and the text encoder, in either layout."""
    if path.is_dir():
        return {
            part: with_current_names(open_weights(find_weights(path / part), files))
            for part in FOLDERS
        }
    if path.exists():
        return split_file(open_weights([path], files), path)
    raise FileNotFoundError(f"there is no Stable Diffusion checkpoint {path}")


def find_weights(folder: Path) -> list[Path]:
    """The folder's weights in any precision: one file, or the shards that an index lists.

    Full precision is preferred; other files have it in their name, such as `model.fp16`.
    """
    whole = [path for path in folder.glob("*.safetensors") if not SHARD.search(path.name)]
    if found := [*whole, *folder.glob("*.safetensors.index*.json")]:
        best = min(found, key=lambda path: (SUFFIX.sub("", path.name).count("."), path.name))
        return shards(best) if best.suffix == ".json" else [best]
    if pickled := sorted(folder.glob("*.bin")):
        raise ValueError(f"{pickled[0]} is pickled, and may run any code: use .safetensors files")
    if lone := sorted(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{lone[0]} is one of several, but their index.json is missing")
    raise FileNotFoundError(f"there are no .safetensors weights in {folder}")


def shards(index: Path) -> list[Path]:
    """The files that contain the weights according to an index."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{index} holds no weight_map, from weights to files")
    there = {path.name: path for path in index.parent.iterdir()}
    if missing := sorted(set(places.values()) - there.keys()):
        raise FileNotFoundError(f"{index} lists {missing[0]}, which is missing")
    return [there[name] for name in sorted(set(places.values()))]


def open_weights(paths: Sequence[Path], files: ExitStack) -> Weights:
    """The weights' names, each with a slice of its file; nothing is read yet."""
    weights = {}
    for path in paths:
        if path.suffix != ".safetensors":
            raise ValueError(f"{path} is not a .safetensors file; others may run any code")
        try:
            file = files.enter_context(safe_open(path, "pt"))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a .safetensors file, or damaged: {error}") from error
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        if twice := weights.keys() & found.keys():
            raise ValueError(f"{path} contains {min(twice)}, but another shard does, too")
        weights |= found
    return weights


def with_current_names(weights: Weights) -> Weights:
    """The weights in use, with today's names; ValueError if a weight has two names."""
    used = {name: weight for name, weight in weights.items() if not UNUSED.match(name)}
    renewed = {renamed(name, OLDER): weight for name, weight in used.items()}
    if len(renewed) < len(used):
        raise ValueError(f"{len(used) - len(renewed)} weights are there twice, under two names")
    return renewed


def split_file(weights: Weights, path: Path) -> dict[str, Weights]:
    """A single file's weights by part; ValueError if a weight belongs to no part."""
    weights = {name: weight for name, weight in weights.items() if not BESIDE.match(name)}
    parts = {
        part: with_current_names(
            {
                name.removeprefix(prefix): weight
                for name, weight in weights.items()
                if name.startswith(prefix)
            }
        )
        for part, prefix in PREFIXES.items()
    }
    strange = [name for name in weights if not name.startswith(tuple(PREFIXES.values()))]
    if strange:
        raise ValueError(f"{path} is not Stable Diffusion 1: it holds {', '.join(strange[:3])}, …")
    return parts


def check_tables(weights: Weights, path: Path, scaling_factor: float) -> None:
    """ValueError if a single file has another noise schedule, or another scaling factor."""
    ours = {"alphas_cumprod": scaled_linear().alpha_bars, "scale_factor": scaling_factor}
    for name in ours.keys() & weights.keys():
        found, expected = weights[name][...].double(), torch.as_tensor(ours[name]).double()
        if found.shape != expected.shape or not found.allclose(expected, rtol=2**-8):  # bf16's
            raise ValueError(f"{path}: {name} differs from Stable Diffusion 1's")


def check_kind(unet: Weights, first: str, path: Path, channels: int) -> None:
    """ValueError if the U-Net's first convolution takes more channels than a latent has."""
    if first in unet and (reads := unet[first].get_shape()[1]) != channels:
        kind = INPUTS.get(reads, "another kind of model")
        raise ValueError(
            f"{path} is {kind}: its U-Net has {reads} input channels, but the course only opens "
            f"text-to-image models, with {channels}"
        )


# ---- sizes and words ---------------------------------------------------------------------------

PREDICTION_TYPES = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}  # of the scheduler


def read_sizes(folder: Path) -> Sizes:
    """The sizes in the folder's configs; ValueError for a model that ours can't represent."""
    files = [*(folder / part / "config.json" for part in FOLDERS)]
    files.append(folder / "scheduler" / "scheduler_config.json")
    unet, vae, text, scheduler = (
        read_settings(read_json(file), file.parent.name, keys)
        for file, keys in zip(files, (UNET, VAE, TEXT, SCHEDULER), strict=True)
    )
    keywords = unet_keywords(unet)
    down = block_types(keywords["attention"])
    up = [kind.replace("Down", "Up") for kind in reversed(down)]
    same("unet", unet, dict(down_block_types=down, up_block_types=up))
    meets = dict(out_channels=vae["latent_channels"], cross_attention_dim=text["hidden_size"])
    same("unet", unet, meets)
    levels = len(vae["block_out_channels"])
    down, up = (["DownEncoderBlock2D"] * levels, ["UpDecoderBlock2D"] * levels)
    same("vae", vae, dict(down_block_types=down, up_block_types=up))
    return Sizes(
        unet=keywords,
        vae=dict(
            **widths(vae["block_out_channels"]),
            layers_per_block=vae["layers_per_block"],
            latent_channels=vae["latent_channels"],
            scaling_factor=vae["scaling_factor"],
        ),
        text=dict(
            vocab_size=text["vocab_size"],
            length=text["max_position_embeddings"],
            dim=text["hidden_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            mlp_ratio=text["intermediate_size"] / text["hidden_size"],
        ),
        prediction=choose("prediction_type", scheduler["prediction_type"], PREDICTION_TYPES),
    )


def unet_keywords(config: Mapping[str, Any]) -> dict:
    """Keywords of UNet, from the settings of a U-Net or of a ControlNet."""
    return dict(
        in_channels=config["in_channels"],
        **widths(config["block_out_channels"]),
        layers_per_block=config["layers_per_block"],
        attention=tuple(kind.startswith("CrossAttn") for kind in config["down_block_types"]),
        heads=config["attention_head_dim"],
        context_dim=config["cross_attention_dim"],
    )


def block_types(attention: Sequence[bool]) -> list[str]:
    """diffusers' names of the blocks on the way down."""
    return ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attention]


def widths(channels: Sequence[int]) -> dict:
    if any(width < 128 or width % 32 for width in channels):  # ours wouldn't have 32 groups
        raise ValueError(f"block_out_channels are {channels}, expected multiples of 32 from 128 on")
    return dict(channels=channels[0], multipliers=tuple(c / channels[0] for c in channels))


def read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")
    return content


def read_tokenizer(folder: Path, length: int, vocab_size: int) -> Tokenizer:
    """CLIP's tokenizer, for a text encoder of this length and vocabulary; any word may be used."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            settings = read_settings(read_json(folder / name), "tokenizer", TOKENIZER)
            length = min(length, settings["model_max_length"])
    vocabulary, merges = read_words(folder)
    try:
        pairs = [tuple(pair.split() if isinstance(pair, str) else pair) for pair in merges]
        tokenizer = Tokenizer(vocabulary, pairs, words=None, length=length)
    except Exception as error:  # KeyError for special tokens, the library's own for strange merges
        raise ValueError(f"{folder} holds no tokenizer of CLIP's: {error!r}") from error
    if set(vocabulary.values()) != set(range(vocab_size)):
        raise ValueError(
            f"{folder} has {len(vocabulary)} tokens, but the text encoder {vocab_size}: tokens "
            "that were added later (textual inversion) are not supported"
        )
    return tokenizer


def read_words(folder: Path) -> tuple[dict[str, int], list]:
    """Vocabulary and merges: from tokenizer.json, or from the two files that older folders have."""
    whole, merges = folder / "tokenizer.json", folder / "merges.txt"
    if whole.exists():
        model = read_json(whole).get("model")
        if not isinstance(model, dict) or not {"vocab", "merges"} <= model.keys():
            raise ValueError(f"{whole} holds no byte-pair encoding")
        return model["vocab"], model["merges"]
    vocabulary = read_json(folder / "vocab.json")
    if not merges.exists():
        raise FileNotFoundError(f"{merges} is missing")
    lines = merges.read_text("utf-8").splitlines()
    return vocabulary, [line for line in lines if line and not line.startswith("#version")]
