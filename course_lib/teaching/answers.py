"""Inspects a reader's function: is it written, is it still the given code, why did it fail?"""

import ast
import dis
import hashlib
import inspect
import linecache
import re
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import Any

from course_lib.teaching.plain import Failure

EMPTY = {id(None), id(...)}  # the values that an untouched body returns


def untouched(answer: Any) -> bool:
    return answer is ... or answer is None or any(map(_is_stub, _codes(answer)))


def left_open(outcome: Any) -> bool:
    """Whether a `...` was returned or used in a calculation (`x[..., 0]` doesn't count)."""
    return outcome is ... or (isinstance(outcome, Failure) and outcome.left_open)


def failure(answer: Callable, error: Exception) -> Failure:
    """An error in the reader's code as plain data."""
    return Failure(type(error).__name__, blame(answer, error), "ellipsis" in str(error).lower())


def told(mistake: Callable) -> str:
    """The message for the reader: the docstring in one line, without Markdown's asterisks."""
    return re.sub(r"\*(\w[^*]*)\*", r"\1", " ".join(inspect.getdoc(mistake).split()))


def body_digest(function: Callable) -> str | None:
    """A hash of the function's code, without its name and docstring; None if there is no source."""
    body = source_of_body(function)
    return body and hashlib.sha256(body.encode()).hexdigest()


def source_of_body(function: Callable) -> str | None:
    """The function's code without its name and docstring; None if there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    body = tree.body[0].body if isinstance(tree.body[0], ast.FunctionDef) else tree.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return "\n".join(map(ast.unparse, body))


def blame(answer: Callable, error: Exception) -> str:
    """One line about an exception, with the line of the reader's code that raised it, if any."""
    first = str(error).splitlines()[0] if str(error) else ""
    what = f"{type(error).__name__}: {first}".rstrip(":. ")
    files, line, trace = {code.co_filename for code in _codes(answer)}, "", error.__traceback__
    while trace:
        name = trace.tb_frame.f_code.co_filename
        line = linecache.getline(name, trace.tb_lineno).strip() if name in files else line
        trace = trace.tb_next
    return f"your line `{line}` raised {what}." if line else f"calling it raised {what}."


def _codes(answer: Any) -> list[CodeType]:
    """The compiled bodies of a function, or of all methods of a class."""
    parts = vars(answer).values() if isinstance(answer, type) else [answer]
    return [part.__code__ for part in map(inspect.unwrap, parts) if hasattr(part, "__code__")]


def _is_stub(code: CodeType) -> bool:
    """Whether the body is only a docstring and `...`: it loads a constant and returns."""
    steps = list(dis.get_instructions(code))
    constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    others = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP"}
    return {step.opname for step in steps} <= others and set(map(id, constants)) <= EMPTY
