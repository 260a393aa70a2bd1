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
    control: Path | None, image: Path | None, scale: float | None, size: int
) -> Callable:
    """A function pipeline -> pipeline that a ControlNet steers with the image.

    control: the name of one of the course's own, or a folder.
    """
    if control is None:
        if (image, scale) != (None, None):
            raise ValueError("--control-image and --control-scale need --control, a ControlNet")
        return lambda pipeline: pipeline
    if image is None:
        raise ValueError("--control needs --control-image, the picture that steers")

    import torch

    from course_lib.common.checks import require
    from course_lib.datasets.folder import read_picture
    from course_lib.models import Controlled
    from course_lib.pipelines import check_size
    from course_lib.pipelines.stable_diffusion.controlnet import check_controlnet, load_controlnet
    from course_lib.recipes import load_control

    scale = 1.0 if scale is None else scale
    require(abs(scale) < torch.inf, "--control-scale", "a finite number", scale)
    check_size(size)
    own = steered_by(control) is not None
    if not own:
        check_controlnet(control)
    pixels = torch.from_numpy(read_picture(image, image, size)) / 255  # (H, W, 3)
    pixels = pixels.permute(2, 0, 1)[None]  # (1, 3, H, W)
    if own:
        pixels = as_layout(pixels, image)

    def add(pipeline):
        if own:
            controlnet = load_control(str(control), pipeline.device)
        else:
            controlnet = load_controlnet(control, pipeline)
        steering = pixels.to(controlnet.conv_in.weight)
        typer.echo(f"{control}: steers with {image}, scale {scale:g}")
        return replace(pipeline, unet=Controlled(pipeline.unet, controlnet, steering, scale))

    return add


def steered_by(control: Path | None) -> str | None:
    """The course's own model that this ControlNet steers; None for a folder."""
    from course_lib.recipes import RECIPES

    recipe = RECIPES.get(str(control))
    return recipe and recipe.steers


def as_layout(pixels, image: Path):
    """The picture (1, 3, H, W) in grey; ValueError unless it is light shapes on a dark ground."""
    grey = pixels.mean(1, keepdim=True).expand_as(pixels)
    edge = grey[..., 0, :].median()
    if edge > 0.5 or grey.max() < 0.5:
        raise ValueError(f"{image} is not a layout: that is white shapes on black, as filled areas")
    return grey
