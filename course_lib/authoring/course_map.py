"""For each chapter, the modules that it uses and the tests that check them.

    python -m course_lib.authoring.course_map       # prints the table; authoring.readme fills it in

The modules are those that the chapter imports, without the figures, exercises and small helpers
that all chapters use. The tests are those of its exercises, those listed for its equations in
`tests/equations.toml`, and those of the modules: tests/models/test_unet.py for
course_lib/models/unet.py.
"""

import ast
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import nbformat

from course_lib.authoring.form import ROOT
from course_lib.teaching.progress import TITLE

LEFT_OUT = {"cli", "common", "exercises", "teaching"}  # folders that all chapters use


def table() -> list[str]:
    """The map as lines of a Markdown table, with one row for each chapter."""
    rows = ["| chapter | modules | tests |", "|---|---|---|"]
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        title = TITLE.match(notebook.cells[0].source)
        code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
        modules = modules_of(code)
        chapter = path.stem.partition("_")[0]
        tests = tests_of(chapter, modules)
        name = f"{chapter} · {title[2].partition(':')[0]}" if title else path.stem
        rows.append(f"| [{name}](notebooks/{path.name}) | {links(modules)} | {links(tests)} |")
    return rows


def links(paths: Iterable[Path]) -> str:
    """Links to these files, one line for each folder.

    >>> links([Path("tests/models/test_unet.py")])
    'models: [unet](tests/models/test_unet.py)'
    """
    lines: dict[str, list[str]] = {}
    for path in sorted(paths, key=lambda path: (path.parts[1:-1], short(path))):
        folder = "/".join(path.parts[1:-1])
        lines.setdefault(folder, []).append(f"[{short(path)}]({path.as_posix()})")
    return "<br>".join(f"{folder}: {', '.join(files)}" for folder, files in lines.items())


def short(path: Path) -> str:
    """The name of a module or of the module that a test tests; for an __init__, the folder's."""
    return path.parent.name if path.stem == "__init__" else path.stem.removeprefix("test_")


def modules_of(code: str) -> set[Path]:
    """The files of course_lib that define what this code imports, except in LEFT_OUT.

    >>> modules_of("from course_lib.models import UNet")
    {PosixPath('course_lib/models/unet.py')}
    """
    found = {defining_file(module, name) for module, names in imports(code) for name in names}
    return {path for path in found if path.parts[1] not in LEFT_OUT}


def imports(code: str) -> list[tuple[str, list[str]]]:
    """Every `from course_lib... import a, b` of the code as ("course_lib...", ["a", "b"])."""
    statements = "\n".join(line for line in code.split("\n") if not line.lstrip().startswith("%"))
    nodes = [node for node in ast.walk(ast.parse(statements)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in nodes if (node.module or "").split(".")[0] == "course_lib"]
    return [(node.module, [alias.name for alias in node.names]) for node in ours]


def defining_file(module: str, name: str) -> Path:
    """The file that defines the name, even if a package's __init__ only re-exports it.

    >>> defining_file("course_lib.models", "UNet").as_posix()
    'course_lib/models/unet.py'
    """
    folder = Path(*module.split("."))
    for file in (folder.with_suffix(".py"), folder / f"{name}.py", folder / name / "__init__.py"):
        if (ROOT / file).is_file():
            return file
    text = (ROOT / folder / "__init__.py").read_text("utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            source = node.module if not node.level else f"{module}.{node.module}"
            return defining_file(source, name)
    return folder / "__init__.py"


def tests_of(chapter: str, modules: Iterable[Path]) -> set[Path]:
    """The test files for that chapter ("04") and for these modules."""
    bound = tomllib.loads((ROOT / "tests" / "equations.toml").read_text("utf-8"))["chapter"]
    nodes = [node for tests in bound.get(chapter, {}).values() for node in tests]
    found = {Path(node.partition("::")[0]) for node in nodes}
    found |= {Path("tests", "exercises", f"test_ch{chapter}.py")} | set(map(mirror, modules))
    return {path for path in found if (ROOT / path).is_file()}


def mirror(module: Path) -> Path:
    """The test file of a module.

    >>> mirror(Path("course_lib/models/unet.py")).as_posix()
    'tests/models/test_unet.py'
    """
    return Path("tests", *module.parts[1:-1], f"test_{short(module)}.py")


if __name__ == "__main__":
    print(re.sub(r"\]\([^)]*\)", "]", "\n".join(table())))
