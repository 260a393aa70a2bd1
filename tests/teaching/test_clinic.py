"""Chapter 18's wards: who lies where, and what is concluded from recorded numbers."""

from collections import Counter

import pytest
import torch

from course_lib.teaching import clinic
from course_lib.teaching.broken_runs import MISTAKES, SOUND
from course_lib.teaching.diagnosis import CHECKS, FINE, WRONG
from course_lib.teaching.results import Result


def run(case="sound", seed=0, **changes) -> Result:
    """A made-up run: every number in the middle of its interval, except for the changes."""
    middles = {
        name: max(check.low, min(check.high, (max(check.low, -1e3) + min(check.high, 1e3)) / 2))
        for name, check in CHECKS.items()
    }
    metrics = middles | {name.replace("_", " "): value for name, value in changes.items()}
    return Result(
        "broken_runs", f"digits, {case}", seed, "", None, {"steps": 1}, metrics, {"loss": [1.0]}, []
    )


def test_every_mistake_has_one_bed():
    assert sorted(name for ward in clinic.WARDS.values() for name in ward) == sorted(MISTAKES)
    assert set(clinic.HEALTHY.values()) <= set(SOUND)


def test_the_findings_are_those_of_the_recorded_numbers():
    assert {finding.verdict for finding in clinic.findings(run())} == {FINE}
    wrong = [each.name for each in clinic.findings(run(data_range=0.0)) if each.verdict == WRONG]
    assert wrong == ["data range"]


def test_a_check_that_saw_nothing_is_left_out():
    blind = run(condition_used=-1.0)
    del blind.metrics["condition used"]
    assert {finding.verdict for finding in clinic.findings(blind)} == {FINE}
    assert len(clinic.findings(blind)) == len(CHECKS) - 1


def test_the_confusion_figure_has_a_number_for_each_cell_that_is_not_zero():
    counts = {
        "EMA too slow": Counter({"EMA too slow": 2, "nothing learned": 1}),
        "sound": Counter({"sound": 7}),
    }
    (axes,) = clinic.confusion_figure(counts, "made up").axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "2", (2, 0): "1", (1, 1): "7"}
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == ["EMA too slow (3)", "sound (7)"]


def test_a_sheet_shows_the_pictures_in_rows():
    images = torch.linspace(-1, 1, 6)[:, None, None, None].expand(6, 3, 2, 2)
    sheet = clinic.sheet(images)
    assert sheet.shape == (8, 12, 3) and (sheet[::4] == 1).all() and (sheet[:, 3::4] == 1).all()
    torch.testing.assert_close(sheet[1::4, 1::4, 0].flatten(), torch.linspace(0, 1, 6))


def test_another_ward_is_refused_by_name():
    with pytest.raises(ValueError, match=r"ward.*'grain'"):
        clinic.patients("fog")
