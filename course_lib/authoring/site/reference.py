"""The pages of the API: a page for each folder, a section for each module.

Each shows what the folder's `__all__` names of that module; where it names nothing, all public
functions and classes. Above them stand the numbered equations that the module's tests check.
"""

import importlib
import inspect
import pkgutil
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import nbformat

from course_lib.authoring.course_map import defining_file, mirror
from course_lib.authoring.slides import DISPLAY, TAG
from course_lib.common.paths import ROOT

FOLDERS = (  # from the lowest layer to the highest; `exercises` holds the answers
    *("common", "diffusion", "models", "datasets", "training", "evaluation", "pipelines"),
    *("recipes", "teaching", "experiments"),
)
Equation = tuple[str, str, str]  # its number, its TeX, and the chapter's file


def pages() -> dict[str, str]:
    """File name -> reStructuredText, a page for each folder and the list of them."""
    equations = checked_equations()
    written = {f"api/{folder}.rst": page(folder, equations) for folder in FOLDERS}
    listed = "\n".join(f"   {folder}" for folder in FOLDERS)
    written["api/index.rst"] = INDEX.format(listed=listed)
    return written


INDEX = """\
Reference
=========

What a reader calls, folder by folder, from the lowest layer to the highest. A folder imports only
from those above it in this list. Each module begins with the numbered equations that its tests
check; "source" leads to the code.

.. toctree::
   :maxdepth: 1

{listed}
"""


def page(folder: str, equations: dict[Path, list[Equation]]) -> str:
    package = importlib.import_module(f"course_lib.{folder}")
    sections = [heading(folder, "="), f".. automodule:: course_lib.{folder}\n"]
    for module, names in shown(package).items():
        if module is not package:
            sections += [heading(module.__name__.removeprefix(f"course_lib.{folder}."), "-")]
            sections += [f".. automodule:: {module.__name__}\n"]
        sections += [formulas(equations.get(file_of(module), []))]
        sections += [directive(module, name) for name in names]
    return "\n".join(sections)


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def shown(package: ModuleType) -> dict[ModuleType, list[str]]:
    """The modules of a folder, each with the names that its section explains."""
    exported = getattr(package, "__all__", [])
    parts = [package, *submodules(package)]
    if exported and all(inspect.ismodule(getattr(package, name, None)) for name in exported):
        parts = [part for part in parts if part.__name__.rpartition(".")[2] in exported]
        exported = []
    listed: dict[Path, list[str]] = {}
    for name in exported:
        listed.setdefault(defining_file(package.__name__, name), []).append(name)
    every = {part: listed.get(file_of(part)) or own(part) for part in parts}
    return {part: names for part, names in every.items() if names}


def submodules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.rpartition(".")[2].startswith("_"):
            yield importlib.import_module(found.name)


def own(module: ModuleType) -> list[str]:
    """The public functions and classes that the module defines and explains, as in its file."""
    return [
        name
        for name, thing in vars(module).items()
        if (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__
        and not name.startswith("_")
        and thing.__doc__
    ]


def directive(module: ModuleType, name: str) -> str:
    thing, full = getattr(module, name), f"{module.__name__}.{name}"
    if inspect.isclass(thing):
        return f".. autoclass:: {full}\n   :members:\n"
    if inspect.isfunction(thing):
        return f".. autofunction:: {full}\n"
    return f".. autodata:: {full}\n   :no-value:\n"


@cache
def places() -> dict[Path, str]:
    """Where on the site the reference explains a module, for each module's file."""
    packages = [importlib.import_module(f"course_lib.{folder}") for folder in FOLDERS]
    return {
        file_of(module): f"api/{package.__name__.rpartition('.')[2]}.html#module-{module.__name__}"
        for package in packages
        for module in shown(package)
    }


def file_of(module: ModuleType) -> Path:
    return Path(module.__file__).relative_to(ROOT)


def checked_equations() -> dict[Path, list[Equation]]:
    """For each module's file, the equations that `tests/equations.toml` binds to its tests."""
    tex = numbered_equations()
    bound = tomllib.loads((ROOT / "tests" / "equations.toml").read_text("utf-8"))["chapter"]
    of_test: dict[Path, list[Equation]] = {}
    for number, nodes in (pair for chapter in bound.values() for pair in chapter.items()):
        for test in sorted({Path(node.partition("::")[0]) for node in nodes}):
            of_test.setdefault(test, []).append((number, *tex[number]))
    files = [path.relative_to(ROOT) for path in (ROOT / "course_lib").rglob("*.py")]
    return {file: of_test[mirror(file)] for file in files if mirror(file) in of_test}


@cache
def numbered_equations() -> dict[str, tuple[str, str]]:
    """Number -> the equation in TeX and the name of its chapter's file."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for tex in DISPLAY.findall(cell.source) if cell.cell_type == "markdown" else []:
                if tag := TAG.search(tex):
                    found[tag[1]] = (TAG.sub("", tex).strip(), path.stem)
    return found


def formulas(equations: list[Equation]) -> str:
    """The equations, whose numbers the page will link to their chapters."""
    if not equations:
        return ""
    listed = [f".. math:: {' '.join(tex.split())} \\tag{{{n}}}\n" for n, tex, _ in equations]
    return "\n".join([".. rubric:: Equations that its tests check\n", *listed])
