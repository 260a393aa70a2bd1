"""What good looks like: the recorded runs drawn with and without the reader's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.teaching.reference_runs import (
    STUDY,
    centres,
    curve_steps,
    losses_figure,
    samples_figure,
    smooth,
    title,
    what_good_looks_like,
)
from course_lib.teaching.results import load_results
from course_lib.teaching.style import few_colours

VAE = load_results(STUDY, "digits-vae")  # with a row of real digits on top
DDPM = load_results(STUDY, "digits-ddpm")


def row_labels(figure):
    texts = [text.get_text() for text in figure.axes[0].texts]
    return [text for text in texts if text.startswith(("yours", "real", "seed"))]


def test_a_row_for_each_seed_with_the_readers_on_top():
    """Each with the number of its own steps."""
    seeds = [f"seed {n}, 600 steps" for n in (1, 2, 3)]
    assert row_labels(samples_figure(DDPM)) == seeds
    own = torch.zeros(3, 1, 16, 16)
    assert row_labels(samples_figure(DDPM, own)) == ["yours", *seeds]
    assert row_labels(samples_figure(DDPM, own, "yours, 100 steps"))[0] == "yours, 100 steps"


def test_the_real_images_are_shown_once():
    seeds = [f"seed {n}, 2,000 steps" for n in (1, 2, 3)]
    assert row_labels(samples_figure(VAE)) == ["real", *seeds]


def test_captions_that_all_rows_share_are_said_once():
    latent = load_results(STUDY, "scenes-latent")
    texts = [text.get_text() for text in samples_figure(latent).axes[0].texts]
    said = [" ".join(text.split()) for text in texts]
    assert [said.count(caption) for caption in latent[0].captions[0]] == [1] * 8


def test_the_title_says_how_far_the_training_went():
    assert title(VAE) == "digits-vae: all 2,000 steps"
    assert title(DDPM) == "digits-ddpm: the first 600 of 2,000 steps"
    assert losses_figure(DDPM).axes[0].get_title(loc="left") == title(DDPM)


def test_the_band_holds_the_lowest_and_the_highest_seed():
    curves = [[3.0, 1.0], [1.0, 3.0], [2.0, 2.5]]
    runs = [replace(run, curve={"step": [1, 2], "loss": loss})
            for run, loss in zip(DDPM, curves, strict=True)]  # fmt: skip
    band = losses_figure(runs).axes[0].collections[0].get_paths()[0].vertices
    assert {(1.0, 1.0), (1.0, 3.0), (2.0, 1.0), (2.0, 3.0)} <= set(map(tuple, band))


def test_the_readers_loss_is_compared(capsys):
    what_good_looks_like("digits-ddpm", [1.0] * 12, torch.zeros(3, 1, 16, 16))
    out = capsys.readouterr().out
    assert "Your loss at step 12: 1; theirs: 0.95" in out and "test_loss: " in out
    what_good_looks_like("digits-ddpm")
    assert "Your loss" not in capsys.readouterr().out


def test_smoothing_by_hand():
    losses = list(range(1, 1001))
    assert smooth(losses, [1, 5, 10, 11]) == [1, 5, 9.5, 10]
    assert smooth(losses, [1000]) == [np.mean(losses[-100:])]
    assert smooth(losses, [9, 1000]) == centres([9, 1000])  # the loss of step n is n here
    assert curve_steps(1) == [1] and curve_steps(2000)[-1] == 2000


def test_a_small_object_keeps_its_colour():
    """On a noisy background with thousands of colours, which a median cut divides up."""
    picture = torch.rand(3, 64, 64) * 0.5 + 0.5
    picture[:, 30:34, 30:34] = torch.tensor([0.1, 0.2, 0.9])[:, None, None]
    few = few_colours(Image.fromarray((picture * 255).byte().permute(1, 2, 0).numpy()))
    red, green, blue = few.convert("RGB").getpixel((32, 32))
    assert max(abs(red - 25), abs(green - 51), abs(blue - 229)) < 16


def test_refusals():
    with pytest.raises(ValueError, match=r"unknown variant 'digits-ddmp'; did you mean 'digits-dd"):
        what_good_looks_like("digits-ddmp")
    for losses in ([], [1.0, float("nan")], [[1.0]]):
        with pytest.raises(ValueError, match="losses must be finite numbers"):
            losses_figure(DDPM, losses)
    with pytest.raises(ValueError, match=r"pictures are \(4, 4\) pixels, .* \(16, 16\)"):
        samples_figure(DDPM, torch.zeros(1, 1, 4, 4))
