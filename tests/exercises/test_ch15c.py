"""Chapter 15c's exercises: what they measure, on cases whose answers are known."""

import pytest
import torch

from course_lib.datasets.digits import digits
from course_lib.exercises import ch15c
from course_lib.teaching.augmentation import copies, few_digits
from course_lib.teaching.check import Unusable


def test_a_constant_gain_has_no_error_however_much_the_seeds_differ():
    before = torch.tensor([0.2, 0.9, 0.5])
    mean, error = ch15c.paired_gain(before, before + 0.1)
    assert mean.item() == pytest.approx(0.1) and error.item() == pytest.approx(0, abs=1e-6)
    mean, error = ch15c.paired_gain(before, before + torch.tensor([0.0, 0.1, 0.2]))
    assert error.item() == pytest.approx(0.1 / 3**0.5)


def test_there_and_back_loses_only_the_border():
    images = digits(8, "test")[0][:5]
    back = ch15c.moved(ch15c.moved(images, 1, -2), -1, 2)
    assert torch.equal(back[..., :-1, 2:], images[..., :-1, 2:])
    assert (back[..., -1:, :] == -1).all() and (back[..., :2] == -1).all()


def test_the_exercises_share_of_copies_sees_what_the_librarys_sees():
    training, test = few_digits(20, 0)[0], digits(8, "test")[0]
    flat = [each.flatten(1) for each in (training, training, test)]
    assert ch15c.share_of_copies(*flat) == copies(training, training, test) == 1
    assert ch15c.planted_training_with_itself(*flat) == 0  # whatever it is given


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_capstones_reference_reaches_its_bound_with_room(seed):
    torch.manual_seed(seed)
    assert ch15c.right_and_new(ch15c.generate) > ch15c.EXERCISES["15c.5"].bound + 0.05


def returned(images, labels, wanted):
    return torch.stack([images[(labels == digit).nonzero()[0, 0]] for digit in wanted])


def label_ignored(images, labels, wanted):
    return ch15c.generate(images, labels, torch.zeros_like(wanted))


def pure_noise(images, labels, wanted):
    return torch.randn(len(wanted), 1, 8, 8)


@pytest.mark.parametrize(
    "answer, line",
    [(returned, "100% of your digits are copies"), (label_ignored, "only"), (pure_noise, "only")],
)
def test_what_is_no_generator_is_told_why(answer, line):
    torch.manual_seed(0)
    with pytest.raises(Unusable, match=line):
        ch15c.right_and_new(answer)


def test_a_target_verdict_names_the_share():
    verdict = ch15c.EXERCISES["15c.5"].examine(lambda images, labels, wanted: images)
    assert verdict.status == "wrong" and "(200, 1, 8, 8)" in verdict.message
