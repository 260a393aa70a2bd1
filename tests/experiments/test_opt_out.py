"""A studio opts out: its drawings are gone, a LoRA has few of them, and what the runs show."""

from statistics import mean

import pytest
import torch

from course_lib.common.checkpoints import save_checkpoint
from course_lib.datasets.emoji import concepts
from course_lib.experiments import few_pictures
from course_lib.experiments import opt_out as study
from course_lib.experiments.opt_out import GONE, KINDS, Drawings
from course_lib.models import AutoencoderKL
from course_lib.teaching.results import by_variant, load_results


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    torch.manual_seed(0)
    vae = AutoencoderKL(latent_channels=24, channels=16, multipliers=(1,), patch_size=8)
    path = str(save_checkpoint(tmp_path / "vae", vae))
    monkeypatch.setattr(few_pictures.SmallLatent, "components", (path, None))
    unet = few_pictures.SmallLatent.unet | dict(channels=16)
    monkeypatch.setattr(few_pictures.SmallLatent, "unet", unet)
    for name, value in dict(STEPS=2, LORA_STEPS=2, SEEDS=1, PICTURES=(5,)).items():
        monkeypatch.setattr(study, name, value)


def test_the_studio_is_gone_and_the_rest_is_the_same():
    everyone, rest = (Drawings(studios).examples for studios in study.VARIANTS.values())
    assert {studio for _, studio in rest} == {"Twemoji", "Noto"}
    assert [each for each in everyone if each[1] != GONE] == rest
    assert {concepts()[number].group for number, _ in everyone} == set(KINDS)


def test_sets_for_loras_are_nested_and_hold_no_held_out_drawing():
    sets = [set(Drawings([GONE], count=count).examples) for count in study.PICTURES]
    assert [len(each) for each in sets] == list(study.PICTURES)
    assert sets[0] < sets[1] < sets[2]
    assert not sets[2] & set(Drawings([GONE], split="new pairs").examples)


def test_real_drawings_are_nearest_to_their_own_studio(tiny):
    test = study.Test(study.model_of(Drawings(["Noto"])))
    for place in range(3):
        distances = ((test.real[:, place, None] - test.real) ** 2).flatten(2).mean(2)
        assert (distances.argmin(1) == place).all()


def test_a_short_run_records_a_row_for_each_lora(tiny):
    outcome = study.run("Fluent opts out", 0)
    assert outcome.curve["pictures"] == [0, 5] and len(outcome.curve["studio"]) == 2
    assert outcome.samples.shape == (3, 8, 3, 64, 64)
    assert outcome.settings["pictures"] == 478
    assert {"studio, asked for none", "nearest, asked for Fluent"} < set(outcome.metrics)
    assert study.run("all studios", 0).curve["pictures"] == [0]


# ---- what chapter 16 says of the recorded runs ---------------------------------------------------


@pytest.fixture(scope="module")
def runs():
    return by_variant(load_results("opt_out"))


def over_runs(runs, variant, metric):
    return mean(run.metrics[metric] for run in runs[variant])


def test_without_the_pictures_the_name_is_empty(runs):
    shares = {
        name: over_runs(runs, "Fluent opts out", f"studio, asked for {name}")
        for name in ("Fluent", "Noto", "Twemoji", "none")
    }
    assert max(shares.values()) - min(shares.values()) < 0.05
    assert shares["Fluent"] == min(shares.values())


def test_with_them_the_name_means_something(runs):
    asked = "studio, asked for Fluent"
    everyone = over_runs(runs, "all studios", asked)
    assert everyone > over_runs(runs, "Fluent opts out", asked) + 0.05
    for run in runs["all studios"]:
        for name in ("Noto", "Twemoji"):
            nearest = run.metrics[f"nearest, asked for {name}"]
            assert run.metrics["nearest, asked for Fluent"] > nearest + 0.08


def test_the_subject_does_not_need_the_studio(runs):
    for asked in ("Fluent", "Noto", "Twemoji", "none"):
        name = f"top5, asked for {asked}"
        assert over_runs(runs, "Fluent opts out", name) > over_runs(runs, "all studios", name)


def test_a_hundred_pictures_bring_the_style_back_and_five_do_not(runs):
    everyone = over_runs(runs, "all studios", "studio, asked for Fluent")
    shares = [run.curve["studio"] for run in runs["Fluent opts out"]]
    none, five, twenty, hundred = (mean(each) for each in zip(*shares, strict=True))
    assert all(each == sorted(each) for each in shares)  # the more, the more often
    assert hundred > max(none, five) + 0.1 and hundred > everyone
    assert twenty - max(none, five) > 0.05
    for run in runs["Fluent opts out"]:
        right = run.curve["top5"]
        assert right[1] < 0.2 and max(right[2:]) < right[0] - 0.2  # the price


def test_the_nearest_drawing_deceives_where_the_subject_is_lost(runs):
    for run in runs["Fluent opts out"]:
        assert run.curve["nearest"][1] > run.curve["nearest"][0] + 0.1
        assert run.curve["studio"][1] < run.curve["studio"][0] + 0.1
