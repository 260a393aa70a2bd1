"""The confusion of a judge, and the shares behind its verdicts."""

import pytest
import torch

from course_lib.evaluation.confusion import confusion, corrected


def test_a_judge_of_known_errors_is_seen_through():
    generator = torch.Generator().manual_seed(0)
    errors = torch.tensor([[0.7, 0.1, 0.2], [0.05, 0.9, 0.05], [0.3, 0.1, 0.6]]).double()
    shares = torch.tensor([0.2, 0.5, 0.3]).double()
    truth = shares.multinomial(100_000, replacement=True, generator=generator)
    said = errors[truth].multinomial(1, generator=generator)[:, 0]
    found = confusion(truth, said, 3)
    torch.testing.assert_close(found, errors, atol=0.01, rtol=0)
    verdicts = said.bincount(minlength=3) / len(said)
    assert (verdicts - shares).abs().max() > 0.03  # the verdicts alone are wrong
    torch.testing.assert_close(corrected(verdicts, found), shares, atol=0.01, rtol=0)


def test_two_classes_are_rogan_and_gladens_formula():
    sensitivity, specificity, apparent = 0.85, 0.95, 0.3
    errors = torch.tensor([[sensitivity, 1 - sensitivity], [1 - specificity, specificity]]).double()
    p, _ = corrected(torch.tensor([apparent, 1 - apparent]).double(), errors)
    right = (apparent + specificity - 1) / (sensitivity + specificity - 1)
    assert p.item() == pytest.approx(right, abs=1e-6)


def test_batches_are_solved_one_by_one_and_sum_to_one():
    generator = torch.Generator().manual_seed(1)
    errors = torch.rand(5, 4, 4, generator=generator).double().softmax(2) + 2 * torch.eye(4)
    errors = errors / errors.sum(2, keepdim=True)
    shares = torch.rand(5, 4, generator=generator).double().softmax(1)
    found = corrected(shares, errors)
    for i in range(5):
        torch.testing.assert_close(found[i], shares[i] @ errors[i].inverse())
    torch.testing.assert_close(found.sum(1), torch.ones(5).double())
    torch.testing.assert_close(corrected(shares, torch.eye(4).double()), shares)


def test_impossible_shares_are_not_hidden():
    """If the judge errs less on these pictures than C says, a share may exceed 1."""
    errors = torch.tensor([[0.7, 0.3], [0.3, 0.7]])
    assert corrected(torch.tensor([0.9, 0.1]), errors)[0] > 1


def test_a_class_without_an_example_is_refused():
    with pytest.raises(ValueError, match="some of each of 3 classes"):
        confusion(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 2]), 3)
    with pytest.raises(ValueError, match="one for each truth"):
        confusion(torch.tensor([0, 1]), torch.tensor([0]), 2)
    with pytest.raises(ValueError, match="rows that sum to 1"):
        corrected(torch.tensor([0.5, 0.5]), torch.tensor([[2.0, 1.0], [0.0, 3.0]]))
