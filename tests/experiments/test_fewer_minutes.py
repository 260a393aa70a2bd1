"""Ideas for fewer minutes: each changes what it names, and its cost is counted as stated."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from course_lib.common import paths
from course_lib.evaluation.metrics import share
from course_lib.experiments import fewer_minutes
from course_lib.experiments.budget import affordable
from course_lib.experiments.fewer_minutes import (
    IDEAS,
    AlignmentEarly,
    Cost,
    EquivariantVAE,
    EverySecond,
    LargerBatchesLate,
    LinearSkip,
    MeanOfCheckpoints,
    Shipped,
    SinglesFirst,
    SmallerVAE,
    WithSkip,
    mean_weights,
)
from course_lib.experiments.study import Outcome, Study
from course_lib.models import AutoencoderKL
from course_lib.recipes.scenes import ScenesLatent, ScenesVAE
from course_lib.training import Optimizer, Scale, train
from course_lib.training.optimizers import Muon

FACTS = "unet", "alignment", "settings_changes", "time_sampling", "weighting", "autoencoder"
METHODS = "batch", "loss", "finish", "change"


@pytest.fixture(scope="module")
def shipped():
    return Shipped()


@pytest.fixture
def small(monkeypatch):
    """Batches of 4, of which 4 make a pool, and a training of 10 steps."""
    monkeypatch.setattr(ScenesLatent, "batch_size", 4)
    monkeypatch.setattr(ScenesLatent, "kinds", {"single": 1.0})
    monkeypatch.setattr(ScenesLatent, "pool", 4)


def begun(idea: type[Shipped], steps: int = 10):
    recipe = idea()
    return recipe, recipe.begin(steps=steps, device="cpu", scale=Scale(accumulate=2))


def test_an_idea_changes_only_what_it_names():
    changed = {
        label: {name for name in (*FACTS, *METHODS) if differs(idea, name)}
        for label, idea in IDEAS.items()
    }
    assert changed == {
        "shipped": set(),
        "mean of checkpoints": {"settings_changes", "finish"},
        "alignment early only": {"batch", "loss"},
        "singles first": {"batch"},
        "larger batches late": {"batch"},
        "Muon every second step": {"settings_changes"},
        "linear skip": {"change"},
        "own autoencoder": {"autoencoder"},
        "equivariant latents": {"autoencoder"},
        "smaller autoencoder": {"autoencoder"},
    }
    for idea in list(IDEAS.values())[1:]:
        public = {name for name in vars(idea) if not name.startswith("_")}
        assert public & {*dir(ScenesLatent)} <= {*METHODS, *FACTS, "features", "components"}


def differs(idea: type[Shipped], name: str) -> bool:
    return getattr(idea, name) != getattr(Shipped, name)


def test_the_reference_is_the_shipped_recipe(small):
    recipe, ours = Shipped(), ScenesLatent()
    for name in ("settings", "kinds", "pool", "alignment", "unet", "scale", "sampler"):
        assert getattr(recipe, name) == getattr(ours, name)
    torch.manual_seed(0)
    mine = recipe.batch(0)
    torch.manual_seed(0)
    assert all(map(torch.equal, mine, ours.batch(0)))


def test_alignment_ends_after_two_fifths(small):
    recipe, training = begun(AlignmentEarly)
    features = [recipe.batch(index)[-1] is not None for index in range(20)]
    assert features == [True] * 8 + [False] * 12
    model, data = recipe.model().train(), recipe.batch(0)
    losses = []
    for seen in (data[-1], None):
        torch.manual_seed(0)
        losses.append(recipe.loss(model, (*data[:-1], seen)))
    torch.manual_seed(0)
    expected = recipe.denoising(model, data[:-1])
    assert torch.equal(losses[1], expected) and losses[0] > losses[1]
    for _ in range(2):
        training.done = 8  # a step with features, then without: the head has no gradient any more
        training.advance()
    assert all(p.grad is None for p in training.model.projection_head.parameters())


def test_singles_come_first_and_then_the_shipped_batches(small, monkeypatch):
    monkeypatch.setattr(ScenesLatent, "kinds", {"pair": 1.0})
    recipe, _ = begun(SinglesFirst)
    words = [recipe.clip.tokenizer.decode(recipe.batch(index)[1]) for index in range(5)]
    pair = (" of ", "above", "below")
    for captions in words[:4]:  # a fifth of 20
        assert not any(word in caption for caption in captions for word in pair)
    assert all(any(word in caption for word in pair) for caption in words[4])
    assert torch.equal(recipe.batch(4)[0], Shipped().batch(0)[0])


def test_batches_grow_and_cost_as_many_pictures(small):
    recipe, _ = begun(LargerBatchesLate)
    sizes = [len(recipe.batch(index)[0]) for index in range(20)]
    assert sizes == [2] * 10 + [4] * 5 + [8] * 5
    assert sum(sizes) == 20 * 4
    assert all(len(part) == 8 for part in recipe.batch(19))


def test_every_direction_of_muon_is_taken_twice():
    torch.manual_seed(0)
    model, twin = nn.Linear(6, 4), nn.Linear(6, 4)
    twin.load_state_dict(model.state_dict())
    lazy = EverySecond("muon", lr=1e-2).build(model)[0]
    muon = Muon([twin.weight], lr=1e-2)
    moves = []
    for _ in range(4):
        before = model.weight.detach().clone()
        grad = torch.randn(4, 6)
        model.weight.grad, twin.weight.grad = grad, grad.clone()
        lazy.step()
        muon.step()
        moves.append(model.weight.detach() - before)
    torch.testing.assert_close(moves[0], moves[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(moves[2], moves[3], atol=1e-6, rtol=0)
    assert (moves[1] - moves[2]).abs().max() > 1e-4
    velocity = lazy.state[model.weight]["velocity"]  # it has seen all gradients
    torch.testing.assert_close(velocity, muon.state[twin.weight]["velocity"])


def test_muon_every_second_step_trains_what_muon_trains():
    layers = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    lazy, muon = (kind("muon", lr=1e-2).build(layers) for kind in (EverySecond, Optimizer))
    for mine, other in zip(lazy, muon, strict=True):
        assert [g["params"] for g in mine.param_groups] == [g["params"] for g in other.param_groups]


def test_the_skip_is_the_best_linear_prediction(shipped):
    """For data of variance 1 and a silent network, no factor of x has a lower error."""
    torch.manual_seed(0)
    silent = lambda x, timestep, context: torch.zeros_like(x)  # noqa: E731
    process, x0, eps = shipped.process, torch.randn(4000, 1, 2, 2), torch.randn(4000, 1, 2, 2)
    network = WithSkip(nn.Identity(), process)
    network.unet.forward = silent
    for t in (0.1, 0.5, 0.9):
        xt, target = process.add_noise(x0, t, eps), process.target(x0, eps, t)
        best = (xt * target).sum() / xt.square().sum()
        prediction = network(xt, process.timestep(t, xt), None)
        assert (prediction / xt).mean().item() == pytest.approx(best.item(), abs=0.03)


def test_the_skip_changes_the_start_and_leaves_the_network(shipped):
    torch.manual_seed(0)
    recipe = LinearSkip()
    model = recipe.model()
    assert recipe.features(model) is model.unet.unet.mid_block
    assert set(model.unet.unet.state_dict()) == set(shipped.model().unet.state_dict())
    x, t = torch.randn(2, 12, 8, 8), torch.tensor([900.0, 100.0])
    start = model.unet(x, t, torch.zeros(2, 24, 128))
    assert start[0].flatten() @ x[0].flatten() > 0 > start[1].flatten() @ x[1].flatten()


def test_the_last_checkpoints_are_averaged_with_the_best_window(monkeypatch):
    states = [{"w": torch.tensor([value])} for value in (1.0, 2.0, 6.0)]
    assert mean_weights(states)["w"].item() == 3.0
    recipe = MeanOfCheckpoints()
    monkeypatch.setattr(recipe, "windows", (1, 2, 4))
    monkeypatch.setattr(recipe, "fixed_loss", lambda model, *_: abs(model.weight.item() - goal))
    weights = []
    model = nn.Linear(1, 1, bias=False)
    training = train(
        model, lambda m, x: m(x).mean(), lambda i: torch.ones(1, 1), steps=5, ema=0.0, device="cpu"
    )
    whole = training.advance

    def advance():
        step = whole()
        weights.append(model.weight.item())
        return step

    monkeypatch.setattr(training, "advance", advance)
    goal = -1e9  # the newest, because the weight falls
    found = recipe.finish(training)
    assert found.weight.item() == pytest.approx(weights[-1])
    states = [{"weight": torch.tensor([[value]])} for value in weights]
    assert mean_weights(states[-2:])["weight"].item() == pytest.approx(sum(weights[-2:]) / 2)


def test_random_transforms_turn_or_halve():
    torch.manual_seed(0)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    seen = {tuple(fewer_minutes.random_transform()(x).flatten().tolist()) for _ in range(60)}
    expected = {tuple(torch.rot90(x, k, (2, 3)).flatten().tolist()) for k in (1, 2, 3)}
    assert seen == expected | {(2.5, 4.5, 10.5, 12.5)}


def test_half_of_the_autoencoders_batches_are_transformed():
    recipe, kept = EquivariantVAE(), []
    model = SimpleNamespace(loss=lambda x, kl, noise, turn: kept.append(turn(x)) or (0.0, {}))
    x = torch.rand(1, 1, 4, 4)
    torch.manual_seed(0)
    for _ in range(400):
        recipe.loss(model, x)
    assert sum(torch.equal(each, x) for each in kept) == pytest.approx(200, abs=50)  # five sd


def test_the_smaller_autoencoder_is_narrower_alone():
    ours, smaller = ScenesVAE().model(), SmallerVAE().model()
    assert smaller.kwargs == ours.kwargs | {"channels": 96}
    counts = [sum(p.numel() for p in each.parameters()) for each in (smaller, ours)]
    assert 0.5 < counts[0] / counts[1] < 0.7


def test_minutes_are_steps_and_the_batches_of_the_pool():
    recipe = SimpleNamespace(pool=1200, settings={"scale": SimpleNamespace(accumulate=2)})
    assert Cost(0.3, 0.1).minutes(recipe, 1000) == pytest.approx((300 + 120) / 60)
    assert Cost(0.3, 0.1).minutes(recipe, 100) == pytest.approx((30 + 20) / 60)
    steps = affordable(0.3, 0.1, recipe, 420)
    assert Cost(0.3, 0.1).minutes(recipe, steps) == pytest.approx(7, abs=0.01)
    no_pool = SimpleNamespace(settings=recipe.settings)
    assert Cost(0.6, 0.0).minutes(no_pool, 100) == pytest.approx(1)


def test_a_step_is_timed_at_points_of_the_training(monkeypatch):
    """Steps that cost 1, 2 and 9 s at the three points, after one that costs 100."""
    clock, pools = [0.0], []

    class Training:
        steps, done = 1000, 0

        def advance(self):
            slow = self.done in (100, 500, 900)
            clock[0] += 100 if slow else {1: 1, 5: 2, 9: 9}[self.done // 100]
            self.done += 1

    def begin(**changes):
        pools.append(recipe.pool)
        return Training()

    recipe = SimpleNamespace(pool=1200, begin=begin)
    recipe.encoded = lambda index: clock.__setitem__(0, clock[0] + 0.5)
    monkeypatch.setattr(fewer_minutes.time, "process_time", lambda: clock[0])
    found = fewer_minutes.cost(recipe, 0, points=(0.1, 0.5, 0.9))
    assert found == Cost(step=4.0, batch=0.5)
    assert pools == [4] and recipe.pool == 1200


def test_in_full_all_three_train_and_the_intervals_are_kept(small, tmp_path, monkeypatch):
    monkeypatch.setattr(fewer_minutes, "OUTPUTS", tmp_path)
    monkeypatch.setattr(fewer_minutes, "LENGTHS", {"in full": 1e-3})
    monkeypatch.setattr(fewer_minutes, "cost", lambda recipe, seed: Cost(60.0, 0.0))
    monkeypatch.setattr(AutoencoderKL, "fit_scaling", lambda self, images: None)
    shares = [share("right", [True, False], kind="pair", split="new pairs")]
    monkeypatch.setattr(fewer_minutes, "prompt_metrics", lambda draw, count: shares)
    made = []
    for recipe in (ScenesVAE, fewer_minutes.ScenesCLIP):
        monkeypatch.setattr(recipe, "batch_size", 4)
        monkeypatch.setattr(recipe, "measure", lambda self, model, count: made.append(self) or [])
    found = fewer_minutes.run("shipped, in full", 1)
    assert found.settings["steps"] == 5 and [recipe.name for recipe in made] == [
        "scenes-vae",
        "scenes-clip",
    ]
    label = "pair, new pairs: right"
    assert found.metrics[label] == 0.5
    assert found.metrics[f"{label}, low"] < 0.1 and found.metrics[f"{label}, high"] > 0.9
    assert found.metrics["minutes"] >= 5  # steps of a minute, and what came before
    fewer_minutes.run("shipped, in full", 1)
    assert len(made) == 2  # the first two trainings are there


def test_the_table_has_the_means(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RECORDED", tmp_path)

    def make(variant, seed):
        metrics = dict(minutes=7.0, loss=0.3 + 0.1 * seed, properties=0.5, right=0.25)
        return Outcome({"steps": 1}, metrics)

    Study("fewer_minutes", ["shipped", "shipped, in full"], (0, 1), make).main([])
    lines = list(fewer_minutes.table())
    assert lines[2:] == ["| shipped | 7.000 | 0.350 | 0.500 | 0.250 | 2 |"]
    assert {line.count("|") for line in lines} == {7}


def test_only_what_the_screening_is_for_is_trained_in_full():
    assert set(fewer_minutes.CONFIRMED) <= set(IDEAS)
    assert fewer_minutes.STUDY.variants[: len(IDEAS)] == list(IDEAS)
    assert "shipped, half" in fewer_minutes.STUDY.variants
