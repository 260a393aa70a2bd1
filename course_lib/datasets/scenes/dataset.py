"""Captioned scenes: pictures of coloured shapes, each with a sentence that describes it.

A `Scene` says what is in the picture, and a layout (`place_objects`) says where. `render` draws
them with signed distances. `Scenes` is the endless data set, in which example `index` is the same
picture and the same caption on every machine.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from course_lib.common.checks import whole_numbers
from course_lib.common.registry import choose
from course_lib.datasets.order import positions
from course_lib.datasets.scenes import captions
from course_lib.datasets.scenes.grammar import (
    COLOURS,
    KINDS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Object,
    Scene,
)

# The (shape, colour) pairs that never occur in training pictures: one for each shape.
HELD_OUT_PAIRS = {
    ("circle", "purple"),
    ("square", "orange"),
    ("triangle", "blue"),
    ("cross", "yellow"),
    ("ring", "red"),
    ("diamond", "white"),
}
SPLITS = ("train", "new pairs", "new combinations")


def split_of(scene: Scene) -> str:
    """The split that a scene belongs to.

    "new pairs" if it contains a held-out pair, "new combinations" for a tenth of all others, and
    otherwise "train".
    """
    if any((thing.shape, thing.colour) in HELD_OUT_PAIRS for thing in scene.objects):
        return "new pairs"
    return "new combinations" if zlib.crc32(repr(scene).encode()) % 10 == 0 else "train"


# --- what is in the picture ------------------------------------------------------------------


def random_scene(rng: np.random.Generator, kind: str | None = None) -> Scene:
    """A scene with all its properties. Half are single objects, a quarter pairs, a quarter counts.

    A third of the single objects have no place, and their captions don't mention one.

    >>> random_scene(np.random.default_rng(0), "pair").kind
    'pair'
    """
    kind = kind or ("single", "single", "pair", "count")[rng.integers(4)]
    choose("kind of scene", kind, {k: k for k in KINDS})
    background, *colours = rng.permutation(list(COLOURS))[:3].tolist()
    if kind == "pair" and rng.random() < 1 / 7:  # as often as with independent shapes
        colours[1] = colours[0]
    first, second = (
        Object(_pick(rng, SIZES), colour, _pick(rng, SHAPES)) for colour in colours[:2]
    )
    if kind == "pair":
        if first == second:  # two equal objects are a count, not a pair
            return random_scene(rng, kind)
        return Scene(kind, (first, second), background, relation=_pick(rng, RELATIONS), count=2)
    if kind == "count":
        return Scene(kind, (first,), background, count=int(rng.integers(2, 5)))
    place = None if rng.random() < 1 / 3 else _pick(rng, PLACES)
    return Scene(kind, (first,), background, place=place)


def omit(scene: Scene, rng: np.random.Generator, p: float) -> Scene:
    """The scene with each size, colour and background removed with probability p."""
    objects = tuple(
        replace(
            thing,
            size=None if rng.random() < p else thing.size,
            colour=None if rng.random() < p else thing.colour,
        )
        for thing in scene.objects
    )
    return replace(
        scene, objects=objects, background=None if rng.random() < p else scene.background
    )


def _pick(rng: np.random.Generator, options: Iterable[str]) -> str:
    options = list(options)
    return options[rng.integers(len(options))]


# --- where it is -----------------------------------------------------------------------------

REACH = 1.13  # the farthest point of any shape from its centre, in radii: the square's corner
GAP = 0.03  # between objects, and between an object and the edge, in picture widths
LOW, MIDDLE, HIGH = (0.0, 0.31), (0.38, 0.62), (0.69, 1.0)  # the bands of "left", "centre", "right"


def place_objects(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Continuous positions for a scene: centres (N, 2) as (x, y) and radii (N,), in picture widths.

    Objects are completely inside the picture and do not overlap.
    """
    things = scene.objects * (scene.count if scene.kind == "count" else 1)
    jitter = rng.uniform(0.96, 1.04)  # the same for all, so that equal objects stay equal
    radii = np.array([SIZES[thing.size] for thing in things]) * jitter
    margins = REACH * radii + GAP / 2
    if scene.kind == "count":  # one object in each of `count` quadrants
        corners = rng.permutation(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) / 2)[: scene.count]
        room = 0.5 - 2 * margins[:, None]
        centres = corners + margins[:, None] + room * rng.random((scene.count, 2))
    elif scene.kind == "pair":
        centres = _side_by_side(scene.relation, margins, rng)
    else:
        row, column = _bands(scene.place)
        centres = np.array([[_inside(column, margins[0], rng), _inside(row, margins[0], rng)]])
    return centres, radii


def _side_by_side(relation: str, margins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two centres, well apart along the relation's axis and nearly aligned across it."""
    near, far = margins if relation in ("left of", "above") else margins[::-1]
    low, high = np.sort(rng.random(2)) * (1 - 2 * near - 2 * far)  # divides the free space
    along = np.array([near + low, 2 * near + far + high])
    level = rng.uniform(margins.max(), 1 - margins.max())
    across = np.clip(level + rng.uniform(-0.06, 0.06, 2), margins.max(), 1 - margins.max())
    pair = np.stack([along, across], axis=1)
    pair = pair if relation in ("left of", "right of") else pair[:, ::-1]
    return pair if relation in ("left of", "above") else pair[::-1]


def _bands(place: str | None) -> tuple[tuple[float, float], tuple[float, float]]:
    """The bands (row, column) of a place; the whole picture if the caption doesn't mention one."""
    if place is None:
        return (0.0, 1.0), (0.0, 1.0)
    row = LOW if "top" in place else HIGH if "bottom" in place else MIDDLE
    column = LOW if "left" in place else HIGH if "right" in place else MIDDLE
    return row, column


def _inside(band: tuple[float, float], margin: float, rng: np.random.Generator) -> float:
    return rng.uniform(max(band[0], margin), min(band[1], 1 - margin))


# --- how it is drawn -------------------------------------------------------------------------


def _box(x, y, width, height):
    return torch.maximum(x.abs() - width, y.abs() - height)


# Signed distance to each outline in units of the radius: negative inside; x to the right, y down.
SIGNED_DISTANCE = {
    "circle": lambda x, y: torch.hypot(x, y) - 0.92,
    "square": lambda x, y: _box(x, y, 0.8, 0.8),
    "triangle": lambda x, y: torch.maximum(y - 0.62, 0.875 * x.abs() - 0.485 * y - 0.5),
    "cross": lambda x, y: torch.minimum(_box(x, y, 1.0, 0.34), _box(x, y, 0.34, 1.0)),
    "ring": lambda x, y: (torch.hypot(x, y) - 0.74).abs() - 0.24,
    "diamond": lambda x, y: (x.abs() + y.abs() - 1.1) / 2**0.5,
}


def render(
    scenes: Sequence[Scene],
    centres: Sequence[np.ndarray],
    radii: Sequence[np.ndarray],
    size: int = 64,
) -> torch.Tensor:
    """Draw scenes, antialiased: (B, 3, size, size) in [-1, 1].

    centres: per scene (N, 2) as (x, y); radii: per scene (N,); both in picture widths.

    >>> scene = random_scene(np.random.default_rng(0), "single")
    >>> render([scene], [np.array([[0.5, 0.5]])], [np.array([0.2])]).shape
    torch.Size([1, 3, 64, 64])
    """
    things, cover, owner, rank = coverage(scenes, centres, radii, size)
    colours = torch.tensor([COLOURS[thing.colour] for thing in things])
    background = torch.tensor([COLOURS[scene.background] for scene in scenes])
    images = background[:, :, None, None].expand(-1, -1, size, size).clone()
    for n in range(int(rank.max()) + 1):  # objects don't overlap, so their order doesn't matter
        which = rank == n
        paint = colours[which][:, :, None, None]
        images[owner[which]] += cover[which] * (paint - images[owner[which]])
    return 2 * images - 1


def draw_layout(
    scenes: Sequence[Scene],
    centres: Sequence[np.ndarray],
    radii: Sequence[np.ndarray],
    size: int = 64,
) -> torch.Tensor:
    """The layouts of scenes, filled shapes in white on black: (B, 1, size, size) in [0, 1].

    A layout shows what is where, but neither colours nor, in a pair, which object comes first.
    centres, radii: as for `render`.

    >>> scene = random_scene(np.random.default_rng(0), "single")
    >>> draw_layout([scene], [np.array([[0.5, 0.5]])], [np.array([0.2])]).shape
    torch.Size([1, 1, 64, 64])
    """
    _, cover, owner, _ = coverage(scenes, centres, radii, size)
    return torch.zeros(len(scenes), 1, size, size).index_add(0, owner, cover)


def coverage(scenes, centres, radii, size: int) -> tuple[list[Object], Tensor, Tensor, Tensor]:
    """All N objects of the scenes, and how much of each pixel each covers: (N, 1, size, size).

    Also the scene (N,) that each belongs to, and its number among those of its scene (N,).
    """
    groups = [s.objects * (len(r) // len(s.objects)) for s, r in zip(scenes, radii, strict=True)]
    things = [thing for group in groups for thing in group]
    shapes = np.array([thing.shape for thing in things])
    owner = torch.tensor([b for b, group in enumerate(groups) for _ in group])
    rank = torch.tensor([n for group in groups for n in range(len(group))])
    middle = torch.from_numpy(np.concatenate(centres)).float()[:, :, None]  # (N, 2, 1)
    radius = torch.from_numpy(np.concatenate(radii)).float()[:, None, None]  # (N, 1, 1)

    pixel = (torch.arange(size) + 0.5) / size
    x = ((pixel - middle[:, 0]) / radius[:, 0])[:, None, :]  # (N, 1, W), in radii
    y = ((pixel - middle[:, 1]) / radius[:, 0])[:, :, None]  # (N, H, 1)
    distance = torch.empty(len(shapes), size, size)
    for shape, signed_distance in SIGNED_DISTANCE.items():
        which = torch.from_numpy(np.flatnonzero(shapes == shape))
        distance[which] = signed_distance(*torch.broadcast_tensors(x[which], y[which]))
    cover = (0.5 - distance * radius * size).clamp(0, 1)[:, None]  # (N, 1, H, W), one pixel soft
    return things, cover, owner, rank


# --- the data set ----------------------------------------------------------------------------


class Scenes:
    """The endless data set: example `index` depends on (seed, split, kind, index) alone.

    split: "train", "new pairs" (with a (shape, colour) pair that training never shows) or
        "new combinations" (other combinations that training never shows).
    kind: "single", "pair", "count", or None for a mixture of half, a quarter and a quarter.
    unsaid: the probability that a caption omits a size, a colour or the background.
    Raises ValueError for an unknown split or kind, or a size other than 32 or 64.

    >>> images, captions = Scenes(size=32).batch(range(2))
    >>> images.shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(self, size=64, split="train", kind=None, seed=0, unsaid=0.1):
        if size not in (32, 64):
            raise ValueError(f"scenes are 32 or 64 pixels wide, not {size}")
        self.split = choose("split", split, {s: s for s in SPLITS})
        self.kind = kind and choose("kind of scene", kind, {k: k for k in KINDS})
        if not 0 <= unsaid <= 1:
            raise ValueError(f"unsaid is a probability, got {unsaid}")
        whole_numbers(0, seed=seed)
        self.size, self.seed, self.unsaid = size, seed, unsaid

    def _draw(self, index: int) -> tuple[Scene, np.random.Generator]:
        (index,) = positions([index])
        key = [self.seed, SPLITS.index(self.split), KINDS.index(self.kind) if self.kind else 3]
        rng = np.random.default_rng([*key, index])
        while split_of(scene := random_scene(rng, self.kind)) != self.split:
            pass
        return scene, rng

    def scene(self, index: int) -> tuple[Scene, tuple[np.ndarray, np.ndarray]]:
        """The complete scene `index` and its layout (centres, radii)."""
        scene, rng = self._draw(index)
        return scene, place_objects(scene, rng)

    def caption(self, index: int) -> str:
        """The caption alone, without drawing the picture."""
        scene, rng = self._draw(index)
        place_objects(scene, rng)
        return captions.write(omit(scene, rng, self.unsaid), rng)

    def layouts(self, indices: Iterable[int]) -> torch.Tensor:
        """The layouts of `batch`'s pictures, white on black: (B, 1, size, size) in [0, 1].

        >>> Scenes(size=32).layouts(range(2)).shape
        torch.Size([2, 1, 32, 32])
        """
        scenes, places = zip(*(self.scene(index) for index in positions(indices)), strict=True)
        return draw_layout(scenes, *zip(*places, strict=True), self.size)

    def batch(self, indices: Iterable[int]) -> tuple[torch.Tensor, list[str]]:
        """Pictures (B, 3, size, size) in [-1, 1] and their captions."""
        scenes, centres, radii, texts = [], [], [], []
        for index in positions(indices):
            scene, rng = self._draw(index)
            middle, radius = place_objects(scene, rng)
            scenes.append(scene)
            centres.append(middle)
            radii.append(radius)
            texts.append(captions.write(omit(scene, rng, self.unsaid), rng))
        return render(scenes, centres, radii, self.size), texts
