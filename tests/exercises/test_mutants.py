"""No slightly wrong version of a reference passes its check: see `authoring/mutants.py`."""

import pytest

from course_lib.authoring.mutants import mutants, survivors
from course_lib.exercises import ch01
from course_lib.teaching.check import EXERCISES, Code
from tests.exercises.equivalent_mutants import EQUIVALENT

CODE = {number: each for number, each in EXERCISES.items() if isinstance(each, Code)}


@pytest.mark.filterwarnings("ignore")  # mutants misuse torch in ways that it warns of
@pytest.mark.parametrize("number", CODE)
def test_every_mutant_is_refused_unless_it_is_right_too(number):
    listed = [name for names in EQUIVALENT.get(number, {}).values() for name in names]
    assert sorted(set(survivors(CODE[number]))) == sorted(listed)


def test_mirrored_numbers_let_wrong_formulas_pass():
    """A mutant that exercise 1.5 once accepted, because alpha_s was sigma_t in every case."""
    exercise = CODE["1.5"]
    mirrored = Code(exercise.reference, lambda: [case(0.6, 0.8), case(0.28, 0.96)], "")
    assert "alpha_t => sigma_s" in survivors(mirrored)


def case(alpha, sigma):
    x0, xt = ch01.ways_back()[0][:2]
    return x0, xt, sigma, alpha, alpha, sigma


def test_a_mutant_is_one_change():
    names = {mutant.name for mutant in mutants(CODE["8.1"])}
    assert {
        "x0 + scale * sigma ** 2 / alpha * gradient => x0 - scale * sigma ** 2 / alpha * gradient",
        "sigma ** 2 => sigma",
        "sigma => 2 * sigma",
        "scale => -scale",
        "sigma => alpha",
        "alpha => alpha ** 0.5",
    } <= names
