"""Recording reference runs: each seed trains once, stops where it should, and is complete."""

import pytest
import torch
from torch import nn

from course_lib import recipes
from course_lib.common import paths
from course_lib.evaluation.metrics import Metric
from course_lib.experiments import reference_runs
from course_lib.experiments.reference_runs import LAST_STEP, STUDY, rows, run
from course_lib.experiments.study import Study
from course_lib.teaching.results import by_variant, load_results, result_path
from course_lib.training import Optimizer, Scale


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.kwargs = {}
        self.weight = nn.Parameter(torch.randn(1))


class Slope(recipes.Recipe):
    """Learns that y = 2 x, in steps of a millisecond, and draws grey images."""

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
    monkeypatch.setattr(paths, "RECORDED", tmp_path / "recorded")
    return Study(STUDY.name, ["slope"], (3, 1, 4), run)


def test_recording_trains_each_seed_and_carries_on_where_it_stopped(slope, monkeypatch, capsys):
    slope.main([])
    runs = load_results(STUDY.name, "slope")
    assert [each.seed for each in runs] == [1, 3, 4]
    assert runs[0].settings == {"steps": 30, "planned_steps": 30, "samples": 500}
    assert len({tuple(each.curve["loss"]) for each in runs}) == 3
    assert runs[0].captions == [["real"] * 8, [""] * 8]
    real, again = runs[0].samples()
    torch.testing.assert_close(again, real / 2, atol=2 / 255, rtol=0)
    assert "step 30" in capsys.readouterr().out

    monkeypatch.setattr(recipes.recipe.train, "advance", None)  # nothing is left to train
    path = result_path(STUDY.name, "slope", 4)
    before = path.read_text()
    path.unlink()
    slope.main([])
    assert path.read_text() == before


def test_a_long_recipe_stops_after_its_first_minute(slope, monkeypatch):
    monkeypatch.setitem(LAST_STEP, "slope", 7)
    slope.main(["slope", "1"])
    (stopped,) = load_results(STUDY.name)
    assert (stopped.settings["steps"], stopped.settings["planned_steps"]) == (7, 30)
    assert stopped.curve["step"][-1] == 7


def test_the_first_samples_become_a_row():
    images, titles = torch.rand(20, 1, 8, 8), [str(i) for i in range(20)]
    samples, captions = rows(images, titles)
    assert torch.equal(samples[0], images[:8]) and captions == [titles[:8]]


@pytest.mark.parametrize("name", sorted(by_variant(load_results(STUDY.name))))
def test_a_shipped_recording_is_small_up_to_date_and_of_three_seeds(name):
    runs, planned = load_results(STUDY.name, name), recipes.RECIPES[name].settings["steps"]
    assert tuple(each.seed for each in runs) == STUDY.seeds
    steps = min(LAST_STEP.get(name, planned), planned)
    for each in runs:
        assert each.settings["planned_steps"] == planned, "the recipe was changed: record it again"
        assert each.settings["steps"] == each.curve["step"][-1] == steps
        assert each.settings["samples"] == reference_runs.SAMPLES
        path = result_path(STUDY.name, name, each.seed)
        assert path.stat().st_size + path.with_suffix(".png").stat().st_size < 40_000
    assert len({tuple(each.curve["step"]) for each in runs}) == 1
