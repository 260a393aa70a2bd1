"""Exercises 16.4 to 16.6: what they measure, by simulation."""

from itertools import pairwise

import pytest
import torch

from course_lib.evaluation.confusion import confusion, corrected
from course_lib.evaluation.roc import precision
from course_lib.exercises import ch16_measures as ch16
from course_lib.teaching.check import EXERCISES


def test_the_promise_is_kept_for_any_number_of_customers_and_limits_of_their_own_break_it():
    for customers in (3, 200):
        draw = torch.Generator().manual_seed(customers)
        known, new = (torch.randn(20_000, customers, generator=draw) for _ in range(2))
        accused = (ch16.whose_mark(new, known, 0.05) >= 0).float().mean().item()
        assert accused == pytest.approx(0.05, abs=0.008)
        planted = (ch16.planted_limit_for_each(new, known, 0.05) >= 0).float().mean().item()
        assert planted > 1 - 0.96**customers


def test_a_marked_picture_is_given_to_its_customer():
    draw = torch.Generator().manual_seed(0)
    negatives, distances = (torch.randn(500, 20, generator=draw) for _ in range(2))
    owner = torch.randint(20, (500,), generator=draw)
    distances[torch.arange(500), owner] = -9
    assert torch.equal(ch16.whose_mark(distances, negatives, 0.01), owner)


def test_probabilities_and_confusion_lead_to_the_same_shares():
    """A judge whose probabilities are exactly Bayes' for a prior that no longer holds."""
    draw = torch.Generator().manual_seed(0)
    prior, shares = torch.tensor([0.4, 0.4, 0.2]), torch.tensor([0.1, 0.3, 0.6])

    def pictures(p, count):
        truth = p.multinomial(count, replacement=True, generator=draw)
        x = 1.5 * torch.nn.functional.one_hot(truth, 3) + torch.randn(count, 3, generator=draw)
        return truth, (1.5 * x + prior.log()).softmax(1)  # the posterior of a unit Gaussian

    known, said = pictures(prior, 20_000)
    errors = confusion(known, said.argmax(1), 3)
    _, probabilities = pictures(shares, 20_000)
    ours = ch16.true_shares(probabilities, prior, 100)
    torch.testing.assert_close(ours, shares, atol=0.02, rtol=0)
    counted = probabilities.argmax(1).bincount(minlength=3) / len(probabilities)
    solved = corrected(counted, errors)
    torch.testing.assert_close(ours.double(), solved, atol=0.02, rtol=0)
    plain = ch16.one_round_only(probabilities, prior, 100)
    assert (plain - shares).abs().max() > 0.1


def test_the_double_alarms_by_counting():
    exercise = EXERCISES["16.6"]
    assert exercise.right == pytest.approx(precision(0.9**2, 0.05**2, 1 / 200), abs=1e-5)
    values = [exercise.right, *(value for value, _ in exercise.misconceptions.values())]
    values.sort()
    assert all(b > 1.03 * a for a, b in pairwise(values))
    one, _ = exercise.misconceptions["one alarm"]
    assert one == pytest.approx(precision(0.9, 0.05, 1 / 200), abs=1e-5)
