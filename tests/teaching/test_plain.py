"""Plain data: values are restored exactly, and reading them runs no code."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from course_lib.teaching.check import ChangedInput
from course_lib.teaching.compare import agree
from course_lib.teaching.plain import Failure, Unknown, dumps, loads
from course_lib.teaching.predictions import Verdict

VALUES = [
    None,
    True,
    -3,
    10**40,
    2.5,
    float("inf"),
    "Größe",
    [1, [2.0, "a"]],
    (1, (torch.ones(2), "b")),
    {"a": torch.arange(6).reshape(2, 3), 3: [None]},
    torch.zeros(0, 2),
    torch.tensor([1 + 2j]),
    torch.tensor(True),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values_come_back(value):
    back = loads(dumps(value))
    assert type(back) is type(value) and agree(back, value, 0)


def test_arrays_come_back_as_tensors_and_markers_as_themselves():
    assert torch.equal(loads(dumps(np.arange(3)[::-1])), torch.tensor([2, 1, 0]))
    assert loads(dumps(np.float32(0.5))).item() == 0.5
    assert loads(dumps(...)) is ... and isinstance(loads(dumps(ChangedInput())), ChangedInput)
    failure = loads(dumps(Failure("ValueError", "your line", True)))
    assert failure == Failure("ValueError") and failure.told == "your line" and failure.left_open
    assert loads(dumps(complex(1, -2))) == complex(1, -2)


def test_nan_agrees_with_nan():
    assert agree(loads(dumps(float("nan"))), float("nan"), 0)


@pytest.mark.parametrize(
    "value", [print, object(), nn.Linear(1, 1), {1, 2}, torch.ones(2).to_sparse()]
)
def test_other_objects_are_named_and_equal_nothing(value):
    back = loads(dumps(value))
    assert back == Unknown(type(value).__name__)
    assert not agree(back, 1.0, 0) and not agree(back, torch.ones(2), 0)


def test_tensors_that_share_memory_are_stored_apart():
    x = torch.randn(4, 3)
    back = loads(dumps([x, x.T, x[1:]]))
    assert all(map(torch.equal, back, [x, x.T, x[1:]]))


def test_a_network_is_rebuilt_only_where_that_is_asked_for():
    layer = nn.MultiheadAttention(4, 2)
    x = torch.randn(3, 1, 4)
    again = loads(dumps(layer, objects=True), objects=True)
    assert torch.equal(again(x, x, x)[0], layer(x, x, x)[0])
    assert loads(dumps(layer, objects=True)) == Unknown("network")


def test_functions_and_objects_of_the_course_come_back_by_name():
    verdict = Verdict("right", ". Well.")
    data = dumps([agree, verdict], objects=True)
    function, again = loads(data, objects=True)
    assert function is agree and again == verdict
    assert loads(data) == [Unknown("function"), Unknown("object")]


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "course_lib_evil:f"])
def test_names_outside_the_course_are_refused(name):
    data = save({}, {"plain": json.dumps({"function": name})})
    assert loads(data) == Unknown("function")
    with pytest.raises(ValueError, match="not plain data"):
        loads(data, objects=True)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 40, dumps([1])[:-1], save({}), save({}, {"plain": '{"tensor": "0"}'}),
     save({}, {"plain": "[" * 100_000 + "]" * 100_000})],
    ids=["empty", "noise", "cut", "no structure", "no tensor", "deep"],
)  # fmt: skip
def test_damaged_or_hostile_data_is_refused(data):
    with pytest.raises(ValueError, match="not plain data"):
        loads(data)
