"""The advertiser's brief: projections that satisfy their condition, verdicts that can be false."""

import pytest
import torch

from course_lib.evaluation import PromptOracle
from course_lib.teaching.briefs import CONDITIONS, Brief, kept, off_palette

BRIEF = Brief()
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("condition", CONDITIONS[:3])
def test_a_projection_satisfies_its_condition_and_changes_nothing_the_second_time(condition):
    project = BRIEF.projection([condition])
    once = project(IMAGES)
    assert torch.equal(project(once), once)
    assert kept(condition, IMAGES, ["", ""], BRIEF) == [False, False]
    assert kept(condition, once, ["", ""], BRIEF) == [True, True]


def test_together_they_satisfy_all_conditions():
    images = BRIEF.projection(["product", "text", "palette"])(IMAGES)
    for condition in CONDITIONS[:3]:
        assert kept(condition, images, ["", ""], BRIEF) == [True, True]


def test_the_palette_is_the_nearest_colour():
    red, yellow, white = BRIEF.palette
    near = (red + 0.1).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert torch.equal(BRIEF.in_palette(near)[0, :, 0, 0], red)
    assert not torch.equal(red, yellow) and white.min() > 0.9


def test_blends_of_two_colours_are_in_the_palette_and_others_are_not():
    red, yellow, white = BRIEF.palette
    colours = torch.stack([red, 0.3 * red + 0.7 * white, (red + yellow) / 2, -white])
    images = colours[:, :, None, None].expand(-1, 3, 2, 2)
    assert off_palette(images, BRIEF.palette).tolist() == [0, 0, 0, 1]


def test_the_captions_name_the_product_and_leave_the_other_colour_open():
    captions = BRIEF.variations(5, seed=1)
    assert captions == BRIEF.variations(5, seed=1) != BRIEF.variations(5, seed=2)
    for caption in captions:
        first, second = caption.split(" left of ")
        assert first == "a large red circle" and second.endswith("on a white background")
        assert not set(second.split()[:3]) & {"red", "yellow", "blue"}


def test_the_product_is_what_the_caption_says():
    seen = PromptOracle().read(BRIEF.with_product(torch.ones(1, 3, 64, 64) * 0.92))[0]
    assert (seen.objects[0].colour, seen.objects[0].shape) == ("red", "circle")


def test_an_unknown_condition_is_refused():
    with pytest.raises(ValueError, match="unknown condition 'palete'"):
        BRIEF.projection(["palete"])
