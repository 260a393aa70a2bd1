"""What `course sample` adds to a model: a LoRA, a ControlNet.

Each is checked first, before a model is loaded, and returns the function that adds it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import typer


def with_lora(path: Path | None, scale: float | None) -> Callable:
    """A function pipeline -> pipeline with the LoRA in this file merged into its networks."""
    if path is None:
        if scale is not None:
            raise ValueError("--lora-scale needs --lora, the file of a LoRA")
        return lambda pipeline: pipeline

    from course_lib.pipelines.stable_diffusion.lora import check_lora, load_lora

    scale = 1.0 if scale is None else scale
    check_lora(path, scale)

    def add(pipeline):
        for part, update in load_lora(path, pipeline, scale).items():
            update.merge()
            layers = f"{len(update.names)} layers of the {part}"
            typer.echo(f"{path}: {layers} adapted, scale {scale:g}")
        return pipeline

    return add


def with_control(
    folder: Path | None, image: Path | None, scale: float | None, size: int
) -> Callable:
    """A function pipeline -> pipeline that the ControlNet in this folder steers with the image."""
    if folder is None:
        if (image, scale) != (None, None):
            raise ValueError("--control-image and --control-scale need --control, a folder")
        return lambda pipeline: pipeline
    if image is None:
        raise ValueError("--control needs --control-image, the picture that steers")

    import torch

    from course_lib.common.checks import require
    from course_lib.datasets.folder import read_picture
    from course_lib.models import Controlled
    from course_lib.pipelines import check_size
    from course_lib.pipelines.stable_diffusion.controlnet import check_controlnet, load_controlnet

    scale = 1.0 if scale is None else scale
    require(abs(scale) < torch.inf, "--control-scale", "a finite number", scale)
    check_size(size)
    check_controlnet(folder)
    pixels = torch.from_numpy(read_picture(image, image, size))  # (H, W, 3) of 0..255

    def add(pipeline):
        controlnet = load_controlnet(folder, pipeline)
        steering = (pixels / 255).permute(2, 0, 1)[None].to(controlnet.conv_in.weight)
        typer.echo(f"{folder}: steers with {image}, scale {scale:g}")
        return replace(pipeline, unet=Controlled(pipeline.unet, controlnet, steering, scale))

    return add
