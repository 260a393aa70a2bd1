"""Tables and figures of chapter 17's race, from made-up results with known numbers."""

import pytest
import torch

from course_lib.teaching import gan_race_figures as figures
from course_lib.teaching.gan_race_figures import (
    MEASURES,
    MODELS,
    by_model,
    cost_table,
    data_sets,
    finished,
    pictures_figure,
    properties_table,
    race_figure,
    race_table,
    spread_of,
)
from course_lib.teaching.gan_verdict import steps_table, trade, trade_figure, verdict_table
from course_lib.teaching.results import Result

NAMES = ("modes", "right", "frechet", "kernel", "precision", "recall", "diversity")


def result(data, model, seed, quality):
    """quality: the value of all measures but the Fréchet distance, which is 1 less it."""
    variant = f"{data}, {model}"
    settings = {"steps": 100 + seed, "parameters": 1000, "samples": 20}
    if quality is None:
        metrics = {"cpu_minutes": 1.0, "failed": 1.0}
        return Result("gan_race", variant, seed, "", None, settings, metrics, {}, [])
    metrics = {"cpu_minutes": 2.0, "failed": 0.0, "seconds": 0.001, "seconds for one": 0.002}
    metrics |= dict.fromkeys(NAMES, quality) | {"frechet": 1 - quality}
    metrics |= {f"{name} of real": 0.95 for name in NAMES}
    if model == "diffusion":
        curve = {"guidance": [1.0, 1.0, 2.0], "evaluations": [50, 10, 100]}
        metrics["seconds for one"] = 0.1
    else:
        curve = {"truncation": [1.0, 0.7, 0.4], "evaluations": [1, 1, 1]}
    columns = [quality, quality - 0.1, quality - 0.2]
    measured = "right", "precision", "recall", "diversity", "number", "colour", "shape"
    curve |= {name: columns for name in measured}
    curve["seconds"] = [0.001, 0.0005, 0.002]
    captions = [[""] * 2] * 2
    return Result("gan_race", variant, seed, "", None, settings, metrics, curve, captions)


RUNS = [
    result("digits", model, seed, None if (model, seed) == ("GAN without R1", 1) else value + seed)
    for model, value in zip(MODELS, (0.5, 0.2, 0.1, 0.9), strict=True)
    for seed in (0, 0.02)
]
RUNS += [result("digits", "GAN without R1", 1, None)]


def test_runs_are_sorted_by_data_and_model_and_failed_ones_are_kept_apart():
    assert data_sets(RUNS) == ["digits"]
    models = by_model(RUNS, "digits")
    assert list(models) == list(MODELS) and len(models["GAN without R1"]) == 3
    assert len(finished(models["GAN without R1"])) == 2
    assert not any(by_model(RUNS, "scenes").values())


def test_means_and_spreads():
    assert spread_of([4.0]) == (4.0, 0.0)
    lines = race_table(RUNS, "digits").splitlines()
    assert lines[1].split()[2:] == ["0.9", "0.95", "0.95", "0.9", *["0.95"] * 3]
    assert "0.51±0.01" in lines[2] and "0 of 2" in lines[2]  # 0.50 and 0.52
    assert "1 of 3" in lines[4]
    assert "1,000" in cost_table(RUNS, "digits")


def test_the_best_kind_of_gan_is_compared_and_ahead_needs_more_than_the_spread():
    lines = verdict_table(RUNS).splitlines()
    assert lines[1] == "digits: GAN"
    assert lines[3].split()[-1] == "diffusion" and lines[4].split()[-1] == "diffusion"
    assert lines[-1].split()[-1] == "GAN"  # seconds for one
    close = [result("ring", m, s, v + s) for m, v in (("GAN", 0.5), ("diffusion", 0.51))
             for s in (0, 0.02)]  # fmt: skip
    assert verdict_table(close).splitlines()[3].split()[-1] == "neither"


def test_the_trade_takes_the_first_way_of_each_setting():
    points = trade(by_model(RUNS, "digits")["diffusion"], "guidance")
    assert list(points) == [1.0, 2.0]
    assert points[1.0] == pytest.approx([0.91] * 4) and points[2.0] == pytest.approx([0.71] * 4)
    assert trade([], "guidance") == {}


def test_properties_have_a_line_for_each_way_to_draw():
    lines = properties_table(RUNS, "digits").splitlines()
    assert len(lines) == 1 + 4 * 3
    assert lines[1].startswith("GAN, truncation 1, 1 evaluation ")
    assert lines[1].split()[-3:] == ["0.51±0.01"] * 3
    assert lines[-1].startswith("diffusion, guidance 2, 100 evaluations") and "0.71" in lines[-1]


def test_figures_are_drawn(monkeypatch):
    pictures = torch.zeros(2, 2, 3, 4, 4)
    monkeypatch.setattr(Result, "samples", lambda run: pictures)
    panels = race_figure(RUNS, "digits").axes
    assert [axis.get_title(loc="left") for axis in panels] == list(MEASURES.values())
    for axis in trade_figure(RUNS, "digits").axes:
        assert axis.get_xlabel() and axis.get_ylabel()
    assert "colour" in trade_figure(RUNS, "digits", "colour").axes[0].get_ylabel()
    texts = [text.get_text() for text in pictures_figure(RUNS, "digits").axes[0].texts]
    assert {"GAN", "diffusion"} <= set(texts)
    pictures = torch.zeros(1, 1, 3, 4, 4)  # the ring's: one for each seed
    drawn = pictures_figure(RUNS, "digits").axes[0]
    texts = [text.get_text() for text in drawn.texts]
    assert len(drawn.images) == 4 * 2 and texts[0].split() == ["0", "modes,", "50%", "right"]


def test_columns_of_the_table_are_measured():
    assert set(figures.COLUMNS) == set(NAMES)


def test_fewer_steps_have_a_line_of_their_own():
    lines = steps_table(RUNS).splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["digits,", "GAN,", "1", "evaluation"],
        ["digits,", "diffusion,", "50", "evaluations"],
        ["digits,", "diffusion,", "10", "evaluations"],
    ]
    assert lines[3].split()[4:] == ["0.5", "0.81±0.01", "0.81±0.01", "0.81±0.01"]
