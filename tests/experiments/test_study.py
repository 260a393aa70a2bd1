"""The runner of recorded studies: one result per run, no run twice, bad arguments refused."""

import json

import pytest
import torch
from PIL import Image

from course_lib.common import paths
from course_lib.experiments import (
    bias,
    broken_runs,
    detector,
    diffusers_rival,
    digit_augmentation,
    few_pictures,
    few_steps,
    fewer_minutes,
    fine_tuning,
    gan_race,
    inverse_problems,
    making,
    memorisation,
    molecule_sampling,
    molecules,
    opt_out,
    pixel_vs_latent,
    quality_over_time,
    reference_runs,
    scaling,
    scene_control,
    text_to_image_ablation,
    unet_ablation,
    watermark,
)
from course_lib.experiments.study import Outcome, Study, rounded
from course_lib.teaching.results import load_results, result_path

STUDIES = {
    module.STUDY.name: module.STUDY
    for module in (
        *(unet_ablation, quality_over_time, pixel_vs_latent),
        *(text_to_image_ablation, reference_runs, digit_augmentation, inverse_problems),
        *(molecules, molecule_sampling, few_pictures, gan_race, broken_runs),
        *(few_steps, scaling),
        *(fewer_minutes, diffusers_rival, making),
        *(watermark, detector, bias, memorisation, opt_out, fine_tuning, scene_control),
    )
}
# studies that have no results; the chapters don't read them
NOT_RUN_YET = {"fewer_minutes", "diffusers_rival"}
# yardsticks
UNTRAINED = {"trigram", "one more carbon", "held-out molecules", "before"}


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RECORDED", tmp_path / "recorded")
    made = []

    def run(variant, seed):
        made.append((variant, seed))
        settings = {"steps": 3, "order": len(made)}
        return Outcome(settings, {"loss": 0.123456}, {"step": [1, 2], "loss": [0.5, 1 / 3]})

    return Study("study", ["with, without", "b"], (0, 1), run), made


def order(study):
    return [(run.variant, run.seed, run.settings["order"]) for run in load_results(study.name)]


def test_no_run_is_made_twice(study):
    study, made = study
    study.main(["b", "1"])
    assert order(study) == [("b", 1, 1)]
    study.main(["b"])
    study.main([])
    assert made == [("b", 1), ("b", 0), ("with, without", 0), ("with, without", 1)]
    assert order(study) == [  # by variant, then by seed, whenever they were made
        *(("b", 0, 2), ("b", 1, 1)),
        *(("with, without", 0, 3), ("with, without", 1, 4)),
    ]
    study.main(["b", "7"])  # a seed beyond the study's own may be asked for
    assert made[-1] == ("b", 7)


def test_a_result_says_what_repeats_it_and_five_digits_of_each_number(study):
    study, _ = study
    study.main(["with, without", "0"])
    (run,) = load_results("study")
    assert run.command == "python -m course_lib.experiments.study 'with, without' 0"
    assert "thread" in run.hardware
    assert run.metrics == {"loss": 0.12346} and run.curve == {
        "step": [1, 2],
        "loss": [0.5, 0.33333],
    }
    text = result_path("study", "with, without", 0).read_text()
    assert json.loads(text)["variant"] == "with, without" and len(text.splitlines()) == 11
    assert rounded([1234567, 1234567.0, "a", None]) == [1234567, 1234600.0, "a", None]


def test_a_process_that_is_not_the_main_one_writes_nothing(study):
    study, _ = study
    Study("study", ["a"], (0,), lambda variant, seed: None).main([])
    assert not paths.RECORDED.exists()


def test_samples_survive_being_written(study):
    images = (torch.rand(2, 3, 3, 8, 8) * 8 - 4).round() / 4  # few enough colours for the palette
    images[:, :, 1:] = images[:, :, :1]
    outcome = Outcome({}, {}, {}, images.clamp(-1, 1), [["real"] * 3, ["a", "b", "c"]])
    Study("study", ["a"], (0,), lambda variant, seed: outcome).main([])
    (run,) = load_results("study")
    assert run.captions == outcome.captions
    # 8 bits: half a level of 2 / 255
    torch.testing.assert_close(run.samples(), outcome.samples, atol=1.001 / 255, rtol=0)
    assert Image.open(result_path("study", "a", 0).with_suffix(".png")).size == (24, 16)


@pytest.mark.parametrize(
    "nonsense, line",
    [
        (["c"], "argument variant: unknown variant 'c'"),
        (["with without"], "did you mean 'with, without'"),
        (["b", "two"], "argument seed: expected a whole number, 0 or more, got 'two'"),
        (["b", "-1"], "-1"),
        (["b", "1", "more"], "unrecognized arguments: more"),
    ],
)
def test_nonsense_is_refused_before_anything_is_made(study, nonsense, line, capsys):
    study, made = study
    with pytest.raises(SystemExit) as end:
        study.main(nonsense)
    assert end.value.code == 2 and line in capsys.readouterr().err.splitlines()[-1]
    assert not made and not paths.RECORDED.exists()


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_named_after_its_module_and_each_run_has_its_own_file(name):
    study = STUDIES[name]
    assert (paths.ROOT / "course_lib" / "experiments" / f"{name}.py").is_file()
    files = {result_path(name, variant, seed) for variant in study.variants for seed in (0, 1, 2)}
    assert len(files) == 3 * len(study.variants)


@pytest.mark.parametrize("name", sorted(STUDIES.keys() - NOT_RUN_YET))
def test_every_recorded_result_belongs_to_a_study_and_can_be_repeated(name):
    study, runs = STUDIES[name], load_results(name)
    assert {run.variant for run in runs} <= set(study.variants)
    for run in runs:
        assert run.seed in study.seeds
        assert (run.settings["steps"] > 0) == (run.variant not in UNTRAINED)
        assert run.command == study.command(run.variant, run.seed)
        assert len({len(column) for column in run.curve.values()}) <= 1
        if run.captions:
            assert run.samples().shape[:2] == (len(run.captions), len(run.captions[0]))
    assert len({(run.variant, run.seed) for run in runs}) == len(runs) > 0


def test_every_recorded_study_has_a_module():
    assert {path.name for path in paths.RECORDED.iterdir()} == STUDIES.keys() - NOT_RUN_YET


@pytest.mark.parametrize(
    "module, wrong, meant",
    [
        (unet_ablation, "no tme", "no time"),
        (pixel_vs_latent, "latents", "latent"),
        (text_to_image_ablation, "no EMAs", "no EMA"),
        (quality_over_time, "scenes-latnt", "scenes-latent"),
        (reference_runs, "digits-ddmp", "digits-ddpm"),
        (gan_race, "rings, GAN", "ring, GAN"),
        (broken_runs, "digits, wrong varianse", "digits, wrong variance"),
        (fewer_minutes, "single first", "singles first"),
        (diffusers_rival, "lr 1e-5", "lr 1e-4"),
        (bias, "scale 2,5", "scale 2.5"),
    ],
)
def test_unknown_variants_are_refused(module, wrong, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        module.run(wrong, 0)
