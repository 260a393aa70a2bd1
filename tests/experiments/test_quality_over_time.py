"""Quality over time: graded steps survive an interruption; the shipped curves are plausible."""

from types import SimpleNamespace

import pytest
import torch

from course_lib.experiments import quality_over_time
from course_lib.recipes import Recipe
from course_lib.teaching.results import load_results
from course_lib.training import Optimizer, Scale


def test_a_grade_holds_step_minutes_and_share():
    recipe = SimpleNamespace(score=lambda network, count: 0.75)
    assert quality_over_time.grade(recipe, None, step=3, cpu_seconds=90) == {
        "step": 3,
        "cpu_minutes": 1.5,
        "right": 0.75,
    }


class Slope(Recipe):
    """Learns that y = 2 x."""

    name = "slope"
    settings = dict(steps=6, optimizer=Optimizer(lr=0.1), scale=Scale())
    save_every = 3
    measure = None

    def held_out(self, count):
        return None, ["the slope"] * count

    def samples(self, model):  # all of one grey
        return model.weight.clamp(0, 1).detach().expand(10, 3, 8, 8), []

    def model(self):
        return torch.nn.Linear(1, 1)

    def batch(self, index):
        return torch.rand(4, 1)

    def loss(self, model, x):
        return (model(x) - 2 * x).square().mean()


@pytest.mark.parametrize(
    "stopped", ["in step 4", "in step 6", "in the grading at 2", "in the grading at 6"]
)
def test_an_interrupted_run_keeps_its_grades(monkeypatch, tmp_path, stopped):
    """It grades steps 2, 4 and 6 and saves its state at 3 and 6, so a grade may be ahead of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quality_over_time, "EVERY", 2)
    monkeypatch.setitem(quality_over_time.RECIPES, "slope", Slope)
    reached, was_stopped = [], []

    def reach(place):
        reached.append(place)
        if place == stopped and not was_stopped:
            was_stopped.append(True)
            raise KeyboardInterrupt

    batch = Slope.batch
    monkeypatch.setattr(Slope, "batch", lambda self, i: reach(f"in step {i + 1}") or batch(self, i))

    def score(self, network, count):
        steps = sum(place.startswith("in step") for place in reached)
        return reach(f"in the grading at {steps}") or 0.5

    monkeypatch.setattr(Slope, "score", score)
    with pytest.raises(KeyboardInterrupt):
        quality_over_time.run("slope", 0)
    for _ in range(2):  # the second time nothing is left to train
        found = quality_over_time.run("slope", 0)
        assert found.curve["step"] == [2, 4, 6] and found.settings["steps"] == 6
        assert found.metrics["right"] == 0.5
        assert found.samples.shape == (3, 8, 3, 8, 8) and len(found.captions) == 3
        greys = found.samples[:, 0, 0, 0, 0].tolist()  # as it learned at that time
        assert greys == sorted(greys) and greys[0] < greys[2]


def test_the_recorded_curves_rise_in_time():
    runs = {run.variant: run for run in load_results("quality_over_time")}
    latent, pixel = runs["scenes-latent"], runs["scenes-pixel"]
    for run in runs.values():
        minutes = run.curve["cpu_minutes"]
        assert minutes == sorted(minutes) and minutes[0] > 0
        assert all(0 <= share <= 1 for share in run.curve["right"])
    assert latent.metrics["right"] > pixel.metrics["right"]
