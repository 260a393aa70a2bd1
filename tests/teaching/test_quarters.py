"""Chapter 07's toy task: pictures match their captions, and equation (7.6)'s bounds hold."""

import pytest
import torch

from course_lib.models import UNetBlock
from course_lib.teaching.quarters import (
    NAMES,
    QUARTERS,
    RGB,
    ToyModel,
    caption_of,
    examples,
    residual,
    train,
)


def block():
    made = UNetBlock(32, 32, 4, 32)
    torch.nn.init.normal_(made.conv2.weight, std=0.1)
    return made


@pytest.mark.parametrize("named", [1, 2, 4])
def test_each_named_quarter_has_its_colour_and_the_others_are_grey(named):
    ids, pictures = examples(50, named, seed=3)
    for row, picture in zip(ids, pictures, strict=True):
        quarters = picture.unfold(1, 3, 3).unfold(2, 3, 3).flatten(3).flatten(1, 2)  # (3, 4, 9)
        said = dict(zip((row[1::2] - len(NAMES)).tolist(), row[0::2].tolist(), strict=True))
        assert len(said) == named
        for i in range(4):
            expected = RGB[said[i]] if i in said else torch.zeros(3)
            assert torch.equal(quarters[:, i], expected[:, None].expand(3, 9))


def test_a_caption_in_words():
    assert caption_of(torch.tensor([3, 9, 0, 6])) == "blue lower right, red upper left"
    assert QUARTERS == ["upper left", "upper right", "lower left", "lower right"]


def test_examples_depend_on_the_seed_alone():
    assert torch.equal(examples(5, seed=1)[1], examples(5, seed=1)[1])
    assert not torch.equal(examples(5, seed=1)[0], examples(5, seed=2)[0])
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(examples(5, seed=1)[0], examples(5, seed=generator)[0])
    assert not torch.equal(examples(5, seed=1)[0], examples(5, seed=generator)[0])


def test_the_mean_of_the_named_colours_reaches_the_bound():
    """(7.6): three quarters of the variance remain."""

    def mean_colour(ids):
        return RGB[ids[:, 0::2]].mean(1)[:, :, None, None].expand(-1, -1, 6, 6)

    assert residual(mean_colour, count=20_000) == pytest.approx(0.75, abs=0.01)
    assert residual(lambda ids: torch.zeros(len(ids), 3, 6, 6)) > 1


def test_without_the_previous_word_the_caption_is_a_bag():
    torch.manual_seed(0)
    ids = examples(4)[0]
    moved = ids[:, [2, 1, 0, 3, 4, 5, 6, 7]]  # two colours exchange their quarters
    with torch.no_grad():
        bag, bound = ToyModel(block, previous=False), ToyModel(block)
        torch.testing.assert_close(bag(ids), bag(moved), atol=1e-5, rtol=0)
        assert (bound(ids) - bound(moved)).abs().max() > 1e-3


def test_pooled_the_block_gets_one_token():
    torch.manual_seed(0)
    model, ids = ToyModel(block, pooled=True), examples(4)[0]
    with torch.no_grad():
        mean = model.context(ids).mean(1, keepdim=True).expand(-1, 8, -1)
        torch.testing.assert_close(model(ids), model(ids, mean))


def test_training_lowers_the_residual_and_depends_on_its_seed_alone():
    state = torch.get_rng_state()
    (model, curve), (_, again) = (train(block, named=1, steps=20) for _ in range(2))
    assert curve == again and len(curve) == 20 and curve[-1] < curve[0] / 2
    assert torch.equal(state, torch.get_rng_state()) and not model.training
