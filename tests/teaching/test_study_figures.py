"""Figures and tables of the recorded studies show the numbers in the result files."""

from dataclasses import replace

import pytest

from course_lib.teaching import study_figures
from course_lib.teaching.results import by_variant, load_results
from course_lib.teaching.unet_variants import VARIANTS

UNET, SPACES = load_results("unet_ablation"), load_results("pixel_vs_latent")
CHOICES = load_results("text_to_image_ablation")


def test_a_level_is_reached_where_the_line_through_the_points_crosses_it():
    curve = {"cpu_minutes": [2.0, 4.0, 6.0, 8.0], "right": [0.2, 0.6, 0.5, 0.9]}
    run = replace(SPACES[0], curve=curve)
    levels = {0.1: 2.0, 0.2: 2.0, 0.3: 2.5, 0.6: 4.0, 0.7: 7.0, 0.95: float("inf")}
    for level, minutes in levels.items():
        assert study_figures.minutes_until(run, level, "right") == pytest.approx(minutes)


def test_each_variant_of_the_unet_is_a_line_and_a_row_of_dots():
    lines = study_figures.unet_ablation_table(UNET).splitlines()[2:]
    assert [line[:14].strip() for line in lines] == list(VARIANTS)
    assert "919,217  0.0301  0.0289" in lines[0]
    left, right = study_figures.unet_ablation_figure(UNET).axes
    assert [label.get_text() for label in left.get_yticklabels()] == list(VARIANTS)
    dots = [list(line.get_xdata()) for line in left.lines]
    assert dots == [[run.metrics["test_loss"] for run in by_variant(UNET)[v]] for v in VARIANTS]
    assert len(right.lines) == len(VARIANTS) - 1 + 1  # all but the full one, and the line at 1


def curves_of(variant):
    return [run.curve["loss"] for run in by_variant(UNET)[variant]]


def test_where_a_variant_loses_is_what_its_curves_say():
    full, mlp = (
        [sum(losses) / 2 for losses in zip(*curves_of(v), strict=True)] for v in ("full", "MLP")
    )
    gaps = [a - b for a, b in zip(mlp, full, strict=True)]
    share, factor = sum(gaps[:2]) / sum(gaps), max(a / b for a, b in zip(mlp, full, strict=True))
    last = study_figures.unet_ablation_by_time(UNET).splitlines()[-1]
    assert last.startswith(f"MLP        {share:.0%} of") and f"at most {factor:.1f} times" in last


def test_a_curve_for_each_run_of_pixels_and_latents():
    axes = study_figures.pixel_vs_latent_figure(SPACES).axes
    for axis, name in zip(axes, ("properties", "right"), strict=True):
        assert [list(line.get_ydata()) for line in axis.lines] == [r.curve[name] for r in SPACES]
    table = study_figures.pixel_vs_latent_table(SPACES).splitlines()
    assert table[3] == (
        "  50%: latent 4.4, 4.2, 4.4; pixel 12.2, 16.4, 19.1: "
        "3.7 times, 8.6 without the autoencoder"
    )


def test_the_recipes_choices_are_ordered_by_the_properties_that_hold():
    lines = study_figures.text_to_image_ablation_table(CHOICES).splitlines()[1:]
    means = []
    for line in lines:
        runs = by_variant(CHOICES)[line[:38].strip()]
        means.append(sum(run.metrics["properties"] for run in runs))
    assert means == sorted(means, reverse=True) and len(lines) == 12
    left, _ = study_figures.text_to_image_ablation_figure(CHOICES).axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        line[:38].strip() for line in reversed(lines)
    ]
