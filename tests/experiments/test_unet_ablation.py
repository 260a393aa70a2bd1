"""The U-Net ablation: what is recorded of a network, and that the shipped results are complete."""

import pytest
import torch

from course_lib.experiments import unet_ablation
from course_lib.experiments.unet_ablation import Variant, evaluate
from course_lib.teaching.results import by_variant, load_results
from course_lib.teaching.unet_variants import VARIANTS


def test_an_untrained_network_scores_far_above_the_floor():
    torch.manual_seed(0)
    recipe = Variant("MLP")
    found = evaluate(recipe, recipe.model(), samples=32)
    assert found.metrics["test_loss"] == pytest.approx(1.0, abs=0.02)  # it predicts 0
    assert found.metrics["frechet distance"] > 10 * found.metrics["frechet floor"]
    assert found.curve["time"][:2] == [0.05, pytest.approx(0.15)]
    assert found.curve["loss"] == pytest.approx([1.0] * unet_ablation.BANDS, abs=0.02)


def test_every_variant_is_recorded_with_the_same_seeds():
    variants = by_variant(load_results("unet_ablation"))
    assert set(variants) == set(VARIANTS)
    assert {tuple(run.seed for run in runs) for runs in variants.values()} == {(1, 2)}
    for run in load_results("unet_ablation"):
        assert run.settings == {"steps": unet_ablation.STEPS, "samples": unet_ablation.SAMPLES}
        losses, loss = run.curve["loss"], run.metrics["test_loss"]
        # a network that predicts 0 would score 1, the variance of the noise
        assert 0 < loss < 1 and len(losses) == unet_ablation.BANDS
        assert sum(losses) / len(losses) == pytest.approx(loss, rel=0.1)
