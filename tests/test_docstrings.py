"""Every example in a docstring runs and gives the result that it shows."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import course_lib
import course_lib.diffusion

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(course_lib.__path__, "course_lib.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name):
    module = importlib.import_module(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        failed, _ = doctest.testmod(module)
    assert failed == 0  # doctest has printed which


def test_a_wrong_example_is_found(capsys):
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(test).failed == 1


@pytest.mark.parametrize("name", course_lib.diffusion.__all__)
def test_what_a_reader_calls_in_diffusion_has_an_example(name):
    thing = getattr(course_lib.diffusion, name)
    if callable(thing) and name not in ("Network", "Point"):  # a type, and what `point` returns
        assert ">>>" in thing.__doc__
