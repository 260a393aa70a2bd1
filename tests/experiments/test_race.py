"""The record of latents against pixels: looks are told right, and records of others are kept."""

import json

import pytest
import torch

from course_lib.experiments import race
from course_lib.recipes import Recipe
from course_lib.training import Optimizer, Scale


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
    settings = dict(steps=6, optimizer=Optimizer(lr=0.1), scale=Scale())
    save_every = 3
    samples = measure = None

    def model(self):
        return torch.nn.Linear(1, 1)

    def batch(self, index):
        return torch.rand(4, 1)

    def loss(self, model, x):
        return (model(x) - 2 * x).square().mean()


@pytest.mark.parametrize(
    "killed", ["in step 4", "in step 6", "in the look at 2", "in the look at 6"]
)
def test_a_race_that_was_stopped_keeps_its_looks(monkeypatch, tmp_path, killed):
    """It looks at steps 2, 4 and 6 and keeps its state at 3 and 6: a look may be ahead of that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(race, "EVERY", 2)
    monkeypatch.setitem(race.RECIPES, "slope", Slope)
    moment, alive = [], []

    def reach(place):
        moment.append(place)
        if place == killed and not alive:
            alive.append(True)
            raise KeyboardInterrupt

    batch = Slope.batch
    monkeypatch.setattr(Slope, "batch", lambda self, i: reach(f"in step {i + 1}") or batch(self, i))

    def score(recipe, network, count):
        steps = sum(place.startswith("in step") for place in moment)
        return reach(f"in the look at {steps}") or 0.5

    monkeypatch.setattr(race, "score", score)
    with pytest.raises(KeyboardInterrupt):
        race.race("slope")
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
