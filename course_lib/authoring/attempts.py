"""The part of grading that runs a submission: it runs the answers and sends back the outcomes.

    python -m course_lib.authoring.attempts TASK        # `course grade` starts it, in a sandbox

It runs with the student edition, and makes no decisions. The task contains the cells and the
inputs. The outcomes of the answers go to the standard output as plain data, one frame for each
exercise. Only the cells that an exercise needs are run.
"""

import ast
import builtins
import linecache
import os
import re
import signal
import struct
import symtable
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import CodeType
from typing import Any

import course_lib.exercises as exercises
from course_lib.teaching import check as checks
from course_lib.teaching.check import Attempt
from course_lib.teaching.plain import dumps, loads
from course_lib.teaching.predictions import Prediction, Verdict

LENGTH = struct.Struct("<Q")  # of a frame
IGNORED = re.compile(r"^\s*[%!?].*$", re.MULTILINE)  # magics; they define nothing


def main() -> None:
    channel = os.dup(1)
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 1)  # the submission's own output is discarded
    os.dup2(silence, 2)
    task = loads(Path(sys.argv[1]).read_bytes(), objects=True)
    first = os.getpid()
    for number, inputs in task["inputs"].items():
        send(channel, {"number": number})
        outcome = attempt(task, number, inputs)
        if os.getpid() != first:
            os._exit(0)  # a copy that the answer has forked: it reports nothing
        stop_others()
        send(channel, {"number": number} | outcome)
    os._exit(0)  # whatever threads the submission has started


def stop_others() -> None:
    """Kill what an answer has started and left running, so that the next has the machine.

    In a sandbox this process is the first and sees only what it started. Elsewhere it does nothing.
    """
    if os.getpid() == 1:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with suppress(ChildProcessError):  # the dead count as processes until someone has waited
            while True:
                os.wait()


def send(channel: int, frame: dict[str, Any]) -> None:
    data = dumps(frame)
    data = LENGTH.pack(len(data)) + data
    while data:
        data = data[os.write(channel, data) :]


def attempt(task: Mapping[str, Any], number: str, inputs: Any) -> dict[str, Any]:
    """The outcome of the submission's answer to one exercise, as plain data."""
    exercise = checks.EXERCISES[number]
    try:
        answer = answer_of(task["cells"], number, task["names"].get(number))
        tried = exercise.attempt(answer, inputs)
        if isinstance(exercise, Prediction):
            return {"answer": tried}
        return {"attempt": vars(tried) | {"fault": tried.fault and asdict(tried.fault)}}
    except Missing:
        return {"missing": True}
    except BaseException as error:  # SystemExit, too
        why = " ".join(f"{type(error).__name__}: {error}".split())
        fault = Verdict("wrong", f": running its cell raised {why.rstrip(':. ')}.")
        return {"attempt": vars(Attempt()) | {"fault": asdict(fault)}}


class Missing(Exception):
    """The submission has no answer to the exercise."""


def answer_of(cells: Sequence[str], number: str, name: str | None) -> Any:
    """The answer that the submission passes to `check(number, ...)`, or, without such a call, the
    object with the answer's name in the chapter."""
    found: dict[str, Any] = {}

    def witness(number: str, answer: Any) -> None:
        found[str(number)] = answer

    exercises.check = checks.check = witness
    asked = re.compile(rf"\bcheck\(\s*[\"']{re.escape(number)}[\"']")
    places = [i for i, cell in enumerate(cells) if asked.search(cell)]
    places = places or [i for i, cell in enumerate(cells) if name and name in defined(cell)]
    if not places:
        raise Missing
    namespace = {"__name__": "__main__", "check": witness}
    for i in needed(cells, places[-1]):
        exec(compiled(cells[i], i), namespace)
    if number in found:
        return found[number]
    if name in namespace:
        return namespace[name]
    raise Missing


def compiled(source: str, i: int) -> CodeType:
    """A cell's compiled code, whose lines tracebacks can show, as in a notebook."""
    source, name = IGNORED.sub("", source), f"<cell {i}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    return compile(source, name, "exec")


# ---- which cells an exercise needs -------------------------------------------------------------


def needed(cells: Sequence[str], place: int) -> list[int]:
    """The cells to run for the one at `place`: for each name that it uses, the last cell above that
    defines it, with what that cell needs in turn.

    >>> needed(["import torch", "y = 2", "x = torch.ones(3)", "x.sum()"], 3)
    [0, 2, 3]
    """
    found, new = set(), {place}
    while new:
        i = new.pop()
        found.add(i)
        for name in used(cells[i]):
            above = [j for j in range(i) if name in defined(cells[j])]
            new |= set(above[-1:]) - found
    return sorted(found)


def used(source: str) -> set[str]:
    """The global names that a cell reads, also inside its functions, and doesn't define itself."""
    tables = list(scopes(source))
    names = {
        symbol.get_name()
        for table in tables
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global())
    }
    return names - defined(source) - set(dir(builtins))


def defined(source: str) -> set[str]:
    """The global names that a cell defines."""
    symbols = next(scopes(source)).get_symbols()
    return {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}


def scopes(source: str) -> Iterator[symtable.SymbolTable]:
    """The scopes of a cell, the module's first; a cell that isn't Python has an empty one."""
    source = IGNORED.sub("", source)
    try:
        ast.parse(source)
        waiting = [symtable.symtable(source, "<cell>", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        waiting = [symtable.symtable("", "<cell>", "exec")]
    while waiting:
        table = waiting.pop()
        yield table
        waiting += table.get_children()


if __name__ == "__main__":
    main()
