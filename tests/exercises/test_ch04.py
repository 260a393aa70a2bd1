"""Chapter 04's counts and claims, checked by counting, autograd and the modules themselves."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib.exercises import ch04
from course_lib.exercises.ch04 import (
    EXERCISES,
    Level,
    film,
    multi_head_attention,
    receptive_field,
    time_waves,
    waves,
)
from course_lib.models import UNet, layers
from course_lib.models.attention import Attention
from course_lib.models.layers import ResnetBlock
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
    """(4.3), whose wavelengths run from 2π to 2π · 10000^((h-1)/h)."""
    timestep, shortest = 1000 * torch.rand(7), 2 * math.pi
    ours = time_waves(timestep, 32, shortest, shortest * 10000 ** (15 / 16))
    torch.testing.assert_close(ours, layers.sinusoids(timestep, 32), rtol=1e-3, atol=1e-3)


def test_waves_measure_distances_in_time():
    """The product of two embeddings depends on the difference of their times."""
    i, k = 1000 * torch.rand(2, 50).double()
    frequencies = 10000.0 ** (-torch.arange(8).double() / 8)
    wavelengths = 2 * math.pi / frequencies
    products = (waves(i, wavelengths) * waves(k, wavelengths)).sum(1)
    expected = ((i - k)[:, None] * frequencies).cos().sum(1)
    torch.testing.assert_close(products, expected)


@pytest.mark.parametrize("widths", [(16, 16), (16, 32)])
def test_a_residual_block_adds_a_change(widths):
    """(4.4): the block adds its branch, with the time in the middle, to its skip."""
    block = ResnetBlock(*widths, time_dim=12).double()
    nn.init.normal_(block.conv2.weight)
    x, time = torch.randn(2, widths[0], 6, 6).double(), torch.randn(2, 12).double()
    h = block.conv1(F.silu(F.group_norm(x, 4)))  # a fresh norm's weights are 1 and 0
    h = h + block.time_emb_proj(F.silu(time))[:, :, None, None]
    change = block.conv2(F.silu(F.group_norm(h, widths[1] // 4)))
    straight = (
        x
        if widths[0] == widths[1]
        else F.conv2d(x, block.conv_shortcut.weight, block.conv_shortcut.bias)
    )
    torch.testing.assert_close(block(x, time), straight + change)


def test_film_of_the_exercise_is_the_blocks():
    """(4.5), in a block of 4 channels, whose norm has one group."""
    block, seen = ResnetBlock(4, 4, time_dim=3, film=True).double(), []
    nn.init.normal_(block.time_emb_scale.weight)
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, time = torch.randn(2, 4, 5, 5).double(), torch.randn(2, 3).double()
    block(x, time)
    h = block.conv1(F.silu(block.norm1(x)))
    modulated = film(h, block.time_emb_scale(F.silu(time)), block.time_emb_proj(F.silu(time)))
    torch.testing.assert_close(seen[0], F.silu(modulated))


def moved(layers, side=65):
    """The number of input columns that affect the middle output of these convolutions."""
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


def test_attention_of_the_exercise_is_the_librarys():
    """(4.7), with one head and with three."""
    for heads in (1, 3):
        layer, x = Attention(12, heads=heads).double(), torch.randn(2, 6, 12).double()
        ours = multi_head_attention(layer.to_q(x), layer.to_k(x), layer.to_v(x), heads)
        torch.testing.assert_close(layer.to_out(ours), layer(x))
    scores = torch.randn(1000, 400) @ torch.randn(50, 400).T
    assert (scores / math.sqrt(400)).std().item() == pytest.approx(1, abs=0.03)


def test_a_label_is_one_more_vector_beside_the_times():
    """(4.8)"""
    labelled = UNet(
        1, channels=16, multipliers=(1,), layers_per_block=1, attention=(False,), classes=3
    )
    plain = UNet(1, channels=16, multipliers=(1,), layers_per_block=1, attention=(False,))
    with torch.no_grad():
        for p in labelled.parameters():
            p.add_(0.1 * torch.randn_like(p))
    weights = labelled.state_dict()
    table = weights.pop("class_embedding.weight")
    plain.load_state_dict(weights)
    x, timestep, labels = torch.randn(4, 1, 8, 8), torch.full((4,), 30.0), torch.arange(4)
    plain.time_embedding.register_forward_hook(
        lambda module, inputs, output: output + table[labels]
    )
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


# ---- 4.6, the capstone --------------------------------------------------------------------------


def test_the_capstones_reference_reaches_the_target():
    capstone = EXERCISES["4.6"]
    assert capstone.examine(Level).status == "right"
    assert capstone.examine(...).status == "not attempted"


class WithAnAddedSkip(Level):
    """Another sound way: the skip is added, and pooling halves the size."""

    def __init__(self, channels, depth, time_dim):
        super().__init__(channels, depth, time_dim)
        if depth > 0:
            self.after = ResnetBlock(channels, channels, time_dim)
            self.down = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, 2 * channels, 1))

    def forward(self, x, temb):
        h = self.before(x, temb)
        if self.below is None:
            return h
        h = h + self.up(F.interpolate(self.below(self.down(h), temb), scale_factor=2))
        return self.after(h, temb)


class ListOfLevels(nn.Module):
    """Another sound way: lists and a loop, instead of a class that contains itself."""

    def __init__(self, channels, depth, time_dim):
        super().__init__()
        widths = [channels * 2**i for i in range(depth + 1)]
        self.before = nn.ModuleList(ResnetBlock(c, c, time_dim) for c in widths)
        self.after = nn.ModuleList(ResnetBlock(2 * c, c, time_dim) for c in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(c, 2 * c, 3, 2, 1) for c in widths[:-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in widths[:-1])

    def forward(self, x, temb):
        kept = [self.before[0](x, temb)]
        for down, before in zip(self.down, self.before[1:], strict=True):
            kept.append(before(down(kept[-1]), temb))
        h = kept.pop()
        for up, after in zip(self.up[::-1], self.after[::-1], strict=True):
            h = after(torch.cat([up(h), kept.pop()], 1), temb)
        return h


@pytest.mark.parametrize("answer", [WithAnAddedSkip, ListOfLevels])
def test_other_styles_are_right(answer):
    verdict = EXERCISES["4.6"].examine(answer)
    assert verdict.status == "right", verdict


class NoSkip(Level):
    def __init__(self, channels, depth, time_dim):
        super().__init__(channels, depth, time_dim)
        if depth > 0:
            self.after = ResnetBlock(channels, channels, time_dim)

    def forward(self, x, temb):
        h = self.before(x, temb)
        if self.below is None:
            return h
        h = self.below(self.down(h), temb)
        return self.after(self.up(F.interpolate(h, scale_factor=2.0)), temb)


class NoTime(Level):
    def forward(self, x, temb):
        return super().forward(x, torch.zeros_like(temb))


class NothingBelow(Level):
    def forward(self, x, temb):
        h = self.before(x, temb)
        if self.below is None:
            return h
        lower = self.up(F.interpolate(self.down(h), scale_factor=2.0))
        return self.after(torch.cat([lower, h], 1), temb)


class NotUpsampled(Level):
    def forward(self, x, temb):
        h = self.before(x, temb)
        if self.below is None:
            return h
        return self.after(torch.cat([self.up(self.below(self.down(h), temb)), h], 1), temb)


class LeftBelow(Level):
    """Ends at half the size."""

    def forward(self, x, temb):
        h = self.before(x, temb)
        return h if self.below is None else self.below(self.down(h), temb)


class BlockLeftOut(Level):
    def forward(self, x, temb):
        if self.below is None:
            return self.before(x, temb)
        h = self.up(F.interpolate(self.below(self.down(x), temb), scale_factor=2.0))
        return self.after(torch.cat([h, x], 1), temb)


class Detached(Level):
    def forward(self, x, temb):
        return super().forward(x.detach(), temb)


class Endless(Level):
    def __init__(self, channels, depth, time_dim):
        super().__init__(channels, depth if depth < 0 else depth + 1, time_dim)


FAILURES = {
    NoSkip: ("skip_not_used", "doesn't use its skip"),
    NoTime: ("time_not_used", "depend on the time"),
    NothingBelow: ("nothing_below", "never goes down"),
    NotUpsampled: (None, "RuntimeError: Sizes of tensors must match"),
    LeftBelow: (None, "expected shape (2, 16, 8, 8)"),
    BlockLeftOut: (None, "no gradient reaches before.norm1.weight"),
    Detached: (None, "no gradient reaches"),
    Endless: ("never_ends", "without an end"),
}


@pytest.mark.parametrize("answer", FAILURES, ids=lambda answer: answer.__name__)
def test_failures_are_named_or_explained_in_one_line(answer):
    verdict, (mistake, told) = EXERCISES["4.6"].examine(answer), FAILURES[answer]
    assert (verdict.status, verdict.misconception) == ("wrong", mistake), verdict
    assert told in verdict.message and "\n" not in verdict.message


def test_without_skips_or_time_the_target_is_out_of_reach():
    """Even without the tests for mistakes, the number would refuse them."""
    for answer in (NoSkip, NoTime):
        torch.manual_seed(0)
        assert ch04.held_out_loss(answer) > EXERCISES["4.6"].bound
