"""Chapter 15a's recorded molecules are read as they were written, and its figures hold them."""

import pytest

from course_lib.datasets.molecules import LENGTH, MASK, TOKENS, encode
from course_lib.evaluation.molecules import Verdict
from course_lib.teaching import molecules as teaching
from course_lib.teaching.results import load_results

VERDICTS = [Verdict("CO", "", -0.392, 0.391, 32.04), Verdict("C(", "syntax")]
WATER = {"atoms": [["OH2", 0.0, 0.0]], "bonds": []}
ETHANOL = {
    "atoms": [["", 0, 0], ["", 1.3, 0.7], ["OH", 2.6, 0]],
    "bonds": [[0, 1, 1.0], [1, 2, 1.0]],
}


def test_verdicts_are_read_as_they_were_written(monkeypatch, tmp_path):
    monkeypatch.setattr(teaching.paths, "RECORDED", tmp_path)
    path = teaching.samples_path("some model")
    path.parent.mkdir()
    path.write_text(teaching.as_lines([*VERDICTS, Verdict("", "empty")]))
    assert teaching.recorded("some model") == [*VERDICTS, Verdict("", "empty")]
    path.with_suffix(".txt").write_text(teaching.drawings_as_text({"O": WATER, "CCO": ETHANOL}))
    assert teaching.drawings("some model") == {"O": WATER, "CCO": ETHANOL}


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_formula_has_a_line_for_each_bond_and_letters_for_all_but_carbon():
    figure = teaching.structures_figure({"two": {"O": WATER, "CCO": ETHANOL}}, columns=3)
    assert len(figure.axes) == 3 and [t for t in texts(figure) if t] == ["OH2", "OH"]
    assert [len(axes.lines) for axes in figure.axes] == [0, 2, 0]
    double = {"atoms": [["", 0, 0], ["O", 1.2, 0]], "bonds": [[0, 1, 2.0]]}
    (axes,) = teaching.structures_figure({"one": {"C=O": double}}, columns=1).axes
    assert len(axes.lines) == 2


def test_masks_are_boxes_without_letters():
    ids = encode(["OCl"])[0].tolist()
    hidden = [MASK, *ids[1:]]
    figure = teaching.unmasking_figure([ids, hidden], ["clean", "masked"], "title")
    assert [t for t in texts(figure) if t] == ["O", "Cl", "Cl"]
    assert len(figure.axes[0].patches) == 2 * LENGTH


def test_a_bar_above_each_mask_says_how_probable_the_true_token_is():
    ids = encode(["OCl"])[0].tolist()
    hidden = [MASK, *ids[1:]]
    (axes,) = teaching.behind_masks_figure(hidden, ids, [0.25] * LENGTH, "title").axes
    floor, top = axes.get_yticks()[-2:]
    (bar,) = axes.containers[0]
    assert bar.get_y() == floor and bar.get_height() == 0.25 * (top - floor)


def test_columns_are_as_wide_as_their_longest_token():
    ring, oxygen = TOKENS.index("c1ccccc1"), TOKENS.index("O")
    assert teaching.edges_of([[ring, oxygen], [oxygen, MASK]]).tolist() == [0, 9, 12]


def test_the_figures_and_tables_of_the_recorded_runs():
    runs, steered = load_results(teaching.STUDY), load_results("molecule_sampling")
    table = teaching.quality_table(runs).splitlines()
    assert [line[:20].strip() for line in table[1:]] == list(teaching.ORDER)
    assert "100.0% (100.0% to 100.0%)" in table[1]
    assert len(teaching.distance_table(runs).splitlines()) == 1 + len(teaching.ORDER)
    figure = teaching.guidance_figure(steered)
    assert [len(axes.lines) for axes in figure.axes] == [8, 8, 8]  # 3 seeds and a mean, of two
    assert len(teaching.losses_figure(runs, [90.0, 80.0, 70.0]).axes[0].lines) == 3
    assert len(teaching.losses_figure(runs).axes[0].lines) == 2
    masked = [run for run in steered if run.variant == "masked diffusion"]
    assert len(teaching.orders_figure(masked, [0.7, 0.8]).axes[0].lines) == 2
    sets = {name: teaching.recorded(name) for name in teaching.ORDER[:4]}
    assert len(teaching.properties_figure(sets).axes) == 3


def test_the_range_over_the_seeds_is_that_of_the_numbers():
    runs = load_results(teaching.STUDY, "held-out molecules")
    assert teaching.spread(runs, "valid") == "100.0% (100.0% to 100.0%)"
    figure, alt = teaching.twins_schematic()
    assert figure.axes and "Left" in alt
    with pytest.raises(KeyError):
        teaching.spread(runs, "no such metric")
