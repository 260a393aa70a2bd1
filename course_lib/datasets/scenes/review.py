"""A user may type something other than a scene's caption; `review` says what is unusual in it."""

import re
from itertools import chain, islice, product

from course_lib.common.registry import FINAL, near, unknown_words
from course_lib.datasets.scenes.captions import RELATION_OF, SHAPE_OF, SIZE_OF, Unreadable, parse
from course_lib.datasets.scenes.grammar import (
    COLOURS,
    SAY_BACKGROUND,
    SAY_COUNT,
    SAY_PLACE,
    SAY_RELATION,
    SAY_SHAPE,
    SAY_SIZE,
)

VOCABULARY = {  # by kind; each entry lists the wordings for one thing
    "colours": [(colour,) for colour in COLOURS],
    "shapes": SAY_SHAPE.values(),
    "sizes": SAY_SIZE.values(),
    "places": [ways[:1] for ways in SAY_PLACE.values()],
    "relations": SAY_RELATION.values(),
    "counts": SAY_COUNT.values(),
}
_PHRASES = [*RELATION_OF, *chain(*SAY_PLACE.values(), *SAY_COUNT.values())]
_PHRASES += [way.format("") for way in SAY_BACKGROUND]
WORDS = {*COLOURS, *SIZE_OF, *SHAPE_OF, "an", ","}  # all that a caption can hold
WORDS |= {word for phrase in _PHRASES for word in phrase.split()}
_ONE_OF_EACH = ["red", "small", "circle", "circles", "above", "two", "a"]
_ONE_OF_EACH += ["on", "background", "top", "centre"]


def review(caption: str) -> str | None:
    """Why this caption is unlike the training captions of scenes, in words; None if it isn't.

    Raises ValueError for a word that no caption contains, with a list of the words that you can
    use. A pair that was held out from training (`HELD_OUT_PAIRS`) is not unusual, because models
    do well on such pairs.

    >>> review("a red circle on a red background")
    'an object has the colour of its background'
    """
    words = split(caption)
    if unknown := list(dict.fromkeys(word for word in words if word not in WORDS)):
        line = unknown_words(unknown, meant(words, unknown))
        kinds = (
            f"{kind}: {', '.join('/'.join(ways) for ways in entries)}"
            for kind, entries in VOCABULARY.items()
        )
        raise ValueError(f"{line}; {'; '.join(kinds)}")
    if not words:  # the null caption
        return None
    try:
        scene = parse(caption)
    except Unreadable as error:
        return error.reason
    first, *second = scene.objects
    if scene.background in {thing.colour for thing in scene.objects} - {None}:
        return "an object has the colour of its background"
    if first in second and None not in vars(first).values():
        return "its two objects are equal; 'two' and a plural ask for that"
    return None


def split(caption: str) -> list[str]:
    """The words and the punctuation of a caption, split as a tokenizer splits them."""
    text = caption.rstrip(FINAL) or caption
    return re.findall(r"[^\W\d_]+|\d|(?:[^\w\s]|_)+", text.lower())


def meant(words: list[str], unknown: list[str]) -> dict[str, str]:
    """A similar known word for each unknown one, if the caption can be parsed with them."""
    options = product(*([*near(word, WORDS), *_ONE_OF_EACH] for word in unknown))
    for guesses in islice(options, 2000):  # at most some 20 ms, also for many unknown words
        guess = dict(zip(unknown, guesses, strict=True))
        text = " ".join(guess.get(word, word) for word in words)
        if readable(text) or readable(f"a {text}"):
            return {word: other for word, other in guess.items() if other in near(word, WORDS)}
    return {}


def readable(caption: str) -> bool:
    try:
        return bool(parse(caption))
    except Unreadable:
        return False
