"""Interventions on a caption's context: exchange some of its vectors, and see what changes.

Two captions differ in one property. The picture is drawn for the first caption, but some of the
context vectors come from the second. If the picture changes, these vectors carry the property.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from course_lib.common.registry import choose
from course_lib.datasets.scenes import random_scene
from course_lib.datasets.scenes.captions import write
from course_lib.datasets.scenes.grammar import COLOURS, Scene
from course_lib.models import PromptEncoder

CORNERS = ("top left", "top right", "bottom left", "bottom right")  # all have as many tokens


def caption_pairs(what: str, count: int, seed: int = 1) -> tuple[list[str], list[str]]:
    """Captions of one object in a corner, and the same ones with another "colour" or "place"."""
    other = choose("property", what, {"colour": other_colour, "place": other_place})
    rng, scenes = np.random.default_rng(seed), []
    while len(scenes) < count:
        scene = random_scene(rng, "single")
        if scene.place in CORNERS:
            scenes.append(scene)
    rng = np.random.default_rng(seed + 1)
    return [write(scene) for scene in scenes], [write(other(scene, rng)) for scene in scenes]


def other_colour(scene: Scene, rng: np.random.Generator) -> Scene:
    (thing,) = scene.objects
    colour = rng.choice([c for c in COLOURS if c not in (thing.colour, scene.background)])
    return replace(scene, objects=(replace(thing, colour=str(colour)),))


def other_place(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, place=str(rng.choice([c for c in CORNERS if c != scene.place])))


def token_kinds(ids: Tensor) -> dict[str, Tensor]:
    """Which tokens (B, L) are the start, words, the end and padding: masks (B, L) by name.

    The end-of-text token has the largest id and is repeated as padding.
    """
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    end = (ids == ids.max()).int().argmax(1, keepdim=True)  # the first of them
    return {
        "start": place == 0,
        "words": (place > 0) & (place < end),
        "end": place == end,
        "padding": place > end,
    }


@torch.no_grad()
def exchanged(
    encoder: PromptEncoder, first: Sequence[str], second: Sequence[str]
) -> dict[str, Tensor]:
    """The first captions' contexts (B, L, D) with some vectors from the second ones, by name.

    Before the first different word both contexts are equal, because the encoder is causal.
    """
    ids, other_ids = encoder.ids(first), encoder.ids(second)
    context, other = encoder.context(first), encoder.context(second)
    changed = ids != other_ids  # (B, L)
    kinds = token_kinds(ids)
    after = changed.int().cumsum(1) > 0  # from the first change on
    groups = {
        "nothing": changed & False,
        "the changed word": changed,
        "the words after it": after & ~changed & kinds["words"],
        "end and padding": kinds["end"] | kinds["padding"],
        "all": changed | True,
    }
    return {name: torch.where(mask[..., None], other, context) for name, mask in groups.items()}
