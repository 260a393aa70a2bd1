"""Pairs of captions differ in one property, and each exchange takes the vectors it names."""

from dataclasses import replace

import pytest
import torch

from course_lib.datasets.scenes.captions import parse
from course_lib.models import CLIP, Tokenizer
from course_lib.teaching.interventions import CORNERS, caption_pairs, exchanged, token_kinds


def encoder(captions):
    """A small causal text encoder for these captions."""
    torch.manual_seed(0)
    words = Tokenizer.train(captions, length=20).kwargs
    return CLIP(words, text=dict(dim=8), image=dict(size=16, channels=8, dim=8), dim=6)


@pytest.mark.parametrize("what", ["colour", "place"])
def test_pairs_differ_in_one_thing(what):
    for first, second in zip(*caption_pairs(what, 40), strict=True):
        one, other = parse(first), parse(second)
        assert one.place in CORNERS and other.place in CORNERS
        if what == "place":
            assert one != other and replace(one, place=other.place) == other
        else:
            colour = other.objects[0].colour
            assert colour not in (one.objects[0].colour, one.background)
            assert replace(one, objects=(replace(one.objects[0], colour=colour),)) == other


def test_both_kinds_of_pairs_have_the_same_first_captions():
    assert caption_pairs("colour", 5)[0] == caption_pairs("place", 5)[0]
    assert caption_pairs("colour", 5)[0] != caption_pairs("colour", 5, seed=2)[0]
    with pytest.raises(ValueError, match="unknown property 'size'"):
        caption_pairs("size", 5)


def test_kinds_of_tokens_share_out_the_caption():
    ids = torch.tensor([[8, 1, 2, 9, 9], [8, 3, 9, 9, 9]])
    kinds = token_kinds(ids)
    assert torch.stack(list(kinds.values())).sum(0).eq(1).all()
    assert kinds["words"].tolist() == [
        [False, True, True, False, False],
        [False, True] + 3 * [False],
    ]
    assert kinds["end"].int().argmax(1).tolist() == [3, 2]


@pytest.mark.parametrize("what", ["colour", "place"])
def test_an_exchange_takes_its_group_and_nothing_else(what):
    first, second = caption_pairs(what, 12)
    clip = encoder(first + second)
    mixed = exchanged(clip, first, second)
    with torch.no_grad():
        a, b = clip.context(first), clip.context(second)
    assert torch.equal(mixed["nothing"], a) and torch.equal(mixed["all"], b)
    taken = {name: (mixed[name] != a).any(2) for name in mixed}  # (B, L)
    groups = [taken[name] for name in list(mixed)[1:-1]]
    assert torch.equal(torch.stack(groups).sum(0), taken["all"].int())  # disjoint, and complete
    changed = clip.ids(first) != clip.ids(second)
    assert torch.equal(taken["the changed word"], changed)
    ends = clip.ids(first) == clip.ids(first).max()
    assert torch.equal(taken["end and padding"], ends)
