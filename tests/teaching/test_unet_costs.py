"""Costs by stage: compared with a count by hand; nothing is omitted or counted twice."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from course_lib.models import SD15_UNET, UNet
from course_lib.recipes.digits import SMALL
from course_lib.teaching.unet_costs import (
    cost_table,
    multiplications_by_stage,
    parameters_by_stage,
)
from course_lib.teaching.unet_variants import parameters


def on_meta(kwargs):
    with torch.device("meta"):
        return UNet(**kwargs)


def residual_block(c_in, c):
    """Multiplications at each position, without the time's linear layer: (4.2)."""
    return 9 * c_in * c + 9 * c * c + (c_in * c if c_in != c else 0)


def test_the_top_stage_against_a_count_by_hand():
    table = multiplications_by_stage(on_meta(SMALL), 16)
    per_position = residual_block(16, 16) + residual_block(32 + 16, 16) + residual_block(32, 16)
    time = 3 * 64 * 16  # the linear layer of each of the three blocks
    assert table["residual blocks"][0] == 256 * per_position + time
    assert table["resampling"][0] == 64 * 9 * 16 * 16
    assert table["attention"][0] == 0


def test_all_stages_and_the_rest_add_up():
    for kwargs, side, context in ((SMALL, 16, None), (SD15_UNET, 64, (1, 77, 768))):
        unet = on_meta(kwargs)
        context = None if context is None else torch.zeros(context, device="meta")
        table = multiplications_by_stage(unet, side, context)
        x = torch.zeros(1, unet.in_channels, side, side, device="meta")
        with FlopCounterMode(display=False) as counter:
            unet(x, torch.zeros(1, device="meta"), context)
        width = unet.conv_in.out_channels
        ends = 2 * side * side * 9 * unet.in_channels * width
        time = width * 4 * width + (4 * width) ** 2
        assert sum(map(sum, table.values())) + ends + time == counter.get_total_flops() / 2


def test_parameters_by_stage_and_their_table():
    unet = on_meta(SMALL)
    stages = parameters_by_stage(unet)
    outside = (unet.time_embedding, unet.conv_in, unet.conv_norm_out, unet.conv_out)
    assert sum(stages) + sum(map(parameters, outside)) == parameters(unet)
    lines = cost_table(unet, multiplications_by_stage(unet, 16)).splitlines()
    assert [line[:32].strip() for line in lines] == [
        "stage",
        "residual blocks, million mult.",
        "attention, million mult.",
        "resampling, million mult.",
        "share of the parameters",
    ]
    assert lines[-1].split()[-3:] == [f"{n / sum(stages):.0%}" for n in stages]
