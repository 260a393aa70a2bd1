"""Every numbered equation of the chapters is bound, in equations.toml, to tests that exist."""

import ast
import json
import re
import tomllib
from collections import Counter

import pytest

from course_lib.common.paths import ROOT

TAG = re.compile(r"\\tag\{([^}]*)\}")


def faults(bound: dict[str, dict[str, list[str]]], numbered: dict[str, list[str]]) -> list[str]:
    """All differences between the list and the chapters, one line each; [] is good."""
    found = []
    for chapter in sorted(bound.keys() | numbered.keys()):
        tests, numbers = bound.get(chapter, {}), numbered.get(chapter, [])
        for number, times in Counter(numbers).items():
            if times > 1:
                found.append(f"chapter {chapter} numbers two equations {number}")
            if not re.fullmatch(rf"{chapter.removeprefix('0')}\.\d+", number):
                found.append(f"chapter {chapter} numbers an equation {number}")
            if not tests.get(number):
                found.append(f"equation {number} is bound to no test")
        for number in tests.keys() - set(numbers):
            found.append(f"the list binds {number}, which chapter {chapter} does not number")
        found += [f"{number}: there is no test {each}" for number in tests for each in tests[number]
                  if not exists(each)]  # fmt: skip
    return found


def exists(node: str) -> bool:
    """Whether `tests/folder/test_file.py::test_name` is a test function, or a class's method."""
    path, *names = node.split("::")
    if not names or not (ROOT / path).is_file():
        return False
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    for name in names:
        kinds = (ast.FunctionDef, ast.ClassDef)
        tree = next((x for x in tree.body if isinstance(x, kinds) and x.name == name), None)
        if tree is None:
            return False
    return isinstance(tree, ast.FunctionDef) and tree.name.startswith("test_")


def in_the_list() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads((ROOT / "tests" / "equations.toml").read_text("utf-8"))["chapter"]


def in_the_chapters() -> dict[str, list[str]]:
    return {
        path.stem.partition("_")[0]: TAG.findall(
            "\n".join(
                "".join(cell["source"])
                for cell in json.loads(path.read_text("utf-8"))["cells"]
                if cell["cell_type"] == "markdown"
            )
        )
        for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]*_*.ipynb"))
    }


def test_each_numbered_equation_is_bound_to_tests_that_exist():
    assert faults(in_the_list(), in_the_chapters()) == []


ME = "tests/test_equations.py::test_each_numbered_equation_is_bound_to_tests_that_exist"


@pytest.mark.parametrize(
    ("bound", "numbered", "fault"),
    [
        ({"1.1": [ME]}, ["1.1", "1.2"], "equation 1.2 is bound to no test"),
        ({"1.1": []}, ["1.1"], "equation 1.1 is bound to no test"),
        ({"1.1": [ME], "1.2": [ME]}, ["1.1"], "the list binds 1.2"),
        ({"1.1": [ME]}, ["1.1", "1.1"], "numbers two equations 1.1"),
        ({"2.1": [ME]}, ["2.1"], "chapter 01 numbers an equation 2.1"),
        ({"1.1": [ME + "_not"]}, ["1.1"], "there is no test"),
        ({"1.1": ["tests/test_nothing.py::test_it"]}, ["1.1"], "there is no test"),
        ({"1.1": ["tests/test_equations.py"]}, ["1.1"], "there is no test"),
        ({"1.1": ["tests/test_equations.py::faults"]}, ["1.1"], "there is no test"),
    ],
)
def test_each_kind_of_disagreement_is_found(bound, numbered, fault):
    assert faults({"01": {"1.1": [ME]}}, {"01": ["1.1"]}) == []
    found = faults({"01": bound}, {"01": numbered})
    assert len(found) == 1 and fault in found[0]
