"""Prompt-to-prompt editing (Hertz et al. 2022): another caption, the same layout.

    model = load_pipeline("scenes-latent")
    before, after = prompt_to_prompt(model, ["a large red circle"], ["a large blue circle"])

Where a word acts on the picture is decided by its cross-attention maps, early in sampling. So both
captions are drawn from the same noise, and during the first steps the edited caption's picture uses
the original's maps.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from math import ceil, isfinite

import torch
from torch import Tensor

from course_lib.common.checks import require
from course_lib.common.devices import autocast
from course_lib.diffusion import initial_noise, trajectory
from course_lib.models import Tokenizer, edited_attention
from course_lib.pipelines.text_to_image import (
    LatentDiffusion,
    default_sampling,
    prepare,
    without_none,
)


@torch.no_grad()
def prompt_to_prompt(
    model: LatentDiffusion,
    captions: Sequence[str],
    edited: Sequence[str],
    seeds: Sequence[int] | None = None,
    *,
    share: float = 0.8,
    weights: Mapping[str, float] | None = None,
    scale: float | None = None,
    negative: str = "",
    steps: int | None = None,
    **sampling,
) -> tuple[Tensor, Tensor]:
    """The captions' pictures, and those of the edited captions: (B, 3, H, W) in [-1, 1] each.

    share: the share of the steps, from the first on, in which the edited captions' tokens use the
        attention maps of the tokens that they match in the original; new tokens use their own.
    weights: for words of the edited captions, the factor of their maps in those steps (§3.3).
    sampling: sampler, spacing, eta of `trajectory`.

    >>> from course_lib.recipes import load_pipeline
    >>> model = load_pipeline("scenes-latent")
    >>> before, after = prompt_to_prompt(model, ["a red circle"], ["a blue circle"], steps=2)
    >>> before.shape == after.shape
    True
    """
    captions, edited = ([c] if isinstance(c, str) else list(c) for c in (captions, edited))
    require(len(captions) == len(edited), "edited captions", f"{len(captions)}", len(edited))
    require(0 <= share <= 1, "share", "a share of the steps, from 0 to 1", share)
    seeds = list(range(len(captions)) if seeds is None else seeds)
    require(len(seeds) == len(captions), "seeds", f"{len(captions)}, one a caption", len(seeds))
    network, context, draws = prepare(model, captions + edited, 2 * seeds, scale, negative)
    edit = attention_edit(model.clip.tokenizer, captions, edited, weights or {}, model.device)
    noise = initial_noise(draws, model.latent).to(model.device)  # the same for both captions
    sampling = default_sampling(model, steps) | without_none(sampling)
    how = dict(generators=draws, **sampling)
    path = trajectory(model.process, network, noise, context, **how)
    with autocast(model.device):
        z = next(path)
        with edited_attention(model.unet, edit):
            for _ in range(ceil(round(share * sampling["steps"], 9))):
                z = next(path)
        for later in path:
            z = later
    before, after = model.vae.decode(z).clamp(-1, 1).chunk(2)
    return before, after


def attention_edit(
    tokenizer: Tokenizer,
    captions: Sequence[str],
    edited: Sequence[str],
    weights: Mapping[str, float],
    device: torch.device,
) -> Callable[[Tensor], Tensor]:
    """The function that gives the edited captions the original captions' maps (§3.2).

    It expects maps (2B or 4B, heads, N, L): those of the captions, of the edited captions, and
    with guidance those without a caption, which stay as they are.
    """
    before, after = tokenizer(captions).tolist(), tokenizer(edited).tolist()
    pairs = [matched(a, b) for a, b in zip(before, after, strict=True)]
    sources = torch.tensor(pairs, device=device)[:, None, None]  # (B, 1, 1, L), -1: its own
    factors = word_factors(tokenizer, after, weights).to(device)[:, None, None]  # (B, 1, 1, L)

    def edit(maps: Tensor) -> Tensor:
        original, own, *rest = maps.split(len(captions))  # (B, heads, N, L) each
        injected = original.gather(3, sources.clamp(min=0).expand_as(own))
        changed = factors.to(own.dtype) * torch.where(sources >= 0, injected, own)
        return torch.cat([original, changed, *rest])

    return edit


def matched(before: Sequence, after: Sequence) -> list[int]:
    """For each token of `after`, the position of its counterpart in `before`, or -1.

    As many tokens in the place of others are a word swap, and use the maps of those.

    >>> matched("a red circle".split(), "a blue circle".split())
    [0, 1, 2]
    >>> matched("a circle".split(), "a big red circle".split())
    [0, -1, -1, 1]
    """
    sources = [-1] * len(after)
    for what, i, i_end, j, j_end in SequenceMatcher(None, before, after, False).get_opcodes():
        if what == "equal" or i_end - i == j_end - j:
            sources[j:j_end] = range(i, i_end)
    return sources


def word_factors(
    tokenizer: Tokenizer, rows: Sequence[Sequence[int]], weights: Mapping[str, float]
) -> Tensor:
    """The factor of each token's maps: (B, L), 1 except for the words with a weight."""
    factors = torch.ones(len(rows), len(rows[0]))
    for word, weight in weights.items():
        require(isfinite(weight), f"weight of {word!r}", "a finite number", weight)
        ids = tokenizer.encode(word)[1:-1]  # without start and end
        places = [
            (b, j)
            for b, row in enumerate(rows)
            for j in range(len(row))
            if ids and list(row[j : j + len(ids)]) == ids
        ]
        require(bool(places), "weights", "words of the edited captions", repr(word))
        for b, j in places:
            factors[b, j : j + len(ids)] = weight
    return factors
