"""Every exercise of every chapter: its reference passes, and each known mistake is named."""

import ast
import importlib
import inspect
import pkgutil
import re
from itertools import pairwise

import nbformat
import pytest
import torch

from course_lib import exercises as checks
from course_lib.common.paths import ROOT
from course_lib.teaching.answers import source_of_body
from course_lib.teaching.check import Choice, Code, Number
from course_lib.teaching.compare import agree

EXERCISES = {
    number: exercise
    for module in pkgutil.iter_modules(checks.__path__)
    for number, exercise in importlib.import_module(
        f"{checks.__name__}.{module.name}"
    ).EXERCISES.items()
}
CODE = {number: each for number, each in EXERCISES.items() if isinstance(each, Code)}
WORDS = {number: each for number, each in EXERCISES.items() if isinstance(each, Choice | Number)}


@pytest.mark.parametrize("number", CODE)
def test_the_reference_passes_and_the_given_code_is_no_attempt(number):
    exercise = CODE[number]
    assert exercise.examine(exercise.reference).status == "right"
    assert exercise.examine(...).status == "not attempted"
    if exercise.given:
        assert exercise.examine(exercise.given).status == "not attempted"


def test_notebooks_hand_out_the_given_code_and_their_solutions_are_right():
    """Word for word, so that unchanged code is distinguished from two changes that cancel."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        for cell, following in pairwise(cells):
            number = re.search(r'check\("(\d+[a-z]?\.\d+)"', cell.source)
            if "exercise" not in cell.metadata.get("tags", []) or number[1] not in CODE:
                continue
            exercise = CODE[number[1]]
            if exercise.given:
                body = ast.parse(cell.source).body[0].body
                body = body[ast.get_docstring(ast.parse(cell.source).body[0]) is not None :]
                given = source_of_body(exercise.given)
                assert "\n".join(map(ast.unparse, body)) == given, number[1]
            statuses = []
            names = {"torch": torch, "F": torch.nn.functional}
            names["check"] = lambda n, answer, said=statuses: said.append(CODE[n].examine(answer))
            exec(following.source, names)
            assert statuses[0].status == "right", number[1]


@pytest.mark.parametrize(
    ("number", "wrong"), [(n, wrong) for n, each in CODE.items() for wrong in each.misconceptions]
)
def test_each_misconception_is_recognised_by_name(number, wrong):
    verdict = CODE[number].examine(wrong)
    assert (verdict.status, verdict.misconception) == ("wrong", wrong.__name__)
    assert inspect.getdoc(wrong), "a misconception's docstring is what the reader is told"


@pytest.mark.parametrize("number", CODE)
def test_misconceptions_return_values_and_differ_from_each_other(number):
    exercise = CODE[number]
    cases = exercise.inputs()
    answers = [exercise.reference, *exercise.misconceptions] + [exercise.given] * bool(
        exercise.given
    )
    outcomes = [[exercise.outcome(answer, case) for case in cases] for answer in answers]
    assert not any(all(isinstance(each, Exception) for each in ours) for ours in outcomes)
    for i, ours in enumerate(outcomes):
        for theirs in outcomes[:i]:
            assert not all(map(lambda a, b: agree(a, b, exercise.tolerance), ours, theirs))


@pytest.mark.parametrize("number", CODE)
def test_random_answers_are_refused(number):
    exercise = CODE[number]
    for answer in (
        lambda *case: torch.randn(4, 4),
        lambda *case: 0.123,
        lambda *case: next(torch.randn_like(x) for x in case if isinstance(x, torch.Tensor)),
        lambda *case: "a picture",
        lambda: 7,
        print,
    ):
        verdict = exercise.examine(answer)
        assert verdict.status == "wrong" and verdict.misconception is None, verdict


@pytest.mark.parametrize("number", CODE)
def test_the_smallest_input_is_shown_in_full(number):
    """The first case is small enough to be printed in full, without tensors shown as shapes."""
    message = CODE[number].examine(lambda *case: 0.123).message
    assert "a tensor of shape" not in message.partition("yours")[0], message


@pytest.mark.parametrize("number", WORDS)
def test_predictions_know_their_answer(number):
    exercise = WORDS[number]
    assert exercise.examine(...).status == "not attempted"
    assert exercise.examine(exercise.right).status == "right"
    if isinstance(exercise, Choice):
        assert exercise.examine(f"({exercise.right.upper()}).").status == "right"
        for letter in exercise.why.keys() - {exercise.right}:
            assert exercise.examine(letter).misconception == letter
    if isinstance(exercise, Number):
        for name, (value, _) in exercise.misconceptions.items():
            assert exercise.examine(value).misconception == name
    for answer in ("z", "a whole sentence", [1, 2]):
        assert exercise.examine(answer).status == "wrong"
