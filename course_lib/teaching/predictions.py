"""Exercises in which you predict something: the answer is a letter or a number.

Like every exercise, they have two methods: `attempt` returns the answer as plain data, without the
key, and `judge` compares it with the key. `examine` does both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Any

from course_lib.teaching.compare import describe

UNTOUCHED = " yet. Replace the `...` above and run this cell again."


@dataclass(frozen=True)
class Verdict:
    """status: "right", "wrong" or "not attempted"; misconception: its name, if known."""

    status: str
    message: str
    misconception: str | None = None


class Prediction:
    """An exercise in which the answer itself is judged: a letter or a number."""

    def examine(self, answer: Any) -> Verdict:
        return self.judge(self.attempt(answer))

    def inputs(self, seed: int = 0) -> None:
        """A prediction has no inputs."""

    def attempt(self, answer: Any, inputs: None = None) -> Any:
        return answer

    def judge(self, answer: Any, inputs: None = None) -> Verdict:
        raise NotImplementedError


@dataclass(frozen=True)
class Choice(Prediction):
    """A prediction by letter. why: for each letter, the reason it is right or wrong."""

    right: str
    why: Mapping[str, str]

    def judge(self, answer: Any, inputs: None = None) -> Verdict:
        if answer is ... or answer is None:
            return Verdict("not attempted", UNTOUCHED)
        letter = letter_of(answer)
        return self.verdict(letter) if letter in self.why else no_letter(answer, self.why)

    def verdict(self, letter: str) -> Verdict:
        if letter == self.right:
            return Verdict("right", f". {self.why[letter]}")
        return Verdict("wrong", f", not ({letter}). {self.why[letter]}", misconception=letter)


@dataclass(frozen=True)
class Number(Prediction):
    """A prediction by number: right within a factor of 1 ± `within`.

    misconceptions: the name of a mistake -> (the number that it gives, the message).
    """

    right: float
    well_done: str
    within: float = 0.05
    misconceptions: Mapping[str, tuple[float, str]] = field(default_factory=dict)

    def judge(self, answer: Any, inputs: None = None) -> Verdict:
        if answer is ... or answer is None:
            return Verdict("not attempted", UNTOUCHED)
        value = number_of(answer)
        if isnan(value):
            return no_number(answer)
        for number, verdict in self.verdicts():
            if abs(value - number) <= self.within * abs(number):
                return verdict
        side = "small" if value < self.right else "large"
        return Verdict("wrong", f": {value:g} is too {side}.")

    def verdicts(self) -> list[tuple[float, Verdict]]:
        """Each known number and the verdict on it, the right one first."""
        known = [
            (number, Verdict("wrong", f". {why}", misconception=name))
            for name, (number, why) in self.misconceptions.items()
        ]
        return [(self.right, Verdict("right", f". {self.well_done}")), *known]


def letter_of(answer: Any) -> str:
    return str(answer).strip().strip(".()").lower()


def number_of(answer: Any) -> float:
    try:
        return float(answer)
    except (TypeError, ValueError, OverflowError):
        return nan


def no_letter(answer: Any, letters: Mapping[str, str] | str) -> Verdict:
    known = ", ".join(repr(each) for each in letters)
    return Verdict("wrong", f": expected one of {known}, got {describe(answer)}.")


def no_number(answer: Any) -> Verdict:
    return Verdict("wrong", f": expected a number, got {describe(answer)}.")
