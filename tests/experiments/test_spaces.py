"""Latents against pixels at 32 × 32: equal in all but the space; the records are sound."""

from itertools import product

import pytest
import torch

from course_lib.experiments import spaces
from course_lib.experiments.spaces import Latent, Pixel, SmallVAE
from course_lib.models import Pixels


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
    monkeypatch.setattr(spaces, "begin", lambda r, s, budget: budgets.append(budget) or Training())
    monkeypatch.setattr(spaces, "judge", lambda *_: {"right": 0.5, "properties": 0.75})
    monkeypatch.setattr(spaces, "distances", lambda *_: {"frechet distance": 30.0})
    monkeypatch.setattr(spaces, "LOOKS", 2)
    found = spaces.run("latent", 0)
    assert budgets == [spaces.AUTOENCODER, spaces.BUDGETS["latent"] - 40]
    assert [look["cpu_minutes"] for look in found["looks"]] == [1.0, 1.33]  # 40 + 20, 40 + 40
    assert spaces.run("pixel", 0)["looks"][-1]["cpu_minutes"] == 0.67


def test_a_share_is_reached_where_the_line_through_the_looks_crosses_it():
    shares = {2.0: 0.2, 4.0: 0.6, 6.0: 0.5, 8.0: 0.9}
    looks = [{"cpu_minutes": minutes, "right": share} for minutes, share in shares.items()]
    minutes = [spaces.reached(looks, level, "right") for level in (0.1, 0.2, 0.3, 0.6, 0.7)]
    assert minutes == pytest.approx([2.0, 2.0, 2.5, 4.0, 7.0])
    assert spaces.reached(looks, 0.95, "right") == float("inf")


def test_the_records_are_of_every_space_and_seed_in_their_minutes():
    runs = spaces.RUNS.records()
    assert [(r["space"], r["seed"]) for r in runs] == list(product(spaces.SPACES, (0, 1, 2)))
    for each in runs:
        minutes = [look["cpu_minutes"] for look in each["looks"]]
        assert len(minutes) == spaces.LOOKS and minutes == sorted(minutes)
        assert minutes[-1] * 60 == pytest.approx(spaces.BUDGETS[each["space"]], rel=0.12)
        # of 200 pictures against 200; a good model may lie below the floor by chance
        assert each["frechet distance"] > 0.8 * each["frechet floor"] > 0
