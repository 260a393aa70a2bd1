"""One list of dependencies, one list of pins: pyproject, constraints and environment agree."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"]]
DEV = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]
SCIENCE = [Requirement(line) for line in PROJECT["optional-dependencies"]["science"]]
SITE = [Requirement(line) for line in PROJECT["optional-dependencies"]["site"]]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}


def test_constraints_are_pins_and_comments_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    others = [line for line in lines if line and not line.startswith("#") and "==" not in line]
    assert not others
    assert len(PINS) == sum("==" in line for line in lines)  # and none is there twice


@pytest.mark.parametrize("requirement", NEEDED + DEV + SITE, ids=lambda r: r.name)
def test_every_dependency_has_a_pin_in_its_range(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_the_pins_are_complete():
    """Everything that gets installed is pinned, except CUDA's packages, which torch pins."""
    seen, queue = set(), [(r.name, r.extras) for r in NEEDED + DEV]
    while queue:
        name, extras = queue.pop()
        if (canonicalize_name(name), frozenset(extras)) in seen:
            continue
        seen.add((canonicalize_name(name), frozenset(extras)))
        for line in metadata.requires(name) or []:
            r = Requirement(line)
            if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in ["", *extras]):
                queue.append((r.name, r.extras))
    unpinned = {name for name, _ in seen} - PINS.keys()
    assert {name for name in unpinned if not re.match("nvidia-|cuda-", name)} == set()
    assert len(seen) > 100


def test_the_ranges_admit_what_is_promised():
    ranges = {r.name: r.specifier for r in NEEDED}
    for minor in range(11, 16):
        assert ranges["torch"].contains(f"2.{minor}.0")
        assert ranges["torchvision"].contains(f"0.{minor + 15}.0")
    for minor in (11, 12, 13):
        assert SpecifierSet(PROJECT["requires-python"]).contains(f"3.{minor}.0")


def test_environment_reads_the_same_two_lists():
    python, pip, rest = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert pip == "pip"
    assert rest == {"pip": ["-c constraints.txt", "-e ."]}
    admitted = SpecifierSet(python.removeprefix("python"))
    assert [m for m in range(8, 16) if admitted.contains(f"3.{m}.0")] == [11, 12, 13]


def test_makefile_reads_the_same_two_lists():
    makefile = (ROOT / "Makefile").read_text()
    installs = re.findall(r"\$\(PIP\) (?:install|download) .*", makefile)
    assert len(installs) == 2
    assert "PIP := PIP_CONSTRAINT=constraints.txt " in makefile
    for line in installs:
        assert re.search(r'"\.(\[dev\]|\$\(EXTRA\))"$', line)
    assert "(3, 11) <= sys.version_info[:2] <= (3, $(if $(PYTHON),99,13))" in makefile


def test_the_tests_can_build_the_site():
    assert set(map(str, SITE)) <= set(map(str, DEV))


def test_whatever_the_package_imports_is_declared():
    """Only the authors' tools may use the extras `dev` and `emoji`; RDKit is optional, and a study
    of diffusers' networks says what to install."""
    module_of = {"pillow": "PIL", "scikit-learn": "sklearn", "ipython": "IPython"}
    declared = {module_of.get(r.name, r.name.replace("-", "_")) for r in NEEDED}
    emoji = [Requirement(line) for line in PROJECT["optional-dependencies"]["emoji"]]
    dev = {r.name.replace("-", "_") for r in DEV + emoji}
    assert {r.name for r in SCIENCE} <= dev  # so that the tests run with it
    undeclared = {}
    for path in (ROOT / "course_lib").rglob("*.py"):
        allowed = declared | (dev if "authoring" in path.parts else set())
        allowed |= {"rdkit"} if path.name == "molecules.py" else set()
        allowed |= {"diffusers", "transformers"} if path.name == "diffusers_rival.py" else set()
        foreign = imports(path) - allowed - sys.stdlib_module_names - {"course_lib"}
        undeclared |= {path.name: foreign} if foreign else {}
    assert undeclared == {}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_no_file_names_a_package_registry_or_this_machine():
    """Mirrors and offline installs must work: only the README names an index, PyTorch's own."""
    kinds = {".py", ".toml", ".txt", ".yml", ".md", ".ipynb", ".json", ""}
    forbidden = re.compile(r"py" r"pi\.org|pythonhosted|anaconda\.(?:org|com)|/root/|/work/")
    here = Path(__file__)
    for folder in (".", ".ci", "course_lib", "tests", "notebooks", "data"):
        paths = (ROOT / folder).glob("*") if folder == "." else (ROOT / folder).rglob("*")
        for path in paths:
            if path.is_file() and path.suffix in kinds and path != here and path.name[0] != ".":
                found = forbidden.search(path.read_text("utf-8", errors="ignore"))
                assert not found, f"{path} names {found.group()}"
