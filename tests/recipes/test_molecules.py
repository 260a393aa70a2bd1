"""The two recipes of chapter 15a: what they optimise, what they draw, and what is shipped."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.common.checkpoints import load_checkpoint, read_card
from course_lib.datasets.molecules import LENGTH, MASK, decode, encode, molecules
from course_lib.evaluation.metrics import from_card
from course_lib.models import SequenceTransformer
from course_lib.recipes import RECIPES
from course_lib.recipes.molecules import ANY, CLASSES, PROCESS, draw_trigram, trigram
from course_lib.training import Scale

NAMES = "molecules-masked", "molecules-autoregressive"


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_published_and_loaded(name, tmp_path):
    recipe = RECIPES[name]()
    run = recipe.begin(steps=3, folder=tmp_path, device="cpu", scale=Scale())
    losses = [step.loss for step in run]
    again = RECIPES[name]().begin(steps=3, device="cpu", scale=Scale())
    assert [step.loss for step in again] == losses
    images, titles = recipe.samples(run.ema)
    assert images.shape == (8, 1, MASK, LENGTH) and len(titles) == 8
    assert (images.sum(2) == 2 - MASK).all()  # one token at each place
    model = load_checkpoint(SequenceTransformer, recipe.publish(run, tmp_path / name, count=10))
    metrics = {metric.property: metric for metric in from_card(model.card)}
    assert metrics.keys() == {"test_nats", "valid"} and metrics["valid"].count == 10


def test_the_classes_are_fifths_of_the_training_molecules():
    recipe = RECIPES["molecules-masked"]()
    assert torch.bincount(recipe.labels).tolist() == [pytest.approx(7200, rel=0.02)] * CLASSES
    _, numbers = molecules("train")
    means = [numbers[recipe.labels == label, 0].mean() for label in range(CLASSES)]
    assert means == sorted(means)


def test_the_twins_nats_are_the_chain_rule():
    """Token by token, each from the tokens before it alone."""
    recipe = RECIPES["molecules-autoregressive"]()
    torch.manual_seed(0)
    model, ids, labels = recipe.model().eval(), recipe.test_ids[:2], torch.tensor([1, ANY])
    total = torch.zeros(2)
    for n in range(LENGTH):
        before = F.pad(ids[:, :n], (1, 0), value=MASK)
        log_p = model(before, None, labels)[:, -1].log_softmax(1)
        total -= log_p.gather(1, ids[:, n : n + 1])[:, 0]
    torch.testing.assert_close(recipe.nats(model, ids, labels), total)


def test_the_twin_draws_as_its_network_says():
    """A network that always names the next token of one molecule draws that molecule."""
    recipe, wanted = RECIPES["molecules-autoregressive"](), encode(["CC(=O)Oc1ccccc1"])[0]

    class Parrot(torch.nn.Linear):
        def forward(self, ids, timestep, labels):
            sure = 100 * F.one_hot(wanted[: ids.shape[1]], MASK).float()
            return sure.expand(len(ids), -1, -1)

    assert decode(recipe.draw(Parrot(1, 1), torch.tensor([0, 1]))) == ["CC(=O)Oc1ccccc1"] * 2


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_repeatable_and_of_tokens(name):
    recipe = RECIPES[name]()
    torch.manual_seed(0)
    model, labels = recipe.model().eval(), torch.arange(4)
    first, again = (recipe.draw(model, labels, seed=1) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (4, LENGTH) and (first < MASK).all()
    assert not torch.equal(first, recipe.draw(model, labels, seed=2))
    assert recipe.draw(model, labels, seed=1, scale=3.0).shape == (4, LENGTH)


def test_the_same_batches_for_both():
    with torch.random.fork_rng():
        batches = []
        for name in NAMES:
            torch.manual_seed(5)
            batches.append(RECIPES[name]().batch(3))
    assert all(map(torch.equal, *batches))
    ids, labels = batches[0]
    assert ids.shape == (64, LENGTH) and (ids < MASK).all() and labels.max() < CLASSES


def test_trigram_probabilities_are_counted():
    a, b, end = 7, 9, 0
    table = trigram(torch.tensor([[a, a, end], [a, b, end]]), extra=0.0)
    assert table[MASK, MASK, a] == 1
    assert table[MASK, a, a] == table[MASK, a, b] == 0.5
    assert table[a, a, end] == 1 and table[a, b, end] == 1
    full = trigram(encode(["CCO", "c1ccccc1"]))
    torch.testing.assert_close(full.sum(-1), torch.ones(MASK + 1, MASK + 1))
    drawn = draw_trigram(full, 5, seed=0)
    assert drawn.shape == (5, LENGTH) and torch.equal(drawn, draw_trigram(full, 5, seed=0))


# ---- what is shipped ---------------------------------------------------------------------------


def test_the_shipped_twins_are_twins():
    masked, twin = map(read_card, NAMES)
    assert masked["parameters"] == twin["parameters"] < 2_000_000
    assert masked["kwargs"] | {"causal": True} == twin["kwargs"]
    assert masked["settings"] == twin["settings"] and masked["steps"] == twin["steps"]
    assert twin["cpu_minutes"] == pytest.approx(masked["cpu_minutes"], rel=0.25)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_tells_the_truth(name):
    recipe, model = RECIPES[name](), load_checkpoint(SequenceTransformer, name)
    said = {metric.property: metric for metric in from_card(model.card)}
    now = {metric.property: metric for metric in recipe.measure(model, 60)}
    assert now["test_nats"].value == pytest.approx(said["test_nats"].value, rel=0.01)
    value = said["valid"].value
    assert abs(now["valid"].value - value) < 4 * (max(value * (1 - value), 0.01) / 60) ** 0.5


def test_the_shipped_network_fills_gaps_better_than_the_commonest_token_would():
    recipe, model = RECIPES["molecules-masked"](), load_checkpoint(SequenceTransformer, NAMES[0])
    ids = recipe.test_ids[:500]
    place = (torch.arange(500) % (ids > 0).sum(1))[:, None]  # one token of each, not an end
    xt, true = ids.scatter(1, place, MASK), ids.gather(1, place)[:, 0]
    logits = model(xt, None, torch.full((500,), ANY))[torch.arange(500), place[:, 0]]
    commonest = torch.bincount(recipe.ids[recipe.ids > 0]).argmax()
    right, baseline = (logits.argmax(1) == true).float().mean(), (true == commonest).float().mean()
    assert right > 3 * baseline and right > 0.5
    assert PROCESS.mask == MASK
