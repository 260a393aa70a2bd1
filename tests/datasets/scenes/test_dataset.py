"""Scenes: deterministic, within bounds, as described; training never shows held-out ones."""

import numpy as np
import pytest
import torch

from course_lib.datasets.scenes.captions import parse
from course_lib.datasets.scenes.dataset import (
    HELD_OUT_PAIRS,
    REACH,
    SIGNED_DISTANCE,
    SPLITS,
    Scenes,
    render,
    split_of,
)
from course_lib.datasets.scenes.grammar import COLOURS, KINDS, PLACES, SHAPES, SIZES, Object, Scene

ONE = [np.array([[0.5, 0.5]])]


def test_an_example_is_a_function_of_its_index_alone():
    data = Scenes(seed=3)
    images, captions = data.batch([5, 900, 7])
    alone, said = Scenes(seed=3).batch([7])
    assert torch.equal(images[2:], alone) and captions[2:] == said
    assert data.caption(900) == captions[1]
    assert not torch.equal(images, Scenes(seed=4).batch([5, 900, 7])[0])


@pytest.mark.parametrize("size", [32, 64])
def test_pictures_are_in_range_and_of_the_asked_size(size):
    images, captions = Scenes(size).batch(range(64))
    assert images.shape == (64, 3, size, size) and images.dtype == torch.float32
    assert images.abs().max() <= 1 and len(captions) == 64


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_holds_only_its_own(split):
    data = Scenes(split=split)
    for index in range(300):
        scene, _ = data.scene(index)
        assert split_of(scene) == split
        held_out = {(thing.shape, thing.colour) for thing in scene.objects} & HELD_OUT_PAIRS
        assert bool(held_out) == (split == "new pairs")


def test_about_a_tenth_of_the_other_combinations_is_held_out():
    scenes = {
        Scene("single", (Object(size, colour, shape),), ground, place)
        for size in SIZES
        for colour in COLOURS
        for shape in SHAPES
        for ground in COLOURS
        for place in (None, *PLACES)
        if (shape, colour) not in HELD_OUT_PAIRS and ground != colour
    }
    share = sum(split_of(scene) == "new combinations" for scene in scenes) / len(scenes)
    assert abs(share - 0.1) < 0.012  # three standard errors of a fair tenth of 5,880


@pytest.mark.parametrize("kind", KINDS)
def test_objects_lie_inside_and_apart(kind):
    data = Scenes(kind=kind)
    for index in range(500):
        scene, (centres, radii) = data.scene(index)
        assert len(centres) == len(radii) == scene.count
        reach = REACH * radii[:, None]
        assert (centres - reach >= 0).all() and (centres + reach <= 1).all()
        for a in range(len(radii)):
            for b in range(a):
                distance = np.abs(centres[a] - centres[b]).max()  # squares are the widest
                assert distance >= REACH * (radii[a] + radii[b]) / 2**0.5
        assert all(thing.colour != scene.background for thing in scene.objects)


def test_pairs_stand_as_their_relation_says():
    data = Scenes(kind="pair")
    for index in range(300):
        scene, (centres, _) = data.scene(index)
        x, y = centres[0] - centres[1]
        holds = {"left of": x < 0, "right of": x > 0, "above": y < 0, "below": y > 0}
        assert holds[scene.relation]
        along, across = (x, y) if scene.relation in ("left of", "right of") else (y, x)
        assert abs(along) > 2 * abs(across)  # nobody would call it diagonal


def test_places_are_where_they_say():
    data = Scenes(kind="single")
    for index in range(500):
        scene, (centres, _) = data.scene(index)
        place, (x, y) = scene.place or "", centres[0]
        assert ("left" in place) <= (x < 1 / 3) and ("right" in place) <= (x > 2 / 3)
        assert ("top" in place) <= (y < 1 / 3) and ("bottom" in place) <= (y > 2 / 3)
        assert (place == "centre") <= (abs(x - 0.5) < 1 / 6 and abs(y - 0.5) < 1 / 6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_the_colour_inside_and_the_background_outside(shape):
    scene = Scene("single", (Object("large", "red", shape),), "white")
    image = (render([scene], ONE, [np.array([0.19])])[0] + 1) / 2  # (3, 64, 64)
    red = (image - torch.tensor(COLOURS["red"])[:, None, None]).abs().sum(0) < 1e-5
    assert red.any() and torch.allclose(image[:, 0, 0], torch.tensor(COLOURS["white"]))
    if shape not in ("cross", "ring", "triangle"):  # these three are even under a quarter turn
        assert torch.allclose(image, image.rot90(1, (1, 2)), atol=1e-5)


def test_areas_are_those_of_geometry():
    """Antialiasing preserves areas to within 1.5 %, because it softens corners."""
    r = 0.19 * 64
    known = {
        "circle": np.pi * 0.92**2,
        "square": 1.6**2,
        "ring": np.pi * (0.98**2 - 0.5**2),
        "diamond": 2 * 1.1**2,
        "cross": 4 * 0.34 * 2 - (2 * 0.34) ** 2,
    }
    for shape, area in known.items():
        scene = Scene("single", (Object("large", "black", shape),), "white")
        image = render([scene], ONE, [np.array([0.19])])[0, 0]
        white, black = (2 * COLOURS[name][0] - 1 for name in ("white", "black"))
        covered = ((white - image) / (white - black)).sum().item()
        assert covered == pytest.approx(area * r**2, rel=0.015), shape


def test_no_shape_reaches_beyond_its_reach():
    axis = torch.linspace(-2, 2, 801)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    for shape, signed_distance in SIGNED_DISTANCE.items():
        inside = signed_distance(x, y) <= 0
        assert torch.maximum(x.abs(), y.abs())[inside].max() <= REACH, shape


def test_captions_say_what_is_drawn():
    data = Scenes(unsaid=0.0)
    for index in range(300):
        assert parse(data.caption(index)) == data.scene(index)[0]


def test_refusals():
    with pytest.raises(ValueError, match="32 or 64 pixels wide, not 48"):
        Scenes(48)
    with pytest.raises(ValueError, match="unknown split 'trian'; did you mean 'train'"):
        Scenes(split="trian")
    with pytest.raises(ValueError, match="unknown kind of scene 'pairs'; did you mean 'pair'"):
        Scenes(kind="pairs")


@pytest.mark.parametrize("kind", KINDS)
def test_a_layout_is_white_where_the_picture_differs_from_its_background(kind):
    data = Scenes(64, "train", kind)
    images, _ = data.batch(range(16))
    layouts = data.layouts(range(16))
    assert layouts.shape == (16, 1, 64, 64)
    for index, (image, layout) in enumerate(zip(images, layouts, strict=True)):
        ground = 2 * torch.tensor(COLOURS[data.scene(index)[0].background]) - 1
        away = (image - ground[:, None, None]).norm(dim=0)
        assert (away[layout[0] == 0] < 1e-6).all() and (away[layout[0] == 1] > 0.5).all()
    assert 0 < layouts.mean() < 0.5 and layouts.min() == 0 and layouts.max() == 1
