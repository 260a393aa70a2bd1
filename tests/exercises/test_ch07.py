"""Chapter 07's equations, compared with the library in float64, mostly without random numbers."""

import itertools
import math

import pytest
import torch
from torch import nn

from course_lib.exercises.ch07 import (
    planted_batch_axis_and_one_token,
    positions_reached,
    read_all_words,
    read_words,
    split_qkv,
)
from course_lib.models import UNetBlock
from course_lib.models.attention import Attention, attend


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_the_exercises_attention_is_the_librarys():
    """(7.1)"""
    q, k, v = (torch.randn(2, n, 8).double() for n in (5, 3, 3))
    torch.testing.assert_close(read_words(q, k, v, torch.tensor([3, 3])), attend(q, k, v))
    short = read_words(q, k, v, torch.tensor([2, 3]))  # the first caption has two words
    torch.testing.assert_close(short[:1], attend(q[:1], k[:1, :2], v[:1, :2]))


@pytest.mark.parametrize("d", [1, 3, 5])
def test_scores_divided_by_the_root_of_the_width_have_variance_1(d):
    """(7.2), over all sign vectors; the library's maps are the softmax of exactly these scores."""
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d))).double()  # (2^d, d)
    scores = signs @ signs.T
    assert scores.mean() == 0 and scores.square().mean() == d
    layer = Attention(d, context_dim=d, heads=1).double()
    for linear in (layer.to_q, layer.to_k):
        nn.init.eye_(linear.weight)
    logs = layer.maps(signs[None], signs[None])[0, 0].log()
    inside = logs - logs.mean(1, keepdim=True)  # scores, up to a constant of each row
    assert inside.square().mean().item() == pytest.approx(1)  # rows of scores have mean 0


def test_heads_are_pytorchs():
    """(7.3): nn.MultiheadAttention with the same weights, and head by head."""
    layer = Attention(8, context_dim=6, heads=4).double()
    theirs = nn.MultiheadAttention(8, 4, kdim=6, vdim=6, batch_first=True).double()
    with torch.no_grad():
        for ours, weight in (
            (layer.to_q, theirs.q_proj_weight),
            (layer.to_k, theirs.k_proj_weight),
            (layer.to_v, theirs.v_proj_weight),
        ):
            weight.copy_(ours.weight)
        theirs.in_proj_bias.zero_()
    theirs.out_proj.load_state_dict(layer.to_out.state_dict())
    x, context = torch.randn(2, 5, 8).double(), torch.randn(2, 3, 6).double()
    torch.testing.assert_close(layer(x, context), theirs(x, context, context)[0])
    q, k, v = layer.to_q(x), layer.to_k(context), layer.to_v(context)
    heads = [attend(q[..., i : i + 2], k[..., i : i + 2], v[..., i : i + 2]) for i in (0, 2, 4, 6)]
    torch.testing.assert_close(layer(x, context), layer.to_out(torch.cat(heads, dim=2)))


def test_the_exercises_split_is_the_librarys():
    """(7.3)"""
    layer, parts = Attention(8, heads=4), torch.randn(3, 2, 5, 8)
    for ours, part in zip(split_qkv(torch.cat([*parts], dim=2), 4), parts, strict=True):
        assert torch.equal(ours, layer.split_heads(part))


def test_order_of_words_is_nothing_and_order_of_places_moves_along():
    """(7.4), for the layer and for the whole block."""
    layer = Attention(8, context_dim=6).double()
    x, context = torch.randn(2, 5, 8).double(), torch.randn(2, 7, 6).double()
    words, places = torch.randperm(7), torch.randperm(5)
    out = layer(x, context)
    torch.testing.assert_close(layer(x, context[:, words]), out)
    torch.testing.assert_close(layer(x[:, places], context), out[:, places])
    block = UNetBlock(4, 8, 3, 6).double()
    nn.init.normal_(block.conv2.weight)
    inputs = torch.randn(2, 4, 3, 3).double(), torch.randn(2, 3).double()
    torch.testing.assert_close(block(*inputs, context[:, words]), block(*inputs, context))


def test_one_token_is_its_value_and_leaves_queries_and_keys_without_gradient():
    """(7.5)"""
    layer = Attention(8, context_dim=6).double()
    x, token = torch.randn(2, 5, 8).double(), torch.randn(2, 1, 6).double()
    out = layer(x, token)
    torch.testing.assert_close(out, layer.to_out(layer.to_v(token)).expand_as(out))
    out.square().sum().backward()
    dead = max(linear.weight.grad.abs().max() for linear in (layer.to_q, layer.to_k))
    assert dead < 1e-12 < layer.to_v.weight.grad.abs().max()


@pytest.mark.parametrize("quarters", [2, 3, 4])
def test_the_best_sum_of_place_and_caption_leaves_all_but_one_share(quarters):
    """(7.6), over all captions: least squares with a free number for each place and caption."""
    pictures = torch.tensor(list(itertools.product([0.0, 1.0, 5.0], repeat=quarters))).double()
    captions = len(pictures)
    place = torch.eye(quarters).double().repeat(captions, 1)  # (captions · quarters, quarters)
    caption = torch.eye(captions).double().repeat_interleave(quarters, 0)
    design, target = torch.cat([place, caption], 1), pictures.flatten()
    best = design @ torch.linalg.pinv(design) @ target
    error = (target - best).square().mean()
    assert (error / target.var(correction=0)).item() == pytest.approx(1 - 1 / quarters)
    mean = pictures.mean(1, keepdim=True).expand_as(pictures).flatten()
    assert (target - mean).square().mean().item() == pytest.approx(error.item())


def test_a_bag_of_colours_leaves_as_much():
    """(7.6): the best answer to a caption without order is the mean of its arrangements."""
    pictures = torch.tensor(list(itertools.product([0.0, 1.0, 5.0], repeat=3))).double()
    bags = pictures.sort(1).values
    same = (bags[:, None] == bags[None]).all(2).double()  # captions with the same words
    best = same @ pictures / same.sum(1, keepdim=True)
    torch.testing.assert_close(best, pictures.mean(1, keepdim=True).expand_as(pictures))


def tokens_read(weights):
    entropy = -torch.xlogy(weights, weights).sum(-1)
    return entropy.mean(-1).exp()


def test_tokens_read_is_the_exponential_of_the_entropy():
    """(7.7)"""
    weights = torch.randn(2, 3, 9, 5).double().softmax(-1)
    entropy = torch.distributions.Categorical(weights).entropy()
    torch.testing.assert_close(tokens_read(weights), entropy.mean(2).exp())
    assert tokens_read(torch.full((1, 1, 4, 6), 1 / 6)).item() == pytest.approx(6)
    assert tokens_read(torch.eye(6).reshape(1, 1, 6, 6)).item() == 1


def test_positions_reached_is_the_same_for_columns():
    """Exercise 7.4: torch's entropy of each token's shares over the positions."""
    weights = torch.randn(2, 3, 9, 5).double().softmax(-1)
    shares = torch.distributions.Categorical(weights.transpose(2, 3))  # it normalises
    torch.testing.assert_close(positions_reached(weights), shares.entropy().exp())
    even = torch.full((1, 1, 9, 2), 0.5)
    torch.testing.assert_close(positions_reached(even), torch.full((1, 1, 2), 9.0))


def test_the_popular_reader_mixes_samples_and_the_mended_one_does_not():
    layer = nn.MultiheadAttention(8, 4).double()
    pixels, words = torch.randn(3, 4, 8).double(), torch.randn(3, 2, 8).double()
    other = torch.cat([words[:1], words[1:] + 1])
    for read, mixes in ((planted_batch_axis_and_one_token, True), (read_all_words, False)):
        change = (read(pixels, words, layer)[0] - read(pixels, other, layer)[0]).abs().max().item()
        assert (change > 1e-6) == mixes
    same = pixels[:1].expand(3, -1, -1)  # equal queries in all samples give equal outputs
    read = planted_batch_axis_and_one_token(same, words, layer)
    torch.testing.assert_close(read[0], read[2])
    theirs = nn.MultiheadAttention(8, 4, batch_first=True).double()
    theirs.load_state_dict(layer.state_dict())
    torch.testing.assert_close(
        read_all_words(pixels, words, layer), theirs(pixels, words, words)[0]
    )


def test_log_of_the_number_of_tokens_is_the_largest_entropy():
    """(7.7)"""
    weights = torch.randn(50, 1, 1, 24).double().mul(3).softmax(-1)
    assert tokens_read(weights).log().min() > 0 and tokens_read(weights).log().max() < math.log(24)
