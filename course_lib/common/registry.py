"""Names and words that a user types: choosing by name, and helpful error messages."""

import string
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from itertools import takewhile
from typing import TypeVar

T = TypeVar("T")
FINAL = ".,;:!?…" + string.whitespace  # what may follow the last word of a sentence


def choose(kind: str, name: str, options: Mapping[str, T]) -> T:
    """The option of that name, or a ValueError with the nearest name and all known ones."""
    if name in options:
        return options[name]
    near = get_close_matches(str(name), options, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"unknown {kind} {name!r}{guess} known: {', '.join(options)}")


def resolve(kind: str, choice: str | Callable, options: Mapping[str, Callable]) -> Callable:
    """The choice itself if it is a function, otherwise the option of that name.

    >>> resolve("function", "lower", {"lower": str.lower})("A"), resolve("function", abs, {})(-1)
    ('a', 1)
    """
    return choice if callable(choice) else choose(kind, choice, options)


def near(word: str, words: Iterable[str]) -> list[str]:
    """The words that are one typing error away: one letter extra, missing, wrong, or swapped with
    its neighbour. For words of up to three letters only a swap counts, so "at" is not "cat".

    >>> near("purpel", ["purple", "pluses"])
    ['purple']
    """
    return sorted(other for other in words if other != word and _one_error(word, other))


def _one_error(word: str, other: str) -> bool:
    same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(word, other, strict=False))))
    a, b = word[same:], other[same:]  # from the first difference on
    swapped = len(a) > 1 and b == a[1] + a[0] + a[2:]
    long = max(len(word), len(other)) > 3
    return swapped or (long and (a[1:] == b or a == b[1:] or a[1:] == b[1:]))


def unknown_words(words: Iterable[str], meant: Mapping[str, str]) -> str:
    """The first line of an error message; `meant` suggests a correction for some of the words."""
    named = [
        f"{short(word)!r}" + (f" (did you mean {meant[word]!r}?)" if word in meant else "")
        for word in words
    ]
    more = f" and {len(named) - 8} more" if len(named) > 8 else ""
    return f"unknown words: {', '.join(named[:8])}{more}"


def short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
