"""How much of the code of `diffusion` and `models` checks its input: at most 6 % of the lines.

    python -m course_lib.authoring.validation

The equations are the lesson, and a check in the middle of one hides it. As a line of validation
counts each line of: a raise or an assert, the if, try or except around nothing else, a call that
only checks (`require` and whatever else comes from common/checks.py, or a function of these folders
whose body only checks), such a function itself, and an assignment to `ok`, which prepares a check.
"""

import ast
from collections.abc import Iterable
from pathlib import Path

from course_lib.common.paths import ROOT

FOLDERS = "diffusion", "models"
LIMIT = 0.06


def code_lines(source: str) -> set[int]:
    """The numbers of the lines that hold code: no blank lines, comments or docstrings."""
    lines = enumerate(source.splitlines(), 1)
    code = {n for n, line in lines if line.strip() and not line.strip().startswith("#")}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code -= lines_of(node)
    return code


def lines_of(node: ast.AST) -> set[int]:
    """All lines of a node, with its decorators."""
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    return set(range(first, node.end_lineno + 1))


def only_checks(node: ast.AST, checkers: set[str]) -> bool:
    """Whether a statement does nothing but check.

    >>> only_checks(ast.parse("if x < 0: raise ValueError('negative')").body[0], set())
    True
    """
    if isinstance(node, ast.Raise | ast.Assert):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return name_of(node.value.func) in checkers
    if isinstance(node, ast.Assign):
        return [name_of(target) for target in node.targets] == ["ok"]
    if isinstance(node, ast.If | ast.For | ast.With | ast.ExceptHandler):
        inner = [*node.body, *getattr(node, "orelse", [])]
        return all(only_checks(each, checkers) for each in inner)
    return False


def name_of(node: ast.AST) -> str:
    """The last part of a name: `check` for `self.check`."""
    return getattr(node, "attr", getattr(node, "id", ""))


def checkers_in(trees: Iterable[ast.Module]) -> set[str]:
    """The names of all functions that only check: those of common/checks.py, and local ones."""
    trees, found = list(trees), set()
    for node in (each for tree in trees for each in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module == "course_lib.common.checks":
            found |= {alias.asname or alias.name for alias in node.names}
    while True:
        functions = (each for tree in trees for each in ast.walk(tree))
        new = {
            node.name
            for node in functions
            if isinstance(node, ast.FunctionDef) and checks_alone(node, found)
        }
        if new <= found:
            return found
        found |= new


def checks_alone(function: ast.FunctionDef, checkers: set[str]) -> bool:
    """Whether a function checks, and beside that only gives names to what it checks."""
    body = function.body[ast.get_docstring(function) is not None :]  # without the docstring
    names = [node for node in body if isinstance(node, ast.Assign) and is_local(node)]
    rest = [node for node in body if node not in names]
    return bool(rest) and all(only_checks(node, checkers) for node in rest)


def is_local(node: ast.Assign) -> bool:
    """Whether it assigns to plain names, not to attributes or items."""
    parts = [part for target in node.targets for part in ast.walk(target)]
    return not any(isinstance(part, ast.Attribute | ast.Subscript) for part in parts)


def validation_lines(tree: ast.Module, checkers: set[str]) -> set[int]:
    """The lines of one module that check."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            if checks_alone(node, checkers):
                found |= lines_of(node)
        elif isinstance(node, ast.stmt | ast.ExceptHandler) and only_checks(node, checkers):
            found |= lines_of(node)
    return found


def measure(folders: Iterable[str] = FOLDERS, root: Path = ROOT / "course_lib") -> tuple[int, int]:
    """Lines of validation, lines of code."""
    sources = [
        path.read_text("utf-8") for f in folders for path in sorted((root / f).rglob("*.py"))
    ]
    trees = [ast.parse(source) for source in sources]
    checkers, validation, code = checkers_in(trees), 0, 0
    for source, tree in zip(sources, trees, strict=True):
        lines = code_lines(source)
        validation += len(validation_lines(tree, checkers) & lines)
        code += len(lines)
    return validation, code


if __name__ == "__main__":
    for folders in (*((folder,) for folder in FOLDERS), FOLDERS):
        validation, code = measure(folders)
        name = " + ".join(folders)
        print(f"{name:20} {validation:4} of {code:5} lines of code check: {validation / code:5.1%}")
