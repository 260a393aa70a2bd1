"""Synthetic digits for a classifier: what a run records, and that the shipped runs are complete."""

import pytest
import torch

from course_lib.experiments import digit_augmentation as study
from course_lib.teaching import augmentation
from course_lib.teaching.results import by_variant, load_results

ARMS = {"real", "classical", "synthetic", "both", "synthetic alone"}


def test_a_short_run_records_every_arm_and_the_sweep(monkeypatch):
    short = {"train_model": 2, "train_classifier": 2}
    for name, steps in short.items():
        whole = getattr(augmentation, name)
        monkeypatch.setattr(
            study, name, lambda data, seed, whole=whole, steps=steps: whole(data, seed, steps)
        )
    monkeypatch.setattr(augmentation, "SAMPLER_STEPS", 2)
    monkeypatch.setattr(study, "SYNTHETIC", 20)
    outcome = study.run(study.SWEPT, seed=0)
    assert outcome.metrics.keys() >= ARMS
    assert outcome.curve["guidance"] == [1.0, 1.0, 1.0, *study.SCALES]
    assert outcome.curve["per class"] == [20, *study.AMOUNTS, 20, 20]
    assert {len(column) for column in outcome.curve.values()} == {5}
    assert outcome.samples.shape == (2, 20, 1, 8, 8)


def test_every_size_is_recorded_with_five_seeds():
    variants = by_variant(load_results("digit_augmentation"))
    assert set(variants) == set(study.SIZES)
    for name, runs in variants.items():
        assert [run.seed for run in runs] == [0, 1, 2, 3, 4]
        for run in runs:
            assert run.settings["test_digits"] == 256
            assert all(0.5 < run.metrics[arm] <= 1 for arm in ARMS)
            assert run.curve["accuracy"][0] == run.metrics["synthetic"]
            assert len(run.curve["accuracy"]) == (5 if name == study.SWEPT else 1)
            assert run.samples().shape == (2, 20, 3, 8, 8)


def test_all_runs_are_measured_on_the_same_held_out_digits():
    found = {run.metrics["right digit of held-out"] for run in load_results("digit_augmentation")}
    assert len(found) == 1


@pytest.mark.parametrize("name", study.SIZES)
def test_more_real_digits_lie_nearer_to_held_out_ones(name):
    """The subsets are nested, so the distance can only decrease."""
    if name == "100 per class":
        return
    fewer, more = study.SIZES[name], 2 * study.SIZES[name]
    held_out = augmentation.digits(8, "test")[0]
    far, near = (
        augmentation.distances(held_out, augmentation.few_digits(count, 0)[0])
        for count in (fewer, more)
    )
    assert (near <= far + 1e-6).all() and torch.median(near) < torch.median(far)
