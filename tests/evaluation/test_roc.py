"""ROC curves: scikit-learn's, the closed form for two Gaussians, and Bayes' rule by counting."""

import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from course_lib.evaluation.roc import precision, roc


def scores(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("ties", [False, True])
def test_the_curve_is_that_of_scikit_learn(ties):
    positives, negatives = scores(40) + 0.8, scores(70, seed=1)
    if ties:
        positives, negatives = (2 * positives).round(), (2 * negatives).round()
    curve = roc(positives, negatives)
    truth = [1] * 40 + [0] * 70
    both = torch.cat([positives, negatives]).double().numpy()
    fpr, tpr, _ = roc_curve(truth, both, drop_intermediate=False)
    assert curve.fpr.tolist() == pytest.approx(fpr.tolist())
    assert curve.tpr.tolist() == pytest.approx(tpr.tolist())
    assert curve.auc == pytest.approx(roc_auc_score(truth, both))


def test_two_gaussians_have_the_area_of_their_difference():
    """Phi(d / sqrt 2), here for d = 1; its standard deviation over draws is below 0.002."""
    curve = roc(scores(40_000) + 1, scores(40_000, seed=1))
    expected = torch.special.ndtr(torch.tensor(0.5**0.5)).item()
    assert curve.auc == pytest.approx(expected, abs=0.008)


def test_the_threshold_keeps_its_promise():
    positives, negatives = scores(500) + 1, scores(1000, seed=1)
    for fpr in (0.0, 0.01, 0.1):
        tpr, threshold = roc(positives, negatives).at(fpr)
        assert (negatives >= threshold).float().mean() <= fpr
        assert (positives >= threshold).float().mean().item() == pytest.approx(tpr)
        looser = negatives[negatives < threshold].max()  # the next threshold breaks it
        assert (negatives >= looser).float().mean() > fpr
    assert roc(positives, positives).auc == pytest.approx(0.5)
    assert roc(positives + 99, negatives).at(0.0)[0] == 1


def test_precision_is_what_counting_gives():
    """Of 10,000 pictures 100 are marked: 90 are found, with 2 % of 9,900 = 198 false alarms."""
    assert precision(tpr=0.9, fpr=0.02, base_rate=0.01) == pytest.approx(90 / (90 + 198))
    assert precision(0.9, 0.02, 1.0) == 1 and precision(0.5, 0.5, 0.3) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: roc(scores(0), scores(3)), "positives: expected a list of numbers, not empty"),
        (lambda: roc(scores(2), scores(2) * torch.nan), "negatives: expected"),
        (lambda: roc(scores(2, 2), scores(2)), "positives: expected"),
        (lambda: roc(scores(2), scores(2)).at(1.5), "fpr: expected a share in [0, 1], got 1.5"),
        (lambda: precision(0.0, 0.0, 0.5), "rates: expected some that raise alarms"),
        (lambda: precision(1.1, 0.0, 0.5), "tpr: expected a share"),
    ],
)
def test_refusals(call, told):
    with pytest.raises(ValueError) as refusal:
        call()
    assert told in str(refusal.value)
