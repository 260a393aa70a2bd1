"""Chapter 06's tests of a model of captions and pictures, on the course's scenes.

`QUESTIONS` are for zero-shot classification: the classes, and templates for the sentences.
`CONTRADICTIONS` change one thing in a scene, so that the new caption is false of the picture.
`side_by_side` makes pairs of objects, to probe linearly for which object is where.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor

from course_lib.datasets.scenes import Scenes
from course_lib.datasets.scenes.captions import write
from course_lib.datasets.scenes.grammar import COLOURS, RELATIONS, SHAPES, SIZES, Scene


@dataclass(frozen=True)
class Question:
    """A question about a scene with one object.

    truth: gives the right class of a scene; templates: for each wording, sentences with a gap {}.
    """

    classes: Sequence[str]
    truth: Callable[[Scene], str]
    templates: dict[str, list[str]]


def _wordings(one_template: str, many_templates: list[str]) -> dict[str, list[str]]:
    return {
        "the bare word": ["{}"],
        "one template": [one_template],
        "the mean of many": many_templates,
    }


QUESTIONS = {
    "background": Question(
        tuple(COLOURS),
        lambda scene: scene.background,
        _wordings("on a {} background", [f"a {shape} on a {{}} background" for shape in SHAPES]),
    ),
    "object's colour": Question(
        tuple(COLOURS),
        lambda scene: scene.objects[0].colour,
        _wordings("a {} circle", [f"a {{}} {shape}" for shape in SHAPES]),
    ),
    "size": Question(
        tuple(SIZES),
        lambda scene: scene.objects[0].size,
        _wordings(
            "a {} circle", [f"a {{}} {colour} {shape}" for colour in COLOURS for shape in SHAPES]
        ),
    ),
    "shape": Question(
        SHAPES,
        lambda scene: scene.objects[0].shape,
        _wordings("a {}", [f"a {size} {colour} {{}}" for size in SIZES for colour in COLOURS]),
    ),
}


# ---- captions with one thing changed -----------------------------------------------------------

OPPOSITE = dict(zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True))


def _another(value: str, options: Sequence[str], i: int) -> str:
    """The i-th of the other options, modulo their number."""
    others = [option for option in options if option != value]
    return others[i % len(others)]


def _with_first(scene: Scene, **changes: str) -> Scene:
    return replace(scene, objects=(replace(scene.objects[0], **changes), *scene.objects[1:]))


def _another_of_first(name: str, options: Sequence[str]) -> Callable[[Scene, int], Scene]:
    return lambda scene, i: _with_first(
        scene, **{name: _another(getattr(scene.objects[0], name), options, i)}
    )


def _exchange_with_background(scene: Scene, i: int) -> Scene:
    exchanged = _with_first(scene, colour=scene.background)
    return replace(exchanged, background=scene.objects[0].colour)


def _exchange_colours(scene: Scene, i: int) -> Scene:
    a, b = scene.objects
    return replace(scene, objects=(replace(a, colour=b.colour), replace(b, colour=a.colour)))


# change(scene with two objects, i) -> the changed scene; i selects the replacement
CONTRADICTIONS: dict[str, Callable[[Scene, int], Scene]] = {
    "another background": lambda scene, i: replace(
        scene, background=_another(scene.background, tuple(COLOURS), i)
    ),
    "another colour": _another_of_first("colour", tuple(COLOURS)),
    "another size": _another_of_first("size", tuple(SIZES)),
    "another shape": _another_of_first("shape", SHAPES),
    "object and background exchange colours": _exchange_with_background,
    "the relation reversed": lambda scene, i: replace(scene, relation=OPPOSITE[scene.relation]),
    "the two objects exchanged": lambda scene, i: replace(scene, objects=scene.objects[::-1]),
    "the two exchange colours": _exchange_colours,
}
SAME_WORDS = tuple(CONTRADICTIONS)[4:]  # these use the right words in a wrong combination


# ---- two objects side by side ------------------------------------------------------------------


def side_by_side(number: int, seed: int = 5) -> tuple[Tensor, list[str], Tensor, Tensor]:
    """Scenes of two objects in different colours, one left of the other, from the training split.

    Returns images (B, 3, 64, 64), captions in varying words, and two colours (B,), as indices into
    COLOURS: that of the object named first in the caption, and that of the one on the left.
    """
    data, colours = Scenes(64, "train", "pair", seed=seed, unsaid=0.0), list(COLOURS)
    every = ((i, data.scene(i)[0]) for i in count())
    chosen = islice(
        (
            (i, scene)
            for i, scene in every
            if scene.relation in ("left of", "right of")
            and scene.objects[0].colour != scene.objects[1].colour
        ),
        number,
    )
    indices, scenes = zip(*chosen, strict=True)
    rng = np.random.default_rng(0)
    captions = [write(scene, rng) for scene in scenes]
    first = [colours.index(scene.objects[0].colour) for scene in scenes]
    left = [colours.index(s.objects[s.relation == "right of"].colour) for s in scenes]
    return data.batch(indices)[0], captions, torch.tensor(first), torch.tensor(left)
