"""Memorisation: a fair pool, copies that are counted as such, and what the shipped runs show."""

from statistics import mean

import pytest
import torch

from course_lib.common.checkpoints import save_checkpoint
from course_lib.datasets.emoji import Emoji
from course_lib.experiments import few_pictures
from course_lib.experiments import memorisation as study
from course_lib.models import AutoencoderKL
from course_lib.teaching.memorisation_figures import over_seeds, times_seen
from course_lib.teaching.results import by_variant, load_results


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An autoencoder that was never trained, and two steps."""
    torch.manual_seed(0)
    vae = AutoencoderKL(latent_channels=24, channels=16, multipliers=(1,), patch_size=8)
    path = str(save_checkpoint(tmp_path / "vae", vae))
    monkeypatch.setattr(few_pictures.SmallLatent, "components", (path, None))
    for name, value in dict(STEPS=2, MEASURED=(1, 2), DRAWS=1, DRAWN=3, COMPARED=5).items():
        monkeypatch.setattr(study, name, value)


def test_the_pool_has_no_held_out_pair_and_no_picture_twice():
    pool = study.pool()
    assert set(pool) < set(Emoji().examples) and len(set(pool)) == len(pool)
    assert 3500 < len(pool) < 3831


def test_repeated_pictures_make_up_for_the_larger_set():
    entries = study.repeated(list(range(100)))
    assert len(entries) == study.VARIANTS["200 pictures"].pictures
    assert [entries.count(i) for i in (0, 9, 10, 19, 20, 99)] == [8, 8, 4, 4, 1, 1]


def test_a_short_run_records_copies_and_the_membership_test(tiny):
    outcome = study.run("100, with duplicates", 0)
    assert outcome.settings == {"steps": 2, "pictures": 100, "entries": 200}
    assert outcome.curve["step"] == [1, 2]
    assert {"copied", "auc", "tpr at 5 %", "error of members"} < set(outcome.curve)
    assert outcome.samples.shape == (2, 10, 3, 64, 64)
    assert 0 < outcome.metrics["limit"] < 1


def test_training_pictures_themselves_are_copies_and_held_out_ones_are_not(tiny, monkeypatch):
    members, others = list(study.pool()[:40]), list(study.pool()[40:400])
    recipe = study.FewEmoji(members, channels=16)
    test, places = study.Test(recipe, members, others), torch.arange(5)
    monkeypatch.setattr(recipe, "draw", lambda network: lambda c, s: study.images_of(members[:5]))
    assert test.copies(None, places)[1].all()
    assert not test.copies(None, places + 5)[1].any()  # copies, but not of the captions' pictures
    monkeypatch.setattr(recipe, "draw", lambda network: lambda c, s: study.images_of(others[:5]))
    assert not test.copies(None, places)[1].any()


# ---- what chapter 16 says of the recorded runs ---------------------------------------------------


@pytest.fixture(scope="module")
def runs():
    return by_variant(load_results("memorisation"))


def copied(runs, name, place=-1):
    return mean(over_seeds(runs[name], "copied", place))


def test_copying_begins_with_the_times_that_a_picture_was_seen(runs):
    """Between 48 and 192 times for every size, whatever the number of pictures."""
    for name in ("50 pictures", "100 pictures", "200 pictures", "400 pictures"):
        for run in runs[name]:
            for times, share in zip(times_seen(run), run.curve["copied"], strict=True):
                assert share <= 0.02 if times <= 48 else share >= 0.7 if times >= 192 else True


def test_early_stopping_and_a_smaller_model_copy_less(runs):
    assert copied(runs, "100 pictures") > 0.7 > 0.3 > copied(runs, "100 pictures", -2)
    assert copied(runs, "100, smaller model") < 0.2


def test_duplicates_are_copied_first_and_deduplication_with_equal_steps_copies_more(runs):
    for run, once in zip(runs["100, with duplicates"], runs["100 pictures"], strict=True):
        shares = [run.metrics[f"reproduced, {which} ten"] for which in ("first", "second", "third")]
        assert min(shares[:2]) > 0.9 and shares[2] < 0.5
        assert once.metrics["reproduced, third ten"] > shares[2] + 0.3


def test_membership_shows_before_copies_do(runs):
    for run in runs["200 pictures"]:
        assert run.curve["copied"][-1] < 0.15 and run.curve["auc"][-1] > 0.65
