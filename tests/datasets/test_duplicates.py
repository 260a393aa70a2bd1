"""Copies are found, different pictures are told apart, and a held-out tenth keeps groups whole."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from course_lib.datasets.duplicates import (
    NEAR,
    checksums,
    held_out,
    near_duplicates,
    similarity,
    thumbnails,
)
from course_lib.datasets.emoji import concepts
from course_lib.datasets.emoji.concepts import pictures

RESIZE = Image.Resampling.LANCZOS


def smaller(image: Image.Image) -> Image.Image:
    """Half the size, as a JPEG of quality 75."""
    buffer = io.BytesIO()
    image.resize((image.width // 2, image.height // 2), RESIZE).save(buffer, "JPEG", quality=75)
    return Image.open(buffer)


def stacked(images) -> torch.Tensor:
    arrays = [np.asarray(image.resize((64, 64), RESIZE)) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def some_emoji(studio: str, count: int) -> tuple[list[Image.Image], list[str]]:
    """Every third of a studio's, at 128 pixels, and what they show."""
    numbers = [n for n, concept in enumerate(concepts()) if studio in concept.studios][::3][:count]
    drawn = [Image.fromarray(pictures(studio)[n]).resize((128, 128), RESIZE) for n in numbers]
    return drawn, [concepts()[n].name for n in numbers]


def some_photographs():
    """Random squares of scikit-learn's two, 128 to 320 pixels wide."""
    rng, crops = np.random.default_rng(0), []
    for photo in load_sample_images().images:
        for side in rng.integers(128, 320, 100):
            y, x = (rng.integers(0, length - side) for length in photo.shape[:2])
            crops.append(Image.fromarray(photo[y : y + side, x : x + side]))
    return crops


def by_numpy(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """The similarity of each picture with its copy, from the variances and the covariance."""
    flat = []
    for pixels in (x, y):
        small = pixels.numpy().reshape(-1, 3, 16, 4, 16, 4).mean((3, 5)).reshape(-1, 3, 256)
        flat.append((small - small.mean(2, keepdims=True)).reshape(-1, 768))
    a, b = flat
    return 2 * (a * b).mean(1) / ((a * a).mean(1) + (b * b).mean(1) + 256 / 768)


def test_smaller_copies_are_found_and_no_two_different_emoji_but_one_pair():
    missed = 0
    together = []
    sets = some_emoji("Twemoji", 400), some_emoji("Blob", 366), (some_photographs(), None)
    for drawn, names in sets:
        originals, copies = stacked(drawn), stacked(map(smaller, drawn))
        found = similarity(thumbnails(originals), thumbnails(copies)).diagonal()
        assert found.tolist() == pytest.approx(by_numpy(originals, copies), abs=1e-5)
        missed += int((found <= NEAR).sum())
        group = near_duplicates(originals)
        same = [np.flatnonzero(group == g) for g in np.unique(group)]
        together += [[names[i] for i in each] for each in same if names and len(each) > 1]
    assert [len(drawn) for drawn, _ in sets] == [400, 366, 200] and missed == 1
    assert together == [["woman frowning", "woman pouting"]]


def test_a_small_light_square_is_not_a_small_dark_one():
    """They have a correlation of 1."""
    pixels = torch.full((2, 3, 64, 64), 255, dtype=torch.uint8)
    pixels[0, :, 20:44, 20:44], pixels[1, :, 20:44, 20:44] = 220, 20
    x = thumbnails(pixels)
    assert torch.corrcoef(x)[0, 1] == pytest.approx(1)
    assert near_duplicates(pixels).tolist() == [0, 1]
    assert similarity(x, x)[0, 1] == pytest.approx(2 / (35 / 235 + 235 / 35), abs=1e-3)


def test_a_copy_of_a_copy_is_in_the_same_group():
    """Three pictures at 0, 40 and 80 degrees: cos 40° = 0.77, cos 80° = 0.17."""
    across = torch.linspace(-1, 1, 16).repeat_interleave(4)
    u, v = across.expand(3, 64, 64), across[:, None].expand(3, 64, 64)
    angles = torch.deg2rad(torch.tensor([0.0, 40, 80, 180]))
    turned = [torch.cos(angle) * u + torch.sin(angle) * v for angle in angles]
    pixels = (torch.stack(turned) * 80 + 128).round().to(torch.uint8)
    x = thumbnails(pixels)
    assert similarity(x, x)[0].tolist() == pytest.approx([1, 0.766, 0.174, -1], abs=0.01)
    assert near_duplicates(pixels, limit=0.7).tolist() == [0, 0, 0, 1]
    assert near_duplicates(pixels[[0, 2]], limit=0.7).tolist() == [0, 1]


def noise(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)


def test_groups_reach_across_the_blocks_of_256():
    """600 pictures, of which the last 100 are copies of the first, in reverse and brighter."""
    pixels = noise(500) // 2
    pixels = torch.cat([pixels, pixels[:100].flip(0) + 9])
    group = near_duplicates(pixels)
    assert len(set(group)) == 500 and group[500:].tolist() == group[:100][::-1].tolist()


def test_plain_pictures_and_a_cast_of_colour_are_no_copies():
    plain = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    plain[1:] += torch.tensor([200, 0, 0], dtype=torch.uint8)[:, None, None]
    plain[2] //= 2
    assert near_duplicates(plain).tolist() == [0, 1, 2, 1]  # only equal pixels
    faint = noise(2) // 64
    faint[:, 0] += 200  # each red, with noise of its own
    assert near_duplicates(faint).tolist() == [0, 1]


def test_the_checksum_is_that_of_the_pixels():
    pixels = noise(3)
    pixels[2] = pixels[0]
    first, second, third = checksums(pixels)
    assert first == third != second


@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_is_held_out_in_whole_groups_whatever_the_order(seed):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 60, 200)
    group[:30] = 60  # more than a tenth: never held out
    keys = [f"{number:032x}" for number in rng.permutation(200)]
    out = held_out(group, keys)
    assert 10 < out.sum() <= 20
    assert not set(group[out]) & set(group[~out]) and 60 not in group[out]
    order = rng.permutation(200)
    assert held_out(group[order], [keys[i] for i in order]).tolist() == out[order].tolist()


def test_fewer_than_twenty_hold_nothing_out_and_twenty_hold_out_the_first_two_keys():
    keys = list("tsrqponmlkjihgfedcba")
    assert not held_out(range(19), keys[1:]).any()
    assert held_out(range(20), keys).nonzero()[0].tolist() == [18, 19]


def test_another_picture_moves_none_but_at_the_edge():
    keys = [f"{number:032x}" for number in np.random.default_rng(0).permutation(200)]
    before, after = held_out(range(200), keys), held_out(range(201), [*keys, "g"])
    assert before.tolist() == after[:200].tolist() and not after[200]
