"""Text in, picture out: the text encoder, the guided latent U-Net and the decoder put together.

    model = load_pipeline("scenes-latent")
    images = text_to_image(model, ["a large red circle on a blue background"], seeds=[0])

Images are (B, 3, H, W) in [-1, 1]. Each sample has its own seed, so it is the same picture in a
batch of any size. The noise is drawn on the CPU, so it is the same on every device. For a caption
unlike those in training, there is a one-line warning from Python's `logging`.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from course_lib.common.cuda_graphs import Captured, worth_capturing
from course_lib.common.devices import autocast, has_bf16, pick_device
from course_lib.common.registry import short
from course_lib.diffusion import (
    Diffusion,
    generators,
    guided,
    initial_noise,
    sample,
)
from course_lib.diffusion.samplers import Sampler
from course_lib.models import AutoencoderKL, Pixels, PromptEncoder, UNet
from course_lib.pipelines.stable_diffusion import load_stable_diffusion, times

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentDiffusion:
    """The three components of latent diffusion (Rombach et al. 2022, figure 3) and their process.

    size: width and height of the pictures in pixels.
    scale, steps, sampler, spacing: the defaults for sampling: the guidance scale, the number of
        steps, the sampler of `trajectory`, and a function from the number of steps to its spacing.
    scales: the useful range of the guidance scale.
    review(caption): what is unlike training in a caption, in words, or None; ValueError for
        unknown words. Without `scales` or `review`, there are no warnings and no refusals.
    """

    process: Diffusion
    unet: UNet
    vae: AutoencoderKL | Pixels
    clip: PromptEncoder
    size: int = 64
    scale: float = 4.0
    steps: int = 20
    sampler: str | Sampler = "ddim"
    spacing: Callable[[int], str | list[float]] = lambda steps: "trailing"
    scales: tuple[float, float] = (-math.inf, math.inf)
    review: Callable[[str], str | None] = lambda caption: None

    @property
    def device(self) -> torch.device:
        return self.vae.scaling_factor.device

    @property
    def latent(self) -> tuple[int, int, int]:
        """The shape of one picture's latent (C, h, w)."""
        side = self.size // self.vae.factor
        return self.vae.latent_channels, side, side


def load_published(
    path: str | Path,
    tokenizer: str | Path | None = None,
    size: int = 512,
    device: str | torch.device = "cpu",
) -> LatentDiffusion:
    """Stable Diffusion 1 from a folder or a single file, ready for `text_to_image`.

    The U-Net's weights are bf16 if the hardware computes in it. Raises ValueError and
    FileNotFoundError as `load_stable_diffusion` does, ValueError for a size that isn't a multiple
    of 64, and RuntimeError if there is no such device.
    """
    check_size(size)
    device = pick_device(device)
    dtype = torch.bfloat16 if has_bf16(device) else torch.float32
    process, unet, vae, clip = load_stable_diffusion(path, tokenizer, dtype)
    parts = unet.to(device), vae.to(device), clip.to(device)
    return LatentDiffusion(process, *parts, size=size, scale=7.5, spacing=times)


def check_size(size: int) -> None:
    """ValueError unless size is a multiple of 64: latents are 8 times smaller, halved 3 times."""
    if size < 64 or size % 64:
        raise ValueError(f"size must be a multiple of 64 pixels, got {size}")


@torch.no_grad()
def text_to_image(
    model: LatentDiffusion,
    captions: Sequence[str],
    seeds: Sequence[int] | None = None,
    *,
    scale: float | None = None,
    negative: str = "",
    steps: int | None = None,
    **sampling,
) -> Tensor:
    """A picture for each caption: (B, 3, H, W) in [-1, 1], on the model's device.

    seeds: one for each caption, by default 0, 1, 2, ...; scale: the guidance scale, 1 for none;
    negative: a negative prompt; steps: of the sampler; sampling: sampler, spacing, eta of
    `trajectory`. What is None is the model's own.

    >>> from course_lib.recipes import load_pipeline
    >>> text_to_image(load_pipeline("scenes-latent"), ["a red circle"], steps=2).shape
    torch.Size([1, 3, 64, 64])
    """
    network, context, draws = prepare(model, captions, seeds, scale, negative)
    noise = initial_noise(draws, model.latent).to(model.device)
    sampling = default_sampling(model, steps) | without_none(sampling)
    with autocast(model.device):
        z = sample(model.process, network, noise, context, generators=draws, **sampling)
    return model.vae.decode(z).clamp(-1, 1)


# --- what all pipelines share --------------------------------------------------------------------


def prepare(model: LatentDiffusion, captions, seeds, scale, negative):
    """The guided network, the captions' context (B, L, D), and a generator for each sample."""
    captions = [captions] if isinstance(captions, str) else list(captions)
    seeds = range(len(captions)) if seeds is None else list(seeds)
    scale = model.scale if scale is None else scale
    if not captions:
        raise ValueError("no captions were given")
    if len(seeds) != len(captions):
        raise ValueError(f"{len(seeds)} seeds were given for {len(captions)} captions")
    remarks = warnings_for(model, captions, scale, negative)
    null = model.clip.context([negative])  # (1, L, D)
    unet = Captured(model.unet) if worth_capturing(model.unet) else model.unet
    guide, dtype = guided(unet, null, scale), next(model.unet.parameters()).dtype

    def network(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return guide(x.to(dtype), timestep, context.to(dtype))

    context = model.clip.context(captions)
    for remark in remarks:
        logger.warning(remark)
    return network, context, generators(seeds)


def warnings_for(model: LatentDiffusion, captions, scale: float, negative: str) -> list[str]:
    """What is unlike training in this request, one line each; ValueError for unknown words."""
    remarks = []
    for caption in dict.fromkeys([*captions, negative]):
        if reason := model.review(caption):
            remarks.append(f"training showed nothing like {short(caption)!r}: {reason}")
    low, high = model.scales
    if not low <= scale <= high and any(caption != negative for caption in captions):
        useful = f"the useful range of this model, {low:g} to {high:g}"
        remarks.append(f"guidance {scale:g} is outside {useful}: fewer pictures will be right")
    return remarks


def default_sampling(model: LatentDiffusion, steps: int | None) -> dict:
    """The steps, or else the model's, with its sampler and spacing: keywords of `trajectory`."""
    steps = model.steps if steps is None else steps
    return {"steps": steps, "sampler": model.sampler, "spacing": model.spacing(steps)}


def without_none(options: dict) -> dict:
    """The options that aren't None, which stands for the model's default."""
    return {name: value for name, value in options.items() if value is not None}


def encode(model: LatentDiffusion, images: Tensor, count: int) -> Tensor:
    """The latents (B, C, h, w) of the images; ValueError unless there are `count` of right size."""
    if tuple(images.shape) != (count, 3, model.size, model.size):
        wanted = (count, 3, model.size, model.size)
        raise ValueError(f"images are {tuple(images.shape)}, expected {wanted}, one a caption")
    return model.vae.encode(images.to(model.device))
