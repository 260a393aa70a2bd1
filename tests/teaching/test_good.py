"""What good looks like: recordings of at least three seeds, drawn with and without the reader's."""

import io
import json
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from course_lib import recipes
from course_lib.common.paths import ROOT
from course_lib.evaluation.metrics import Metric
from course_lib.teaching import good
from course_lib.teaching.style import few_colours
from course_lib.training import Optimizer, Scale

NAMES = sorted(path.stem for path in good.FOLDER.glob("*.json"))


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.kwargs = {}
        self.weight = nn.Parameter(torch.randn(1))


class Slope(recipes.Recipe):
    """Learns that y = 2 x, in steps of a millisecond, and draws one grey for each step learned."""

    name = "slope"
    settings = dict(steps=30, optimizer=Optimizer(lr=0.1), ema=0.5, scale=Scale())

    def model(self):
        return Line()

    def batch(self, step):
        return torch.rand(4)

    def loss(self, model, x):
        return (model.weight * x - 2 * x).square().mean()

    def samples(self, model):
        real = torch.linspace(-1, 1, 12).reshape(12, 1, 1, 1).expand(-1, 1, 8, 8)
        return torch.cat([real, real / 2]), ["real"] * 12 + ["again"] * 12

    def measure(self, model, count):
        return [Metric("slope", model.weight.item(), count)]


@pytest.fixture
def slope(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipes.RECIPES, "slope", Slope)
    monkeypatch.setattr(good, "FOLDER", tmp_path / "good")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recording_is_small_and_of_three_seeds_at_least(name):
    record = good.load(name)
    assert record["name"] == name and len(set(record["seeds"])) >= 3
    assert record["command"] == f"python -m course_lib.teaching.good {name}"
    recipe = recipes.RECIPES[name]
    planned = recipe.settings["steps"]
    assert record["planned"] == planned, "the recipe was changed: record it anew"
    assert record["steps"] == min(good.STOP.get(name, planned), planned)
    assert np.isfinite(record["losses"]).all()
    assert np.shape(record["losses"]) == (len(record["seeds"]), len(record["at"]))
    for kind in ("json", "png"):
        assert (good.FOLDER / f"{name}.{kind}").stat().st_size < 60_000
    good.pictures_figure(record)


def test_recordings_are_part_of_the_package():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = data["package-data"]["course_lib.teaching"]
    folder = ROOT / "course_lib" / "teaching"
    packed = {path for pattern in patterns for path in folder.glob(pattern)}
    assert {path for path in (folder / "recorded").rglob("*") if path.is_file()} <= packed


def test_recording_trains_each_seed_and_goes_on_where_it_stopped(slope, monkeypatch, capsys):
    good.main(["slope", "--seeds", "3", "1", "4"])
    record = good.load("slope")
    assert record["seeds"] == [3, 1, 4] and record["steps"] == record["planned"] == 30
    assert len({tuple(curve) for curve in record["losses"]}) == 3
    assert record["rows"] == ["real", "seed 3", "seed 1", "seed 4"]
    before = capsys.readouterr().out
    monkeypatch.setattr(recipes.recipe.train, "advance", None)  # nothing is left to train
    good.main(["slope", "--seeds", "3", "1", "4"])
    assert "step 30" in before and capsys.readouterr().out == ""
    assert good.load("slope") == record


def test_what_takes_long_is_stopped_and_says_so(slope, monkeypatch):
    monkeypatch.setitem(good.STOP, "slope", 7)
    good.record("slope")
    record = good.load("slope")
    assert (record["steps"], record["planned"], record["at"][-1]) == (7, 30, 7)
    assert good.stage(record) == "the recipe as begun, stopped after 7 of 30 steps"
    title = good.losses_figure(record).axes[0].get_title(loc="left")
    assert "stopped after 7 of 30" in title


def test_two_seeds_are_no_spread(slope):
    with pytest.raises(ValueError, match="at least three different seeds"):
        good.record("slope", [1, 2, 2])


def test_the_readers_own_is_drawn_and_told(slope, capsys):
    good.record("slope")
    capsys.readouterr()
    pictures = torch.zeros(3, 1, 8, 8)
    good.what_good_looks_like("slope", [1.0] * 12, pictures)
    out = capsys.readouterr().out
    assert "Your loss at step 12: 1;" in out and "slope: " in out
    labels = [
        t.get_text() for t in good.pictures_figure(good.load("slope"), pictures).axes[0].texts
    ]
    assert "yours" in labels and "seed 2" in labels
    good.what_good_looks_like("slope")
    assert "Your loss" not in capsys.readouterr().out


def test_smoothing_by_hand():
    losses = list(range(1, 1001))
    assert good.smooth(losses, [1, 5, 10, 11]) == [1, 5, 9.5, 10]
    assert good.smooth(losses, [1000]) == [np.mean(losses[-100:])]
    assert good.moments(1) == [1] and good.moments(2000)[-1] == 2000


def test_a_small_thing_keeps_its_colour():
    """On a noisy ground with thousands of colours, which a median cut shares among themselves."""
    picture = torch.rand(3, 64, 64) * 0.5 + 0.5
    picture[:, 30:34, 30:34] = torch.tensor([0.1, 0.2, 0.9])[:, None, None]
    few = few_colours(Image.fromarray((picture * 255).byte().permute(1, 2, 0).numpy()))
    red, green, blue = few.convert("RGB").getpixel((32, 32))
    assert max(abs(red - 25), abs(green - 51), abs(blue - 229)) < 16


def test_pictures_survive_being_packed():
    images = torch.rand(16, 3, 8, 8) * 2 - 1
    images = (images * 4).round() / 4  # few colours
    again = good.unpack(Image.open(io.BytesIO(good.pack(images))), 8)
    assert (again - images).abs().mean() < 0.2  # few colours for all of them
    grey = (torch.rand(16, 1, 8, 8) * 2 - 1).expand(-1, 3, -1, -1)
    again = good.unpack(Image.open(io.BytesIO(good.pack(grey))), 8)
    assert (again - grey).abs().max() < 0.05


def test_refusals(slope, capsys):
    with pytest.raises(ValueError, match="unknown recording 'slop'"):
        good.what_good_looks_like("slop")
    with pytest.raises(SystemExit, match="2"):
        good.main(["slop"])
    assert "unknown recipe 'slop'; did you mean 'slope'" in capsys.readouterr().err
    good.record("slope")
    record = good.load("slope")
    for losses in ([], [1.0, float("nan")], [[1.0]]):
        with pytest.raises(ValueError, match="losses must be finite numbers"):
            good.losses_figure(record, losses)
    with pytest.raises(ValueError, match=r"pictures are \(4, 4\) pixels, .* \(8, 8\)"):
        good.pictures_figure(record, torch.zeros(1, 1, 4, 4))
    text = json.dumps(record)
    assert len(text) < 60_000
