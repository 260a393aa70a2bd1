"""From a scene to a sentence and back: `parse(write(scene, rng)) == scene`, in any wording."""

import re
from dataclasses import replace

import numpy as np

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
    """One of the ways to say the scene, chosen by rng; the plain one without."""

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
SHAPE_OF |= {_plural(word): shape for word, shape in SHAPE_OF.items()}

_COLOUR = _either(COLOURS)
_BACKGROUND = re.compile(rf"\b(?:on|against) (?:an? )?{_COLOUR}(?: background)?(?= |$)")
_PLACE = re.compile(rf"\b{_either(PLACE_OF)}(?= |$)")
_NOUN_PHRASE = rf"{_either(COUNT_OF)}(?: {_either(SIZE_OF)})?(?: {_COLOUR})? {_either(SHAPE_OF)}"
_WHAT = re.compile(rf"{_NOUN_PHRASE}(?: {_either(RELATION_OF)} {_NOUN_PHRASE})?")


def parse(caption: str) -> Scene:
    """What a caption says; properties it leaves open are None.

    Raises ValueError if the sentence is not of the grammar.
    """
    text = " ".join(caption.lower().replace(",", " ").rstrip(" .").split())
    text, background = _take(_BACKGROUND, text)
    text, place = _take(_PLACE, text)
    found = _WHAT.fullmatch(text)
    if not found:
        raise ValueError(
            f"cannot read the caption {caption!r}; expected for example "
            "'a large red circle at the top on a blue background'"
        )
    number, size, colour, shape, relation, number2, size2, colour2, shape2 = found.groups()
    count = COUNT_OF[number]
    plural = shape not in _reverse(SAY_SHAPE)
    first = Object(SIZE_OF.get(size), colour, SHAPE_OF[shape])
    if plural != (count > 1) or (relation and count > 1) or (place and (relation or count > 1)):
        raise ValueError(f"cannot read the caption {caption!r}: number, place or relation clash")
    if relation:
        if COUNT_OF[number2] > 1 or shape2 not in _reverse(SAY_SHAPE):
            raise ValueError(f"cannot read the caption {caption!r}: a relation joins two objects")
        second = Object(SIZE_OF.get(size2), colour2, SHAPE_OF[shape2])
        return Scene("pair", (first, second), background, relation=RELATION_OF[relation], count=2)
    if count > 1:
        return Scene("count", (first,), background, count=count)
    return Scene("single", (first,), background, place=PLACE_OF.get(place))


# --- contradicting ---------------------------------------------------------------------------


def contradict(caption: str, rng: np.random.Generator) -> str:
    """A caption in nearly the same words that the picture refutes, for contrastive training.

    Objects change sides, colours change places, or one property becomes another.
    """
    scene = parse(caption)
    first, *second = scene.objects
    lies = [replace(scene, objects=(_other(first, "shape", SHAPES, rng), *second))]
    if first.size:
        lies.append(replace(scene, objects=(_other(first, "size", SIZES, rng), *second)))
    if first.colour and scene.background and first.colour != scene.background:
        swapped = replace(first, colour=scene.background)
        if all(thing.colour != first.colour for thing in second):
            lies.append(replace(scene, objects=(swapped, *second), background=first.colour))
    if scene.kind == "count":
        lies.append(_other(scene, "count", (2, 3, 4), rng))
    if scene.place:
        lies.append(_other(scene, "place", PLACES, rng))
    if scene.kind == "pair":
        lies.append(_other(scene, "relation", RELATIONS, rng))
        a, b = scene.objects
        both = [(getattr(a, name), getattr(b, name)) for name in ("size", "colour", "shape")]
        if any(one and other and one != other for one, other in both):  # else both may be true
            lies += 2 * [replace(scene, objects=(b, a))]  # the same words in another order
        if a.colour and b.colour and a.colour != b.colour:
            swapped = replace(a, colour=b.colour), replace(b, colour=a.colour)
            lies.append(replace(scene, objects=swapped))
    return write(lies[rng.integers(len(lies))], rng)


def _other(thing, name: str, options, rng: np.random.Generator):
    """The same with another value of one property."""
    options = [option for option in options if option != getattr(thing, name)]
    return replace(thing, **{name: options[rng.integers(len(options))]})


def _take(pattern: re.Pattern, text: str) -> tuple[str, str | None]:
    """Cut the first match out of the text; return what is left and what was found."""
    found = pattern.search(text)
    if not found:
        return text, None
    rest = " ".join((text[: found.start()] + text[found.end() :]).split())
    return rest, found.group(1)
