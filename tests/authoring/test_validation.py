"""The share of checks among the lines of code, and how a line is judged."""

import ast

from course_lib.authoring.validation import LIMIT, checkers_in, measure, validation_lines


def test_the_equations_stay_bare():
    """Both folders together, as DESIGN.md asks: input is checked where it enters."""
    validation, code = measure()
    assert validation / code <= LIMIT


SOURCE = """from course_lib.common.checks import require

def check(x):
    y = x
    require(y)  # 5

def f(x):
    if x < 0:
        got = x
        raise ValueError(got)  # 10
    assert x
    ok = x > 0
    ok = ok and x < 9
    require(
        ok)  # 15
    check(x)
    y = x + 1
    require(y)
    try:
        y = y[0]  # 20
    except KeyError:
        raise ValueError
    if y < 0:
        return -y
    return y  # 25
"""


def test_what_counts_as_a_check():
    tree = ast.parse(SOURCE)
    found = validation_lines(tree, checkers_in([tree]))
    assert found == {3, 4, 5, *range(8, 17), 18, 21, 22}
