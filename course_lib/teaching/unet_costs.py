"""Where a U-Net spends its multiplications and its parameters: by stage, and by kind of layer."""

import re

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from course_lib.models import UNet
from course_lib.teaching.unet_variants import parameters

KINDS = {"resnets": "residual blocks", "attentions": "attention", "samplers": "resampling"}
LAYER = re.compile(r"UNet\.(down|mid|up)_blocks?\.?(\d*)\.(?:up|down)?(\w+)\.\d+")


def multiplications_by_stage(
    unet: UNet, side: int, context: Tensor | None = None
) -> dict[str, list[float]]:
    """{kind of layer: its multiplications at each stage} for one input of side × side.

    Stage 0 has the full size; the middle counts as part of the lowest stage. A network that is too
    large to compute can be on PyTorch's "meta" device: `with torch.device("meta"): ...`.
    """
    last = len(unet.down_blocks) - 1
    weight = unet.conv_in.weight
    x, timestep = weight.new_zeros(1, unet.in_channels, side, side), weight.new_zeros(1)
    with FlopCounterMode(display=False) as counter:
        unet(x, timestep, context)
    table = {kind: [0.0] * (last + 1) for kind in KINDS.values()}
    for name, flops in counter.get_flop_counts().items():
        if found := LAYER.fullmatch(name):
            way, number, kind = found.groups()
            stage = {"down": int(number or 0), "mid": last, "up": last - int(number or 0)}[way]
            table[KINDS[kind]][stage] += sum(flops.values()) / 2  # additions are counted, too
    return table


def parameters_by_stage(unet: UNet) -> list[int]:
    """The parameters of each stage, down and up; the middle counts as part of the lowest."""
    ways = zip(unet.down_blocks, reversed(unet.up_blocks), strict=True)
    held = [parameters(down) + parameters(up) for down, up in ways]
    held[-1] += parameters(unet.mid_block)
    return held


def cost_table(unet: UNet, costs: dict[str, list[float]]) -> str:
    """A line for each kind of layer, and one for the parameters; a column for each stage."""
    lines = [f"{'stage':32}" + "".join(f"{stage:>11}" for stage in range(len(unet.down_blocks)))]
    for kind, row in costs.items():
        lines.append(f"{kind + ', million mult.':32}" + "".join(f"{n / 1e6:11,.1f}" for n in row))
    held = parameters_by_stage(unet)
    shares = "".join(f"{count / sum(held):11.0%}" for count in held)
    lines.append(f"{'share of the parameters':32}{shares}")
    return "\n".join(lines)
