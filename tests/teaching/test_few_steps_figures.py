"""Tables and figures of chapter 14 about few steps, from made-up results with known numbers."""

import pytest

from course_lib.teaching.few_steps_figures import (
    REFLOWS,
    STYLES,
    best_first,
    comparison_figure,
    comparison_table,
    difference,
    evaluations,
    points,
    reflow_figure,
    reflow_table,
    right_at,
    steps_of,
    verdict,
)
from course_lib.teaching.results import Result


def made_up(variant, place, off=-0.05, half=0.01, steps=(1, 2, 4, 8, 20)):
    metrics = {"cpu_minutes": 9.9, "straightness": 0.1 * place, "right": 0.9}
    for n in steps:
        metrics |= {f"right at {n}": 0.5 + 0.05 * place, f"difference at {n}": off}
        metrics |= {f"low at {n}": off - half, f"high at {n}": off + half}
    return Result(
        "few_steps", variant, 0, "", None, {"steps": 1000 + place, "prompts": 2004}, metrics, {}, []
    )


RUNS = [made_up(variant, place) for place, variant in enumerate(STYLES)]


def test_guidance_takes_two_evaluations_and_a_student_one():
    assert [evaluations(run, 4) for run in RUNS[:2]] == [8, 4]
    assert steps_of(RUNS[0]) == [1, 2, 4, 8, 20]


def test_numbers_of_steps_that_were_not_graded_are_dashes():
    run = made_up("flow map", 3, steps=(1, 2, 4, 8))
    assert (right_at(run, 8), right_at(run, 20)) == ("65.0%", "–")


@pytest.mark.parametrize(
    ("off", "half", "said"),
    [
        (-0.005, 0.01, "met"),
        (-0.015, 0.01, "met, but"),
        (-0.025, 0.01, "missed, but"),
        (-0.035, 0.01, "missed"),
    ],
)
def test_the_goal_is_met_or_missed_and_the_interval_may_leave_a_doubt(off, half, said):
    found = verdict(made_up("shortcut", 1, off, half))
    assert found.startswith(said) and (found == said) == ("but" not in said)


def test_differences_are_in_points_with_their_interval():
    run = made_up("shortcut", 1, -0.034, 0.011)
    assert points(run, 4) == "-3.4 (-4.5 to -2.3)"
    assert difference(run, 4) == pytest.approx((-0.034, -0.045, -0.023))


def test_tables_have_a_line_for_each_method_best_first():
    lines = comparison_table(RUNS).splitlines()
    assert len(lines) == len(STYLES) and lines[1].startswith("mean flow")
    drawn_again = made_up("guidance only, ancestral", 2)
    del drawn_again.metrics["cpu_minutes"]  # it has the weights of another run
    assert "9.9" not in comparison_table([drawn_again])
    assert "teacher, ODE" not in comparison_table(RUNS)
    assert [run.variant for run in best_first(RUNS)][-1] == "guidance only"
    table = reflow_table(RUNS).splitlines()
    assert len(table) == 1 + len(REFLOWS) and "0.300" in table[3] and "65.0%" in table[3]


def test_the_figures_show_what_is_recorded_and_no_more():
    some = [run for run in RUNS if run.variant in ("teacher", "reflow", "shortcut")]
    left, right = reflow_figure(some).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["teacher, ODE", "reflow"]
    assert right.get_lines()[0].get_xdata().tolist() == [2, 4, 8, 16, 40]
    left, right = comparison_figure(some).axes
    assert len(left.get_lines()) == 4  # and the teacher with its own sampler
    assert [text.get_text() for text in right.get_yticklabels()] == ["shortcut", "reflow"]
