"""The record of latents against pixels: looks are told right, and records of others are kept."""

import json

import pytest

from course_lib.teaching import race


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
