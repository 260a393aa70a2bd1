"""`check("9.2", answer)`: not attempted, right, or wrong and why.

The exercises of chapter 9 are in `exercises/ch09.py` as `EXERCISES = {"9.1": ..., ...}`, each one a
`Code`, a `Choice`, a `Number` or, for a capstone, a `Target`; importing `course_lib.exercises`
registers them here. A misconception is a small function that makes a typical mistake; its docstring
is what a reader who made that mistake is told. So a new chapter adds one file.
"""

import ast
import dis
import inspect
import linecache
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import isnan, nan
from types import CodeType
from typing import Any

import torch
from torch import nn

from course_lib.common.registry import choose
from course_lib.teaching.compare import agree, describe, first_difference, relation
from course_lib.teaching.solved import readers_own, record

MARKS = {"right": "✓", "wrong": "✗", "not attempted": "○"}
EXERCISES: dict[str, "Exercise"] = {}  # filled by course_lib.exercises
EMPTY = {id(None), id(...)}  # what an untouched body returns


@dataclass(frozen=True)
class Verdict:
    """status: "right", "wrong" or "not attempted"; misconception: its name where known."""

    status: str
    message: str
    misconception: str | None = None


def check(number: str, answer: Any) -> None:
    """Print whether this answer is right, and if not, why; never raise, so the notebook runs on.

    A right answer in the reader's own cell is recorded for `progress`.

    >>> check("99.1", ...)
    ✗ no chapter has an exercise '99.1'; expected for example '9.2'
    """
    try:
        verdict = examine(number, answer)
    except ValueError as error:  # no such exercise
        print(f"✗ {error}")
        return
    except Exception as error:  # an answer that the comparison can't handle
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        print(f"✗ {number} can't judge {describe(answer)} ({why}); return plain tensors")
        return
    print(f"{MARKS[verdict.status]} {number} {verdict.status}{verdict.message}")
    if verdict.status == "right" and readers_own(sys._getframe(1)) and (why := record(number)):
        print(why)


def examine(number: str, answer: Any) -> Verdict:
    """The verdict on an answer; ValueError if there is no such exercise."""
    return choose("exercise", number, exercises(number)).examine(answer)


def exercises(number: str) -> Mapping[str, "Exercise"]:
    """All exercises of the chapter that "9.2" belongs to; ValueError if it has none."""
    chapter = str(number).partition(".")[0]
    names = [name for name in EXERCISES if name.partition(".")[0] == chapter]
    found = {name: EXERCISES[name] for name in sorted(names, key=lambda name: int(name[-1]))}
    if not found:
        raise ValueError(f"no chapter has an exercise {number!r}; expected for example '9.2'")
    return found


# ---- the kinds of exercise ---------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """A prediction by letter. why: for each letter, the reason it is right or wrong."""

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

    misconceptions: the name of a mistake -> (the number it leads to, what the reader is told).
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
                return Verdict("wrong", f". {why}", misconception=name)
        side = "small" if value < self.right else "large"
        return Verdict("wrong", f": {value:g} is too {side}.")

    def _near(self, value: float, target: float) -> bool:
        return abs(value - target) <= self.within * abs(target)


def call(answer: Callable, *case: Any) -> Any:
    """How an answer is used unless the exercise says otherwise: called on the inputs."""
    return answer(*case)


@dataclass(frozen=True)
class Code:
    """An exercise answered by a function (or, with `run`, by a class).

    reference: the right function; its parameters name the inputs in what the reader is told.
    cases: makes the inputs, tuples from the smallest to the largest, under a fixed seed. Numbers
        that are equal, mirrored or symmetric hide mistakes: every wrong formula must show.
    misconceptions: functions that make typical mistakes; the docstring is what the reader is told.
    given: in a debugging exercise the function that was handed out, word for word.
    run: how an answer is used, `run(answer, *case)`; by default it is called.
    """

    reference: Callable
    cases: Callable[[], Sequence[tuple]]
    well_done: str
    misconceptions: Sequence[Callable] = ()
    given: Callable | None = None
    run: Callable = call
    tolerance: float = 1e-4

    def examine(self, answer: Any) -> Verdict:
        if _untouched(answer):
            return _not_attempted()
        if not callable(answer):
            return Verdict("wrong", f": expected a function, got {describe(answer)}.")
        with torch.random.fork_rng(devices=[]):
            return self._judge(answer)

    def inputs(self) -> list[tuple]:
        """The cases, the same ones each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return list(self.cases())

    def outcome(self, answer: Callable, case: tuple) -> Any:
        """What the answer makes of its own copy of the inputs: a value, or the error it raised."""
        torch.manual_seed(1)
        inputs = deepcopy(case)
        try:
            value = self.run(answer, *inputs)
            value = list(value) if isinstance(value, Iterator) else value
        except Exception as error:  # whatever a reader's code may raise
            return error
        return ChangedInput() if not agree(inputs, case, 0) else value

    def _judge(self, answer: Callable) -> Verdict:
        cases = self.inputs()
        expected = [self.outcome(self.reference, case) for case in cases]
        got = [self.outcome(answer, case) for case in cases]
        if self._same(got, expected):
            return Verdict("right", f". {self.well_done}")
        if self.given and self._same(got, [self.outcome(self.given, case) for case in cases]):
            return self._as_given(answer)
        if any(map(_left_open, got)):
            return Verdict("not attempted", " yet: a `...` is still waiting to be replaced.")
        for wrong in self.misconceptions:
            if self._same(got, [self.outcome(wrong, case) for case in cases]):
                return Verdict("wrong", f". {_told(wrong)}", misconception=wrong.__name__)
        return Verdict("wrong", self._counter_example(answer, cases, got, expected))

    def _same(self, ours: Sequence, theirs: Sequence) -> bool:
        return all(agree(a, b, self.tolerance) for a, b in zip(ours, theirs, strict=True))

    def _as_given(self, answer: Callable) -> Verdict:
        """The verdict on an answer that gives the values of the faulty code handed out."""
        if _body(answer) in (None, _body(self.given)):
            return Verdict("not attempted", " yet: this is still the code you were given.")
        why = (
            ". You changed the code, but it gives the same values as before. Do two of your changes"
        )
        return Verdict("wrong", f"{why} cancel each other?", misconception=self.given.__name__)

    def _counter_example(self, answer: Callable, cases: list, gots: list, expecteds: list) -> str:
        wrong = [
            i
            for i, pair in enumerate(zip(gots, expecteds, strict=True))
            if not agree(*pair, self.tolerance)
        ]
        got, expected = gots[wrong[0]], expecteds[wrong[0]]
        names = list(inspect.signature(self.reference).parameters)
        pairs = zip(names, cases[wrong[0]], strict=False)  # trailing defaults need not be given
        inputs = ", ".join(f"{name} = {describe(value)}" for name, value in pairs)
        if isinstance(got, ChangedInput):
            return ": it changes its input in place. Return a new value and leave the input alone."
        if got is None:
            return ": it returns nothing. Does it end in `return`?"
        if isinstance(got, Exception):
            return f": with {inputs}, {_blame(answer, got)}"
        hint = relation([gots[i] for i in wrong], [expecteds[i] for i in wrong], self.tolerance)
        return f": with {inputs}, {first_difference(got, expected, self.tolerance)}.{hint}"


@dataclass(frozen=True)
class Target:
    """A capstone, answered by a function or class that trains or samples and must reach a number.

    reference: a solution that reaches it.
    run: uses the answer, `run(answer) -> number`, under a fixed seed and in at most 20 s; it
        raises `Unusable` with one line for the reader where there is nothing to measure.
    bound: the number to reach, from above (`most`) or below; the exercise says where it is from.
    meaning: what the number is, as in "a held-out loss of".
    misconceptions: quick tests of an answer, `test(answer) -> bool`, made before the run; one that
        says True has found its mistake, and its docstring is what the reader is told.
    """

    reference: Callable
    run: Callable[[Callable], float]
    bound: float
    meaning: str
    well_done: str
    most: bool = True
    misconceptions: Sequence[Callable[[Callable], bool]] = ()

    def examine(self, answer: Any) -> Verdict:
        if _untouched(answer):
            return _not_attempted()
        if not callable(answer):
            return Verdict("wrong", f": expected a function or a class, got {describe(answer)}.")
        with torch.random.fork_rng(devices=[]):
            return self._judge(answer)

    def _judge(self, answer: Callable) -> Verdict:
        for mistake in self.misconceptions:
            if self._shows(mistake, answer):
                return Verdict("wrong", f". {_told(mistake)}", misconception=mistake.__name__)
        torch.manual_seed(0)
        try:
            value = float(self.run(answer))
        except Exception as error:  # whatever a reader's code may raise
            if _left_open(error):
                return Verdict("not attempted", " yet: a `...` is still waiting to be replaced.")
            why = f"{error}" if isinstance(error, Unusable) else _blame(answer, error)
            return Verdict("wrong", f": {why}")
        reached = f"{self.meaning} {value:.4g}"
        side = "at most" if self.most else "at least"
        if value <= self.bound if self.most else value >= self.bound:
            return Verdict("right", f": {reached}, and {side} {self.bound:g} was asked for. "
                           f"{self.well_done}")  # fmt: skip
        return Verdict("wrong", f": {reached}; the target is {side} {self.bound:g}.")

    @staticmethod
    def _shows(mistake: Callable[[Callable], bool], answer: Callable) -> bool:
        torch.manual_seed(0)
        try:
            return bool(mistake(answer))
        except Exception:  # a test that the answer doesn't survive finds nothing; the run tells why
            return False


Exercise = Code | Choice | Number | Target


def with_gradients(name: str, **inputs: int) -> Callable:
    """A `run` for what is trained: the answer's value, and the gradient of its sum by each input.

    inputs: what it is called -> its place in the case, a tensor or a network, whose parameters
    are then taken. A missing gradient counts as one of 0.
    """

    def run(answer: Callable, *case: Any) -> Any:
        handed, learned = list(case), {}
        for each, place in inputs.items():
            if isinstance(case[place], nn.Module):
                learned |= {f"{each}.{n}": p for n, p in case[place].named_parameters()}
            else:
                learned[each] = case[place].clone().requires_grad_()
                handed[place] = learned[each].clone()
        value = answer(*handed)
        if value is None:
            return None
        if not agree(handed, case, 0):
            return ChangedInput()
        gradients = [torch.zeros_like(each) for each in learned.values()]
        if isinstance(value, torch.Tensor) and value.requires_grad:
            kwargs = {"allow_unused": True, "materialize_grads": True}
            gradients = torch.autograd.grad(value.sum(), list(learned.values()), **kwargs)
            value = value.detach()
        names = [f"d{name}/d{each}" for each in learned]
        return {name: value} | dict(zip(names, gradients, strict=True))

    return run


class Unusable(ValueError):
    """A capstone's answer gives nothing to measure; the text is what the reader is told."""


class ChangedInput:
    """Stands for the outcome of a function that wrote into its arguments."""


# ---- reading the reader's function -------------------------------------------------------------


def _not_attempted() -> Verdict:
    return Verdict("not attempted", " yet. Replace the `...` above and run this cell again.")


def _told(mistake: Callable) -> str:
    """What the reader is told: the docstring in one line, without Markdown's asterisks."""
    return re.sub(r"\*(\w[^*]*)\*", r"\1", " ".join(inspect.getdoc(mistake).split()))


def _untouched(answer: Any) -> bool:
    return answer is ... or answer is None or any(map(_is_stub, _codes(answer)))


def _body(function: Callable) -> str | None:
    """The function's code without its name and docstring; None where the source isn't at hand."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    body = tree.body[0].body if isinstance(tree.body[0], ast.FunctionDef) else tree.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return "\n".join(map(ast.dump, body))


def _codes(answer: Any) -> list[CodeType]:
    """The compiled bodies of a function, or of all methods of a class."""
    parts = vars(answer).values() if isinstance(answer, type) else [answer]
    return [part.__code__ for part in map(inspect.unwrap, parts) if hasattr(part, "__code__")]


def _left_open(outcome: Any) -> bool:
    """Whether a `...` was returned or used in a calculation (`x[..., 0]` is neither)."""
    return outcome is ... or (isinstance(outcome, Exception) and "ellipsis" in str(outcome).lower())


def _is_stub(code: CodeType) -> bool:
    """Whether the body is only a docstring and `...`: it loads a constant and returns."""
    steps = list(dis.get_instructions(code))
    constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    others = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP"}
    return {step.opname for step in steps} <= others and set(map(id, constants)) <= EMPTY


def _blame(answer: Callable, error: Exception) -> str:
    """One line on an exception: the reader's own line that raised it, if it was theirs."""
    first = str(error).splitlines()[0] if str(error) else ""
    what = f"{type(error).__name__}: {first}".rstrip(":. ")
    files, line, trace = {code.co_filename for code in _codes(answer)}, "", error.__traceback__
    while trace:
        name = trace.tb_frame.f_code.co_filename
        line = linecache.getline(name, trace.tb_lineno).strip() if name in files else line
        trace = trace.tb_next
    return f"your line `{line}` raised {what}." if line else f"calling it raised {what}."
