"""The oracle's required accuracy, fixed before any training and measured here.

`python tests/evaluation/test_oracle.py` prints the same measurements on 1,000 pictures of each
kind; the tests repeat them on fewer.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from course_lib.datasets.scenes.captions import parse, write
from course_lib.datasets.scenes.dataset import SIGNED_DISTANCE, Scenes
from course_lib.datasets.scenes.grammar import (
    COLOURS,
    KINDS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
)
from course_lib.evaluation.detection import Detection, Detections, relation_of
from course_lib.evaluation.oracle import PromptOracle, compare

oracle = PromptOracle()


def pictures(kind, size, n):
    return Scenes(size, kind=kind, seed=99, unsaid=0).batch(range(n))


def share_right(images, captions):
    return np.mean([verdict["all"] for verdict in oracle.judge(images, captions)])


def share_refused(images):
    return np.mean([scene is None for scene in oracle.read(images)])


def noisy(images, seed=0):
    """Blurred by half a pixel (at 64), and noise of standard deviation 0.05."""
    sigma = 0.5 * images.shape[-1] / 64
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return gaussian_blur(images, 5, [sigma, sigma]) + 0.05 * noise


def blends(images, seed=0):
    """Each picture half mixed with another one."""
    shift = torch.randint(1, len(images), (), generator=torch.Generator().manual_seed(seed))
    return (images + images.roll(int(shift), 0)) / 2


def one_wrong(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with exactly one property changed."""

    def other(options, value):
        return rng.choice([option for option in options if option != value]).item()

    choices = ["background", "size", "colour", "shape"]
    choices += {"single": ["place"] if scene.place else [], "count": ["count"]}.get(
        scene.kind, ["relation", "swap"]
    )
    what = rng.choice(choices)
    if what == "swap":
        return replace(scene, objects=scene.objects[::-1])
    options = {"background": COLOURS, "place": PLACES, "relation": RELATIONS, "count": (2, 3, 4)}
    if what in options:
        return replace(scene, **{what: other(options[what], getattr(scene, what))})
    which = rng.integers(len(scene.objects))
    options = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}[what]
    objects = list(scene.objects)
    value = other(options, getattr(objects[which], what))
    objects[which] = replace(objects[which], **{what: value})
    return replace(scene, objects=tuple(objects))


def one_wrong_captions(captions, seed=0):
    rng = np.random.default_rng(seed)
    return [write(one_wrong(parse(caption), rng), rng) for caption in captions]


# --- the bars --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_reads_scenes_and_refuses_what_is_none(kind, size):
    images, captions = pictures(kind, size, 60)
    assert share_right(images, captions) >= 0.995
    assert share_right(noisy(images), captions) >= 0.98
    assert share_right(images, one_wrong_captions(captions)) <= 0.01
    assert share_refused(blends(images)) >= 0.99


@pytest.mark.parametrize("size", [64, 32])
def test_refuses_noise(size):
    noise = torch.randn(300, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert share_refused(noise) == 1
    assert share_refused(0.2 * noise) == 1
    plain = torch.tensor(COLOURS["green"])[:, None, None] * 2 - 1  # at the same colour: no object
    assert share_refused(plain + 0.5 * noise) == 1
    assert share_refused(plain.expand(2, 3, size, size)) == 1


def test_the_scene_read_is_the_scene_drawn():
    data = Scenes(64, kind="count", seed=5)
    assert oracle.read(data.batch(range(20))[0]) == [data.scene(i)[0] for i in range(20)]
    data = Scenes(64, kind="pair", seed=5)
    for index, read in enumerate(oracle.read(data.batch(range(20))[0])):
        drawn, _ = data.scene(index)
        swapped = drawn.relation in ("right of", "below")
        assert read.objects == (drawn.objects[::-1] if swapped else drawn.objects)
        assert read.background == drawn.background
        opposite = {"right of": "left of", "below": "above"}
        assert read.relation == opposite.get(drawn.relation, drawn.relation)


# --- figures that are nearly a shape ---------------------------------------------------------


def draw_outline(outline, radius=0.185, size=64):
    """A red figure on blue; outline: signed distance in radii, negative inside."""
    pixel = ((torch.arange(size) + 0.5) / size - 0.5) / radius
    cover = (0.5 - outline(pixel[None, :], pixel[:, None]) * radius * size).clamp(0, 1)
    red, blue = (2 * torch.tensor(COLOURS[c])[:, None, None] - 1 for c in ("red", "blue"))
    return (blue + cover * (red - blue))[None]


def wobbly_circle(amplitude, waves):
    return lambda x, y: (
        torch.hypot(x, y) - 0.92 * (1 + amplitude * torch.cos(waves * torch.atan2(y, x) + 1))
    )


@pytest.mark.parametrize("radius", SIZES.values())
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cut_shape_is_refused(shape, radius):
    whole = SIGNED_DISTANCE[shape]
    assert oracle.read(draw_outline(whole, radius))[0].objects[0].shape == shape
    for cut in (0.0, 0.4):  # half of it, and all but its right third
        part = draw_outline(lambda x, y, cut=cut: torch.maximum(whole(x, y), x - cut), radius)
        assert oracle.read(part) == [None]


@pytest.mark.parametrize("radius", SIZES.values())
def test_a_blob_is_not_a_circle(radius):
    assert oracle.read(draw_outline(wobbly_circle(0.04, 3), radius))[0].objects[0].shape == "circle"
    for waves in (2, 3, 5):
        assert oracle.read(draw_outline(wobbly_circle(0.2, waves), radius)) == [None]


def test_a_ring_with_a_gap_is_refused():
    def gap(x, y):
        return torch.where(torch.atan2(y, x).abs() < 0.35, 1.0, SIGNED_DISTANCE["ring"](x, y))

    assert oracle.read(draw_outline(gap)) == [None]


def test_between_two_shapes_there_is_no_name():
    for pair in (("circle", "square"), ("circle", "triangle"), ("triangle", "diamond")):
        a, b = (SIGNED_DISTANCE[shape] for shape in pair)
        mixed = draw_outline(lambda x, y, a=a, b=b: (a(x, y) + b(x, y)) / 2)
        assert oracle.read(mixed) == [None]


def test_an_object_of_two_colours_is_refused():
    image = draw_outline(SIGNED_DISTANCE["circle"])
    other = draw_outline(SIGNED_DISTANCE["circle"]).flip(1)  # blue figure on red
    image[..., :32, :] = torch.where(
        image[:, :1, :32] > 0, 0.5 * other[..., :32, :], image[..., :32, :]
    )
    verdict = oracle.judge(image, ["a circle"])[0]
    assert not verdict["all"]


def test_softness_and_colour_drift_are_forgiven():
    images, captions = pictures("single", 64, 60)
    soft = gaussian_blur(images, 7, [1.0, 1.0])
    drift = torch.tensor([0.06, -0.06, 0.06])[:, None, None]
    assert share_right(soft + drift, captions) == 1


# --- how it compares -------------------------------------------------------------------------

BLUE_RING = Detection("small", "blue", "ring", (0.2, 0.5))
RED_CROSS = Detection("large", "red", "cross", (0.7, 0.45))


def test_only_what_the_caption_states_is_judged():
    sight = Detections("white", (BLUE_RING,))
    assert compare(sight, parse("a ring")) == {"number": True, "shape": True, "all": True}
    verdict = compare(sight, parse("a large blue ring on the left on black"))
    wrong = [name for name, holds in verdict.items() if not holds]
    assert wrong == ["background", "size", "all"]


def test_the_objects_of_a_pair_are_matched_before_they_are_judged():
    sight = Detections("white", (RED_CROSS, BLUE_RING))
    assert compare(sight, parse("a ring to the left of a large red cross"))["all"]
    verdict = compare(sight, parse("a blue cross to the left of a large red ring"))
    assert verdict["number"] and not verdict["all"]


def test_one_wrong_property_leaves_the_others_right():
    sight = Detections("white", (BLUE_RING, RED_CROSS))
    verdict = compare(sight, parse("a small blue ring above a large red cross on white"))
    assert [name for name, holds in verdict.items() if not holds] == ["relation", "all"]
    verdict = compare(sight, parse("a small blue ring left of a large red diamond on white"))
    assert [name for name, holds in verdict.items() if not holds] == ["second shape", "all"]


def test_missing_and_surplus_objects():
    verdict = compare(Detections("white", (BLUE_RING,)), parse("a blue ring left of a red cross"))
    assert not verdict["number"] and verdict["first shape"] and not verdict["second shape"]
    assert not verdict["relation"]
    verdict = compare(Detections("white", (BLUE_RING, RED_CROSS)), parse("a red cross"))
    assert not verdict["number"] and verdict["colour"] and verdict["shape"]
    assert not any(compare(Detections(), parse("a red cross on white")).values())


def test_an_unnamed_thing_spoils_the_picture_even_if_the_caption_does_not_mention_it():
    unnamed = replace(BLUE_RING, colour=None)
    verdict = compare(Detections("white", (unnamed,)), parse("a ring"))
    assert verdict == {"number": True, "shape": True, "all": False}


def test_a_count_asks_for_equal_objects():
    three = Detections("black", (BLUE_RING,) * 3)
    assert compare(three, parse("three small blue rings"))["all"]
    assert not compare(three, parse("two small blue rings"))["number"]
    mixed = Detections("black", (BLUE_RING, BLUE_RING, RED_CROSS))
    verdict = compare(mixed, parse("three blue rings"))
    assert verdict["number"] and not verdict["colour"] and not verdict["shape"]


def test_a_relation_needs_a_clear_axis():
    a, b = Detection(centre=(0.3, 0.3)), Detection(centre=(0.6, 0.55))
    assert relation_of(a, b) is None
    assert relation_of(a, replace(b, centre=(0.6, 0.45))) == "left of"
    assert relation_of(replace(b, centre=(0.35, 0.7)), a) == "below"


# --- refusals --------------------------------------------------------------------------------


def test_refusals():
    with pytest.raises(ValueError, match=r"pictures are .*, not \(1, 1, 64, 64\)"):
        oracle.read(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ValueError, match=r"floats in .*, not torch\.uint8"):
        oracle.read(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ValueError, match="2 pictures, but 1 captions"):
        oracle.judge(torch.zeros(2, 3, 64, 64), ["a circle"])
    with pytest.raises(ValueError, match="cannot read the caption 'a dog'"):
        oracle.judge(torch.zeros(1, 3, 64, 64), ["a dog"])


def test_a_diverged_model_is_wrong_not_an_error():
    images = torch.full((2, 3, 32, 32), float("nan"))
    images[1] = float("inf")
    assert oracle.read(images) == [None, None]
    assert oracle.read(torch.zeros(0, 3, 32, 32)) == []


def test_half_precision_and_batching_change_nothing():
    images, _ = pictures("pair", 64, 40)
    alone = [oracle.read(image[None])[0] for image in images[:5]]
    assert oracle.read(images)[:5] == alone == oracle.read(images[:5].bfloat16())


def measure(n=1000):
    for size in (64, 32):
        for kind in KINDS:
            images, captions = pictures(kind, size, n)
            parts = {
                "clean": share_right(images, captions),
                "noisy": share_right(noisy(images), captions),
                "one word wrong, refused": 1 - share_right(images, one_wrong_captions(captions)),
                "blend, refused": share_refused(blends(images)),
            }
            print(f"{size} {kind:7}", *(f"{name} {share:.2%}" for name, share in parts.items()))


if __name__ == "__main__":
    measure()
