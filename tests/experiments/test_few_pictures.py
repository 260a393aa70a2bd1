"""Fewer pictures: nested sets that hold out the same pairs, and what the shipped runs show."""

import pytest
import torch

from course_lib.common.checkpoints import save_checkpoint
from course_lib.datasets.emoji import Emoji
from course_lib.experiments import few_pictures as study
from course_lib.models import AutoencoderKL
from course_lib.teaching.results import by_variant, load_results


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """The path of an autoencoder that was never trained."""
    torch.manual_seed(0)
    vae = AutoencoderKL(latent_channels=24, channels=16, multipliers=(1,), patch_size=8)
    return str(save_checkpoint(tmp_path_factory.mktemp("vae") / "vae", vae))


def test_the_sets_are_nested_and_hold_no_held_out_pair(untrained, monkeypatch):
    monkeypatch.setattr(study.SmallLatent, "components", (untrained, None))
    sets = [set(study.SmallLatent(count).data.examples) for count in study.SIZES.values()]
    assert [len(each) for each in sets] == list(study.SIZES.values())
    assert sets[0] < sets[1] < sets[2] < sets[3] == set(Emoji().examples)
    assert not sets[3] & set(Emoji(split="new pairs").examples)
    other = set(study.SmallLatent(40, seed=1).data.examples)
    assert other != sets[0]


def test_a_short_run_records_losses_distances_and_samples(untrained, monkeypatch):
    monkeypatch.setattr(study.SmallLatent, "components", (untrained, None))
    unet = study.SmallLatent.unet | dict(channels=16)
    monkeypatch.setattr(study.SmallLatent, "unet", unet)
    for name, value in dict(STEPS=2, EVERY=1, COUNT=4, SHOWN=3).items():
        monkeypatch.setattr(study, name, value)
    outcome = study.run("40 pictures", 0)
    assert outcome.settings == {"steps": 2, "pictures": 40, "captions": 4}
    assert outcome.curve["step"] == [1, 2]
    assert outcome.samples.shape == (3, 3, 3, 64, 64)
    assert torch.equal(outcome.samples[0], Emoji(split="new pairs").batch(range(3))[0])
    assert {f"{what}, {which}" for what in ("top5", "studio", "distance", "copies")
            for which in ("trained", "held-out")} < set(outcome.metrics)  # fmt: skip


def test_fewer_pictures_lie_farther_from_held_out_ones_and_are_learned_by_heart():
    runs = {name: each[0] for name, each in by_variant(load_results("few_pictures")).items()}
    assert set(runs) == set(study.SIZES)
    ordered = [runs[name] for name in study.SIZES]
    assert [run.settings["pictures"] for run in ordered] == list(study.SIZES.values())
    away = [run.metrics["distance of real"] for run in ordered]
    assert away == sorted(away, reverse=True)  # the sets are nested
    gap = [fall(run.curve["training loss"]) - fall(run.curve["held-out loss"]) for run in ordered]
    assert gap == sorted(gap, reverse=True) and gap[0] > 10 * gap[1] > 0
    fewest = ordered[0].metrics
    assert fewest["distance, trained"] < fewest["distance of real"] / 2
    assert fewest["copies, trained"] > 0.9


def fall(losses):
    return losses[0] - losses[-1]
