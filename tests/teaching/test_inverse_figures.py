"""Tables and figures of chapter 15b, from made-up results with known numbers."""

import pytest

from course_lib.evaluation.metrics import wilson
from course_lib.teaching.inverse_figures import (
    KINDS,
    METHODS,
    PRIORS,
    TIMES,
    calibration_figure,
    confusion_table,
    danger_figure,
    erased,
    errors,
    errors_figure,
    errors_table,
    invented,
    rank_shares,
    reliability,
)
from course_lib.teaching.results import Result


def result(variant, seed):
    """Four pictures: two healthy ones, then two with a lesion, of which one is erased."""
    curve = {"lesion": [0, 0, 1, 1], "spread": [0.1] * 4, "error, mean": [0.11] * 4}
    for method in {*METHODS, *PRIORS}:
        curve[f"psnr, {method}"] = [20.0, 22.0, 24.0, 26.0 + seed]
        curve[f"lesion seen, {method}"] = [0.0, 0.0, 1.0, 0.0]
        curve[f"anywhere, {method}"] = [0.0, 0.5, 1.0, 0.5]
    metrics = {f"rank {k}": 10 * (k + 1) for k in range(3)}
    return Result("inverse_problems", variant, seed, "", None, {}, metrics, curve, [])


RUNS = [result(f"{kind} {times}", seed) for kind in KINDS for times in TIMES for seed in (0, 1)]
ONE = [run for run in RUNS if run.variant == "Fourier 4"]


def test_errors_are_means_over_all_pictures_and_seeds():
    found = errors(ONE, "either")
    assert (found.value, found.count) == (pytest.approx(23.125), 8)
    assert found.interval[0] < 23.125 < found.interval[1]


def test_erased_counts_lesions_and_invented_counts_healthy_phantoms():
    assert erased(ONE, "either") == (0.5, wilson(0.5, 4), 4)
    assert invented(ONE, "either") == (0.25, wilson(0.25, 4), 4)


def test_ranks_and_reliability():
    assert rank_shares(ONE).tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert [(said, there, count) for said, there, _, count in reliability(ONE)] == [
        (0.0, 0.0, 2),
        (0.5, 0.5, 4),
        (1.0, 1.0, 2),
    ]


def test_tables_have_a_line_for_each_variant():
    assert len(errors_table(RUNS).splitlines()) == 1 + 6
    table = confusion_table(RUNS, "healthy")
    assert len(table.splitlines()) == 2 + 6 and "50% of 4 (15% to 85%)" in table


@pytest.mark.parametrize("figure", [errors_figure, danger_figure, calibration_figure])
def test_figures_are_drawn_with_labels(figure):
    for axis in figure(RUNS).axes:
        assert axis.get_xlabel() and axis.get_ylabel() and axis.get_title()
