"""Latents against pixels at 32 × 32: equal in all but the space; the results are complete."""

import pytest
import torch

from course_lib.experiments import pixel_vs_latent
from course_lib.experiments.pixel_vs_latent import Latent, Pixel, SmallVAE
from course_lib.models import Pixels
from course_lib.teaching.results import by_variant, load_results


def test_the_two_differ_in_their_space_and_their_networks_alone():
    latent, pixel = Latent(), Pixel()
    assert [name for name in vars(Latent) if not name.startswith("_")] == ["unet"]
    for name in ("settings", "process", "times", "weighting", "scale", "batch_size", "kinds"):
        assert getattr(latent, name) == getattr(pixel, name), name
    assert isinstance(pixel.vae, Pixels) and pixel.size == latent.size == 32


def test_both_unets_end_at_the_same_places_and_widths():
    unets = {each: each().model().unet for each in (Latent, Pixel)}
    sides = {Latent: 8, Pixel: 32}
    ends = {}
    for each, unet in unets.items():
        stages = len(each.unet["multipliers"])
        width = each.unet["channels"] * each.unet["multipliers"][-1]
        ends[each] = (sides[each] // 2 ** (stages - 1), width)
        x = torch.zeros(1, each.unet["in_channels"], sides[each], sides[each])
        assert unet(x, torch.zeros(1), torch.zeros(1, 24, 128)).shape == x.shape
    assert ends[Latent] == ends[Pixel] == (4, 128)


def test_the_small_autoencoder_holds_six_times_fewer_numbers():
    images = SmallVAE().batch(0)
    latents = SmallVAE().model().encode(images)
    assert images.shape[1:] == (3, 32, 32) and latents.shape[1:] == (8, 8, 8)
    assert images[0].numel() == 6 * latents[0].numel()


def test_the_latent_run_pays_for_its_autoencoder(monkeypatch):
    class Training:
        """Four steps of 10 CPU seconds each."""

        steps, cpu_seconds, ema = 4, 0.0, SmallVAE().model()

        def __iter__(self):
            for index in range(1, 5):
                self.cpu_seconds += 10
                yield type("Step", (), {"index": index})

    budgets = []

    def begin(recipe, seed, cpu_seconds):
        budgets.append(cpu_seconds)
        return Training()

    monkeypatch.setattr(pixel_vs_latent, "begin", begin)
    monkeypatch.setattr(pixel_vs_latent, "accuracy", lambda *_: {"right": 0.5, "properties": 0.75})
    monkeypatch.setattr(pixel_vs_latent, "distances", lambda *_: {"frechet distance": 30.0})
    monkeypatch.setattr(pixel_vs_latent, "EVALUATIONS", 2)
    found = pixel_vs_latent.run("latent", 0)
    assert budgets == [pixel_vs_latent.VAE_BUDGET, pixel_vs_latent.BUDGETS["latent"] - 40]
    assert found.curve["cpu_minutes"] == [1.0, 1.33]  # 40 + 20 and 40 + 40 seconds
    assert found.settings["vae_cpu_minutes"] == 2.5
    assert pixel_vs_latent.run("pixel", 0).curve["cpu_minutes"][-1] == 0.67


def test_every_variant_and_seed_is_recorded_within_its_budget():
    variants = by_variant(load_results("pixel_vs_latent"))
    assert set(variants) == set(pixel_vs_latent.VARIANTS)
    for variant, runs in variants.items():
        assert [run.seed for run in runs] == [0, 1, 2]
        for run in runs:
            minutes = run.curve["cpu_minutes"]
            assert len(minutes) == pixel_vs_latent.EVALUATIONS and minutes == sorted(minutes)
            assert minutes[-1] * 60 == pytest.approx(pixel_vs_latent.BUDGETS[variant], rel=0.12)
            # 200 images against 200: a good model may lie below the floor by chance
            assert run.metrics["frechet distance"] > 0.8 * run.metrics["frechet floor"] > 0
