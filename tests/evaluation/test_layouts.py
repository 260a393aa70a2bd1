"""Obedience to a layout: true pictures obey, moved ones and other shapes don't."""

import numpy as np
import pytest
import torch

from course_lib.datasets.scenes import KINDS, Scenes
from course_lib.evaluation.layouts import drawn, overlap, placed


def scenes(kind, count=32):
    data = Scenes(64, "train", kind, seed=5)
    images, _ = data.batch(range(count))
    centres = [data.scene(index)[1][0] for index in range(count)]
    return images, data.layouts(range(count)), centres


@pytest.mark.parametrize("kind", KINDS)
def test_true_pictures_follow_their_layouts(kind):
    images, layouts, centres = scenes(kind)
    assert all(placed(images, centres))
    assert overlap(images, layouts).min() > 0.75 and overlap(images, layouts).mean() > 0.88
    assert sum(placed(images.roll(1, 0), centres)) <= 2  # of 32: the layout of another scene
    assert overlap(images.roll(1, 0), layouts).mean() < 0.35


def test_a_picture_moved_too_far_is_misplaced():
    """By 2 pixels of 64 it is still where it should be, by 5 it isn't."""
    images, layouts, centres = scenes("single")
    for pixels, right in ((2, 32), (5, 0)):
        moved = torch.cat([images[..., :1].expand(-1, -1, -1, pixels), images[..., :-pixels]], 3)
        assert sum(placed(moved, centres)) == right
        assert overlap(moved, layouts).mean() < overlap(images, layouts).mean()


def test_a_shape_too_many_or_too_few_is_not_placed():
    images, _, centres = scenes("pair", 8)
    assert not any(placed(images, [each[:1] for each in centres]))
    more = [np.concatenate([each, [[0.5, 0.5]]]) for each in centres]
    assert not any(placed(images, more))


def test_overlap_by_hand():
    """A square of 8 × 8 pixels, and a layout of 8 × 4 of them: half."""
    image, layout = -torch.ones(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    image[..., 20:28, 20:28], layout[..., 20:28, 24:28] = 1.0, 1.0
    assert drawn(image).sum() == 64
    assert overlap(image, layout).item() == 0.5


def test_refusals():
    images, layouts, _ = scenes("single", 2)
    with pytest.raises(ValueError, match=r"layouts: expected \(2, 1, 64, 64\), as the images"):
        overlap(images, layouts[:1])
    with pytest.raises(ValueError, match="layouts: expected at least one shape in each"):
        overlap(images, 0 * layouts)
