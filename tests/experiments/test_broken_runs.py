"""The recorded runs of the clinic: complete, and what the checks make of them."""

import pytest

from course_lib.experiments import broken_runs as study
from course_lib.teaching import broken_runs
from course_lib.teaching.broken_runs import MISTAKES, SOUND, SoundRun
from course_lib.teaching.diagnosis import CHECKS, FOLDER_ALONE, confusion, named, rates
from course_lib.teaching.results import load_results

RUNS = load_results("broken_runs")


def test_a_short_run_records_what_every_check_measures(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(broken_runs.CASES, "sound", type("Short", (SoundRun,), {"steps": 4}))
    outcome = study.run("digits, sound", seed=0)
    hidden = {"latent scale", "latent mean"}  # the data is pixels
    assert outcome.metrics.keys() >= set(CHECKS) - hidden
    assert outcome.metrics.keys() >= {"distance", "distance floor", "loss in band 8"}
    assert outcome.curve["step"] == [1, 2, 3, 4]
    assert outcome.samples.shape == (1, 16, 1, 8, 8) and len(outcome.captions[0]) == 16


def test_the_rules_are_tested_on_other_data_and_other_seeds():
    runs = study.runs()
    digits, emoji = (
        {seed for variant, seed in runs if variant.startswith(data)} for data in ("digits", "emoji")
    )
    assert not digits & emoji and len(set(runs)) == len(runs)
    held_out = [variant for variant, _ in runs if variant.startswith("emoji")]
    assert sum("sound" in variant for variant in held_out) >= 40
    assert sum("sound" not in variant for variant in held_out) >= 40


def test_every_case_is_recorded_within_a_minute_each():
    assert {run.variant for run in RUNS} == set(study.VARIANTS)
    assert set(study.VARIANTS) == {
        f"{d}, {c}" for d in ("digits", "emoji") for c in MISTAKES | SOUND
    }
    assert max(run.settings["cpu_seconds"] for run in RUNS) <= 60


def test_all_runs_of_the_digits_are_named_correctly():
    """The intervals were set on them."""
    table = rates(confusion(RUNS, "digits"))
    assert table["named"] == 1 and table["accused"] == 0


def test_the_held_out_runs_are_named_as_the_chapter_says():
    table = rates(confusion(RUNS, "emoji"))
    assert table["broken"] >= 40 and table["sound"] >= 40
    assert table["named"] >= 0.9 and table["accused"] <= 0.05


def test_the_folder_alone_shows_few_mistakes_and_accuses_no_sound_run():
    table = confusion(RUNS, "emoji", FOLDER_ALONE)
    shown = {truth for truth, calls in table.items() if calls[truth] == calls.total()}
    assert shown == {"sound", "learning rate too high", "EMA unused", "EMA too slow"}


@pytest.mark.parametrize("name", CHECKS)
def test_no_sound_number_is_near_the_end_of_its_interval(name):
    """The intervals lie between the sound and the broken digits, not at their edges."""
    check = CHECKS[name]
    values = [r.metrics[name] for r in RUNS if "digits, sound" in r.variant and name in r.metrics]
    assert all(check.low <= value <= check.high for value in values)


def test_the_first_number_outside_its_interval_names_the_mistake():
    assert named({}) == named({"data range": -1.0}) == "sound"
    assert (
        named({"mode": 1.0, "sampler variance": 0.5}, visible=["mode"]) == "sampled in train mode"
    )
