"""Chapter 12's equations, and its capstone with sound and unsound samplers."""

from itertools import pairwise

import pytest
import torch

from course_lib.diffusion import point, straight
from course_lib.exercises.ch12 import EXERCISES, inpaint_back_and_forth, mix, pad_half_drop
from course_lib.pipelines import image_to_image
from course_lib.teaching.making_figures import repeated


def test_the_start_is_a_noising_of_the_latent(toy_pipeline, monkeypatch):
    """(12.1)"""
    seen = {}

    def keep(process, network, zt, context, **how):
        seen["zt"], seen["times"] = zt, how["spacing"]
        return zt

    monkeypatch.setattr("course_lib.pipelines.edit.sample", keep)
    images = torch.zeros(1, 3, 32, 32)
    image_to_image(toy_pipeline, images, ["a red circle"], [7], strength=0.4, steps=10)
    noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(7))
    expected = 0.6 * toy_pipeline.vae.encode(images)[0] + 0.4 * noise
    torch.testing.assert_close(seen["zt"][0], expected)
    assert seen["times"][0] == pytest.approx(0.4) and len(seen["times"]) == 5


def test_a_mix_of_noises_has_variance_1():
    """(12.4), also for weights that don't sum to 1; without the root it has another size."""
    noises = torch.randn(2, 200_000, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.3, 0.9])
    assert mix(noises, weights).std() == pytest.approx(1, abs=0.01)
    straight_mix = (noises[0] + noises[1]) / 2
    assert straight_mix.std() == pytest.approx(0.5**0.5, abs=0.01)


def test_going_back_adds_the_missing_noise():
    """From s to t on the straight path, the signal shrinks and the variances add up to t²."""
    t, s = point(straight(), 0.7), point(straight(), 0.3)
    kept = t.alpha / s.alpha
    added = (t.sigma**2 - (kept * s.sigma) ** 2) ** 0.5
    assert kept * s.alpha == pytest.approx(t.alpha)
    assert (kept * s.sigma) ** 2 + added**2 == pytest.approx(t.sigma**2)


def test_a_half_drop_pattern_is_padded_with_what_stands_beside_it():
    """Compared with a wall of 3 × 3 tiles, whose outer columns are moved by half a tile."""
    tile = torch.randn(1, 2, 6, 5)
    columns = [repeated(tile, 3)[..., :5].roll(3 * (n != 1), 2) for n in range(3)]
    wall = torch.cat(columns, 3)  # (1, 2, 18, 15)
    assert torch.equal(pad_half_drop(tile, 2), wall[:, :, 4:14, 3:12])


# the capstone


def changed(denoise, known, mask, noise, times, rounds, keep=True, follow=True, back=True):
    z = noise()
    for t, s in pairwise(times):
        for i in range(rounds):
            x0 = free = denoise(z, t)
            x0 = torch.where(mask, x0, known) if keep else x0
            eps = (z - (1 - t) * (x0 if follow else free)) / t
            z = (1 - s) * x0 + s * eps
            if back and i < rounds - 1:
                kept = (1 - t) / (1 - s)
                z = kept * z + (t**2 - (kept * s) ** 2) ** 0.5 * noise()
        if not back and s:
            z = z + 0 * noise()
    return z


def without_the_known(*inputs):
    return changed(*inputs, keep=False)


def once(denoise, known, mask, noise, times, rounds):
    return inpaint_back_and_forth(denoise, known, mask, noise, times, 1)


def at_other_times(denoise, known, mask, noise, times, rounds):
    later = [0.9 * t for t in times]
    return inpaint_back_and_forth(denoise, known, mask, noise, later, rounds)


def test_the_capstones_reference_reaches_its_target():
    assert EXERCISES["12.6"].examine(inpaint_back_and_forth).status == "right"
    assert EXERCISES["12.6"].examine(lambda *inputs: ...).status == "not attempted"


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (without_the_known, "known_part_lost"),
        (once, "never_goes_back"),
        (at_other_times, "lost_in_time"),
        (lambda *inputs: inpaint_back_and_forth(*inputs)[:7], None),
        (lambda denoise, known, mask, noise, times, rounds: known + 0 * denoise(known, 1.0), None),
    ],
)
def test_the_capstone_refuses_unsound_samplers(answer, mistake):
    verdict = EXERCISES["12.6"].examine(answer)
    assert verdict.status == "wrong"
    assert mistake is None or verdict.misconception == mistake, verdict
