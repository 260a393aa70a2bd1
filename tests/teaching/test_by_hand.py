"""Code written by hand is compared with the library's, and differences are found."""

import pytest
import torch
from torch import nn

from course_lib.models import layers
from course_lib.teaching.by_hand import assert_same, copy_weights, randomised


class Reversed(nn.Module):
    """The same layers as TimeEmbedding with other names, optionally with the sines first."""

    def __init__(self, sines_first=False):
        super().__init__()
        self.a, self.b, self.sines_first = nn.Linear(8, 16), nn.Linear(16, 16), sines_first

    def forward(self, timestep):
        waves = layers.sinusoids(timestep, 8)
        waves = waves.roll(4, dims=1) if self.sines_first else waves
        return self.b(nn.functional.silu(self.a(waves)))


def test_equal_modules_pass_and_a_wrong_order_is_seen():
    timestep = torch.tensor([3.0, 500.0])
    assert_same(Reversed(), layers.TimeEmbedding(8, 16), timestep)
    with pytest.raises(AssertionError, match="not close"):
        assert_same(Reversed(sines_first=True), layers.TimeEmbedding(8, 16), timestep)


def test_no_layer_stays_at_zero_so_a_missing_branch_is_seen():
    block = randomised(layers.ResnetBlock(4, 4, time_dim=3))
    assert all(parameter.all() for parameter in block.parameters())
    x, temb = torch.randn(1, 4, 3, 3), torch.randn(1, 3)
    assert not torch.allclose(block(x, temb), x)  # as it would be with its zero-init


def test_other_counts_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected 2 tensors as in the source, got 4"):
        copy_weights(nn.Linear(2, 2), Reversed())
    with pytest.raises(RuntimeError, match="size mismatch"):
        copy_weights(nn.Linear(2, 2), nn.Linear(3, 3))
