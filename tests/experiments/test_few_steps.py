"""The study of few steps: equal budgets, pairs with the teacher, and a second round of reflow."""

import json
from types import SimpleNamespace

import pytest
import torch

from course_lib.common import paths
from course_lib.evaluation.metrics import mean
from course_lib.experiments import budget, few_steps, scaling
from course_lib.experiments.study import Outcome, Study
from course_lib.teaching.results import load_results


def test_the_budget_pays_once_for_each_batch_of_the_pool():
    recipe = SimpleNamespace(pool=100, settings={"scale": SimpleNamespace(accumulate=2)})
    # while the pool grows, a step of 1 s also makes 2 batches of 0.5 s: 2 s
    assert budget.affordable(1.0, 0.5, recipe, 60) == 30
    assert budget.affordable(1.0, 0.5, recipe, 100) == 50  # the pool is just complete
    assert budget.affordable(1.0, 0.5, recipe, 130) == 80  # 50 s for the pool, 80 for the steps


def test_the_number_of_steps_is_chosen_once(tmp_path, monkeypatch):
    begun = []
    recipe = SimpleNamespace(
        pool=0,
        settings={"scale": SimpleNamespace(accumulate=1)},
        begin=lambda **options: begun.append(options) or "the training",
    )
    monkeypatch.setattr(budget, "step_and_batch", lambda *_: (2.0, 0.0))
    assert budget.resumable(recipe, 3, 60, tmp_path / "run") == "the training"
    monkeypatch.setattr(budget, "step_and_batch", lambda *_: pytest.fail("timed again"))
    budget.resumable(recipe, 3, 60, tmp_path / "run")
    assert begun == [dict(steps=30, seed=3, device="cpu", folder=tmp_path / "run")] * 2
    assert json.loads((tmp_path / "run" / "budget.json").read_text())["steps"] == 30


def test_a_difference_is_paired_by_prompt(monkeypatch):
    reference = torch.tensor([[True, True, False, False]] * 6)
    mine = torch.tensor([[True, False, False, True]] * 6)
    monkeypatch.setattr(few_steps, "right", lambda draw, count: mine[:, :count])
    found = few_steps.compared(None, 4, reference)
    assert found["right at 4"] == 0.5 and found["difference at 4"] == 0
    low, high = mean("", [0.0, -1.0, 0.0, 1.0] * 6).interval  # not that of two shares
    assert (found["low at 4"], found["high at 4"]) == pytest.approx((low, high))


def test_the_teachers_verdicts_are_kept_row_by_row(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RECORDED", tmp_path)
    assert few_steps.teachers_verdicts(2) is None
    verdicts = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    curve = {"right": [int(each) for each in verdicts.flatten()]}
    run = lambda variant, seed: Outcome({"steps": 1}, {}, curve)  # noqa: E731
    Study("few_steps", ["teacher"], (0,), run).main([])
    assert torch.equal(few_steps.teachers_verdicts(3), verdicts[:, :3])
    assert few_steps.teachers_verdicts(6) is None
    assert load_results("few_steps")[0].curve == curve


def test_without_the_teacher_nothing_is_graded(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RECORDED", tmp_path)
    recipe = SimpleNamespace(pipeline=lambda model: None)
    with pytest.raises(ValueError, match="first run this study's variant 'teacher'"):
        few_steps.grade(recipe, None)


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="did you mean 'shortcut'"):
        few_steps.run("short cut", 0)
    with pytest.raises(ValueError, match="did you mean 'DiT, small'"):
        scaling.run("DiT small", 0)


def test_the_second_round_asks_for_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        few_steps.method("reflow again", 0)


def test_the_networks_of_the_scaling_study_are_three_sizes_each():
    counts = {}
    for variant, (make, size) in scaling.VARIANTS.items():
        unet = make(size).model().unet
        counts[variant] = sum(weight.numel() for weight in unet.parameters())
    for name in ("U-Net", "DiT"):
        small, medium, large = (counts[f"{name}, {size}"] for size in ("small", "medium", "large"))
        assert 1.5 * small < medium and 1.5 * medium < large


def test_a_scaling_run_measures_at_doubling_lengths_and_keeps_its_points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def resumable(recipe, seed, cpu_seconds, folder):
        recipe.batch_size, recipe.kinds, recipe.save_every = 2, {"single": 1.0}, 1
        plain = scaling.Scale(accumulate=2)
        return recipe.begin(steps=16, device="cpu", seed=seed, folder=folder, scale=plain)

    stopped = []

    def test_loss(recipe, model, count):
        stopped.append(count)
        if len(stopped) == 3:
            raise KeyboardInterrupt
        return SimpleNamespace(value=1 / len(stopped))

    monkeypatch.setattr(scaling, "resumable", resumable)
    monkeypatch.setattr(scaling.Plain, "test_loss", test_loss)
    monkeypatch.setitem(scaling.DITS, "small", (16, 1))
    with pytest.raises(KeyboardInterrupt):
        scaling.run("DiT, small", 0)
    found = scaling.run("DiT, small", 0)
    assert found.curve["step"] == [1, 2, 4, 8, 16] and len(stopped) == 6
    assert found.curve["samples"] == [4, 8, 16, 32, 64]
    assert found.curve["flops"][-1] == 16 * found.curve["flops"][0] > 0
    assert found.metrics["loss"] == found.curve["loss"][-1] == 1 / 6
