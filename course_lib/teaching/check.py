"""`check("9.2", answer)`: not attempted, right, or wrong and why.

The exercises of chapter 9 are in `exercises/ch09.py` as `EXERCISES = {"9.1": ..., ...}`, each one a
`Code`, a `Choice`, a `Number` or, for a capstone, a `Target`; importing `course_lib.exercises`
registers them here. A misconception is a small function that makes a typical mistake; its docstring
is the message for a reader who made that mistake. So a new chapter only adds one file.

Every exercise has two methods. `attempt` runs the answer and returns the outcome as plain data,
without using the key. `judge` compares the outcome with the key. So `judge` can also work on
recorded outcomes (in the student edition, see `recorded_cases.py`), or in another process
(`course grade`).
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from course_lib.common.registry import choose
from course_lib.teaching.answers import body_digest, failure, left_open, told, untouched
from course_lib.teaching.compare import agree, describe, first_difference, relation
from course_lib.teaching.plain import ChangedInput, Failure
from course_lib.teaching.predictions import UNTOUCHED, Choice, Number, Verdict
from course_lib.teaching.solved import readers_own, record

MARKS = {"right": "✓", "wrong": "✗", "not attempted": "○"}
EXERCISES: dict[str, "Exercise"] = {}  # filled by course_lib.exercises


def check(number: str, answer: Any) -> None:
    """Print whether this answer is right, and if not, why. It never raises an error.

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


# ---- answers that are run ----------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """What an answer does, as plain data: all that a verdict needs.

    outcome: the result of running it; body: a hash of its code; mistake: in a capstone, the name of
    the quick test that found one; fault: the verdict if there is nothing to run.
    """

    outcome: Any = None
    body: str | None = None
    mistake: str | None = None
    fault: Verdict | None = None


class Runnable:
    """An exercise whose answer is run: a function or a capstone."""

    def examine(self, answer: Any) -> Verdict:
        with torch.random.fork_rng(devices=[]):
            inputs = self.inputs()
            return self.judge(self.attempt(answer, inputs), inputs)

    def attempt(self, answer: Any, inputs: Any) -> Attempt:
        """Run the answer, if it is one."""
        if untouched(answer):
            return Attempt(fault=Verdict("not attempted", UNTOUCHED))
        if not callable(answer):
            return Attempt(
                fault=Verdict("wrong", f": expected a {self.kind}, got {describe(answer)}.")
            )
        return self.tried(answer, inputs)

    def judge(self, attempt: Attempt, inputs: Any) -> Verdict:
        """The verdict on an attempt that was made with these inputs."""
        outcome = attempt.outcome
        if attempt.fault:
            return attempt.fault
        if any(map(left_open, outcome if isinstance(outcome, list) else [outcome])):
            return Verdict("not attempted", " yet: a `...` is still waiting to be replaced.")
        return self.compared(attempt, inputs)


def call(answer: Callable, *case: Any) -> Any:
    """The default way to run an answer: call it with the inputs."""
    return answer(*case)


@dataclass(frozen=True)
class Known:
    """A known answer: its status ("right", "given" or "wrong"), its name, and its outcomes.

    told: the message for the reader; for given code, the hash of its body.
    """

    status: str
    name: str
    told: str
    outcomes: list


class Compared(Runnable):
    """An exercise whose answer is run on several inputs, and compared with known answers.

    Subclasses have `run`, `tolerance` and the known answers; the inputs are tuples, the cases.
    """

    kind = "function"
    run: Callable
    tolerance: float

    def known(self, cases: Sequence[tuple]) -> Iterator[Known]:
        """The known answers, the right one first."""
        raise NotImplementedError

    def parameters(self) -> list[str]:
        """The names of the inputs."""
        raise NotImplementedError

    def outcome(self, answer: Callable, case: tuple) -> Any:
        """The result of running the answer on a copy of the inputs: a value, or an error."""
        torch.manual_seed(1)
        inputs = deepcopy(case)
        try:
            value = self.run(answer, *inputs)
            value = list(value) if isinstance(value, Iterator) else value
        except Exception as error:  # whatever a reader's code may raise
            return error
        return ChangedInput() if not agree(inputs, case, 0) else value

    def outcomes(self, answer: Callable, cases: Sequence[tuple]) -> list:
        """The outcome for each case, with errors as plain data."""
        found = [self.outcome(answer, case) for case in cases]
        return [failure(answer, each) if isinstance(each, Exception) else each for each in found]

    def tried(self, answer: Callable, cases: Sequence[tuple]) -> Attempt:
        return Attempt(self.outcomes(answer, cases), body_digest(answer))

    def compared(self, attempt: Attempt, cases: Sequence[tuple]) -> Verdict:
        expected = None
        for known in self.known(cases):
            expected = known.outcomes if expected is None else expected
            if self._same(attempt.outcome, known.outcomes):
                return self._verdict(known, attempt)
        return Verdict("wrong", self._counter_example(cases, attempt.outcome, expected))

    def _same(self, ours: Sequence, theirs: Sequence) -> bool:
        return len(ours) == len(theirs) and all(
            agree(a, b, self.tolerance) for a, b in zip(ours, theirs, strict=True)
        )

    def _verdict(self, known: Known, attempt: Attempt) -> Verdict:
        """The verdict on an answer that gives the same values as a known one."""
        if known.status != "given":
            name = known.name if known.status == "wrong" else None
            return Verdict(known.status, f". {known.told}", misconception=name)
        if attempt.body in (None, known.told):
            return Verdict("not attempted", " yet: this is still the code you were given.")
        why = (
            ". You changed the code, but it gives the same values as before. Do two of your changes"
        )
        return Verdict("wrong", f"{why} cancel each other?", misconception=known.name)

    def _counter_example(self, cases: Sequence, gots: list, expecteds: list) -> str:
        wrong = [
            i
            for i, pair in enumerate(zip(gots, expecteds, strict=True))
            if not agree(*pair, self.tolerance)
        ]
        got, expected = gots[wrong[0]], expecteds[wrong[0]]
        pairs = zip(self.parameters(), cases[wrong[0]], strict=False)  # defaults need not be given
        inputs = ", ".join(f"{name} = {describe(value)}" for name, value in pairs)
        if isinstance(got, ChangedInput):
            return ": it changes its input in place. Return a new value and leave the input alone."
        if got is None:
            return ": it returns nothing. Does it end in `return`?"
        if isinstance(got, Failure):
            return f": with {inputs}, {got.told}"
        hint = relation([gots[i] for i in wrong], [expecteds[i] for i in wrong], self.tolerance)
        return f": with {inputs}, {first_difference(got, expected, self.tolerance)}.{hint}"


@dataclass(frozen=True)
class Code(Compared):
    """An exercise answered by a function (or, with `run`, by a class).

    reference: the right function; messages use its parameters' names for the inputs.
    cases: makes the inputs, tuples from the smallest to the largest, with a fixed seed. Equal,
        mirrored or symmetric numbers hide mistakes, but every wrong formula must show.
    misconceptions: functions that make typical mistakes; the docstring is the message.
    given: in a debugging exercise, the function that the reader was given, unchanged.
    run: runs an answer, `run(answer, *case)`; by default it is called.
    more: makes further cases for grading with another seed, if `cases` draws nothing at random.
    """

    reference: Callable
    cases: Callable[[], Sequence[tuple]]
    well_done: str
    misconceptions: Sequence[Callable] = ()
    given: Callable | None = None
    run: Callable = call
    tolerance: float = 1e-4
    more: Callable[[], Sequence[tuple]] | None = None

    def inputs(self, seed: int = 0) -> list[tuple]:
        """The cases. All readers have seed 0; grading uses another one."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return [*self.cases(), *(self.more() if self.more and seed else [])]

    def parameters(self) -> list[str]:
        return list(inspect.signature(self.reference).parameters)

    def known(self, cases: Sequence[tuple]) -> Iterator[Known]:
        yield Known("right", "", self.well_done, self.outcomes(self.reference, cases))
        if self.given:
            name, digest = self.given.__name__, body_digest(self.given) or ""
            yield Known("given", name, digest, self.outcomes(self.given, cases))
        for wrong in self.misconceptions:
            yield Known("wrong", wrong.__name__, told(wrong), self.outcomes(wrong, cases))


@dataclass(frozen=True)
class Target(Runnable):
    """A capstone, answered by a function or class that trains or samples and must reach a number.

    reference: a solution that reaches it.
    run: uses the answer, `run(answer)`, with a fixed seed and in at most 20 s, and returns what is
        measured: samples, weights or predictions, as plain data. If there is nothing to measure, it
        raises `Unusable` with one line for the reader.
    bound: the target, an upper (`most`) or a lower bound; the exercise says where it comes from.
    meaning: what the number is, for example "the held-out loss".
    misconceptions: quick tests of an answer, `test(answer) -> bool`, before the run. If one returns
        True, the answer has that mistake, and the test's docstring is the message for the reader.
    measure: computes the number from what `run` returned, with the same seed. It must not need the
        reference, because the student edition doesn't have it.
    """

    reference: Callable | None
    run: Callable[[Callable], Any]
    bound: float
    meaning: str
    well_done: str
    most: bool = True
    misconceptions: Sequence[Callable[[Callable], bool]] = ()
    measure: Callable[[Any], float] = float
    kind = "function or a class"

    def inputs(self, seed: int = 0) -> int:
        """The seed: a capstone makes its own inputs from it."""
        return seed

    def tried(self, answer: Callable, seed: int) -> Attempt:
        for mistake in self.misconceptions:
            if self._shows(mistake, answer, seed):
                return Attempt(mistake=mistake.__name__)
        torch.manual_seed(seed)
        try:
            return Attempt(self.run(answer))
        except Unusable as error:
            return Attempt(Failure("Unusable", f"{error}"))
        except Exception as error:  # whatever a reader's code may raise
            return Attempt(failure(answer, error))

    def compared(self, attempt: Attempt, seed: int) -> Verdict:
        for mistake in self.misconceptions:
            if mistake.__name__ == attempt.mistake:
                return Verdict("wrong", f". {told(mistake)}", misconception=mistake.__name__)
        if isinstance(attempt.outcome, Failure):
            return Verdict("wrong", f": {attempt.outcome.told}")
        torch.manual_seed(seed)
        try:
            value = float(self.measure(attempt.outcome))
        except Unusable as error:
            return Verdict("wrong", f": {error}")
        except Exception as error:  # such as weights of other shapes
            what = " ".join(str(error).split())[:100]
            return Verdict("wrong", f": its result can't be measured ({what}).")
        reached = f"{self.meaning} {value:.4g}"
        side = "at most" if self.most else "at least"
        if value <= self.bound if self.most else value >= self.bound:
            return Verdict("right", f": {reached}, and {side} {self.bound:g} was asked for. "
                           f"{self.well_done}")  # fmt: skip
        return Verdict("wrong", f": {reached}; the target is {side} {self.bound:g}.")

    @staticmethod
    def _shows(mistake: Callable[[Callable], bool], answer: Callable, seed: int) -> bool:
        torch.manual_seed(seed)
        try:
            return bool(mistake(answer))
        except Exception:  # the answer fails in this test; running it will tell why
            return False


Exercise = Compared | Target | Choice | Number


def with_gradients(name: str, **inputs: int) -> Callable:
    """A `run` for trainable answers: the value, and the gradient of its sum for each input.

    inputs: the name -> the position in the case, of a tensor or a network (for its parameters). A
    missing gradient counts as 0.
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
    """A capstone's answer gives nothing to measure; the text is the message for the reader."""
