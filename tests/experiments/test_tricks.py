"""The tricks one by one: each variant differs from the recipe in one thing; records are sound."""

from itertools import product

import pytest
import torch

from course_lib.experiments import tricks
from course_lib.experiments.tricks import VARIANTS, FewChannels, FewVAE, Full, MinSNR, Transformer
from course_lib.models import DiT
from course_lib.recipes.scenes import ScenesLatent, ScenesVAE

HOW = "times", "weighting"


@pytest.fixture(scope="module")
def full():
    return Full()


def test_a_variant_differs_in_what_it_says(full):
    seen = {}
    for label, variant in VARIANTS.items():
        recipe = variant()
        model = recipe.model()
        seen[label] = {
            "text encoder learns": any(p.requires_grad for p in model.text_encoder.parameters()),
            "network": type(model.unet).__name__,
            "process": (str(recipe.process.schedule), recipe.process.target),
        } | {name: getattr(recipe, name) for name in ("unet", "alignment", "changes", *HOW)}
    recipe = seen.pop("the recipe")
    assert recipe == {
        "text encoder learns": True,
        "network": "UNet",
        "process": (str(full.process.schedule), "flow"),
        "unet": ScenesLatent.unet,
        "alignment": 0.5,
        "changes": {},
        "times": "logit_normal",
        "weighting": "simple",
    }
    changed = {label: [f for f in facts if facts[f] != recipe[f]] for label, facts in seen.items()}
    assert changed.pop(MinSNR.label) == ["process", "weighting"]  # the one above it, and one more
    assert changed.pop(Transformer.label) == ["network", "changes"]  # with a rate of its own
    assert all(len(facts) == 1 for facts in changed.values())
    assert len(set(map(str, seen.values()))) == len(seen)  # no two are the same


def test_the_records_are_of_every_variant_and_seed_in_about_equal_minutes():
    runs = tricks.RUNS.records()
    assert [(r["variant"], r["seed"]) for r in runs] == list(product(VARIANTS, (0, 1)))
    for each in runs:
        # steps follow a timing of ten of them, beside other work: 0.87 to 1.08 of the budget came
        assert each["cpu_seconds"] == pytest.approx(tricks.BUDGET, rel=0.15)
        assert 0 <= each["right"] <= each["properties"] <= 1
        assert each["frechet distance"] > each["frechet floor"] > 0


def test_frozen_words_get_no_gradient():
    model = tricks.Frozen().model()
    assert not any(p.requires_grad for p in model.text_encoder.parameters())
    assert all(p.requires_grad for p in model.unet.parameters())


def test_the_transformer_learns_as_the_unet_does():
    """The same pictures go in and out, and its middle is aligned with the same features."""
    recipe = Transformer()
    dit = recipe.model().unet
    assert isinstance(dit, DiT)
    x = torch.zeros(2, 12, 8, 8)
    assert dit(x, torch.zeros(2), torch.zeros(2, 24, 128)).shape == x.shape
    model = recipe.model()
    with torch.no_grad():  # half of the branches are still silent in a new one
        for block in model.unet.transformer_blocks:
            block.attn1.modulation.bias.fill_(0.1)
    model.train()
    x0, ids = torch.randn(2, 12, 8, 8), recipe.clip.ids(["a red circle", ""])
    seen = torch.randn(2, 128, 4, 4)
    recipe.loss(model, (x0, ids, seen)).backward()
    blocks = model.unet.transformer_blocks
    learns = [block.attn1.layer.to_v.weight.grad.any() for block in blocks]
    assert learns == [True] * 2 + [False] * 2  # from REPA alone: the way out is still of zeros
    assert model.projection_head[0].weight.grad.any()


def test_an_autoencoder_of_its_own_comes_first(monkeypatch):
    wide, narrow = ScenesVAE().model().kwargs, FewVAE().model().kwargs
    assert narrow == wide | {"latent_channels": 4} and wide["latent_channels"] == 12
    budgets = []

    class Run:
        """A training of no steps."""

        ema = FewVAE().model().eval()

        def __iter__(self):
            return iter(())

    def begin(first, seed, budget):
        budgets.append((type(first), seed, budget))
        return Run()

    monkeypatch.setattr(tricks, "begin", begin)
    monkeypatch.setattr(tricks, "COUNT", 1)
    recipe = FewChannels()
    facts = recipe.prepare(seed=7)
    assert budgets == [(FewVAE, 7, tricks.AUTOENCODER)]
    assert facts == {"reconstructions right": 0.0}  # it has learned nothing
    latents = recipe.batch(0)[0]
    assert latents.shape[1:] == (4, 8, 8)
    model = recipe.model()
    assert model.unet(latents, torch.zeros(32), torch.zeros(32, 24, 128)).shape == latents.shape
    assert latents.mean().abs() < 0.2 and 0 < latents.std() < 1.2  # noise is a part of the one


def test_the_other_variants_prepare_nothing():
    assert {label: variant.prepare is Full.prepare for label, variant in VARIANTS.items()} == {
        label: label != FewChannels.label for label in VARIANTS
    }


def test_a_budget_buys_steps(monkeypatch):
    class Clock:
        """A training whose every step takes half a second of CPU time."""

        def __init__(self, steps):
            self.steps, self.cpu_seconds = steps, 0.0

        def advance(self):
            self.cpu_seconds += 0.5

    recipe = Full()
    monkeypatch.setattr(recipe, "begin", lambda steps, **_: Clock(steps))
    assert tricks.begin(recipe, seed=0, budget=60).steps == 120
