"""Slightly wrong versions of the exercises' references: a good check refuses all of them.

    python -m course_lib.authoring.mutants          # all mutants that some check accepts
    python -m course_lib.authoring.mutants 9.1 3.2  # those of these exercises

A mutant differs from the reference, or from a helper that the reference calls, in one place: a
symbol is replaced by another; a root, a square, a factor 2 or a sign is added or removed; a number
is off by one; or an operator, a dimension, a transpose or a gradient is changed. Its name is the
change, "sigma_s**2 => sigma_s". If the expression occurs in the function more than once, the number
of the occurrence is added: "sigma_s => sigma_t (2)".
"""

import ast
import builtins
import copy
import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, FunctionType

import torch

from course_lib.teaching.check import EXERCISES, Code, call
from course_lib.teaching.compare import agree

OPERATORS = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Div], ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE], ast.Eq: [ast.NotEq],
}  # fmt: skip
NAMES = {  # a method, function or keyword -> what it is easily confused with
    "min": ["max"], "max": ["min"], "mean": ["sum"], "sum": ["mean"], "prod": ["sum"],
    "cumprod": ["cumsum"], "std": ["var"], "var": ["std"], "rsqrt": ["sqrt", "reciprocal"],
    "exp": ["log"], "log": ["exp", "log2"], "cos": ["sin"], "sin": ["cos"], "triu": ["tril"],
    "tril": ["triu"], "softmax": ["log_softmax"], "square": ["abs"], "argmax": ["argmin"],
    "logsigmoid": ["sigmoid"], "std_mean": ["var_mean"],
}  # fmt: skip
FUNCTIONS_THAT_VANISH = {"sqrt", "square", "exp", "clamp", "float", "abs", "normalize", "round",
                         "reversed", "transpose", "contiguous"}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    name: str
    function: Callable


def survivors(exercise: Code) -> list[str]:
    """The names of the mutants that the exercise's check accepts as right."""
    cases = exercise.inputs()
    expected = [exercise.outcome(exercise.reference, case) for case in cases]

    def accepted(answer: Callable) -> bool:
        pairs = zip(reversed(cases), reversed(expected), strict=True)  # large cases find the most
        with _line_limit(2_000):
            return all(
                agree(exercise.outcome(answer, case), right, exercise.tolerance)
                for case, right in pairs
            )

    return [mutant.name for mutant in mutants(exercise) if accepted(mutant.function)]


@contextmanager
def _line_limit(lines: int) -> Iterator[None]:
    """Stop a mutant after this many lines, in case it loops for ever."""
    left = lines

    def count(frame: FrameType, event: str, argument: object) -> Callable | None:
        nonlocal left
        if not frame.f_code.co_filename.startswith("<mutant"):
            return None
        left -= 1
        if left < 0:
            raise TimeoutError("a mutant that doesn't end")
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)


def mutants(exercise: Code) -> Iterator[Mutant]:
    """All mutants of an exercise's reference and of the helpers in its module that it calls."""
    reference = exercise.reference
    functions = {function.__name__: function for function in _with_helpers(reference)}
    trees = {
        name: ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        for name, function in functions.items()
    }
    trained = exercise.run is not call  # then its gradients are compared
    seen: Counter[str] = Counter()
    for name, tree in trees.items():
        for change, mutated in _mutated(tree, trained, seen):
            namespace = reference.__globals__ | {"detached": _detached}
            for each, other in (trees | {name: mutated}).items():
                code = compile(ast.Module([other], []), f"<mutant of {each}>", "exec")
                exec(code, namespace)
            yield Mutant(change, namespace[reference.__name__])


def _with_helpers(function: FunctionType) -> list[FunctionType]:
    """The function and all functions of its module that it calls, directly or not."""
    found, waiting = [], [function]
    while waiting:
        each = waiting.pop()
        if each in found:
            continue
        found.append(each)
        called = (function.__globals__.get(name) for name in each.__code__.co_names)
        waiting += [
            other
            for other in called
            if isinstance(other, FunctionType) and other.__module__ == function.__module__
        ]
    return found


def _detached(value: torch.Tensor) -> torch.Tensor:
    """Cuts a gradient in a mutant; ValueError if no gradient flows there."""
    if not value.requires_grad:
        raise ValueError("no gradient flows here")
    return value.detach()


def _mutated(
    function: ast.FunctionDef, trained: bool, seen: Counter[str]
) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yields (the change, the function with that change), for each change in each place."""
    symbols = sorted(_symbols(function))
    for node, places, measured in _expressions(function):
        old = ast.unparse(node)
        seen[old] += 1
        changes = {ast.unparse(new): new for new in _changes(node, symbols)}
        if _is_quantity(node) and not measured:
            changes |= {ast.unparse(new): new for new in _wrapped(node, trained)}
        changes.pop(old, None)
        for text, new in changes.items():
            number = f" ({seen[old]})" if seen[old] > 1 else ""
            yield f"{old} => {text}{number}", _with(function, places, new)


def _symbols(function: ast.FunctionDef) -> set[str]:
    """The names of parameters and local variables."""
    stored = (
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
    return {argument.arg for argument in function.args.args} | set(stored)


def _expressions(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, list, bool]]:
    """Each expression that is read, the path to it, and whether only its size matters."""

    def walk(node: ast.AST, path: list, measured: bool = False) -> Iterator[tuple]:
        if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", None), ast.Store):
            return
        if isinstance(node, (ast.expr, ast.keyword)):
            yield node, path, measured
        measured = _measures(node)
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                for i, each in enumerate(value):
                    if isinstance(each, ast.AST):
                        yield from walk(each, [*path, (field, i)], measured)
            elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                yield from walk(value, [*path, (field, None)], measured)

    for i, statement in enumerate(function.body):
        yield from walk(statement, [("body", i)])


def _measures(node: ast.AST) -> bool:
    """Whether this is `x.shape`, `len(x)`, `torch.ones_like(x)`, where x's values don't matter."""
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        return name == "len" or name.endswith("_like")
    return isinstance(node, ast.Attribute) and node.attr in ("shape", "ndim", "numel")


def _with(function: ast.FunctionDef, places: list, new: ast.AST) -> ast.FunctionDef:
    """A copy of the function with `new` at the end of that path."""
    changed = copy.deepcopy(function)
    node: ast.AST = changed
    for field, i in places[:-1]:
        node = getattr(node, field) if i is None else getattr(node, field)[i]
    field, i = places[-1]
    if i is None:
        setattr(node, field, new)
    else:
        getattr(node, field)[i] = new
    return ast.fix_missing_locations(changed)


def _changes(node: ast.AST, symbols: list[str]) -> Iterator[ast.AST]:
    """All changes of one expression."""
    match node:
        case ast.keyword(arg=name, value=value) if name in NAMES:
            yield from (ast.keyword(other, value) for other in NAMES[name])
        case ast.Name(id=name):
            if name not in symbols:
                return  # a module or a builtin
            yield from (ast.Name(other, ast.Load()) for other in symbols if other != name)
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(value=float() as value):
            yield from (ast.Constant(2 * value), ast.Constant(value / 2))
        case ast.BinOp(left=left, op=operator, right=right):
            yield from (left, right)
            if isinstance(operator, ast.MatMult):
                yield ast.BinOp(ast.Attribute(left, "mT", ast.Load()), operator, right)
                yield ast.BinOp(left, operator, ast.Attribute(right, "mT", ast.Load()))
            for other in OPERATORS.get(type(operator), []):
                yield ast.BinOp(left, other(), right)
            if not isinstance(operator, (ast.Add, ast.Mult)):
                yield ast.BinOp(right, operator, left)
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            for other in OPERATORS.get(type(operator), []):
                yield ast.Compare(left, [other()], [right])
            return
        case ast.IfExp(body=body, orelse=other):
            yield from (body, other)
        case ast.Call(func=ast.Attribute(value=owner, attr=name), args=arguments):
            is_module = isinstance(owner, ast.Name) and owner.id not in symbols
            for other in NAMES.get(name, []):
                yield ast.Call(ast.Attribute(owner, other, ast.Load()), arguments, node.keywords)
            if name in FUNCTIONS_THAT_VANISH:
                yield arguments[0] if is_module else owner
        case ast.Call(func=ast.Name(id=name), args=[argument]) if name in FUNCTIONS_THAT_VANISH:
            yield argument
        case ast.Subscript(value=value, slice=ast.Slice(lower=lower, upper=upper, step=step)):
            for low, high in ((None, upper), (lower, None)):
                yield ast.Subscript(value, ast.Slice(low, high, step), ast.Load())


def _is_quantity(node: ast.AST) -> bool:
    """Whether an expression may be a number or a tensor that is calculated with."""
    if isinstance(node, ast.Name):
        return not hasattr(builtins, node.id)
    return isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Call, ast.Subscript))


def _wrapped(node: ast.expr, trained: bool) -> Iterator[ast.expr]:
    """The expression with a superfluous operation."""
    yield ast.UnaryOp(ast.USub(), node)
    yield ast.BinOp(ast.Constant(2), ast.Mult(), node)
    yield ast.BinOp(node, ast.Pow(), ast.Constant(2))
    yield ast.BinOp(node, ast.Pow(), ast.Constant(0.5))
    yield ast.BinOp(node, ast.Div(), ast.Constant(2))
    yield ast.BinOp(node, ast.Add(), ast.Constant(1))
    yield ast.BinOp(node, ast.Sub(), ast.Constant(1))
    if trained:
        yield ast.Call(ast.Name("detached", ast.Load()), [node], [])


def main() -> None:
    import course_lib.exercises  # noqa: F401  it registers them

    wanted = sys.argv[1:] or list(EXERCISES)
    for number in wanted:
        exercise = EXERCISES[number]
        if isinstance(exercise, Code):
            alive = survivors(exercise)
            print(f"{number}: {len(list(mutants(exercise)))} mutants, {len(alive)} accepted")
            for name in alive:
                print(f"    {name}")


if __name__ == "__main__":
    main()
