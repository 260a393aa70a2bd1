"""Shares are counted over the properties that captions mention, and no others."""

from types import SimpleNamespace

import torch

from course_lib.common.checkpoints import load_checkpoint
from course_lib.datasets.scenes import Scenes
from course_lib.evaluation import prompts
from course_lib.evaluation.metrics import find
from course_lib.models import Classifier

VERDICTS = [
    {"all": True, "first shape": True, "second shape": True, "place": True},
    {"all": False, "first shape": True, "second shape": False},
    {"all": False, "first shape": True, "second shape": True, "place": False},
    {"all": True, "first shape": True, "second shape": True},
]


def test_a_share_is_of_the_pictures_whose_captions_say_it(monkeypatch):
    oracle = SimpleNamespace(judge=lambda images, captions: VERDICTS)
    monkeypatch.setattr(prompts, "PromptOracle", lambda: oracle)
    found = prompts.faithful(torch.zeros(4, 3, 8, 8), [""] * 4, kind="pair")
    values = {metric.property: (metric.value, metric.count) for metric in found}
    assert values == {"right": (0.5, 4), "shape": (0.75, 4), "place": (0.5, 2)}
    assert {metric.kind for metric in found} == {"pair"}


def test_real_pictures_are_at_the_floor_and_noise_is_far():
    features, others = load_checkpoint(Classifier, "scenes-features"), Scenes(32, "train", seed=2)
    real = prompts.distance_metrics(lambda _, seeds: others.batch(seeds)[0], features, 32, 100)
    floor = find(real, "frechet floor").value
    assert find(real, "frechet distance").value < 1.5 * floor  # measured ratio 1.0

    def noise(captions, seeds):
        return torch.rand(len(captions), 3, 32, 32) * 2 - 1

    far = find(prompts.distance_metrics(noise, features, 32, 100), "frechet distance")
    assert far.value > 3 * floor


def test_real_pictures_are_right():
    """For pictures from the renderer, the oracle reads at least 99 in 100 (test_oracle.py)."""
    real = {
        caption: image
        for _, images, captions in prompts.held_out(32)
        for image, caption in zip(images, captions, strict=True)
    }
    found = prompts.prompt_metrics(
        lambda captions, seeds: torch.stack([real[caption] for caption in captions]), 32
    )
    assert {(m.kind, m.split) for m in found if m.property == "right"} == {
        (kind, split)
        for kind in ("single", "pair", "count")
        for split in ("new pairs", "new combinations")
    }
    assert all(metric.value >= 31 / 32 for metric in found)
