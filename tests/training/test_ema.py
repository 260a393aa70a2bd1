"""The averaged weights, compared with their closed form."""

import pytest
import torch
from torch import nn

from course_lib.training import EMA


class Scalar(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_closed_form(decay):
    model = Scalar()
    ema = EMA(model, decay)
    weights = torch.linspace(-1, 2, 50, dtype=torch.float64) ** 3
    for step, weight in enumerate(weights, start=1):
        model.w.data.copy_(weight)
        model.count.add_(1)
        ema.update(model, step)
    d = torch.tensor([min(decay, (1 + n) / (10 + n)) for n in range(1, 51)], dtype=torch.float64)
    share = (1 - d) * torch.cat([d[1:].flip(0).cumprod(0).flip(0), torch.ones(1)])
    assert ema.model.w.item() == pytest.approx((share * weights).sum().item(), abs=1e-12)
    assert share.sum() + d.prod() == pytest.approx(1.0)  # what is left of the initial weights: 0
    assert ema.model.count == 50  # buffers are copied


def test_the_copy_is_frozen_and_apart():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    ema = EMA(model)
    assert not ema.model.training and model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    model[0].weight.data.zero_()
    assert ema.model[0].weight.abs().sum() > 0
