"""What the page offers for each model: sentences with gaps, the words for them, examples, colours.

A model is added by an entry in OFFERS. One without an entry, such as a reader's own, has a line to
type in and no menus.
"""

from dataclasses import dataclass, field

from course_lib.datasets.emoji import COMMON, concepts
from course_lib.datasets.scenes.grammar import (
    COLOURS,
    SAY_COUNT,
    SAY_PLACE,
    SAY_RELATION,
    SHAPES,
)


@dataclass(frozen=True)
class Offer:
    """patterns: captions with gaps, such as "a {colour} {shape}", by name; vocabulary: what fits.

    An empty word leaves its gap open. palette: the colours to draw with, as CSS writes them.
    """

    title: str
    patterns: dict[str, str] = field(default_factory=dict)
    vocabulary: dict[str, list[str]] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    palette: dict[str, str] = field(default_factory=dict)


def css(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * share):02x}" for share in colour)


PALETTE = {name: css(colour) for name, colour in COLOURS.items()}

GROUPS = {group.split()[0]: group for group in sorted({c.group for c in concepts()})}
THINGS = {  # of a man, a woman and a person at the same work, the menu has the person
    kind: sorted(c.phrase for c in concepts() if c.group == group and c.gender in (None, "person"))
    for kind, group in GROUPS.items()
}

OFFERS = {
    "scenes-latent": Offer(
        title="coloured shapes",
        patterns={
            "one shape": "a {size} {colour} {shape} {place} on a {background} background",
            "two shapes": "a {size} {colour} {shape} {relation} a {size} {colour} {shape}"
            " on a {background} background",
            "several of a kind": "{count} {size} {colour} {shapes} on a {background} background",
        },
        vocabulary={
            "size": ["large", "small"],
            "colour": list(COLOURS),
            "shape": list(SHAPES),
            "shapes": ["circles", "squares", "triangles", "crosses", "rings", "diamonds"],
            "place": ["", *(ways[0] for ways in SAY_PLACE.values())],
            "relation": [ways[-1] for ways in SAY_RELATION.values()],
            "count": [ways[0] for number, ways in SAY_COUNT.items() if number > 1],
            "background": list(reversed(COLOURS)),
        },
        examples=(
            "a large red circle on a blue background",
            "a small white cross to the left of a large red diamond on a green background",
            "three small yellow rings on a black background",
            "a large orange triangle at the bottom right on a white background",
        ),
        palette=PALETTE,
    ),
    "emoji-latent": Offer(
        title="emoji by three studios",
        patterns={group: f"{{{kind}}}, {{studio}} style" for kind, group in GROUPS.items()},
        vocabulary={"studio": list(COMMON), **THINGS},
        examples=(
            "a penguin, Fluent style",
            "a red apple, Noto style",
            "a smiling face with sunglasses, Twemoji style",
            "a woman firefighter, Noto style",
        ),
        palette=PALETTE,
    ),
}


def offer(name: str) -> Offer:
    return OFFERS.get(name, Offer(title=name, palette=PALETTE))
