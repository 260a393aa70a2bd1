"""Every example in a docstring runs and gives the result that it shows."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import course_lib
import course_lib.diffusion
import course_lib.evaluation
import course_lib.models
import course_lib.pipelines
import course_lib.training

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


PACKAGES = [course_lib.diffusion, course_lib.models, course_lib.training]
PACKAGES += [course_lib.evaluation, course_lib.pipelines]
WITHOUT = {  # name -> why it needs no example
    "Network": "a type",
    "Point": "`point` returns it",
    "Step": "`train` yields it",
    "LatentDiffusion": "`load_pipeline` returns it",
    "load_published": "it needs a downloaded checkpoint",
    "check_size": "it only checks",
}


@pytest.mark.parametrize("package, name", [(p, name) for p in PACKAGES for name in p.__all__])
def test_what_a_reader_calls_has_an_example(package, name):
    thing = getattr(package, name)
    if callable(thing) and name not in WITHOUT:
        assert ">>>" in thing.__doc__
