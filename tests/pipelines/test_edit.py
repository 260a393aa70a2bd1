"""Outpainting, constraints and anagrams; the rest is in test_text_to_image.py."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.common import devices
from course_lib.diffusion import generators, guided, initial_noise, sample
from course_lib.pipelines import anagram, constrained, inpaint, outpaint

CAPTIONS = ["a red circle", "a blue square"]


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(devices, "fast_precision", lambda device: "no")


def pictures(height, width):
    draw = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, height, width, generator=draw) * 2 - 1


@pytest.mark.parametrize(
    ("size", "place", "corner"),
    [
        ((20, 12), {}, (6, 10)),  # the middle
        ((21, 32), {}, (5, 0)),
        ((9, 14), dict(top=0, left=18), (0, 18)),  # the upper right corner
        ((9, 14), dict(left=3), (11, 3)),
    ],
)
def test_the_pictures_stay_and_all_else_is_painted(toy_pipeline, size, place, corner):
    """To the last bit, as inpainting around them does."""
    images, (height, width), (top, left) = pictures(*size), size, corner
    new = outpaint(toy_pipeline, images, CAPTIONS, steps=2, **place)
    assert new.shape == (2, 3, 32, 32)
    assert torch.equal(new[..., top : top + height, left : left + width], images)

    mask = torch.ones(1, 1, 32, 32)
    mask[..., top : top + height, left : left + width] = 0
    edges = (left, 32 - width - left, top, 32 - height - top)
    canvas = F.pad(images, edges, mode="replicate")
    assert torch.equal(new, inpaint(toy_pipeline, canvas, mask, CAPTIONS, steps=2))
    assert (new - canvas).abs()[mask.bool().expand_as(new)].mean() > 0.01


def test_pictures_of_full_size_have_nothing_around_them(toy_pipeline):
    images = pictures(32, 32)
    assert torch.equal(outpaint(toy_pipeline, images, CAPTIONS, steps=1), images)


@pytest.mark.parametrize(
    ("images", "place", "line"),
    [
        (pictures(33, 8), {}, r"expected floats \(B, 3, H, W\) of at most 32 × 32 pixels, got \(2"),
        (pictures(8, 8)[0], {}, r"images to outpaint: .*got \(3, 8, 8\)"),
        (pictures(8, 8).byte(), {}, "torch.uint8"),
        (pictures(8, 8)[:1], {}, r"images are \(1, 3, 32, 32\), expected \(2, 3, 32, 32\)"),
        (pictures(8, 8), dict(top=-1), "top: expected a whole number of pixels from 0 to 24, got"),
        (pictures(8, 8), dict(left=25), "left: expected a whole number .*, got 25"),
        (pictures(8, 8), dict(left=0.5), "left: expected a whole number .*, got 0.5"),
    ],
)
def test_what_it_refuses(toy_pipeline, images, place, line):
    with pytest.raises(ValueError, match=line):
        outpaint(toy_pipeline, images, CAPTIONS, **place)


# constraints


def darker(images):
    return images.clamp(max=0.2)


def test_a_constraint_holds_exactly_and_is_asked_for_at_each_step(toy_pipeline):
    asked = []

    def project(images):
        asked.append(images)
        return darker(images)

    new = constrained(toy_pipeline, CAPTIONS, project, steps=3)
    assert new.max() <= 0.2 < max(images.max() for images in asked)
    assert [images.shape for images in asked] == [(2, 3, 32, 32)] * 4  # each step, and the end
    assert all(images.abs().max() <= 1 for images in asked)


def test_constrained_sampling_by_hand(toy_pipeline):
    """(12.2), with the projection in pixels in place of the mask."""
    model, seeds = toy_pipeline, [4, 9]
    vae, null = model.vae, model.clip.context([""])
    network, context = guided(model.unet, null, model.scale), model.clip.context(CAPTIONS)
    noise = initial_noise(generators(seeds), model.latent)
    z = sample(
        *(model.process, network, noise, context, 3),
        clip=lambda z: vae.encode(darker(vae.decode(z).clamp(-1, 1))),
    )
    expected = darker(vae.decode(z).clamp(-1, 1))
    new = constrained(model, CAPTIONS, darker, seeds, steps=3)
    torch.testing.assert_close(new, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("project", [lambda x: x[..., :9], lambda x: None, lambda x: x[:1]])
def test_a_projection_to_another_shape_is_refused(toy_pipeline, project):
    with pytest.raises(ValueError, match=r"projected images: expected the shape \(2, 3, 32, 32\)"):
        constrained(toy_pipeline, CAPTIONS, project, steps=1)


# anagrams

QUARTERS = {0: ["a red circle"], 1: ["a blue square"], 2: ["a red circle"], 3: ["a blue square"]}


@pytest.mark.parametrize("turns", [(0, 2), (0, 1, 2, 3), (1, 3)])
def test_all_views_of_an_anagram_are_one_picture(toy_pipeline, turns, monkeypatch):
    """(12.5): after each step, and the one that is returned stands upright."""
    seen = []

    def watch(model, captions, project, seeds, **options):
        return constrained(model, captions, lambda x: seen.append(project(x)) or seen[-1], seeds)

    monkeypatch.setattr("course_lib.pipelines.edit.constrained", watch)
    new = anagram(toy_pipeline, {k: QUARTERS[k] for k in turns}, [3])
    assert len(seen) == 21
    for views in seen:
        upright = [torch.rot90(v, -k, (1, 2)) for v, k in zip(views, turns, strict=True)]
        assert all(torch.equal(v, upright[0]) for v in upright)
    assert torch.equal(new[0], torch.rot90(seen[-1][0], -turns[0], (1, 2)))


def test_each_view_counts_the_same_and_has_its_own_caption_and_noise(toy_pipeline, monkeypatch):
    """(12.5) by hand: the mean of the views, each turned back."""
    handed = {}

    def keep(model, captions, project, seeds):
        handed.update(captions=captions, project=project, seeds=seeds)
        return torch.zeros(4, 3, 32, 32)

    monkeypatch.setattr("course_lib.pipelines.edit.constrained", keep)
    anagram(toy_pipeline, {0: CAPTIONS, 3: CAPTIONS[::-1]}, [3, 8])
    assert handed["captions"] == [*CAPTIONS, *CAPTIONS[::-1]]
    assert len(set(handed["seeds"])) == 4 and handed["seeds"][:2] == [3, 8]
    views = torch.randn(4, 3, 6, 6)
    mean = (views[:2] + torch.rot90(views[2:], 1, (2, 3))) / 2
    expected = torch.cat([mean, torch.rot90(mean, 3, (2, 3))])
    torch.testing.assert_close(handed["project"](views), expected)


def test_an_anagram_does_not_depend_on_its_batch(toy_pipeline):
    views = {0: CAPTIONS, 2: CAPTIONS[::-1]}
    both = anagram(toy_pipeline, views, [3, 8], steps=2)
    alone = anagram(toy_pipeline, {k: each[1:] for k, each in views.items()}, [8], steps=2)
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("captions", "seeds", "line"),
    [
        ({}, None, "captions: expected a list for each of different quarter turns"),
        ({0: CAPTIONS, 4: CAPTIONS}, None, "different quarter turns, got"),
        ({0: CAPTIONS, 2: CAPTIONS[:1]}, None, r"captions: expected 2 for every turn, got \[2, 1"),
        ({0: CAPTIONS}, [1], "seeds: expected 2, one a picture, got 1"),
        ({0: [], 2: []}, None, "no captions were given"),
    ],
)
def test_anagrams_that_it_refuses(toy_pipeline, captions, seeds, line):
    with pytest.raises(ValueError, match=line):
        anagram(toy_pipeline, captions, seeds)
