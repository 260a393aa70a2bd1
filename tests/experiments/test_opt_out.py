"""A studio opts out: its drawings are gone, a LoRA has few of them, and what the runs show."""

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


def test_without_the_pictures_the_name_is_empty(runs):
    """The judge sees Fluent as often whatever is asked; trained on all, more often if asked."""
    for run in runs["Fluent opts out"]:
        asked = run.metrics["studio, asked for Fluent"]
        others = [run.metrics[f"studio, asked for {name}"] for name in ("Noto", "Twemoji", "none")]
        assert abs(asked - sum(others) / 3) < 0.1
    for everyone, gone in zip(runs["all studios"], runs["Fluent opts out"], strict=False):
        for key in ("studio", "nearest"):
            name = f"{key}, asked for Fluent"
            assert everyone.metrics[name] > gone.metrics[name] + 0.08
        assert gone.metrics["top5, asked for none"] > everyone.metrics["top5, asked for none"]


def test_twenty_pictures_bring_the_style_back_and_five_do_not(runs):
    everyone = runs["all studios"][0].metrics["studio, asked for Fluent"]
    for run in runs["Fluent opts out"]:
        none, five, twenty, hundred = run.curve["studio"]
        assert min(twenty, hundred) > max(none, five) + 0.05 and hundred > everyone - 0.1
        right = run.curve["top5"]
        assert right[1] < 0.2 and max(right[2:]) < right[0] - 0.2  # the price
