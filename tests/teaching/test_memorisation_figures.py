"""Tables and figures of chapter 16's first half, from made-up results with known numbers."""

import pytest

from course_lib.teaching.memorisation_figures import (
    MODELS,
    ONCE,
    REPEATED,
    SIZES,
    SMALLER,
    STYLES,
    duplicates_figure,
    onset_figure,
    onset_table,
    opt_out_figure,
    opt_out_table,
    over_seeds,
    times_seen,
)
from course_lib.teaching.results import Result


def made_up(variant, seed):
    curve = {"step": [75, 150, 300, 600], "copied": [0.0, 0.1, 0.2, 0.6 + 0.2 * seed]}
    curve |= {"auc": [0.5, 0.6, 0.7, 0.8], "tpr at 5 %": [0.05, 0.1, 0.2, 0.3]}
    metrics = {f"reproduced, {which} ten": 0.5 for which in ("first", "second", "third")}
    entries = 200 if variant in ("200 pictures", REPEATED) else 100
    settings = {"steps": 600, "entries": entries}
    return Result("memorisation", variant, seed, "", None, settings, metrics, curve, [])


RUNS = [made_up(name, seed) for name in (*SIZES, REPEATED, SMALLER) for seed in (0, 1)]


def opted(variant, seed):
    keys = "studio", "nearest", "top5", "distance", "distance to others"
    metrics = {f"{key}, {asked}": 0.1 + 0.2 * seed for key in keys for asked in STYLES}
    pictures = [0] if variant == "all studios" else [0, 5, 20, 100]
    curve = {"pictures": pictures} | {key: [0.25] * len(pictures) for key in keys}
    metrics |= {"samples": 99}
    return Result("opt_out", variant, seed, "", None, {"steps": 1}, metrics, curve, [])


STUDIOS = [opted(name, seed) for name in MODELS for seed in (0, 1)]


def test_times_seen_are_steps_times_batch_over_entries():
    once, twice = made_up(ONCE, 0), made_up(REPEATED, 0)
    assert times_seen(once) == [24, 48, 96, 192]
    assert times_seen(twice, copies=8) == [96, 192, 384, 768]


def test_the_table_has_the_mean_and_the_range_of_the_seeds():
    lines = onset_table(RUNS).splitlines()
    assert len(lines) == 7 and lines[2].startswith("100 pictures")
    assert lines[2].split()[2:7] == ["192", "70", "%", "(60", "to"]
    assert over_seeds([made_up(ONCE, 0), made_up(ONCE, 1)], "copied") == [0.6, 0.8]


def test_figures_hold_a_line_for_each_size_and_a_bar_for_each_group():
    left, right = onset_figure(RUNS).axes
    assert len(left.get_legend().get_texts()) == 5 and right.get_ylabel().startswith("AUC")
    (axis,) = duplicates_figure(RUNS).axes
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([0.5] * 6)


def test_the_opt_outs_bars_are_means_over_seeds():
    left, right = opt_out_figure(STUDIOS).axes
    assert [bar.get_height() for bar in left.patches] == pytest.approx([0.2] * 8)
    assert [text.get_text() for text in right.get_xticklabels()] == ["0", "5", "20", "100"]
    lines = opt_out_table(STUDIOS).splitlines()
    assert len(lines) == 1 + 8 + 3 and "20%" in lines[1] and "LoRA of 100" in lines[-1]
