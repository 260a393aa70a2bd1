"""The detector's study, with toy models in the place of the trained ones."""

import pytest
import torch

from course_lib.evaluation.roc import precision
from course_lib.experiments import detector
from course_lib.experiments.detector import ONE_IN, run, scores, train_detector
from course_lib.teaching.results import by_variant, load_results


def bright(shift):
    """A model whose digits are grey, and brighter or darker than the real ones."""

    def draw(seeds):
        noise = torch.randn(len(seeds), 1, 16, 16, generator=torch.Generator().manual_seed(0))
        return (shift + 0.1 * noise).clamp(-1, 1)

    return draw


def test_it_learns_to_tell_its_own_model_and_orders_by_logit():
    real, drawn = bright(-0.5)(range(100)), bright(0.5)(range(100))
    model = train_detector(real, drawn, seed=0, steps=40)
    assert scores(model, drawn).min() > scores(model, real).max()


def test_what_it_never_saw_passes_as_real(monkeypatch):
    """The unknown model draws exactly what the detector took as real: no better than chance."""
    monkeypatch.setattr(detector, "STEPS", 40)
    real = bright(-0.5)(range(120))
    monkeypatch.setattr(detector, "digits", lambda size, split: (real, None))
    known, unknown = bright(0.5), bright(-0.5)
    models = {"digits-ddpm": known, "digits-classes": unknown, "digits-vae": known}
    monkeypatch.setattr(detector, "MODELS", models)
    monkeypatch.setattr(detector, "TESTED", 120)
    monkeypatch.setattr(detector, "train_detector", lambda *a: train_detector(*a, steps=40))
    metrics = run("digits-ddpm", 0).metrics
    assert metrics["auc, digits-ddpm"] == metrics["auc, digits-vae"] == 1
    assert metrics["auc, digits-classes"] == pytest.approx(0.5)  # the same pictures: all ties
    shares = [metrics[f"precision, one in {n}"] for n in ONE_IN]
    assert shares == sorted(shares, reverse=True) and shares[0] <= 1


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="did you mean 'digits-ddpm'"):
        run("digits-dpm", 0)


# --- what is recorded ------------------------------------------------------------------------


RECORDED = by_variant(load_results("detector"))


def mean(variant, metric):
    return sum(each.metrics[metric] for each in RECORDED[variant]) / len(RECORDED[variant])


def test_two_detectors_with_three_seeds_each():
    assert {name: len(each) for name, each in RECORDED.items()} == {
        "digits-ddpm": 3,
        "digits-vae": 3,
    }
    for each in load_results("detector"):
        assert each.samples().shape == (4, 8, 3, 16, 16)
        own = each.metrics[f"tpr, {each.variant}"]
        for n in ONE_IN:  # precision by Bayes' rule, at a rate of false alarms of at most 5 %
            worth = each.metrics[f"precision, one in {n}"]
            assert worth >= precision(own, 0.05, 1 / n) - 1e-3


def test_a_detector_of_blur_takes_guided_digits_for_more_real_than_real():
    assert mean("digits-vae", "auc, digits-vae") > 0.9
    assert mean("digits-vae", "auc, digits-ddpm") < 0.7
    assert mean("digits-vae", "auc, digits-classes") < 0.4
    assert mean("digits-vae", "tpr, digits-classes") < 0.01


def test_a_good_model_leaves_little_to_find():
    assert 0.5 < mean("digits-ddpm", "auc, digits-ddpm") < 0.65
