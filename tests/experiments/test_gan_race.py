"""The race of GANs and diffusion: its variants, and what a short run of each kind records."""

import pytest
import torch

from course_lib.experiments import gan_race
from course_lib.teaching import gans
from course_lib.teaching.gan_data import Digits, Ring, Singles
from course_lib.teaching.gans import STEPS

MEASURED = {"modes", "right", "frechet", "kernel", "precision", "recall", "diversity"}


@pytest.fixture
def short(monkeypatch, tmp_path):
    """One training step, and few samples in few steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gan_race, "BUDGETS", dict.fromkeys(gan_race.BUDGETS, 1e-6))
    monkeypatch.setattr(gan_race, "FEWER", 1)
    monkeypatch.setattr(gan_race, "STEPS", 2)
    monkeypatch.setattr(gan_race, "GUIDANCES", (2.0,))
    for data, count in ((Ring, 40), (Digits, 20), (Singles, 10)):
        monkeypatch.setattr(data, "count", count)
        monkeypatch.setattr(data, "batch_size", 4)
    monkeypatch.setattr(Singles, "pool", 8)


def test_every_data_set_meets_every_model():
    assert len(gan_race.VARIANTS) == 12
    assert {data for data, _ in gan_race.VARIANTS.values()} == set(gan_race.BUDGETS)
    assert list(gan_race.BUDGETS.values()) == [2 * 60, 5 * 60, 10 * 60]
    assert gan_race.STEPS == STEPS


@pytest.mark.parametrize("variant", ["ring, GAN", "digits, GAN without R1"])
def test_a_gan_records_its_measurements_and_a_sweep_of_truncation(variant, short):
    outcome = gan_race.run(variant, 0)
    assert outcome.settings["steps"] == 1 and outcome.metrics["failed"] == 0
    assert outcome.metrics.keys() >= MEASURED | {f"{name} of real" for name in MEASURED}
    assert outcome.curve["truncation"] == [1.0, 0.7, 0.4]
    assert outcome.curve["evaluations"] == [1, 1, 1]
    assert outcome.curve["frechet"][0] == outcome.metrics["frechet"]
    assert outcome.samples.shape[:2] == (len(outcome.captions), len(outcome.captions[0]))


def test_diffusion_with_labels_records_guidance_and_fewer_steps(short):
    outcome = gan_race.run("scenes, diffusion", 0)
    assert outcome.curve["guidance"] == [1.0, 1.0, 2.0]
    assert outcome.curve["evaluations"] == [2, 1, 4]
    assert outcome.samples.shape == (2, 5, 3, 32, 32)
    assert outcome.metrics["right of real"] == 1.0
    colour, shape = outcome.captions[0][0].split()
    assert (shape, colour) in Singles.pairs


def test_a_model_that_draws_no_numbers_is_recorded_as_failed(short, monkeypatch):
    monkeypatch.setattr(gan_race, "train_for", lambda training, seconds: spoil(training))

    def spoil(training):
        training.done = 7
        for weight in training.average.model.parameters():
            weight.fill_(float("nan"))
        return "the loss is nan at step 8"

    outcome = gan_race.run("ring, GAN", 0)
    assert outcome.metrics == {"cpu_minutes": 0.0, "failed": 1.0} and outcome.curve == {}
    assert outcome.settings["steps"] == 7


def test_a_run_that_was_stopped_continues(short, tmp_path, monkeypatch):
    steps = []
    whole = gans.Training.advance

    def stop_at_251(training):
        step = whole(training)
        steps.append(step.index)
        if step.index == 251 and len(steps) == 251:
            raise KeyboardInterrupt
        return step

    monkeypatch.setattr(gans.Training, "advance", stop_at_251)
    monkeypatch.setattr(gan_race, "BUDGETS", {"ring": 3600})
    with pytest.raises(KeyboardInterrupt):
        gan_race.run("ring, diffusion", 0)
    assert (tmp_path / "outputs" / "gan_race" / "ring-diffusion-0" / "state.safetensors").exists()
    monkeypatch.setattr(gan_race, "BUDGETS", {"ring": 0})  # all its time is spent
    outcome = gan_race.run("ring, diffusion", 0)
    assert steps[-1] == 251 and outcome.settings["steps"] == 250
    assert torch.tensor(outcome.metrics["cpu_minutes"]) > 0
