"""The ablation: each variant lacks what its name says and no more; records are kept and sound."""

import json

import pytest
import torch

from course_lib.experiments import ablation
from course_lib.experiments.ablation import VARIANTS, Ablation, parameters

TINY = dict(
    in_channels=1, channels=16, multipliers=(1, 2), layers_per_block=1, attention=(False, True)
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def stirred(name):
    """The variant with the weights of every other, and no branch silent."""
    torch.manual_seed(1)
    network = VARIANTS[name](**TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def answers(name, timesteps=(3.0, 700.0)):
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return [stirred(name)(x, torch.tensor([t])) for t in timesteps]


def test_all_answer_in_the_shape_of_the_picture():
    for name in VARIANTS:
        network, x = VARIANTS[name](**TINY), torch.randn(2, 1, 16, 16)
        assert network(x, torch.tensor([1.0, 2.0])).shape == x.shape


def test_the_silenced_variants_are_as_large_as_the_full_one():
    full = parameters(VARIANTS["full"](**TINY))
    for name in ("no time", "no skips", "no attention"):
        assert parameters(VARIANTS[name](**TINY)) == full


def test_only_the_timeless_one_does_not_hear_the_time():
    for name in ("full", "no time", "no skips", "no attention"):
        early, late = answers(name)
        assert torch.equal(early, late) == (name == "no time")


def test_each_silenced_part_made_a_difference():
    (full,) = answers("full", [3.0])
    for name in ("no time", "no skips", "no attention"):
        assert not torch.allclose(answers(name, [3.0])[0], full, atol=1e-3)


def test_without_skips_all_must_pass_the_bottom():
    network = stirred("no skips")
    network.mid_block.register_forward_hook(lambda module, inputs, output: 0 * output)
    a, b = (network(torch.randn(1, 1, 8, 8), torch.tensor([3.0])) for _ in range(2))
    assert torch.equal(a, b)


def test_the_loss_by_time_is_the_loss_taken_apart():
    recipe = Ablation("MLP")
    network = recipe.model()
    bands = ablation.loss_by_time(recipe.process, network, recipe.test_images, bands=4)
    assert bands == pytest.approx([1.0] * 4, abs=0.02)  # it answers 0, the noise has variance 1


def test_a_record_is_completed_and_never_made_twice(monkeypatch, tmp_path):
    made = []

    def add(record, variant, seed):
        made.append((variant, seed))
        record["variants"].setdefault(variant, {"runs": {}})["runs"][str(seed)] = {}

    monkeypatch.setattr(ablation, "RECORD", tmp_path / "recorded" / "ablation.json")
    monkeypatch.setattr(ablation, "add", add)
    ablation.main(["full", "--seeds", "1"])
    ablation.main(["full", "MLP", "--seeds", "1", "2"])
    assert made == [("full", 1), ("MLP", 1), ("full", 2), ("MLP", 2)]


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="unknown variant 'no tme'"):
        Ablation("no tme")


def test_the_record_that_ships_has_every_variant_with_the_same_seeds():
    record = json.loads(ablation.RECORD.read_text())
    assert record["steps"] == ablation.STEPS and set(record["variants"]) == set(VARIANTS)
    seeds = {tuple(sorted(each["runs"])) for each in record["variants"].values()}
    assert len(seeds) == 1 and len(seeds.pop()) >= 2
    for variant in record["variants"].values():
        for run in variant["runs"].values():
            # answering nothing at all would cost 1, the variance of the noise
            assert 0 < run["test_loss"] < 1 and len(run["by_time"]) == ablation.BANDS
            assert sum(run["by_time"]) / ablation.BANDS == pytest.approx(run["test_loss"], rel=0.1)
