"""Replays leave no trace outside of their block; what they do on a GPU is in test_gpu.py."""

import pytest
import torch

from course_lib.models import UNet
from course_lib.replays import Replays

UNET = dict(channels=16, multipliers=(1, 2), attention=(False, True))


def test_on_a_cpu_nothing_is_recorded():
    torch.manual_seed(0)
    unet, x, t = UNet(1, **UNET), torch.randn(2, 1, 8, 8), torch.tensor([1.0, 500.0])
    replays = Replays([unet])
    with replays:
        inside = unet(x, t, None)
    assert torch.equal(inside, unet(x, t)) and replays.recordings == {unet: {}}


def test_the_modules_are_as_before_also_after_an_error():
    unet = UNet(1, **UNET)
    replays = Replays([unet, unet.middle.second])
    for _ in range(2):
        with pytest.raises(ValueError, match="inputs are"), replays:
            assert "forward" in vars(unet) and "forward" in vars(unet.middle.second)
            unet(torch.zeros(2, 3, 8, 8), torch.zeros(2))
        assert "forward" not in vars(unet) and "forward" not in vars(unet.middle.second)
