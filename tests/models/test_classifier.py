"""The classifier of contents and styles: cosines, and colours without places."""

import pytest
import torch

from course_lib.models import ContentAndStyle
from course_lib.models.classifier import colour_histogram


@pytest.fixture
def model() -> ContentAndStyle:
    torch.manual_seed(0)
    return ContentAndStyle(5, 2, size=16, channels=(8, 8), dim=6)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_content_s_logit_is_a_cosine_times_the_scale(model, images):
    contents, _ = model(images).split([5, 2], dim=1)
    cosines = torch.cosine_similarity(model.embedding(images)[:, None], model.head.weight, dim=2)
    torch.testing.assert_close(contents, model.scale * cosines)
    with torch.no_grad():
        model.head.weight *= 7  # only directions count
    torch.testing.assert_close(model(images)[:, :5], contents)


def test_the_style_depends_on_the_colours_and_not_on_where_they_are(model, images):
    pixels = images[:, :, ::2, ::2].flatten(2)
    moved = images.clone()
    moved[:, :, ::2, ::2] = pixels[:, :, torch.randperm(64)].unflatten(2, (8, 8))
    torch.testing.assert_close(model(moved)[:, 5:], model(images)[:, 5:])
    assert (model(moved)[:, :5] - model(images)[:, :5]).abs().max() > 1e-3


def test_a_histogram_holds_each_pixel_once(images):
    torch.testing.assert_close(colour_histogram(images).square().sum(1), torch.ones(3))


def test_a_colour_between_two_levels_counts_for_both_by_how_near_it_is():
    halfway = torch.full((1, 3, 2, 2), -1.0)
    halfway[:, 0] = -1 + 0.25 * 2 / 8  # a quarter of the way from the first level of red
    counts = colour_histogram(halfway).square().view(9, 9, 9)
    torch.testing.assert_close(counts[:2, 0, 0], torch.tensor([0.75, 0.25]))


def test_the_histogram_has_a_gradient(images):
    images.requires_grad_()
    colour_histogram(images)[:, 100:200].sum().backward()
    assert images.grad.abs().sum() > 0
