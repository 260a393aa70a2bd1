"""What is said of an emoji: its name or keywords, with the studio's style or without."""

import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from course_lib.common.registry import FINAL, near, short, unknown_words
from course_lib.datasets.emoji.concepts import STUDIOS, Concept, concepts

SAY_STYLE = ("{what}, {studio} style", "{what} in {studio} style", "{studio} style: {what}")


def write(
    concept: Concept, studio: str | None = None, rng: np.random.Generator | None = None
) -> str:
    """One of the ways to say it, chosen by rng; the plain one without: "a red apple, Noto style".

    Two in ten have two keywords as well, one in ten has keywords alone.
    """
    ways = [concept.phrase] * 5 + [concept.name, f"an emoji of {concept.phrase}"]
    if rng is None:
        what, say = concept.phrase, SAY_STYLE[0]
    else:
        some = [concept.keywords[i] for i in rng.permutation(len(concept.keywords))[:3]]
        ways += [", ".join([concept.phrase, *some[:2]])] * 2
        ways += [", ".join(some) if len(some) == 3 else concept.name]
        what, say = _pick(rng, ways), _pick(rng, SAY_STYLE)
    return say.format(what=what, studio=studio) if studio else what


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[rng.integers(len(options))]


# --- what a user types ---------------------------------------------------------------------------

FRAME = "an emoji of a, in style:"  # the words around the name


@cache
def words() -> frozenset[str]:
    """All words and signs that a caption can hold, lower case."""
    return frozenset(split(f"{FRAME}{' '.join(STUDIOS)}")).union(*map(words_of, concepts()))


@cache
def words_of(concept: Concept) -> frozenset[str]:
    """The words of a concept's name and keywords."""
    return frozenset(split(" ".join([concept.phrase, *concept.keywords])))


def split(caption: str) -> list[str]:
    """The words of a caption and the punctuation in it, as a tokenizer splits them."""
    return re.findall(r"'s|[^\W\d_]+|\d|[^\w\s]+", caption.rstrip(FINAL.replace(":", "")).lower())


def review(caption: str) -> str | None:
    """What training on the emoji never showed of this caption, in words; None if it is usual.

    Raises ValueError for a word that no caption holds, with a near one that may have been meant.

        review("a green penguin")    # "no emoji has all of these words: green, penguin"
    """
    said = split(caption)
    if unknown := [word for word in dict.fromkeys(said) if word not in words()]:
        meant = {word: found[0] for word in unknown if (found := near(word, words()))}
        raise ValueError(unknown_words(unknown, meant))
    what = set(said) - set(split(f"{FRAME}{' '.join(STUDIOS)}"))
    if any(what <= words_of(concept) for concept in concepts()):
        return None
    return f"no emoji has all of these words: {short(', '.join(sorted(what)))}"
