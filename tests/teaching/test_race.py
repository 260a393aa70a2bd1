"""The record of latents against pixels: looks are told right, and records of others are kept."""

import json

import pytest
import torch

from course_lib.teaching import race
from course_lib.training.recipes import Recipe


def test_a_look_tells_step_minutes_and_share(monkeypatch):
    monkeypatch.setattr(race, "score", lambda recipe, network, count: 0.75)
    assert race.look(None, None, step=3, cpu_seconds=90) == {
        "step": 3,
        "cpu_minutes": 1.5,
        "right": 0.75,
    }


def test_a_new_race_keeps_the_others_record(monkeypatch, tmp_path):
    monkeypatch.setattr(race, "RECORD", tmp_path / "recorded" / "race.json")
    for name in ("scenes-latent", "scenes-pixel"):
        monkeypatch.setattr(race, "race", lambda name: [{"step": 1, "of": name}])
        race.main([name])
    record = json.loads(race.RECORD.read_text())
    assert {name: looks[0]["of"] for name, looks in record.items()} == {n: n for n in record}
    assert set(record) == {"scenes-latent", "scenes-pixel"}


class Slope(Recipe):
    """Learns that y = 2 x."""

    name = "slope"
    settings = dict(steps=6, lr=0.1, save_every=4)
    pictures = measure = None

    def model(self):
        return torch.nn.Linear(1, 1)

    def batch(self, index):
        return torch.rand(4, 1)

    def loss(self, model, x):
        return (model(x) - 2 * x).square().mean()


def test_a_race_that_was_stopped_keeps_its_looks(monkeypatch, tmp_path):
    """It stops at step 5 of 6, between two looks, with its last state at step 4."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(race, "EVERY", 2)
    monkeypatch.setattr(race, "score", lambda recipe, network, count: 0.5)
    monkeypatch.setitem(race.RECIPES, "slope", Slope)
    batch = Slope.batch

    def killed(self, index):
        if index == 5:
            raise KeyboardInterrupt
        return batch(self, index)

    monkeypatch.setattr(Slope, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        race.race("slope")
    monkeypatch.setattr(Slope, "batch", batch)
    for _ in range(2):  # and once more, with nothing left to train
        assert [look["step"] for look in race.race("slope")] == [2, 4, 6]


def test_the_record_that_ships_rises_in_time_and_names_both():
    record = json.loads(race.RECORD.read_text())
    assert set(record) == {"scenes-latent", "scenes-pixel"}
    for looks in record.values():
        minutes = [look["cpu_minutes"] for look in looks]
        assert minutes == sorted(minutes) and minutes[0] > 0
        assert all(0 <= look["right"] <= 1 for look in looks)
    assert record["scenes-latent"][-1]["right"] > record["scenes-pixel"][-1]["right"]


def test_unknown_recipes_are_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(race, "RECORD", tmp_path / "race.json")
    with pytest.raises(SystemExit, match="2"):
        race.main(["scenes-latnt"])
    assert "unknown recipe 'scenes-latnt'; did you mean 'scenes-latent'" in capsys.readouterr().err
    assert not race.RECORD.exists()
