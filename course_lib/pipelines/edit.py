"""A picture in, another picture out: image to image, inpainting, outpainting, constraints.

    model = load_pipeline("scenes-latent")
    images = image_to_image(model, images, ["two small red circles"], strength=0.6)

Images are (B, 3, H, W) in [-1, 1]; captions and seeds are those of `text_to_image`.
"""

import math
from collections.abc import Callable, Mapping, Sequence

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
    steps: int | None = None,
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
    steps = model.steps if steps is None else steps
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
    steps: int | None = None,
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
            *(model.process, network, noise, context),
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


@torch.no_grad()
def constrained(
    model: LatentDiffusion,
    captions: Sequence[str],
    project: Callable[[Tensor], Tensor],
    seeds: Sequence[int] | None = None,
    *,
    scale: float | None = None,
    negative: str = "",
    steps: int | None = None,
    **sampling,
) -> Tensor:
    """Pictures of the captions that satisfy a constraint on their pixels.

    project: images (B, 3, H, W) in [-1, 1] -> images of the same shape that satisfy the
        constraint, and otherwise differ as little as possible. At each step, the estimate of x0 is
        decoded, projected and encoded again, so the rest of the picture can adapt to it. The
        finished pictures are projected, too, so they satisfy the constraint exactly.
    ValueError if it returns another shape. The sampling options are those of `text_to_image`.

    >>> from course_lib.recipes import load_pipeline
    >>> model, red = load_pipeline("scenes-latent"), torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1)
    >>> reddish = lambda images: torch.where(red < 0, images.clamp(max=0), images)
    >>> constrained(model, ["a blue circle"], reddish, steps=2)[:, 2].max() <= 0
    tensor(True)
    """

    def satisfying(z: Tensor) -> Tensor:
        images = model.vae.decode(z).clamp(-1, 1)
        found = project(images)
        same = isinstance(found, Tensor) and found.shape == images.shape
        require(same, "projected images", f"the shape {tuple(images.shape)}", found)
        return found.clamp(-1, 1)

    network, context, draws = prepare(model, captions, seeds, scale, negative)
    noise = initial_noise(draws, model.latent).to(model.device)
    sampling = default_sampling(model, steps) | without_none(sampling)
    with autocast(model.device):
        z = sample(
            *(model.process, network, noise, context),
            clip=lambda x0: model.vae.encode(satisfying(x0)),
            generators=draws,
            **sampling,
        )
    return satisfying(z)


def anagram(
    model: LatentDiffusion,
    captions: Mapping[int, Sequence[str]],
    seeds: Sequence[int] | None = None,
    **options,
) -> Tensor:
    """Pictures that show one thing as they are, and another after a turn (Geng et al. 2024).

    captions: the number of quarter turns, anticlockwise, -> what each of the B pictures shows
        then: `{0: upright, 2: upside_down}`.
    Every view is drawn from its own noise, B seeds each. At each step, the views' estimates of the
    same picture are turned back and averaged in pixels (as in Kim et al. 2024, SyncTweedies):
    turning a latent doesn't turn what its numbers mean. options: those of `constrained`.

    >>> from course_lib.recipes import load_pipeline
    >>> model = load_pipeline("scenes-latent")
    >>> views = {0: ["a circle on the left"], 2: ["a circle on the right"]}
    >>> anagram(model, views, steps=2).shape
    torch.Size([1, 3, 64, 64])
    """
    turns, lists = list(captions), [list(each) for each in captions.values()]
    distinct = len({turn % 4 for turn in turns}) == len(turns) > 0
    require(distinct, "captions", "a list for each of different quarter turns", turns)
    count = len(lists[0])
    alike = all(len(each) == count for each in lists)
    require(alike, "captions", f"{count} for every turn", [len(each) for each in lists])
    seeds = list(range(count) if seeds is None else seeds)
    require(len(seeds) == count, "seeds", f"{count}, one a picture", len(seeds))
    every_seed = [seed + VIEW * n for n in range(len(turns)) for seed in seeds]
    every_caption = [caption for each in lists for caption in each]

    def together(images: Tensor) -> Tensor:
        views = images.split(count)  # (B, 3, H, W) each
        upright = [torch.rot90(v, -k, (2, 3)) for v, k in zip(views, turns, strict=True)]
        mean = torch.stack(upright).mean(0)
        return torch.cat([torch.rot90(mean, k, (2, 3)) for k in turns])

    images = constrained(model, every_caption, together, every_seed, **options)
    return torch.rot90(images[:count], -turns[0], (2, 3))


VIEW = 1_000_000  # from the seed of a view to that of the next


def check_mask(mask: Tensor, images: Tensor) -> Tensor:
    """The mask as bool (B or 1, 1, H, W); ValueError unless it fits and contains only 0 and 1."""
    batch, _, height, width = images.shape
    if tuple(mask.shape) not in {(b, 1, height, width) for b in (1, batch)}:
        wanted = (batch, 1, height, width)
        raise ValueError(f"mask is {tuple(mask.shape)}, expected {wanted} or one for all")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"a mask holds 0 (keep) and 1 (paint), got values up to {mask.max()}")
    return mask.bool()
