"""Chapter 12's tables: intervals, units, masks; and what its prose says of the recorded study."""

import numpy as np
import pytest
import torch

from course_lib.teaching.making_figures import cell, column, curves_figure, repeated, table
from course_lib.teaching.results import Result, load_results


def a_run(seed, **curve):
    return Result("making", "a", seed, "", None, {"steps": 1}, {}, curve, [])


RUNS = [
    a_run(0, **{"right, x": [1.0, 0.0], "distance, x": [0.2, 0.4]}),
    a_run(1, **{"right, x": [1.0, 1.0], "distance, x": [0.3, 0.5]}),
]


def test_a_column_joins_the_seeds():
    assert column(RUNS, "right, x").tolist() == [1, 0, 1, 1]


def test_a_cell_says_the_interval_of_a_share_and_of_a_distance():
    assert cell(RUNS, "right, x") == "75% (30 to 95)"  # Wilson's
    assert cell(RUNS, "distance, x") == "0.35 ± 0.13"  # 1.96 · 0.129 / 2
    assert cell(RUNS, "right, x", np.array([True, True, False, False])) == "50% (9 to 91)"
    assert cell([a_run(0, **{"distance, x": [0.0, 0.0]})], "distance, x") == "0.00"


def test_a_table_has_a_line_for_each_method():
    first, second = table(RUNS, {"x": "the method"}, {"right": "right", "distance": "far"}).split(
        "\n"
    )
    assert first.split() == ["4", "pictures", "each", "right", "far"]
    assert second.split() == ["the", "method", "75%", "(30", "to", "95)", "0.35", "±", "0.13"]


def test_curves_have_a_band_each():
    runs = [a_run(0, **{"right, 0.5": [1.0, 0.0], "right, 1": [1.0, 1.0]})]
    figure = curves_figure(runs, [0.5, 1.0], {"right": "right"}, "title", "strength")
    (axis,) = figure.axes
    assert axis.lines[0].get_ydata().tolist() == [0.5, 1.0] and len(axis.collections) == 1


def test_a_tile_is_repeated_in_both_directions():
    tile = torch.arange(6.0).view(1, 1, 2, 3)
    wall = repeated(tile, 2)
    assert wall.shape == (1, 1, 4, 6)
    assert torch.equal(wall[..., 2:, 3:], tile) and torch.equal(wall[..., :2, :3], tile)


# what the chapter says


def shares(variant, *names):
    runs = load_results("making", variant)
    return [column(runs, name).mean() for name in names]


def test_no_strength_follows_the_caption_and_keeps_the_place():
    for value in (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1):
        right, place = shares("strength", f"right, {value:g}", f"place, {value:g}")
        assert min(right, place) < 0.9


def test_every_style_method_comes_nearer_and_none_reaches_the_studio():
    runs = load_results("making", "style transfer")
    source = column(runs, "distance, source")
    assert len(source) == 108
    for method in ("0.5", "0.7", "0.85", "caption alone", "inverted"):
        gain = source - column(runs, f"distance, {method}")
        assert 0.03 < gain.mean() < 0.08 and gain.mean() > 1.96 * gain.std() / len(gain) ** 0.5
        assert column(runs, f"studio, {method}").mean() <= 0.5


def test_inversion_keeps_more_of_the_source_and_of_the_concept():
    far, near = shares("style transfer", "from source, 0.7", "from source, inverted")
    lost, kept = shares("style transfer", "top5, 0.7", "top5, inverted")
    assert near < far and kept > lost


@pytest.mark.parametrize("other", ["turned latents", "overlaid", "one caption"])
def test_views_that_meet_in_pixels_win_on_scenes(other):
    ours, theirs = shares("scene anagrams", "both, anagram", f"both, {other}")
    assert ours > theirs + 0.3


def test_emoji_are_hardly_ever_anagrams():
    assert shares("emoji anagrams", "top5 both, anagram")[0] < 0.1


def test_only_enforced_conditions_always_hold():
    for condition in ("product", "text", "palette"):
        asked, enforced = shares(
            "advertising", f"{condition}, the caption alone", f"{condition}, + palette"
        )
        assert asked < 0.7 and enforced == 1
    assert shares("advertising", "all, the caption alone") == [0]
