"""Chapter 16's exercises, first half: answers that are known, and an audit that is wrong."""

import pytest
import torch

from course_lib.datasets.duplicates import near_duplicates
from course_lib.evaluation.memorisation import copy_threshold, distance_ratio
from course_lib.evaluation.roc import roc
from course_lib.exercises import ch16
from course_lib.teaching.check import Unusable


def test_the_area_is_that_of_the_curve_also_with_ties():
    for members, others in ch16.errors_of_both():
        expected = roc(-members, -others).auc
        assert ch16.area_under_roc(members, others).item() == pytest.approx(expected)


def test_the_ratio_without_duplicates_is_the_librarys():
    samples, training = torch.randn(6, 4), torch.randn(9, 4)
    ours = ch16.ratio_to_a_rival(samples, training, torch.arange(9))
    torch.testing.assert_close(ours, distance_ratio(samples, training))
    twice = torch.cat([training, training]), torch.arange(9).repeat(2)
    torch.testing.assert_close(ch16.ratio_to_a_rival(samples, *twice), ours)
    assert (ch16.planted_blind_ratio(samples, *twice) > 0.99).all()


def test_the_number_is_how_often_it_was_seen_before_over_after():
    often = {files: 5000 * 64 / files for files in (5000, 4000)}
    assert ch16.EXERCISES["16.3"].right == pytest.approx(21 * often[5000] / often[4000])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_capstones_reference_reaches_its_bound_with_room(seed):
    torch.manual_seed(seed)
    assert ch16.copies_found(ch16.find_copies) > ch16.EXERCISES["16.7"].bound + 0.05


def test_the_planted_set_is_what_the_exercise_says():
    torch.manual_seed(0)
    samples, training, held_out, is_copy = ch16.planted_set()
    shape = (3, 32, 32)
    assert samples.shape == (320, *shape) and training.shape == (360, *shape)
    assert held_out.shape == (600, *shape) and is_copy.sum() == 120
    groups = near_duplicates(((training + 1) * 127.5).round().byte())
    assert len(set(groups.tolist())) == 300


def without_deduplication(samples, training, held_out):
    return distance_ratio(samples, training) < copy_threshold(held_out, training)


def test_an_audit_that_forgets_the_duplicates_finds_half():
    torch.manual_seed(0)
    assert ch16.copies_found(without_deduplication) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    "answer, line",
    [
        (lambda samples, training, held_out: torch.ones(len(samples)), "you accuse 100%"),
        (lambda samples, training, held_out: samples, "the verdicts: expected a tensor"),
    ],
)
def test_what_is_no_audit_is_told_why(answer, line):
    torch.manual_seed(0)
    with pytest.raises(Unusable, match=line):
        ch16.copies_found(answer)
