"""How much memory a published checkpoint will take, estimated before it is loaded."""

from pathlib import Path

import torch

from course_lib.common.devices import has_bf16
from course_lib.common.memory import free_memory
from course_lib.pipelines.stable_diffusion.checkpoint import count_weights
from course_lib.pipelines.stable_diffusion.controlnet import count_controlnet

GB = 1e9


def check_memory(
    path: str | Path, size: int, device: torch.device, control: str | Path | None = None
) -> str:
    """One line with the estimate and the free memory; RuntimeError if it can't fit.

    control: the folder of a ControlNet, if one is used. Only the files' headers are read, to count
    the weights.
    """
    weights, work = weight_bytes(Path(path), device, control), work_bytes(size)
    needed, free = weights + work, free_bytes(device)
    line = (
        f"Stable Diffusion needs about {needed / GB:.1f} GB on {device} ({weights / GB:.1f} GB of "
        f"weights, {work / GB:.1f} GB to draw {size} × {size} pixels); {free / GB:.1f} GB are free"
    )
    if needed > free:
        raise RuntimeError(f"{line}: close other programs, or try a smaller --size")
    return line


def weight_bytes(path: Path, device: torch.device, control: str | Path | None = None) -> float:
    """Of the networks once they are loaded.

    The U-Net and its ControlNet are in bf16 if the hardware has it, the others in float32.
    """
    half = 2 if has_bf16(device) else 4  # bytes a number
    parts = sum(n * (half if part == "unet" else 4) for part, n in count_weights(path).items())
    return parts + (half * count_controlnet(control) if control else 0)


def work_bytes(size: int) -> float:
    """The memory that sampling one picture of size × size pixels needs besides the weights.

    `python tests/benchmarks/stable_diffusion.py` measured the peak on a CPU. It was always in the
    decoder: 1.08 GB at 512 pixels, 0.37 (U-Net in bf16) or 0.44 (float32) at 256. A guided call of
    the U-Net stayed below 0.3 GB. So the estimate is a small constant plus a part that grows with
    the area, rounded up.
    """
    return 0.2e9 + 1.0e9 * (size / 512) ** 2


def free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_memory()
