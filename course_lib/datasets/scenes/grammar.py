"""What a scene can contain, and the words for it, shared by pictures and captions."""

from dataclasses import dataclass

KINDS = ("single", "pair", "count")

COLOURS = {  # RGB in [0, 1]
    "red": (0.86, 0.15, 0.15),
    "orange": (0.96, 0.55, 0.10),
    "yellow": (0.98, 0.88, 0.20),
    "green": (0.18, 0.65, 0.28),
    "blue": (0.15, 0.38, 0.85),
    "purple": (0.55, 0.25, 0.70),
    "black": (0.08, 0.08, 0.10),
    "white": (0.96, 0.96, 0.96),
}
SIZES = {"small": 0.125, "large": 0.19}  # radius in picture widths
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
PLACES = (
    "top left",
    "top",
    "top right",
    "left",
    "centre",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Object:
    """One coloured shape; a property is None if the caption doesn't mention it."""

    size: str | None
    colour: str | None
    shape: str


@dataclass(frozen=True)
class Scene:
    """What a picture shows, or what a caption says about it (None if it doesn't say).

    A "single" scene has one object and may have a place. A "pair" has two objects, and the first
    is `relation` ("left of", for example) the second. A "count" has `count` (2 to 4) equal ones.
    """

    kind: str
    objects: tuple[Object, ...]
    background: str | None
    place: str | None = None
    relation: str | None = None
    count: int = 1


# Several wordings for each property; the first is the simplest.
SAY_SIZE = {"small": ("small", "little"), "large": ("large", "big")}
SAY_SHAPE = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "cross": ("cross", "plus"),
    "ring": ("ring", "hoop"),
    "diamond": ("diamond", "rhombus"),
}
SAY_PLACE = {
    "top left": ("at the top left", "in the top left corner"),
    "top": ("at the top", "near the top"),
    "top right": ("at the top right", "in the top right corner"),
    "left": ("on the left", "near the left"),
    "centre": ("in the centre", "in the middle"),
    "right": ("on the right", "near the right"),
    "bottom left": ("at the bottom left", "in the bottom left corner"),
    "bottom": ("at the bottom", "near the bottom"),
    "bottom right": ("at the bottom right", "in the bottom right corner"),
}
SAY_RELATION = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
SAY_BACKGROUND = ("on a {} background", "on {}", "against {}")
SAY_COUNT = {1: ("a", "one"), 2: ("two",), 3: ("three",), 4: ("four",)}
