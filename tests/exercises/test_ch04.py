"""What chapter 04 counts and claims, held against counters, autograd and the modules themselves."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib.exercises.ch04 import attention, film, receptive_field, sinusoids
from course_lib.models import UNet
from course_lib.models.layers import ResBlock, TimeEmbedding
from course_lib.teaching.unet_variants import PixelMLP


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


CONVOLUTIONS = [(3, 5, 3, 1), (16, 32, 3, 2), (8, 8, 1, 1), (2, 7, 5, 1)]


@pytest.mark.parametrize(("c_in", "c_out", "k", "stride"), CONVOLUTIONS)
def test_what_a_convolution_holds_and_costs(c_in, c_out, k, stride):
    """(4.1) and (4.2)"""
    layer = nn.Conv2d(c_in, c_out, k, stride, padding=k // 2)
    assert sum(p.numel() for p in layer.parameters()) == c_out * (c_in * k**2 + 1)
    with FlopCounterMode(display=False) as counter:
        out = layer(torch.randn(1, c_in, 12, 12))
    assert counter.get_total_flops() == 2 * out[0, 0].numel() * c_out * c_in * k**2


def test_the_exercises_waves_are_the_librarys():
    """(4.3)"""
    timestep = 1000 * torch.rand(7)
    torch.testing.assert_close(sinusoids(timestep, 32), TimeEmbedding(32, 8).waves(timestep))


def test_waves_measure_distances_in_time():
    """The product of two embeddings depends on the difference of their times."""
    i, k = 1000 * torch.rand(2, 50).double()
    products = (sinusoids(i, 16) * sinusoids(k, 16)).sum(1)
    frequencies = 10000.0 ** (-torch.arange(8).double() / 8)
    expected = ((i - k)[:, None] * frequencies).cos().sum(1)
    torch.testing.assert_close(products, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("widths", [(16, 16), (16, 32)])
def test_a_residual_block_adds_a_change(widths):
    """(4.4): what it adds to its skip is its branch, time in the middle, and nothing else."""
    block = ResBlock(*widths, time_dim=12).double()
    nn.init.normal_(block.conv2.weight)
    x, time = torch.randn(2, widths[0], 6, 6).double(), torch.randn(2, 12).double()
    h = block.conv1(F.silu(F.group_norm(x, 4)))  # a fresh norm's weights are 1 and 0
    h = h + block.time(F.silu(time))[:, :, None, None]
    change = block.conv2(F.silu(F.group_norm(h, widths[1] // 4)))
    straight = x if widths[0] == widths[1] else F.conv2d(x, block.skip.weight, block.skip.bias)
    torch.testing.assert_close(block(x, time), straight + change)


def test_film_of_the_exercise_is_the_blocks():
    """(4.5), in a block of 4 channels, whose norm has one group."""
    block, seen = ResBlock(4, 4, time_dim=3, film=True).double(), []
    nn.init.normal_(block.gain.weight)
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, time = torch.randn(2, 4, 5, 5).double(), torch.randn(2, 3).double()
    block(x, time)
    h = block.conv1(F.silu(block.norm1(x)))
    modulated = film(h, block.gain(F.silu(time)), block.time(F.silu(time)))
    torch.testing.assert_close(seen[0], F.silu(modulated))


def moved(layers, side=65):
    """Columns of the input that reach the middle number behind these convolutions, by autograd."""
    x = torch.zeros(1, 1, side, side, requires_grad=True)
    h = x
    for kernel, stride in layers:
        h = F.conv2d(h, torch.rand(1, 1, kernel, kernel), stride=stride, padding=kernel // 2)
    h[0, 0, h.shape[2] // 2, h.shape[3] // 2].backward()
    return int((x.grad[0, 0].amax(0) > 0).sum())


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [(3, 1)] * 5,
        [(3, 1), (3, 2), (3, 1), (3, 1)],
        [(3, 1), (3, 1), (3, 2), (3, 1), (3, 1), (3, 2), (3, 1)],
        [(7, 2), (5, 1), (1, 1), (3, 2)],
    ],
)
def test_receptive_fields_are_what_gradients_reach(layers):
    """(4.6)"""
    if layers:
        assert receptive_field(layers) == moved(layers)
    else:
        assert receptive_field(layers) == 1


def test_attention_of_the_exercise_is_pytorchs():
    """(4.7)"""
    q, k, v = torch.randn(3, 2, 6, 9).double()
    torch.testing.assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))
    scores = torch.randn(1000, 400) @ torch.randn(50, 400).T
    assert (scores / math.sqrt(400)).std().item() == pytest.approx(1, abs=0.03)


def test_a_label_is_one_more_vector_beside_the_times():
    """(4.8)"""
    labelled = UNet(1, channels=16, multipliers=(1,), blocks=1, attention=(False,), classes=3)
    plain = UNet(1, channels=16, multipliers=(1,), blocks=1, attention=(False,))
    with torch.no_grad():
        for p in labelled.parameters():
            p.add_(0.1 * torch.randn_like(p))
    weights = labelled.state_dict()
    table = weights.pop("label.weight")
    plain.load_state_dict(weights)
    x, timestep, labels = torch.randn(4, 1, 8, 8), torch.full((4,), 30.0), torch.arange(4)
    plain.time.register_forward_hook(lambda module, inputs, output: output + table[labels])
    torch.testing.assert_close(plain(x, timestep), labelled(x, timestep, labels))


def test_an_mlp_can_not_tell_shuffled_pixels_from_ordered_ones():
    order, mlp, twin = torch.randperm(64), PixelMLP(8, 32, 2), PixelMLP(8, 32, 2)
    with torch.no_grad():
        for p in mlp.parameters():
            p.add_(0.1 * torch.randn_like(p))
    weights = mlp.state_dict()
    weights["proj_in.weight"] = weights["proj_in.weight"][:, order]
    weights |= {f"proj_out.{n}": weights[f"proj_out.{n}"][order] for n in ("weight", "bias")}
    twin.load_state_dict(weights)
    x, timestep = torch.randn(3, 1, 8, 8), torch.full((3,), 5.0)
    answer = twin(x.flatten(1)[:, order].view_as(x), timestep).flatten(1)
    torch.testing.assert_close(answer, mlp(x, timestep).flatten(1)[:, order], rtol=1e-4, atol=1e-5)
