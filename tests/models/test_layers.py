"""Layers: properties that hold for any weights."""

import math

import pytest
import torch

from course_lib.models.attention import (
    Attention,
    SpatialTransformer,
    TransformerBlock,
    attention_maps,
    heat_map,
)
from course_lib.models.layers import (
    Downsample,
    ResnetBlock,
    TimeEmbedding,
    Upsample,
    grid,
    norm,
    sinusoids,
    tokens,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_attention_is_the_equation():
    layer = Attention(8, context_dim=6, heads=1).double()
    x, context = torch.randn(2, 5, 8).double(), torch.randn(2, 3, 6).double()
    q, k, v = layer.to_q(x), layer.to_k(context), layer.to_v(context)
    expected = (q @ k.mT / math.sqrt(8)).softmax(-1) @ v
    torch.testing.assert_close(layer(x, context), layer.to_out(expected))


def test_attention_maps_are_the_weights_it_uses():
    layer = Attention(8, heads=2, causal=True).double()
    x = torch.randn(2, 5, 8).double()
    maps = layer.maps(x)  # (B, heads, N, N)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 5).double())
    assert maps.triu(1).abs().max() == 0  # nothing flows from the future
    mixed = (maps @ layer.split_heads(layer.to_v(x))).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x), layer.to_out(mixed))


def test_self_attention_commutes_with_permutations():
    layer, x, order = Attention(8).double(), torch.randn(2, 7, 8).double(), torch.randperm(7)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


def test_cross_attention_ignores_the_order_of_the_context():
    layer = Attention(8, context_dim=6).double()
    x, context = torch.randn(2, 5, 8).double(), torch.randn(2, 7, 6).double()
    torch.testing.assert_close(layer(x, context), layer(x, context[:, torch.randperm(7)]))


def test_attention_to_one_token_does_not_depend_on_the_query():
    layer = Attention(8, context_dim=6)
    context = torch.randn(2, 1, 6)
    torch.testing.assert_close(
        layer(torch.randn(2, 5, 8), context), layer(torch.randn(2, 5, 8), context)
    )
    assert torch.equal(layer.maps(torch.randn(2, 5, 8), context), torch.ones(2, 4, 5, 1))


def test_causal_attention_does_not_see_later_tokens():
    layer, x = Attention(8, causal=True), torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] += 1
    difference = (layer(x) - layer(changed)).abs().amax((0, 2))
    assert difference[:4].max() == 0
    assert difference[4:].min() > 0


def test_attention_refuses_heads_that_do_not_divide_its_width():
    with pytest.raises(
        ValueError, match="width of attention: expected a multiple of 4 heads, got 10"
    ):
        Attention(10, heads=4)


@pytest.mark.parametrize("block", [ResnetBlock(32, 32, 16), SpatialTransformer(32, 4, 8)])
def test_blocks_start_as_the_identity(block):
    x = torch.randn(2, 32, 4, 4)
    extra = torch.randn(2, 16) if isinstance(block, ResnetBlock) else torch.randn(2, 3, 8)
    assert torch.equal(block(x, extra), x)


def test_transformer_block_needs_no_context():
    assert TransformerBlock(16)(torch.randn(2, 9, 16)).shape == (2, 9, 16)


def test_film_multiplies_and_adds_after_the_norm():
    """silu(norm(h) * (1 + gain) + shift), with gain and shift linear in silu(time)."""
    block = ResnetBlock(4, 8, time_dim=3, film=True).double()
    seen = []
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.nn.init.zeros_(block.time_emb_scale.bias)
    torch.nn.init.normal_(block.time_emb_scale.weight)
    time = torch.randn(2, 3).double()
    x = torch.randn(2, 4, 5, 5).double()
    block(x, time)
    gain, shift = (
        f(time / (1 + (-time).exp()))[..., None, None]
        for f in (block.time_emb_scale, block.time_emb_proj)
    )
    plain = block.norm2(block.conv1(torch.nn.functional.silu(block.norm1(x))))
    torch.testing.assert_close(seen[0], torch.nn.functional.silu(plain + plain * gain + shift))


def test_tokens_and_grid_undo_each_other():
    x = torch.randn(2, 3, 4, 5)
    assert tokens(x).shape == (2, 20, 3)
    assert torch.equal(tokens(x)[0, 7], x[0, :, 1, 2])
    assert torch.equal(grid(tokens(x), like=x), x)


def test_time_embedding_waves():
    embedding = TimeEmbedding(6, 12)
    waves = sinusoids(torch.tensor([0.0, 2.5]), 6)
    assert torch.equal(waves[0], torch.tensor([1.0, 1, 1, 0, 0, 0]))  # cosines, then sines
    angles = 2.5 * 10000.0 ** (-torch.arange(3) / 3)
    torch.testing.assert_close(waves[1], torch.cat([angles.cos(), angles.sin()]))
    assert embedding(torch.tensor([1, 999])).shape == (2, 12)  # whole timesteps will do


def test_down_and_up_halve_and_double():
    x = torch.randn(1, 4, 8, 8)
    assert Downsample(4)(x).shape == Downsample(4, even=False)(x).shape == (1, 4, 4, 4)
    assert Upsample(4)(x).shape == (1, 4, 16, 16)


@pytest.mark.parametrize(("channels", "groups"), [(320, 32), (128, 32), (48, 12), (16, 4), (7, 1)])
def test_norm_finds_a_number_of_groups(channels, groups):
    assert norm(channels).num_groups == groups


def test_heat_map_averages_layers_and_puts_pixels_where_they_belong():
    sharp = torch.zeros(1, 2, 16, 3)
    sharp[:, :, 5, 1] = 1  # the second word looks at row 1, column 1 of 4×4
    pictures = heat_map({"a": [sharp], "b": [torch.zeros(1, 2, 4, 3)]}, size=4)
    assert pictures.shape == (1, 3, 4, 4)
    assert pictures[0, 1, 1, 1] == 0.5
    assert pictures.sum() == 0.5


def test_attention_maps_leave_no_hooks_behind():
    block = TransformerBlock(16, context_dim=8)
    with pytest.raises(RuntimeError), attention_maps(block) as maps:
        block(torch.randn(2, 9, 16), torch.randn(2, 5, 8))
        raise RuntimeError
    assert maps["attn2"][0].shape == (2, 4, 9, 5)
    block(torch.randn(2, 9, 16), torch.randn(2, 5, 8))
    assert len(maps["attn2"]) == 1
