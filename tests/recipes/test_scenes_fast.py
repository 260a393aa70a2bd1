"""Distilled recipes: they start as the teacher, learn what each method says, and can be sampled."""

import pytest
import torch

from course_lib.common.checkpoints import load_checkpoint
from course_lib.diffusion import Gaussian
from course_lib.diffusion.few_steps import average, instant
from course_lib.evaluation.prompts import right
from course_lib.models import TextUNet
from course_lib.pipelines import text_to_image
from course_lib.recipes import scenes_fast
from course_lib.recipes.scenes_fast import (
    PATH,
    Backward,
    Consistency,
    Distilled,
    FlowMap,
    MeanFlow,
    MultistepConsistency,
    Reflow,
    ScenesFast,
    Shortcut,
)
from course_lib.training import Scale

METHODS = [Distilled, Consistency, MultistepConsistency, FlowMap, Shortcut, MeanFlow]


@pytest.fixture(scope="module")
def recipe():
    return ScenesFast()


@pytest.fixture(scope="module")
def data(recipe):
    x0, ids = recipe.encode(*recipe.held_out(6))
    return x0, ids


def test_the_student_starts_as_the_teacher_for_steps_of_any_length(recipe, data):
    model, (x0, ids) = recipe.model(), data
    context = model.text_encoder(ids)
    t, s = torch.full((6,), 0.8), torch.full((6,), 0.3)
    expected = instant(recipe.teacher.unet, context)(x0, t, s)
    torch.testing.assert_close(average(model.unet, context)(x0, t, s), expected)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen and all(name.startswith("text_encoder.") for name in frozen)


@pytest.mark.parametrize("method", METHODS)
def test_the_lesson_is_about_steps_that_the_sampler_takes(method, recipe, data, monkeypatch):
    """Its times fall, its x is the data noised to t, and its target has no gradient."""
    x0, _ = data
    lesson = method.__new__(method)  # its data and teacher would be loaded again
    lesson.__dict__ |= vars(recipe)
    network = torch.nn.Conv2d(12, 12, 1).double()  # a cheap stand-in for both networks
    seen = []

    def student(x, timestep, context):
        seen.append(timestep)
        return network(x.double()).float()

    eps = torch.randn(6, 12, 8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(scenes_fast.torch, "randn_like", lambda x: eps)
    torch.manual_seed(1)
    for _ in range(8):
        with torch.no_grad():
            xt, t, s, target = lesson.lesson(student, student, x0, torch.zeros(6, 24, 128))
        assert ((s >= 0) & (s <= t) & (t <= 1)).all() and not target.requires_grad
        torch.testing.assert_close(
            xt, (1 - t)[:, None, None, None] * x0 + t[:, None, None, None] * eps
        )
    assert method is Distilled or (t > s).all() or method is MeanFlow
    if method is Consistency:
        assert (s == 0).all()
    if method is Shortcut:  # the sampler's own grid, at its shift
        places = torch.tensor([2 * k / 16 / (1 + k / 16) for k in range(17)])
        assert torch.cdist(t[:, None], places[:, None]).min(1).values.max() < 1e-6


def test_multistep_consistency_stays_within_a_part_of_the_grid(recipe):
    """With n parts of 16 cells, a step from k ends at the last multiple of 16 / n below k."""
    lesson = MultistepConsistency.__new__(MultistepConsistency)
    k, found = torch.arange(1, 17), set()
    torch.manual_seed(0)
    for _ in range(20):
        found.add(tuple(lesson.ends(k).tolist()))
    assert found == {(0,) * 16, (0,) * 8 + (8,) * 8, (0,) * 4 + (4,) * 4 + (8,) * 4 + (12,) * 4}


def test_backward_consistency_is_about_the_students_own_path(recipe):
    """Of a Gaussian, with the exact velocity as teacher and its exact average as student.

    Then the student's path has the marginal distribution at each of the sampler's times, and what
    it is told is what it does already, up to the error of the teacher's steps: here 0.11 of the
    error of Euler's single step with twelve of them from pure noise, 0.28 with the last three.
    """
    lesson = Backward.__new__(Backward)
    lesson.__dict__ |= vars(recipe)
    teacher = Gaussian(PATH, torch.tensor([1.0, -0.5]), torch.diag(torch.tensor([0.25, 0.04])))

    def student(x, timestep, context):
        t, s = timestep.unbind(1)
        return (x - teacher.flow_map(x, t / 1000, s / 1000)) / (t - s)[:, None] * 1000

    torch.manual_seed(0)
    seen = set()
    for _ in range(12):
        xt, t, s, target = lesson.lesson(teacher, student, torch.zeros(20_000, 2), None)
        time = t[0].item()
        seen.add(round(time, 4))
        assert (t == time).all() and (s == 0).all()
        expected = student(xt, 1000 * torch.stack([t, s], 1), None)
        velocity = teacher(xt, 1000 * t, None)  # Euler's single step
        error, eulers = ((each - expected).square().mean() for each in (target, velocity))
        assert error < 0.33**2 * eulers
        mean = (1 - time) * torch.tensor([1.0, -0.5])
        variance = (1 - time) ** 2 * torch.tensor([0.25, 0.04]) + time**2
        assert (xt.mean(0) - mean).abs().max() < 5 * (variance.max() / 20_000).sqrt()
        assert (xt.var(0) / variance - 1).abs().max() < 5 * (2 / 20_000) ** 0.5
    assert seen == {1.0, 0.8571, 0.6667, 0.4}


def test_guidance_is_in_the_target(recipe, data):
    """At s = t the lesson is the guided velocity, worked out here from its definition."""
    x0, ids = data
    with torch.no_grad():
        context = recipe.teacher.text_encoder(ids)
        null = recipe.teacher.text_encoder(recipe.clip.ids([""])).expand_as(context)
        guided = recipe.guided_teacher(context)
        torch.manual_seed(0)
        xt, t, s, target = Distilled.lesson(recipe, guided, None, x0, context)
        with_text = recipe.teacher.unet(xt, 1000 * t, context)
        without = recipe.teacher.unet(xt, 1000 * t, null)
    torch.testing.assert_close(target, 2.5 * with_text - 1.5 * without, rtol=1e-4, atol=1e-4)
    assert torch.equal(s, t) and recipe.scale == 1


def test_it_trains_is_published_and_draws_in_one_evaluation_for_each_step(tmp_path, monkeypatch):
    recipe = ScenesFast()
    recipe.batch_size = 4
    recipe.kinds = {"single": 1.0}
    run = recipe.begin(steps=2, device="cpu", scale=Scale(), folder=tmp_path)
    losses = [step.loss for step in run]
    assert all(0 < loss < 5 for loss in losses)
    before = recipe.model().state_dict()
    after = run.model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert "unet.time_embedding.length.weight" in changed  # it starts as zero
    assert not any(name.startswith("text_encoder.") for name in changed)
    monkeypatch.setattr(recipe, "measure", lambda model, count: [])
    path = recipe.publish(run, tmp_path / "fast.safetensors")
    assert path.stat().st_size < 13_000_000
    model = load_checkpoint(TextUNet, path)
    pipeline = recipe.pipeline(model)
    calls = []
    pipeline.unet.register_forward_hook(lambda layer, inputs, output: calls.append(len(output)))
    images = text_to_image(pipeline, ["a red circle", "a blue square"], steps=3)
    assert images.shape == (2, 3, 64, 64) and calls == [2, 2, 2]  # no second half for guidance


def test_reflow_keeps_its_pairs_and_finds_them_again(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes_fast, "sample", lambda process, network, eps, *a, **_: eps / 2)
    recipe = Reflow()
    recipe.batch_size, recipe.kinds, recipe.folder = 4, {"single": 1.0}, tmp_path / "pairs"
    x0, ids, eps = recipe.encoded(1)
    assert torch.equal(x0, eps / 2) and ids.shape == (4, 24)
    monkeypatch.setattr(recipe, "drawn_pairs", lambda index: pytest.fail("drawn twice"))
    for kept, first in zip(recipe.kept_pairs(1), (x0, ids, eps), strict=True):
        assert torch.equal(kept, first)
    model = recipe.model()
    assert not model.unet.interval
    torch.manual_seed(0)
    loss = recipe.loss(model, (x0, ids, eps))
    torch.manual_seed(0)
    t = recipe.grid(1 - torch.rand(4), x0)
    xt = x0 + t[:, None, None, None] * (eps - x0)
    prediction = model.unet(xt, 1000 * t, model.text_encoder(ids))
    torch.testing.assert_close(loss, (prediction - (eps - x0)).square().mean())


def test_right_is_the_same_for_the_first_prompts_of_a_longer_count():
    from course_lib.datasets.scenes import KINDS, SPLITS, Scenes

    real = {}
    for split in SPLITS[1:]:
        for kind in KINDS:
            images, captions = Scenes(64, split, kind, seed=1, unsaid=0).batch(range(3))
            real |= dict(zip(captions, images, strict=True))
    blank = torch.zeros(3, 64, 64)

    def draw(captions, seeds):  # every second picture is right
        return torch.stack(
            [real[c] if s % 2 else blank for c, s in zip(captions, seeds, strict=True)]
        )

    expected = torch.tensor([[False, True, False]] * 6)
    assert torch.equal(right(draw, 3), expected) and torch.equal(right(draw, 2), expected[:, :2])
