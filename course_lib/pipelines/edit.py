"""A picture in, another picture out: image to image, inpainting, outpainting.

    model = load_pipeline("scenes-latent")
    images = image_to_image(model, images, ["two small red circles"], strength=0.6)

Images are (B, 3, H, W) in [-1, 1]; captions and seeds are those of `text_to_image`.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.checks import require
from course_lib.common.devices import autocast
from course_lib.diffusion import initial_noise, sample, time_grid
from course_lib.pipelines.text_to_image import (
    LatentDiffusion,
    default_sampling,
    encode,
    prepare,
    without_none,
)


@torch.no_grad()
def image_to_image(
    model: LatentDiffusion,
    images: Tensor,
    captions: Sequence[str],
    seeds: Sequence[int] | None = None,
    *,
    strength: float = 0.6,
    scale: float | None = None,
    negative: str = "",
    steps: int = 20,
    sampler: str | None = None,
    spacing: str = "trailing",
) -> Tensor:
    """Pictures that start from `images`, noised up to t = strength (SDEdit, Meng et al. 2022).

    strength in (0, 1]: near 0 hardly anything changes; at 1 only as much remains as the schedule
    leaves at its noisy end. It is also the share of the steps that are taken.

    >>> from course_lib.recipes import load_pipeline
    >>> model, images = load_pipeline("scenes-latent"), torch.zeros(1, 3, 64, 64)
    >>> image_to_image(model, images, ["a red circle"], strength=0.5, steps=4).shape
    torch.Size([1, 3, 64, 64])
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be in (0, 1], got {strength}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    network, context, draws = prepare(model, captions, seeds, scale, negative)
    z = encode(model, images, len(context))
    noise = initial_noise(draws, model.latent).to(model.device)
    left = max(1, math.ceil(round(strength * steps, 9)))  # 0.07 · 100 > 7 in floats
    times = time_grid(model.process.schedule, left, spacing, start=strength)
    zt = model.process.add_noise(z, times[0], noise)
    how = dict(sampler=sampler or model.sampler, spacing=times, generators=draws)
    with autocast(model.device):
        z = sample(model.process, network, zt, context, **how)
    return model.vae.decode(z).clamp(-1, 1)


@torch.no_grad()
def inpaint(
    model: LatentDiffusion,
    images: Tensor,
    mask: Tensor,
    captions: Sequence[str],
    seeds: Sequence[int] | None = None,
    *,
    scale: float | None = None,
    negative: str = "",
    steps: int = 20,
    **sampling,
) -> Tensor:
    """`images` with new content inside the mask; all other pixels stay the same.

    mask: (B, 1, H, W) or (1, 1, H, W), True (or 1) where to paint. At each step, the known part of
    x0 replaces the network's, so that outside the mask x_t is an exact noising of the image. A
    latent position is painted if the mask contains any of its pixels.

    >>> from course_lib.recipes import load_pipeline
    >>> model, images = load_pipeline("scenes-latent"), torch.zeros(1, 3, 64, 64)
    >>> mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    >>> mask[..., :32] = True  # the left half
    >>> painted = inpaint(model, images, mask, ["a red circle"], steps=2)
    >>> painted[..., 32:].abs().max()
    tensor(0.)
    """
    network, context, draws = prepare(model, captions, seeds, scale, negative)
    known, mask = encode(model, images, len(context)), check_mask(mask, images).to(model.device)
    cells = F.max_pool2d(mask.float(), model.vae.factor) > 0  # (B, 1, h, w)
    noise = initial_noise(draws, model.latent).to(model.device)
    sampling = default_sampling(model, steps) | without_none(sampling)
    with autocast(model.device):
        z = sample(
            *(model.process, network, noise, context, steps),
            clip=lambda x0: torch.where(cells, x0, known),
            generators=draws,
            **sampling,
        )
    return torch.where(mask, model.vae.decode(z).clamp(-1, 1), images.to(model.device))


def outpaint(
    model: LatentDiffusion,
    images: Tensor,
    captions: Sequence[str],
    seeds: Sequence[int] | None = None,
    *,
    top: int | None = None,
    left: int | None = None,
    **options,
) -> Tensor:
    """Pictures of the model's size around smaller `images` (B, 3, H, W), whose pixels stay.

    top, left: the row and column where the images' first pixel lies, by default so that they lie
    in the middle; options: those of `inpaint`. What is painted is everything around them. Until
    then their edges continue there, so that the encoder doesn't see a border.

    >>> from course_lib.recipes import load_pipeline
    >>> model, images = load_pipeline("scenes-latent"), torch.zeros(1, 3, 64, 32)
    >>> outpaint(model, images, ["a red circle"], steps=2)[..., 16:48].abs().max()
    tensor(0.)
    """
    floats = isinstance(images, Tensor) and images.is_floating_point()
    fits = floats and images.ndim == 4 and images.numel() > 0
    fits = fits and max(images.shape[2:]) <= model.size
    wanted = f"floats (B, 3, H, W) of at most {model.size} × {model.size} pixels"
    require(fits, "images to outpaint", wanted, images)
    free = [model.size - side for side in images.shape[2:]]
    places = [room // 2 if p is None else p for p, room in zip((top, left), free, strict=True)]
    for name, place, room in zip(("top", "left"), places, free, strict=True):
        whole = isinstance(place, int) and 0 <= place <= room
        require(whole, name, f"a whole number of pixels from 0 to {room}", place)
    (top, left), (below, right) = places, (a - b for a, b in zip(free, places, strict=True))
    canvas = F.pad(images, (left, right, top, below), mode="replicate")
    mask = F.pad(torch.zeros(1, 1, *images.shape[2:]), (left, right, top, below), value=1)
    return inpaint(model, canvas, mask, captions, seeds, **options)


def check_mask(mask: Tensor, images: Tensor) -> Tensor:
    """The mask as bool (B or 1, 1, H, W); ValueError unless it fits and contains only 0 and 1."""
    batch, _, height, width = images.shape
    if tuple(mask.shape) not in {(b, 1, height, width) for b in (1, batch)}:
        wanted = (batch, 1, height, width)
        raise ValueError(f"mask is {tuple(mask.shape)}, expected {wanted} or one for all")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"a mask holds 0 (keep) and 1 (paint), got values up to {mask.max()}")
    return mask.bool()
