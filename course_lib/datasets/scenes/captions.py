"""From a scene to a sentence and back: `parse(write(scene, rng)) == scene`, for any wording."""

import re
from dataclasses import replace

import numpy as np

from course_lib.common.registry import FINAL, short
from course_lib.datasets.scenes.grammar import (
    COLOURS,
    PLACES,
    RELATIONS,
    SAY_BACKGROUND,
    SAY_COUNT,
    SAY_PLACE,
    SAY_RELATION,
    SAY_SHAPE,
    SAY_SIZE,
    SHAPES,
    SIZES,
    Object,
    Scene,
)

# --- writing ---------------------------------------------------------------------------------


def write(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """A caption for the scene. rng picks the wording; without it, the simplest one is used.

    >>> write(Scene("single", (Object("large", "red", "circle"),), background="blue"))
    'a large red circle on a blue background'
    """

    def one_of(options):
        return options[0] if rng is None else options[rng.integers(len(options))]

    def noun_phrase(thing: Object) -> str:
        shape = one_of(SAY_SHAPE[thing.shape])
        words = [
            one_of(SAY_COUNT[scene.count if scene.kind == "count" else 1]),
            thing.size and one_of(SAY_SIZE[thing.size]),
            thing.colour,
            _plural(shape) if scene.kind == "count" else shape,
        ]
        words = [word for word in words if word]
        if words[0] == "a" and words[1][0] in "aeiou":
            words[0] = "an"
        return " ".join(words)

    what = noun_phrase(scene.objects[0])
    if scene.kind == "pair":
        relation = one_of(SAY_RELATION[scene.relation])
        what = f"{what} {relation} {noun_phrase(scene.objects[1])}"
    where = one_of(SAY_PLACE[scene.place]) if scene.place else ""
    ground = _background(scene.background, one_of(SAY_BACKGROUND)) if scene.background else ""
    orders = [f"{what} {where} {ground}"]
    if ground:
        orders += [f"{ground}, {what} {where}"]
        orders += [f"{what} {ground}, {where}"] if where else []
    return " ".join(one_of(orders).split())


def _plural(shape: str) -> str:
    return shape + ("es" if shape[-1] in "sx" else "s")


def _background(colour: str, way: str) -> str:
    article = "an" if colour[0] in "aeiou" else "a"
    return way.replace(" a ", f" {article} ").format(colour)


# --- reading ---------------------------------------------------------------------------------


def _reverse(table: dict) -> dict:
    return {phrase: meaning for meaning, phrases in table.items() for phrase in phrases}


def _either(phrases) -> str:
    return "(" + "|".join(sorted(phrases, key=len, reverse=True)) + ")"


SIZE_OF = _reverse(SAY_SIZE)
PLACE_OF = _reverse(SAY_PLACE) | {"in the center": "centre"}
RELATION_OF = _reverse(SAY_RELATION)
COUNT_OF = _reverse(SAY_COUNT) | {"an": 1}
SHAPE_OF = _reverse(SAY_SHAPE)
_SINGULAR = set(SHAPE_OF)
SHAPE_OF |= {_plural(word): shape for word, shape in SHAPE_OF.items()}

_COLOUR = _either(COLOURS)
_BACKGROUND = re.compile(rf"\b(?:on|against) (?:an? )?{_COLOUR}(?: background)?(?= |$)")
_PLACE = re.compile(rf"\b{_either(PLACE_OF)}(?= |$)")
_NOUN_PHRASE = rf"{_either(COUNT_OF)}(?: {_either(SIZE_OF)})?(?: {_COLOUR})? {_either(SHAPE_OF)}"
_WHAT = re.compile(rf"{_NOUN_PHRASE}(?: {_either(RELATION_OF)} {_NOUN_PHRASE})?")


class Unreadable(ValueError):
    """The caption is outside the grammar; the message says why."""

    def __init__(self, caption: str, reason: str):
        super().__init__(f"cannot read the caption {short(caption)!r}: {reason}")
        self.reason = reason


def parse(caption: str) -> Scene:
    """The scene that a caption describes; properties that it doesn't mention are None.

    Raises Unreadable, a ValueError, for a caption outside the grammar.

    >>> parse("a large red circle on a blue background").objects
    (Object(size='large', colour='red', shape='circle'),)
    """
    text = " ".join(caption.lower().rstrip(FINAL).replace(",", " ").split())
    text, background = _take(_BACKGROUND, text)
    text, place = _take(_PLACE, text)
    found = _WHAT.fullmatch(text)
    if not found:
        raise Unreadable(caption, _why_not(text))
    number, size, colour, shape, relation, number2, size2, colour2, shape2 = found.groups()
    count, count2 = COUNT_OF[number], COUNT_OF.get(number2, 1)
    plural, plural2 = (word is not None and word not in _SINGULAR for word in (shape, shape2))
    if plural != (count > 1) or plural2 != (count2 > 1):
        raise Unreadable(caption, "the number and the shape don't agree")
    if relation and count * count2 > 1:
        raise Unreadable(caption, f"{relation!r} can only join two single objects")
    if place and (relation or count > 1):
        raise Unreadable(caption, "only a single object has a place in the picture")
    first = Object(SIZE_OF.get(size), colour, SHAPE_OF[shape])
    if relation:
        second = Object(SIZE_OF.get(size2), colour2, SHAPE_OF[shape2])
        return Scene("pair", (first, second), background, relation=RELATION_OF[relation], count=2)
    if count > 1:
        return Scene("count", (first,), background, count=count)
    return Scene("single", (first,), background, place=PLACE_OF.get(place))


def _why_not(text: str) -> str:
    """Why this text, without its background and place, doesn't describe a scene."""
    objects = len(re.findall(_NOUN_PHRASE, text))
    related = any(f" {relation} " in text for relation in RELATION_OF)
    if objects > 2:
        return f"it names {objects} objects; a scene has one, two that differ, or up to four alike"
    if objects == 2 and not related:
        return "two objects need a relation between them, such as 'left of'"
    return "captions read like 'a large red circle at the top on a blue background'"


# --- contradicting ---------------------------------------------------------------------------


def hard_negative(caption: str, rng: np.random.Generator) -> str:
    """A caption in nearly the same words that is false of the picture, for contrastive training.

    The objects or their colours are swapped, or one property is replaced.
    """
    scene = parse(caption)
    first, *second = scene.objects
    negatives = [replace(scene, objects=(_other(first, "shape", SHAPES, rng), *second))]
    if first.size:
        negatives.append(replace(scene, objects=(_other(first, "size", SIZES, rng), *second)))
    if first.colour and scene.background and first.colour != scene.background:
        swapped = replace(first, colour=scene.background)
        if all(thing.colour != first.colour for thing in second):
            negatives.append(replace(scene, objects=(swapped, *second), background=first.colour))
    if scene.kind == "count":
        negatives.append(_other(scene, "count", (2, 3, 4), rng))
    if scene.place:
        negatives.append(_other(scene, "place", PLACES, rng))
    if scene.kind == "pair":
        negatives.append(_other(scene, "relation", RELATIONS, rng))
        a, b = scene.objects
        both = [(getattr(a, name), getattr(b, name)) for name in ("size", "colour", "shape")]
        if any(one and other and one != other for one, other in both):  # else both may be true
            negatives += 2 * [replace(scene, objects=(b, a))]  # the same words, reordered
        if a.colour and b.colour and a.colour != b.colour:
            swapped = replace(a, colour=b.colour), replace(b, colour=a.colour)
            negatives.append(replace(scene, objects=swapped))
    return write(negatives[rng.integers(len(negatives))], rng)


def _other(thing, name: str, options, rng: np.random.Generator):
    """A copy with a different value of one property."""
    options = [option for option in options if option != getattr(thing, name)]
    return replace(thing, **{name: options[rng.integers(len(options))]})


def _take(pattern: re.Pattern, text: str) -> tuple[str, str | None]:
    """Cut the first match out of the text; returns the remaining text and the match, or None."""
    found = pattern.search(text)
    if not found:
        return text, None
    rest = " ".join((text[: found.start()] + text[found.end() :]).split())
    return rest, found.group(1)
