"""Each variant differs from the recipe in one thing; the recorded results are complete."""

import pytest
import torch

from course_lib.experiments import budget, text_to_image_ablation
from course_lib.experiments.text_to_image_ablation import (
    VARIANTS,
    Baseline,
    CosineVMinSNR,
    FewChannels,
    FewChannelsVAE,
    FrozenText,
    Transformer,
)
from course_lib.models import DiT
from course_lib.recipes.scenes import ScenesLatent, ScenesVAE
from course_lib.teaching.results import by_variant, load_results

ATTRIBUTES = "unet", "alignment", "settings_changes", "times", "weighting"


@pytest.fixture(scope="module")
def baseline():
    return Baseline()


def test_a_variant_differs_in_what_it_says(baseline):
    seen = {}
    for label, variant in VARIANTS.items():
        recipe = variant()
        model = recipe.model()
        seen[label] = {
            "text encoder learns": any(p.requires_grad for p in model.text.parameters()),
            "network": type(model.unet).__name__,
            "process": (str(recipe.process.schedule), recipe.process.target),
        } | {name: getattr(recipe, name) for name in ATTRIBUTES}
    recipe = seen.pop("the recipe")
    assert recipe == {
        "text encoder learns": True,
        "network": "UNet",
        "process": (str(baseline.process.schedule), "flow"),
        "unet": ScenesLatent.unet,
        "alignment": 0.5,
        "settings_changes": {},
        "times": "logit_normal",
        "weighting": "simple",
    }
    changed = {label: [f for f in facts if facts[f] != recipe[f]] for label, facts in seen.items()}
    assert changed.pop(CosineVMinSNR.label) == [
        "process",
        "weighting",
    ]  # of CosineV, and one more
    assert changed.pop(Transformer.label) == [
        "network",
        "settings_changes",
    ]  # its own rate
    assert all(len(facts) == 1 for facts in changed.values())
    assert len(set(map(str, seen.values()))) == len(seen)  # no two are the same


def test_every_variant_is_recorded_with_two_seeds_within_its_budget():
    variants = by_variant(load_results("text_to_image_ablation"))
    assert set(variants) == set(VARIANTS)
    for runs in variants.values():
        assert [run.seed for run in runs] == [0, 1]
        for run in runs:
            # steps follow a timing of ten of them, beside other work: 0.87 to 1.08 of it was used
            seconds = run.metrics["cpu_seconds"]
            assert seconds == pytest.approx(text_to_image_ablation.BUDGET, rel=0.15)
            assert 0 <= run.metrics["right"] <= run.metrics["properties"] <= 1
            assert run.metrics["frechet distance"] > run.metrics["frechet floor"] > 0


def test_a_frozen_text_encoder_gets_no_gradient():
    model = FrozenText().model()
    assert not any(p.requires_grad for p in model.text.parameters())
    assert all(p.requires_grad for p in model.unet.parameters())


def test_the_transformer_learns_as_the_unet_does():
    """The same pictures go in and out, and it predicts the same features, from its middle."""
    recipe = Transformer()
    dit = recipe.model().unet
    assert isinstance(dit, DiT)
    x = torch.zeros(2, 12, 8, 8)
    assert dit(x, torch.zeros(2), torch.zeros(2, 24, 128)).shape == x.shape
    model = recipe.model()
    with torch.no_grad():  # half of the branches are still silent in a new one
        for block in model.unet.blocks:
            block.attention.steer.bias.fill_(0.1)
    model.train()
    x0, ids = torch.randn(2, 12, 8, 8), recipe.clip.ids(["a red circle", ""])
    seen = torch.randn(2, 128, 4, 4)
    recipe.loss(model, (x0, ids, seen)).backward()
    learns = [block.attention.layer.to_v.weight.grad.any() for block in model.unet.blocks]
    assert learns == [True] * 2 + [False] * 2  # from REPA alone: the way out is still of zeros
    assert model.unet.foretell[0].weight.grad.any()


def test_an_autoencoder_of_its_own_comes_first(monkeypatch):
    wide, narrow = ScenesVAE().model().kwargs, FewChannelsVAE().model().kwargs
    assert narrow == wide | {"latent_channels": 4} and wide["latent_channels"] == 12
    budgets = []

    class Run:
        """A training of no steps."""

        ema = FewChannelsVAE().model().eval()

        def __iter__(self):
            return iter(())

    def begin(recipe, seed, cpu_seconds):
        budgets.append((type(recipe), seed, cpu_seconds))
        return Run()

    monkeypatch.setattr(text_to_image_ablation, "begin", begin)
    monkeypatch.setattr(text_to_image_ablation, "CAPTIONS", 1)
    recipe = FewChannels()
    metrics = recipe.prepare(seed=7)
    assert budgets == [(FewChannelsVAE, 7, text_to_image_ablation.VAE_BUDGET)]
    assert metrics == {"reconstructions right": 0.0}  # it has learned nothing
    latents = recipe.batch(0)[0]
    assert latents.shape[1:] == (4, 8, 8)
    model = recipe.model()
    assert model.unet(latents, torch.zeros(32), torch.zeros(32, 24, 128)).shape == latents.shape
    assert latents.mean().abs() < 0.2 and 0 < latents.std() < 1.2  # noise adds to the unit variance


def test_the_other_variants_prepare_nothing():
    assert {label: variant.prepare is Baseline.prepare for label, variant in VARIANTS.items()} == {
        label: label != FewChannels.label for label in VARIANTS
    }


def test_a_budget_buys_steps(monkeypatch):
    class Training:
        """A training whose every step takes half a second of CPU time."""

        def __init__(self, steps):
            self.steps, self.cpu_seconds = steps, 0.0

        def advance(self):
            self.cpu_seconds += 0.5

    recipe = Baseline()
    monkeypatch.setattr(recipe, "begin", lambda steps, **_: Training(steps))
    assert budget.begin(recipe, seed=0, cpu_seconds=60).steps == 120
