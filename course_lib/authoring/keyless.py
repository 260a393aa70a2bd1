"""The exercises without their key: the modules and data that the student edition has instead.

    write(Path("out/course_lib/exercises"))

Of each module `exercises/ch09.py` the student edition keeps what the use of an answer needs: the
networks that cases hold, `run` and `measure`. Functions become `recorded("9.1")`, a capstone has
no reference, and of a function marked `from_key` only its value is kept. What reaches a reference
in another way is an error, so that no key slips through.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import course_lib.exercises as package
from course_lib.common.files import make_folder, write_files
from course_lib.teaching.check import Exercise, Target
from course_lib.teaching.plain import dumps
from course_lib.teaching.recorded_cases import VALUES, file_of, record

OBJECT = re.compile(rb"course_lib\.exercises\.(\w+):(\w+)")  # in recorded cases
NOTE = "# Made by `course edition student`: what is right is recorded, in recorded/."
IMPORT = "from course_lib.teaching.recorded_cases import recorded, recorded_value"
VALUE = "@from_key\ndef {name}():\n    return recorded_value({key!r})"


def write(folder: Path) -> None:
    """Write the package `course_lib.exercises` without its key into that folder."""
    modules = {each.name: exercises_of(each.name) for each in iter_modules(package.__path__)}
    entries = {number: record(each) for number, each in runnable(modules).items()}
    data: dict[str, dict] = {}
    for number, entry in entries.items():
        data.setdefault(file_of(number), {})[number] = entry
    files = {folder / "recorded" / name: dumps(each, objects=True) for name, each in data.items()}
    sources = {name: Source(name, exercises) for name, exercises in modules.items()}
    keep(sources, OBJECT.findall(b"".join(files.values())))
    files[folder / "recorded" / VALUES] = dumps(values(sources))
    files |= {folder / f"{name}.py": source.text().encode() for name, source in sources.items()}
    files[folder / "__init__.py"] = Path(package.__file__).read_bytes()
    make_folder(folder / "recorded")
    write_files(files)


def exercises_of(module: str) -> Mapping[str, Exercise]:
    return import_module(f"{package.__name__}.{module}").EXERCISES


def runnable(modules: Mapping[str, Mapping[str, Exercise]]) -> dict[str, Exercise]:
    """All exercises but the capstones, which are measured and not compared."""
    found = {number: each for exercises in modules.values() for number, each in exercises.items()}
    return {number: each for number, each in found.items() if not isinstance(each, Target)}


def values(sources: Mapping[str, "Source"]) -> dict[str, object]:
    """What the functions marked `from_key` return, by the names under which they are recorded."""
    modules = {name: import_module(f"{package.__name__}.{name}") for name in sources}
    pairs = [(module, name) for module, source in sources.items() for name in source.from_key]
    return {f"{module}.{name}": getattr(modules[module], name)() for module, name in pairs}


def keep(sources: Mapping[str, "Source"], objects: Iterable[tuple[bytes, bytes]]) -> None:
    """Keep what cases hold, pairs of a module and a name, and what modules need of each other."""
    for module, name in objects:
        sources[module.decode()].roots.add(name.decode())
    while True:
        asked = {(m, n) for source in sources.values() for m, n in source.asks_for()}
        new = {(m, n) for m, n in asked if m in sources and n not in sources[m].roots}
        if not new:
            return
        for module, name in new:
            sources[module].roots.add(name)


class Source:
    """A module of exercises: its top-level statements, and which of them are kept."""

    def __init__(self, name: str, exercises: Mapping[str, Exercise]):
        self.name = name
        text = Path(package.__file__).with_name(f"{name}.py").read_text("utf-8")
        self.tree, self.lines = ast.parse(text), text.splitlines()
        self.keys = {each.reference.__name__ for each in exercises.values() if has_code(each)}
        self.defined = {n: node for node in self.tree.body for n in names_of(node)}
        (table,) = (node for node in self.tree.body if "EXERCISES" in names_of(node))
        self.entries = {
            ast.literal_eval(number): keyless_entry(ast.literal_eval(number), call)
            for number, call in zip(table.value.keys, table.value.values, strict=True)
        }
        self.roots = {n for entry in self.entries.values() for n in names_in(entry)}
        del self.defined["EXERCISES"]
        decorated = {n: [*map(ast.unparse, decorators(node))] for n, node in self.defined.items()}
        self.from_key = [name for name, marks in decorated.items() if "from_key" in marks]

    def kept(self) -> set[str]:
        """The names that are needed; ValueError if one of them is a reference."""
        found, new = set(), self.roots & self.defined.keys()
        while new:
            found |= new
            used = {n for name in new for n in self.needs(name)}
            new = (used & self.defined.keys()) - found
        if leaked := sorted(found & self.keys):
            raise ValueError(
                f"exercises/{self.name}.py: the use of an answer needs the reference {leaked[0]}, "
                "which the student edition must not hold; measure without it"
            )
        return found

    def needs(self, name: str) -> set[str]:
        """The names that a definition uses, as far as it is kept."""
        return {"from_key"} if name in self.from_key else names_in(self.defined[name])

    def asks_for(self) -> list[tuple[str, str]]:
        """What is imported from other modules of exercises."""
        kept, prefix = self.kept(), f"{package.__name__}."
        return [
            (node.module.removeprefix(prefix), alias.name)
            for node in self.tree.body
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(prefix)
            for alias in node.names
            if (alias.asname or alias.name) in kept
        ]

    def text(self) -> str:
        kept, parts = self.kept(), [f'"""{ast.get_docstring(self.tree, clean=False)}"""', "", NOTE]
        for node in self.tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                node.names = [a for a in node.names if (a.asname or a.name) in kept]
                parts += [ast.unparse(node)] if node.names else []
        parts += [IMPORT]
        for node in self.tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom) or not kept & set(names_of(node)):
                continue
            (name, *_) = names_of(node)
            if name in self.from_key:
                parts += ["", VALUE.format(name=name, key=f"{self.name}.{name}")]
            else:
                first = min([node.lineno, *(d.lineno for d in decorators(node))])
                parts += ["", *self.lines[first - 1 : node.end_lineno]]
        table = [f'    "{n}": {ast.unparse(entry)},' for n, entry in self.entries.items()]
        return "\n".join([*parts, "", "EXERCISES = {", *table, "}", ""])


def keyless_entry(number: str, entry: ast.Call) -> ast.Call:
    """What the student edition registers for an exercise."""
    if entry.func.id == "Target":
        entry.args[:1] = [ast.Constant(None)] if entry.args else []
        entry.keywords = [each for each in entry.keywords if each.arg != "reference"]
        return entry
    run = [each for each in entry.keywords if each.arg == "run"]
    return ast.Call(ast.Name("recorded"), [ast.Constant(number)], run)


def has_code(exercise: Exercise) -> bool:
    return getattr(exercise, "reference", None) is not None


def names_of(node: ast.stmt) -> list[str]:
    """What a top-level statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    targets = getattr(node, "targets", [getattr(node, "target", node)])  # of an assignment
    names = (each for target in targets for each in ast.walk(target))
    return [n.id for n in names if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def decorators(node: ast.stmt) -> list[ast.expr]:
    return getattr(node, "decorator_list", [])
