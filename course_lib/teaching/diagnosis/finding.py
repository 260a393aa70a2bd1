"""One check: a number measured on a run, and the interval in which sound runs lie."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

VERDICTS = WRONG, FINE, NOT_VISIBLE = "wrong", "fine", "not visible here"


class NotVisible(ValueError):
    """What was given doesn't show this; the message says what would."""


@dataclass(frozen=True)
class Finding:
    """What one check says about one run.

    name: the check's. verdict: "fine", "wrong" or "not visible here". line: what was measured, or
    what is missing. remedy: what to do, if the verdict is "wrong". value: the measured number.
    """

    name: str
    verdict: str
    line: str
    remedy: str = ""
    value: float | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.verdict}; {self.line}{self.remedy and '. ' + self.remedy}"


@dataclass(frozen=True)
class Check:
    """A measurement with the interval of sound runs; call it with a run's `Evidence`.

    measure: evidence -> one number, or NotVisible. low, high: the interval. mistake: what a number
    outside it means. line: the number in words, with a place for it. remedy: what to do.

    >>> words = dict(mistake="too steep", line="a slope of {:g}", remedy="Walk on.")
    >>> print(Check(lambda slope: slope, "slope", 0, 1, **words)(3))
    slope: wrong; a slope of 3 (sound runs: 0 to 1): too steep. Walk on.
    """

    measure: Callable[[Any], float]
    name: str
    low: float
    high: float
    mistake: str
    line: str
    remedy: str

    def __call__(self, evidence: Any) -> Finding:
        try:
            return self.judge(self.measure(evidence))
        except NotVisible as missing:
            return Finding(self.name, NOT_VISIBLE, str(missing))

    def judge(self, value: float) -> Finding:
        """The finding for a number that was measured earlier."""
        line = f"{self.line.format(value)} (sound runs: {interval(self.low, self.high)})"
        if self.low <= value <= self.high:
            return Finding(self.name, FINE, line, value=value)
        return Finding(self.name, WRONG, f"{line}: {self.mistake}", self.remedy, value)


def interval(low: float, high: float) -> str:
    """An interval in words.

    >>> interval(0.5, float("inf"))
    'at least 0.5'
    """
    if isfinite(low) and isfinite(high):
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if isfinite(low) else f"at most {high:g}"


def check(name: str, low: float, high: float, *, mistake: str, line: str, remedy: str):
    """A decorator that makes a measurement, a function of the evidence, a check.

    >>> @check("width", 0, 1, mistake="too wide", line="{:g} m wide", remedy="Cut it.")
    ... def width(evidence):
    ...     return float(evidence)
    >>> width("0.5").verdict, width.measure("0.5")
    ('fine', 0.5)
    """
    return lambda measure: Check(measure, name, low, high, mistake, line, remedy)
