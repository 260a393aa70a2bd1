"""Choosing by name, with a refusal that helps: for samplers, schedules, recipes and the like."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def choose(kind: str, name: str, options: Mapping[str, T]) -> T:
    """The option of that name; ValueError with the nearest name and all known ones otherwise."""
    if name in options:
        return options[name]
    near = get_close_matches(str(name), options, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"unknown {kind} {name!r}{guess} known: {', '.join(options)}")


def resolve(kind: str, choice: str | Callable, options: Mapping[str, Callable]) -> Callable:
    """A function of the reader's own, or the option of that name.

    >>> resolve("function", "lower", {"lower": str.lower})("A"), resolve("function", abs, {})(-1)
    ('a', 1)
    """
    return choice if callable(choice) else choose(kind, choice, options)
