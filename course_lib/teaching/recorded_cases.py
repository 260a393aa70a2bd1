"""Exercises without their key, which the student edition has instead of references.

    EXERCISES = {"2.1": recorded("2.1"), ...}

`course edition student` writes them with `record`: for a function, the inputs and the outcomes of
the right answer, of the given code and of each misconception. The messages for the reader are
encrypted with these outcomes, and those of a prediction with the letter or number. There is one
file of plain data for each chapter, `exercises/recorded/NN.safetensors`. The verdicts come from
`check.py`, as in the full edition. If a capstone is measured against its reference, a function
marked `from_key` computes what is needed, and the student edition stores its value.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache, wraps
from math import floor, isnan, log
from pathlib import Path
from typing import Any

import torch

from course_lib.common.paths import ROOT
from course_lib.teaching.check import Code, Compared, Known, call
from course_lib.teaching.plain import dumps, loads
from course_lib.teaching.predictions import (
    UNTOUCHED,
    Choice,
    Number,
    Prediction,
    Verdict,
    letter_of,
    no_letter,
    no_number,
    number_of,
)
from course_lib.teaching.sealed import opened, seal

FOLDER = ROOT / "course_lib" / "exercises" / "recorded"
VALUES = "values.safetensors"


def file_of(number: str) -> str:
    """The name of the file that contains an exercise.

    >>> file_of("2.1")
    '02.safetensors'
    """
    return f"{number.partition('.')[0].zfill(2)}.safetensors"


def recorded(number: str, run: Callable = call) -> "RecordedCode | RecordedPrediction":
    """The recorded exercise. run: how to run an answer, if it isn't simply called."""
    entry = read(FOLDER / file_of(number))[number]
    if "sealed" in entry:
        return RecordedPrediction(**entry)
    return RecordedCode(run=run, **entry)


def from_key(function: Callable[[], Any]) -> Callable[[], Any]:
    """Marks a function without arguments whose code needs the key.

    It is computed once, and the student edition has its value, plain data, instead of its code.
    """

    @cache
    @wraps(function)
    def value() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return function()

    return value


def recorded_value(name: str) -> Any:
    """What a function marked `from_key` returned in the full edition."""
    return read(FOLDER / VALUES)[name]


@lru_cache
def read(path: Path) -> dict[str, dict]:
    return loads(path.read_bytes(), objects=True)


def record(exercise: Code | Choice | Number) -> dict[str, Any]:
    """The exercise as plain data, without its key."""
    match exercise:
        case Choice():
            letters = "".join(exercise.why)
            sealed = [("", _seal(exercise.verdict(letter), letter)) for letter in letters]
            return {"letters": letters, "sealed": sealed}
        case Number():
            verdicts = exercise.verdicts()
            return {"letters": "", "sealed": [_sealed(*v, exercise.within) for v in verdicts]}
    with torch.random.fork_rng(devices=[]):
        cases = exercise.inputs()
        known = list(exercise.known(cases))
    return {
        "cases": cases,
        "names": exercise.parameters(),
        "tolerance": exercise.tolerance,
        "answers": [_as_data(each) for each in known],
    }


# ---- functions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordedCode(Compared):
    """Like `Code`, with recorded outcomes instead of functions.

    cases: the inputs; names: their names; answers: the known answers, the right one first, each
    with its status, its outcomes, and its name and text, encrypted with the outcomes.
    """

    run: Callable
    cases: Sequence[tuple]
    names: Sequence[str]
    tolerance: float
    answers: Sequence[tuple[str, list, str]]

    def inputs(self, seed: int = 0) -> list[tuple]:
        return list(self.cases)

    def parameters(self) -> list[str]:
        return list(self.names)

    def known(self, cases: Sequence[tuple]) -> Iterator[Known]:
        for status, outcomes, sealed in self.answers:
            yield SealedKnown(status, outcomes, sealed)


@dataclass(frozen=True)
class SealedKnown:
    """Like `Known`; its name and text are decrypted when they are read."""

    status: str
    outcomes: list
    sealed: str

    @property
    def name(self) -> str:
        return self._opened[0]

    @property
    def told(self) -> str:
        return self._opened[1]

    @property
    def _opened(self) -> list[str]:
        return json.loads(opened(self.sealed, digest(self.outcomes)))


def _as_data(known: Known) -> tuple[str, list, str]:
    outcomes = loads(dumps(known.outcomes))  # as they will be read
    sealed = seal(json.dumps([known.name, known.told]), digest(outcomes))
    return known.status, outcomes, sealed


def digest(outcomes: list) -> str:
    return hashlib.sha256(dumps(outcomes)).hexdigest()


# ---- predictions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordedPrediction(Prediction):
    """Like `Choice` or `Number`, with each verdict encrypted with the answer that it belongs to.

    letters: those to choose from, "" for a number; sealed: pairs of a grid and an encrypted
    verdict. A number is right within a factor, so the key is its cell in a grid of such factors.
    """

    letters: str
    sealed: Sequence[tuple[Any, str]]

    def judge(self, answer: Any, inputs: None = None) -> Verdict:
        if answer is ... or answer is None:
            return Verdict("not attempted", UNTOUCHED)
        letter, value = letter_of(answer), number_of(answer)
        if self.letters and letter not in tuple(self.letters):
            return no_letter(answer, self.letters)
        if not self.letters and isnan(value):
            return no_number(answer)
        for grid, sealed in self.sealed:
            if text := opened(sealed, letter if self.letters else cell(value, *grid)):
                return Verdict(**json.loads(text))
        return Verdict("wrong", f": {value:g} is not right.")


def _seal(verdict: Verdict, key: str) -> str:
    return seal(json.dumps(asdict(verdict)), key)


def _sealed(number: float, verdict: Verdict, within: float) -> tuple[tuple[float, float], str]:
    """A grid that has all numbers that are near enough in one cell, and the encrypted verdict."""
    lowest, width = log(abs(number) * (1 - within)), log((1 + within) / (1 - within))
    grid = lowest % width, width  # tells where cells end, but not which one is right
    return grid, _seal(verdict, cell(number, *grid))


def cell(value: float, start: float, width: float) -> str:
    """The cell of a number on a grid of the logarithm, with its sign.

    >>> cell(-1.0, 0.0, 0.1)
    '- 0'
    """
    if value == 0 or value in (float("inf"), -float("inf")):
        return str(value)
    return f"{'-' if value < 0 else '+'} {floor((log(abs(value)) - start) / width)}"
