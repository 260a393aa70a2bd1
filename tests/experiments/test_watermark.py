"""The watermark's study with a subject whose pictures are its noise, so that nothing gets lost."""

import pytest
import torch

from course_lib.evaluation.attacks import add_noise
from course_lib.experiments import watermark
from course_lib.experiments.watermark import ATTACKS, GRID, Subject, run
from course_lib.pipelines.watermark import ring_watermark
from course_lib.teaching.results import load_results

SUBJECT = Subject(
    shape=(1, 16, 16),
    radius=4,
    channels=1,
    draw=lambda noise, indices: noise / 4,
    find=lambda images: images * 4,
    real=lambda indices: torch.randn(len(indices), 1, 16, 16) / 4,
    attacks=ATTACKS | {"lost": lambda images: torch.randn_like(images) / 4},
    right=lambda images, indices: [i % 2 == 0 for i in indices],
)


@pytest.fixture
def outcome(monkeypatch):
    monkeypatch.setitem(watermark.VARIANTS, "digits", lambda: SUBJECT)
    monkeypatch.setattr(watermark, "NEGATIVES", 200)
    monkeypatch.setattr(watermark, "MARKED", 40)
    torch.manual_seed(0)
    return run("digits", 0)


def test_the_mark_is_found_exactly_where_it_is(outcome):
    metrics = outcome.metrics
    assert metrics["auc, none"] == metrics["worst, none"] == metrics["tpr, none"] == 1
    assert abs(metrics["auc, lost"] - 0.5) < 0.15 and metrics["tpr, lost"] < 0.1
    assert metrics["p < 0.01, none"] == pytest.approx(0.01, abs=0.02)  # unmarked: white noise
    assert metrics["worst, noise 0.1"] <= metrics["auc, noise 0.1"] > 0.9
    assert metrics["right, marked"] == metrics["right, unmarked"] == 0.5


def test_the_curve_and_the_pictures_have_one_part_for_each_attack(outcome):
    assert [*outcome.curve] == ["fpr", *ATTACKS, "lost"]
    assert {len(column) for column in outcome.curve.values()} == {len(GRID)}
    for name, column in outcome.curve.items():
        assert column == sorted(column) and column[-1] == 1, name
    assert outcome.samples.shape == (4, 2 + len(ATTACKS), 3, 16, 16)
    assert {len(row) for row in outcome.captions} == {2 + len(ATTACKS)}


def test_no_two_pictures_share_their_noise():
    drawn = []
    subject = Subject(**vars(SUBJECT) | {"draw": lambda noise, some: drawn.extend(some) or noise})
    watermark.drawn(subject, range(0, 120), None)
    assert drawn == [*range(120)]
    key = watermark.ring_key((1, 16, 16), 4)
    whole = watermark.drawn(SUBJECT, range(7, 10), key)
    again = watermark.drawn(SUBJECT, range(8, 9), key)
    torch.testing.assert_close(whole[1:2], again)
    noise = 4 * watermark.drawn(SUBJECT, range(7, 10), None)
    torch.testing.assert_close(ring_watermark(noise, key), 4 * whole)


def test_attacks_are_deterministic():
    images = torch.zeros(2, 1, 16, 16)
    assert torch.equal(ATTACKS["noise 0.1"](images), add_noise(images, 0.1))


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        run("digts", 0)


# --- what is recorded ------------------------------------------------------------------------


RECORDED = {each.variant: each for each in load_results("watermark")}


@pytest.mark.parametrize("name", RECORDED)
def test_every_record_has_enough_pictures_and_whole_curves(name):
    each = RECORDED[name]
    assert each.settings["marked"] >= 300 and each.settings["negatives"] >= 1000
    assert len(each.samples()) == 4 and each.samples().shape[1] == len(each.captions[0])
    for attack, column in each.curve.items():
        assert len(column) == len(GRID) and column == sorted(column)
        if attack != "fpr":
            assert each.metrics[f"worst, {attack}"] <= each.metrics[f"auc, {attack}"] <= 1
            assert 0 <= each.metrics[f"tpr, {attack}"] <= 1
    assert set(each.captions[0]) == {"without the mark", *each.curve} - {"fpr"}


def test_the_mark_is_found_where_nothing_was_changed_except_through_the_scenes_decoder():
    assert RECORDED["digits"].metrics["auc, none"] > 0.999
    latents = RECORDED["scenes, latents"].metrics
    assert latents["auc, none"] > 0.98 and latents["auc, decoder"] < 0.7
    assert RECORDED["scenes"].metrics["auc, none"] < 0.6


def test_cropping_hides_the_digits_mark_and_compression_does_not():
    metrics = RECORDED["digits"].metrics
    assert metrics["tpr, JPEG 25"] > 0.99 and metrics["tpr, crop to 75 %"] < 0.01
    assert metrics["worst, crop to 75 %"] < 0.1  # under one key, cropped pictures look unmarked


def test_the_emojis_mark_is_found_unless_the_picture_is_moved():
    metrics = RECORDED["emoji"].metrics
    assert metrics["auc, none"] > 0.95 > 0.9 > metrics["auc, JPEG 25"] > 0.75
    for attack in ("crop to 75 %", "rotate by 90°"):
        assert metrics[f"auc, {attack}"] < 0.6 and metrics[f"tpr, {attack}"] < 0.1


def test_a_ring_turned_is_the_same_ring_and_an_inverted_turned_picture_is_not():
    """In the noise itself a quarter turn loses nothing: see tests/pipelines/test_watermark.py."""
    for name in ("emoji", "digits"):
        metrics = RECORDED[name].metrics
        assert metrics["tpr, rotate by 90°"] < 0.6 * metrics["tpr, none"]
