"""The layers: a folder of course_lib imports only from lower ones, and there are no cycles.

The contracts are in pyproject.toml. import-linter reads every import statement, also those inside
functions; what it can't see, names of modules in strings, is checked here.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from course_lib.common.paths import ROOT

CONFIG = ROOT / "pyproject.toml"
LAYERS, _ = tomllib.loads(CONFIG.read_text())["tool"]["importlinter"]["contracts"]
LEVEL = {  # of each folder, 0 at the bottom
    folder: level
    for level, line in enumerate(reversed(LAYERS["layers"]))
    for folder in re.split(r" [:|] ", line)
}
MODULE = re.compile(r"course_lib(?:\.| import )(\w+)")
LINT = (
    "from importlinter.cli import lint_imports; raise SystemExit(lint_imports({}, cache_dir=None))"
)


def lint(folder: Path) -> subprocess.CompletedProcess:
    """import-linter with this repository's contracts, on the course_lib in that folder."""
    return subprocess.run(
        [sys.executable, "-c", LINT.format(repr(str(CONFIG)))],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def test_the_contracts_hold():
    checked = lint(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture
def skeleton(tmp_path):
    """A course_lib with nothing in its folders."""
    for folder in ("", *LEVEL):
        (tmp_path / "course_lib" / folder).mkdir()
        (tmp_path / "course_lib" / folder / "__init__.py").touch()
    return tmp_path


def test_empty_folders_and_imports_from_below_break_no_contract(skeleton):
    (skeleton / "course_lib/training/loop.py").write_text("import course_lib.diffusion")
    checked = lint(skeleton)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"common/a.py": "def f():\n    from course_lib.recipes import x"}, "common.a ->"),
        ({"diffusion/a.py": "import course_lib.models"}, "diffusion.a -> course_lib.models"),
        ({"teaching/a.py": "import course_lib.experiments"}, "teaching.a ->"),
        (
            {
                "models/a.py": "import course_lib.models.b",
                "models/b.py": "def f():\n    import course_lib.models.a",
            },
            "No cycles are allowed in course_lib.models",
        ),
        ({"names.py": ""}, "names"),  # a module beside the folders has no layer
    ],
    ids=["inside a function", "a sibling", "from above", "a cycle in a folder", "no layer"],
)
def test_what_breaks_a_contract_is_named(skeleton, files, told):
    for name, text in files.items():
        (skeleton / "course_lib" / name).write_text(text)
    checked = lint(skeleton)
    assert checked.returncode == 1 and told in checked.stdout


def named_in_strings(source: str) -> set[str]:
    """The folders of course_lib that occur as modules in strings, except in docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    texts = [str(node.value) for node in constants if id(node) not in docstrings]
    return {folder for text in texts for folder in MODULE.findall(text)}


def test_strings_are_searched_and_docstrings_are_not():
    source = '"""See course_lib.cli."""\nrun(f"from course_lib import recipes; {x}")'
    assert named_in_strings(source) == {"recipes"}


def test_no_string_names_a_module_from_above():
    """`import_module("course_lib.recipes")` and code in a string would go around the contracts."""
    found = {}
    for path in (ROOT / "course_lib").rglob("*.py"):
        folder = path.relative_to(ROOT / "course_lib").parts[0]
        above = {
            name
            for name in named_in_strings(path.read_text("utf-8"))
            if LEVEL.get(name, 0) > LEVEL.get(folder, 0)
        }
        found |= {str(path.relative_to(ROOT)): above} if above else {}
    assert found == {}


def test_chapters_import_neither_experiments_nor_the_tools_for_authors():
    """They read the results of experiments with `teaching.results`."""
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        found = re.findall(r"course_lib(?:\.| import )(experiments|authoring)\b", code)
        assert not found, f"{path.name} imports {found}"


SCRIPTS = sorted((ROOT / "tests" / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path):
    """No test runs the benchmarks, and linters don't look whether a module has a name."""
    missing = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_lib"):
            for each in node.names:
                try:  # a name of the module, or a module of the folder
                    exec(f"from {node.module} import {each.name}", {})
                except ImportError:
                    missing.append(f"{node.module}.{each.name}, line {node.lineno}")
    assert not missing
