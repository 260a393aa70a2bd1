"""Writes a checkpoint in diffusers' layout: weights, configs and vocabulary in one folder."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from course_lib.common.checks import require
from course_lib.diffusion import scaled_linear
from course_lib.pipelines.stable_diffusion.checkpoint import (
    FOLDER_NAMES,
    PREDICTION_TYPES,
    StableDiffusion,
    block_types,
)
from course_lib.pipelines.stable_diffusion.key_map import renamed

FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


def save_stable_diffusion(parts: StableDiffusion, folder: str | Path) -> None:
    """Write the folder that diffusers would write for these parts, replacing existing files.

    `load_stable_diffusion` reads it, and so do the classes of diffusers and transformers.
    ValueError for a noise schedule other than Stable Diffusion's.

        save_stable_diffusion(parts, "outputs/small")
    """
    betas = getattr(parts.process.schedule, "betas", torch.zeros(0))
    ok = torch.equal(betas, scaled_linear().betas)
    require(ok, "schedule", "scaled_linear, Stable Diffusion's", parts.process.schedule)
    networks = {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.clip.text_encoder}
    configs = configs_of(parts)
    for part, network in networks.items():
        names = FOLDER_NAMES[part]
        weights = {
            renamed(name, names): weight.detach().cpu().contiguous()
            for name, weight in network.named_parameters()
        }
        path = Path(folder) / part / f"{FILES.get(part, 'model')}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, path)
        write_json(path.parent / "config.json", configs[part])
    write_json(Path(folder) / "scheduler" / "scheduler_config.json", configs["scheduler"])
    words = parts.clip.tokenizer.kwargs
    write_json(Path(folder) / "tokenizer" / "vocab.json", words["vocabulary"])
    merges = ["#version: 0.2", *map(" ".join, words["merges"])]
    (Path(folder) / "tokenizer" / "merges.txt").write_text("\n".join(merges), "utf-8")


def configs_of(parts: StableDiffusion) -> dict[str, dict]:
    """The configs of all parts, with diffusers' and transformers' names."""
    unet, vae, text = parts.unet.kwargs, parts.vae.kwargs, parts.clip.text_encoder
    down = block_types(unet["attention"])
    levels = len(vae["multipliers"])
    predictions = {ours: theirs for theirs, ours in PREDICTION_TYPES.items()}
    return {
        "unet": dict(
            in_channels=parts.unet.in_channels,
            out_channels=parts.unet.in_channels,
            block_out_channels=widths(unet),
            layers_per_block=unet["layers_per_block"],
            attention_head_dim=unet["heads"],  # diffusers' name for the number of heads
            cross_attention_dim=parts.unet.context_dim,
            use_linear_projection=True,  # `proj_in` and `proj_out` of a transformer
            down_block_types=down,
            up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
        ),
        "vae": dict(
            block_out_channels=widths(vae),
            layers_per_block=vae["layers_per_block"],
            latent_channels=parts.vae.latent_channels,
            scaling_factor=vae["scaling_factor"],
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
        ),
        "text_encoder": dict(
            model_type="clip_text_model",
            vocab_size=text.vocab_size,
            max_position_embeddings=text.length,
            hidden_size=text.dim,
            num_hidden_layers=text.kwargs["layers"],
            num_attention_heads=text.kwargs["heads"],
            intermediate_size=int(text.kwargs["mlp_ratio"] * text.dim),
        ),
        "scheduler": dict(
            **dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
            prediction_type=predictions[parts.process.prediction],
        ),
    }


def widths(kwargs: dict) -> list[int]:
    return [int(kwargs["channels"] * multiplier) for multiplier in kwargs["multipliers"]]


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
