"""How much of the code in `diffusion` and `models` checks its input: at most 6 % of the lines.

    python -m course_lib.authoring.validation

The equations are the lesson, and a check in between hides them. These lines count: a raise or an
assert, with the if or except that ends in it; a call of a function that only checks, such as
`require`; these functions themselves; and an assignment whose names are only used by checks.
"""

import ast
from collections.abc import Iterable
from pathlib import Path

from course_lib.common.paths import ROOT

FOLDERS = "diffusion", "models"
LIMIT = 0.06


def measure(folders: Iterable[str] = FOLDERS, root: Path = ROOT / "course_lib") -> tuple[int, int]:
    """The lines of validation and the lines of code in these folders."""
    paths = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    sources = [path.read_text("utf-8") for path in paths]
    trees = [ast.parse(source) for source in sources]
    checkers, validation, code = checkers_in(trees), 0, 0
    for source, tree in zip(sources, trees, strict=True):
        lines = code_lines(source)
        validation += len(validation_lines(tree, checkers) & lines)
        code += len(lines)
    return validation, code


def code_lines(source: str) -> set[int]:
    """The numbers of the lines with code: not blank, not a comment, not in a docstring."""
    lines = enumerate(source.splitlines(), 1)
    code = {n for n, line in lines if line.strip() and not line.strip().startswith("#")}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code -= lines_of(node)
    return code


def validation_lines(tree: ast.Module, checkers: set[str]) -> set[int]:
    """The numbers of the lines that check."""
    found = set()
    for node in ast.walk(tree):
        named = isinstance(node, ast.FunctionDef) and node.name in checkers
        if named or is_check(node, checkers):
            found |= lines_of(node)
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        found |= preparations(function, found)
    return found


def is_check(node: ast.AST, checkers: set[str]) -> bool:
    """Whether a statement only checks something.

    >>> is_check(ast.parse("if x < 0: raise ValueError('negative')").body[0], set())
    True
    """
    if isinstance(node, ast.Raise | ast.Assert):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return name_of(node.value.func) in checkers
    if isinstance(node, ast.If | ast.ExceptHandler):
        return is_check(node.body[-1], checkers) and not getattr(node, "orelse", [])
    if isinstance(node, ast.For | ast.With):
        return all(is_check(each, checkers) for each in node.body)
    return False


def preparations(function: ast.FunctionDef, checks: set[int]) -> set[int]:
    """The lines of assignments whose names are only read by checks, or by each other."""
    found = [node for node in ast.walk(function) if isinstance(node, ast.Assign) and is_local(node)]
    while True:
        lines = set().union(*map(lines_of, found))
        loads = names_in(function, ast.Load)
        read = {name.id for name in loads if name.lineno not in checks | lines}
        kept = [node for node in found if not stored(node) & read]
        if kept == found:
            checked = {name.id for name in loads if name.lineno in checks | lines}
            found = [n for n in found if stored(n) & checked]
            return set().union(*map(lines_of, found))
        found = kept


def checkers_in(trees: list[ast.Module]) -> set[str]:
    """The names of the functions that only check, in common/checks.py and in these folders."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    checks = [node for node in imports if node.module == "course_lib.common.checks"]
    found = {alias.name for node in checks for alias in node.names}
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    while True:
        new = {function.name for function in functions if only_checks(function, found)}
        if new <= found:
            return found
        found |= new


def only_checks(function: ast.FunctionDef, checkers: set[str]) -> bool:
    """Whether a function only checks, apart from assigning names to what it checks."""
    body = function.body[ast.get_docstring(function) is not None :]
    body = [node for node in body if not (isinstance(node, ast.Assign) and is_local(node))]
    return bool(body) and all(is_check(node, checkers) for node in body)


def is_local(node: ast.Assign) -> bool:
    """Whether it assigns to plain names, not to attributes or items."""
    parts = [part for target in node.targets for part in ast.walk(target)]
    return not any(isinstance(part, ast.Attribute | ast.Subscript) for part in parts)


def stored(node: ast.Assign) -> set[str]:
    """The names that it assigns to."""
    return {part.id for target in node.targets for part in names_in(target, ast.Store)}


def names_in(node: ast.AST, how: type) -> list[ast.Name]:
    return [n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, how)]


def name_of(node: ast.AST) -> str:
    """The last part of a name: `check` for `self.check`."""
    return getattr(node, "attr", getattr(node, "id", ""))


def lines_of(node: ast.AST) -> set[int]:
    """All lines of a node, with its decorators."""
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    return set(range(first, node.end_lineno + 1))


if __name__ == "__main__":
    for folders in (*((folder,) for folder in FOLDERS), FOLDERS):
        validation, code = measure(folders)
        name = " + ".join(folders)
        print(f"{name:20} {validation:4} of {code:5} lines of code check: {validation / code:5.1%}")
