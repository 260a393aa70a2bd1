"""`check("9.2", answer)`: not attempted, right, or wrong and why.

The exercises of chapter 9 are in `exercises/ch09.py` as `EXERCISES = {"9.1": ..., ...}`, each one a
`Code`, a `Choice` or a `Number`; importing `course_lib.exercises` registers them here. A
misconception is a small function with a typical mistake: its name says which, and its docstring is
what a reader who makes that mistake is told. A new chapter adds one file.
"""

import dis
import inspect
import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import isnan, nan
from types import CodeType
from typing import Any

import torch

from course_lib.common.registry import choose
from course_lib.teaching.compare import agree, describe, first_difference, relation
from course_lib.teaching.solved import readers_own, record

MARKS = {"right": "✓", "wrong": "✗", "not attempted": "○"}
EXERCISES: dict[str, "Code | Choice | Number"] = {}  # filled by course_lib.exercises
EMPTY = {id(None), id(...)}  # what a function returns whose body is still `...`


@dataclass(frozen=True)
class Verdict:
    """status: "right", "wrong" or "not attempted"; misconception: its name, if known."""

    status: str
    message: str
    misconception: str | None = None


def check(number: str, answer: Any) -> None:
    """Print whether the answer to that exercise is right; never raise, so the notebook runs on.

    A right answer in one of the reader's own cells is remembered for `progress`.

    >>> check("99.1", ...)
    ✗ no chapter has an exercise '99.1'; expected for example '9.2'
    """
    try:
        verdict = examine(number, answer)
    except ValueError as error:  # no such exercise
        print(f"✗ {error}")
        return
    except Exception as error:  # an answer of a type that no exercise foresees
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        print(f"✗ {number} cannot judge {describe(answer)} ({why}); return plain tensors")
        return
    print(f"{MARKS[verdict.status]} {number} {verdict.status}{verdict.message}")
    if verdict.status == "right" and readers_own(sys._getframe(1)) and (why := record(number)):
        print(why)


def examine(number: str, answer: Any) -> Verdict:
    """The verdict on an answer; ValueError if there is no such exercise."""
    return choose("exercise", number, exercises(number)).examine(answer)


def exercises(number: str) -> Mapping[str, "Code | Choice | Number"]:
    """All exercises of the chapter that "9.2" belongs to; ValueError if it has none."""
    chapter = str(number).partition(".")[0]
    found = {name: each for name, each in EXERCISES.items() if name.partition(".")[0] == chapter}
    if not found:
        raise ValueError(f"no chapter has an exercise {number!r}; expected for example '9.2'")
    return found


# ---- the kinds of exercise ---------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """A prediction by letter. why: for each letter, the reason why it is right or wrong."""

    right: str
    why: Mapping[str, str]

    def examine(self, answer: Any) -> Verdict:
        if answer is ... or answer is None:
            return _not_attempted()
        letter = str(answer).strip().strip(".()").lower()
        if letter not in self.why:
            known = ", ".join(repr(each) for each in self.why)
            return Verdict("wrong", f": expected one of {known}, got {describe(answer)}.")
        if letter == self.right:
            return Verdict("right", f". {self.why[letter]}")
        return Verdict("wrong", f", not ({letter}). {self.why[letter]}", misconception=letter)


@dataclass(frozen=True)
class Number:
    """A prediction by number: right within a factor of 1 ± `within`.

    misconceptions: its name -> (the number it leads to, what the reader is told).
    """

    right: float
    well_done: str
    within: float = 0.05
    misconceptions: Mapping[str, tuple[float, str]] = field(default_factory=dict)

    def examine(self, answer: Any) -> Verdict:
        if answer is ... or answer is None:
            return _not_attempted()
        try:
            value = float(answer)
        except (TypeError, ValueError, OverflowError):
            value = nan
        if isnan(value):
            return Verdict("wrong", f": expected a number, got {describe(answer)}.")
        if self._near(value, self.right):
            return Verdict("right", f". {self.well_done}")
        for name, (number, why) in self.misconceptions.items():
            if self._near(value, number):
                return Verdict("wrong", f": {_words(name)}. {why}", misconception=name)
        side = "small" if value < self.right else "large"
        return Verdict("wrong", f": {value:g} is too {side}.")

    def _near(self, value: float, target: float) -> bool:
        return abs(value - target) <= self.within * abs(target)


@dataclass(frozen=True)
class Code:
    """An exercise answered by a function (or, with `run`, by a class).

    reference: the right function; messages to the reader name inputs by its parameters.
    cases: makes the inputs, tuples from the smallest to the largest, under a fixed seed.
    misconceptions: wrong functions, each with a docstring addressed to the reader.
    given: in a debugging exercise, the faulty function; returning it unchanged is no attempt.
    run: how to use an answer, `run(answer, *case)`; by default, call it.
    """

    reference: Callable
    cases: Callable[[], Sequence[tuple]]
    well_done: str
    misconceptions: Sequence[Callable] = ()
    given: Callable | None = None
    run: Callable = lambda answer, *case: answer(*case)
    tolerance: float = 1e-4

    def examine(self, answer: Any) -> Verdict:
        if answer is ... or answer is None or any(map(_is_stub, _codes(answer))):
            return _not_attempted()
        if not callable(answer):
            return Verdict("wrong", f": expected a function, got {describe(answer)}.")
        with torch.random.fork_rng(devices=[]):
            return self._compare(answer)

    def _compare(self, answer: Callable) -> Verdict:
        torch.manual_seed(0)
        cases = list(self.cases())
        expected = [self._outcome(self.reference, case) for case in cases]
        got = [self._outcome(answer, case) for case in cases]
        if self._same(got, expected):
            return Verdict("right", f". {self.well_done}")
        if self.given and self._same(got, [self._outcome(self.given, case) for case in cases]):
            return Verdict("not attempted", " yet: this behaves just as the code you were given.")
        if any(map(_left_open, got)):
            return Verdict("not attempted", " yet: a `...` is still waiting to be replaced.")
        for wrong in self.misconceptions:
            if self._same(got, [self._outcome(wrong, case) for case in cases]):
                told = " ".join(inspect.getdoc(wrong).split())
                name = wrong.__name__
                return Verdict("wrong", f": {_words(name)}. {told}", misconception=name)
        i = next(
            i for i in range(len(cases)) if not self._same(got[i : i + 1], expected[i : i + 1])
        )
        return Verdict("wrong", self._counter_example(answer, cases[i], got[i], expected[i]))

    def _outcome(self, answer: Callable, case: tuple) -> Any:
        """The answer's value for a copy of the inputs, or the error that it raised."""
        torch.manual_seed(1)
        inputs = deepcopy(case)
        try:
            value = self.run(answer, *inputs)
        except Exception as error:  # whatever a reader's code may raise
            return error
        return ChangedInput() if not agree(inputs, case, 0) else value

    def _same(self, ours: Sequence, theirs: Sequence) -> bool:
        return all(agree(a, b, self.tolerance) for a, b in zip(ours, theirs, strict=True))

    def _counter_example(self, answer: Callable, case: tuple, got: Any, expected: Any) -> str:
        names = list(inspect.signature(self.reference).parameters)
        pairs = zip(names, case, strict=False)  # trailing defaults need not be given
        inputs = ", ".join(f"{name} = {describe(value)}" for name, value in pairs)
        if isinstance(got, ChangedInput):
            return ": it changes its input in place. Return a new tensor instead."
        if got is None:
            return ": it returns nothing. Does it end in `return`?"
        if isinstance(got, Exception):
            return f": with {inputs}, {_blame(answer, got)}"
        hint = relation(got, expected, self.tolerance)
        return f": with {inputs}, {first_difference(got, expected, self.tolerance)}.{hint}"


def with_gradients(name: str, **inputs: int) -> Callable:
    """A `run` that also checks gradients: the value, and its sum's gradient for some inputs.

    inputs: an input's name -> its position in the case. A missing gradient counts as zero.
    """

    def run(answer: Callable, *case: Any) -> Any:
        leaves = {i: case[i].clone().requires_grad_() for i in inputs.values()}
        arguments = [leaves[i].clone() if i in leaves else each for i, each in enumerate(case)]
        value = answer(*arguments)
        if value is None:
            return None
        if not agree(arguments, case, 0):
            return ChangedInput()
        differentiable = isinstance(value, torch.Tensor) and value.requires_grad
        gradients = (
            torch.autograd.grad(
                value.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
            if differentiable
            else map(torch.zeros_like, leaves.values())
        )
        names = [f"d{name}/d{each}" for each in inputs]
        return {name: value.detach() if differentiable else value} | dict(
            zip(names, gradients, strict=True)
        )

    return run


class ChangedInput:
    """The outcome of a function that wrote into its arguments."""


# ---- reading the reader's function -------------------------------------------------------------


def _not_attempted() -> Verdict:
    return Verdict("not attempted", " yet. Replace the `...` above and run this cell again.")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _codes(answer: Any) -> list[CodeType]:
    """The compiled bodies of a function, or of all methods of a class."""
    parts = vars(answer).values() if isinstance(answer, type) else [answer]
    return [part.__code__ for part in map(inspect.unwrap, parts) if hasattr(part, "__code__")]


def _left_open(outcome: Any) -> bool:
    """Whether `...` was returned or used in a calculation; as an index of a tensor it is fine."""
    return outcome is ... or (isinstance(outcome, Exception) and "ellipsis" in str(outcome).lower())


def _is_stub(code: CodeType) -> bool:
    """Whether the body is only a docstring and `...`: it loads a constant and returns."""
    steps = list(dis.get_instructions(code))
    constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    others = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP"}
    return {step.opname for step in steps} <= others and set(map(id, constants)) <= EMPTY


def _blame(answer: Callable, error: Exception) -> str:
    """One line about an exception, with the line of the reader's code that raised it, if any."""
    first = str(error).splitlines()[0] if str(error) else ""
    what = f"{type(error).__name__}: {first}".rstrip(":. ")
    files, line, trace = {code.co_filename for code in _codes(answer)}, "", error.__traceback__
    while trace:
        name = trace.tb_frame.f_code.co_filename
        line = linecache.getline(name, trace.tb_lineno).strip() if name in files else line
        trace = trace.tb_next
    return f"your line `{line}` raised {what}." if line else f"calling it raised {what}."
