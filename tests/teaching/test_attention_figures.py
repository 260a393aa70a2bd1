"""Heat maps show each position's weight, next to the picture and with its outlines."""

import numpy as np
import pytest
import torch

from course_lib.teaching.attention_figures import (
    attention_figure,
    heat_on,
    number_table,
    objects,
    token_figure,
)
from course_lib.teaching.style import canvas


def square(left=4, right=12):
    """White with a black square."""
    image = torch.ones(1, 3, 32, 32)
    image[..., 4:12, left:right] = -1
    return image


def test_each_map_is_as_given_and_bright_at_its_own_maximum():
    heat = torch.tensor([[[0.1, 0.4], [0.2, 0.0]], [[0.01, 0.0], [0.0, 0.02]]])
    figure = attention_figure(square(), ["red", "ring"], heat, "a title", columns=3)
    picture, *maps = figure.axes
    assert picture.get_xlabel().strip() == "the picture"
    for axis, given, label in zip(
        maps, heat, ["red\n0.000 to 0.400", "ring\n0.000 to 0.020"], strict=True
    ):
        (image,) = axis.images
        np.testing.assert_array_equal(image.get_array(), given.numpy())
        assert (image.norm.vmin, image.norm.vmax) == (0, given.max().item())
        assert axis.get_xlabel() == label
    shared = attention_figure(square(), ["red", "ring"], heat, columns=3, top=0.5)
    assert [axis.images[0].norm.vmax for axis in shared.axes[1:]] == [0.5, 0.5]
    with pytest.raises(ValueError, match="heat: expected a map for each of 1 words, got 2"):
        attention_figure(square(), ["red"], heat)


def test_the_outline_is_that_of_the_objects():
    mask = objects(square())
    assert mask[4:12, 4:12].all() and mask.sum() == 64
    assert not objects(torch.full((1, 3, 8, 8), 0.3)).any()
    for image, contours in ((square(), 1), (torch.ones(1, 3, 8, 8), 0)):
        _, axis = canvas()
        heat_on(axis, torch.ones(2, 2), image)
        assert len(axis.collections) == contours


def test_the_chosen_tokens_bar_is_told_from_the_others():
    heat = torch.tensor([0.5, 0.2, 0.3])[:, None, None].expand(3, 4, 4)
    figure = token_figure(square(), ["start", "red", "end"], heat, "red")
    bars = figure.axes[2].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([0.5, 0.2, 0.3])
    assert bars[0].get_facecolor() == bars[2].get_facecolor() != bars[1].get_facecolor()
    assert figure.axes[1].get_title() == "“red”: 0.200 to 0.200"


def test_a_table_holds_its_numbers_in_ink_that_can_be_read():
    _, axis = canvas()
    number_table(axis, torch.tensor([[0.0, 1.0]]), ["a"], ["x", "y"], "{:.1f}", top=1)
    assert [(text.get_text(), text.get_color()) for text in axis.texts] == [
        ("0.0", "white"),
        ("1.0", "black"),
    ]
