"""The networks of chapter 04's ablation: the U-Net with one part switched off, and an MLP.

A part is switched off by replacing its output with zeros, so the network keeps all its parameters
and a difference in loss isn't a difference in size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.diffusion import Diffusion
from course_lib.models import UNet
from course_lib.models.attention import Attention
from course_lib.models.layers import TimeEmbedding, zeroed
from course_lib.recipes.digits import diffusion_loss
from course_lib.training import Optimizer, train
from course_lib.training.seeding import seeded


class PixelMLP(nn.Module):
    """A residual MLP that reads the image as one long vector and so ignores which pixels touch.

    x (B, 1, size, size) -> the same shape; timestep (B,). By default it has about as many
    parameters as the U-Net of `digits-ddpm`.

    >>> PixelMLP(size=8)(torch.zeros(2, 1, 8, 8), torch.zeros(2)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, size: int = 16, width: int = 288, blocks: int = 4, time_dim: int = 64):
        super().__init__()
        self.time_embedding = TimeEmbedding(time_dim, time_dim)
        self.proj_in = nn.Linear(size * size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.time_projs = nn.ModuleList(nn.Linear(time_dim, width) for _ in range(blocks))
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.outer = nn.ModuleList(zeroed(nn.Linear(width, width)) for _ in range(blocks))
        self.proj_out = zeroed(nn.Linear(width, size * size))

    def forward(self, x: Tensor, timestep: Tensor, context: None = None) -> Tensor:
        temb = F.silu(self.time_embedding(timestep))  # (B, time_dim)
        h = self.proj_in(x.flatten(1))  # (B, width)
        for norm, time_proj, inner, outer in zip(
            self.norms, self.time_projs, self.inner, self.outer, strict=True
        ):
            h = h + outer(F.silu(inner(norm(h)) + time_proj(temb)))
        return self.proj_out(h).view_as(x)


class UNetWithoutTime(UNet):
    """The U-Net, but it is always given timestep 0."""

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x, torch.zeros_like(timestep), context)


def zero_skips(stage: nn.Module, inputs: tuple) -> None:
    """A hook that runs before an up block: it replaces the skip connections with zeros."""
    skips = inputs[3]
    skips[:] = [torch.zeros_like(skip) for skip in skips]


def unet_without_skips(**keywords) -> UNet:
    """The U-Net with zeros in its skip connections: everything must pass through the middle."""
    unet = UNet(**keywords)
    for stage in unet.up_blocks:
        stage.register_forward_pre_hook(zero_skips)
    return unet


def zero_output(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """A hook that runs after a layer: the residual connection then passes its input unchanged."""
    return 0 * output


def unet_without_attention(**keywords) -> UNet:
    """The U-Net with zeros in place of what its attention layers compute."""
    unet = UNet(**keywords)
    for layer in unet.modules():
        if isinstance(layer, Attention):
            layer.register_forward_hook(zero_output)
    return unet


VARIANTS: dict[str, Callable[..., nn.Module]] = {  # keywords of UNet -> a network
    "full": UNet,
    "no time": UNetWithoutTime,
    "no skips": unet_without_skips,
    "no attention": unet_without_attention,
    "MLP": lambda **keywords: PixelMLP(),
    "FiLM": lambda **keywords: UNet(**keywords, film=True),
}


@dataclass(frozen=True)
class ShortRuns:
    """Short trainings of one network with several seeds; as text, mean and spread of the losses.

    networks: with averaged weights; curve: the mean training loss of each step; losses: on
    held-out images.
    """

    networks: list[nn.Module]
    curve: list[float]
    losses: list[float]

    @property
    def mean(self) -> float:
        return mean(self.losses)

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {stdev(self.losses):.3f}"


def short_runs(
    name: str,
    images: Tensor,
    held_out: Tensor,
    device: str | torch.device = "cpu",
    steps: int = 60,
    seeds: Sequence[int] = (0, 1, 2),
) -> ShortRuns:
    """A small network trained on 8 × 8 images, once for each seed.

    name: one of VARIANTS, here with 16 channels and two stages, or "MLP". Runs with the same seed
    see the same batches, times and noise, whatever the network.
    """
    process = Diffusion("linear", "eps")
    shape = dict(in_channels=1, channels=16, multipliers=(1, 2), layers_per_block=1)
    shape |= dict(attention=(False, True))
    networks, curves = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        network = PixelMLP(8, width=128, blocks=3) if name == "MLP" else VARIANTS[name](**shape)
        run = train(
            network,
            process.loss,
            lambda step: images[torch.randint(len(images), (32,))],
            steps=steps,
            optimizer=Optimizer(lr=2e-3, warmup=10),
            ema=0.98,
            seed=seed,
            device=device,
        )
        curves.append([step.loss for step in run])
        networks.append(run.ema)
    losses = [diffusion_loss(process, network, held_out).value for network in networks]
    return ShortRuns(networks, [mean(step) for step in zip(*curves, strict=True)], losses)


def parameters(network: nn.Module) -> int:
    """How many parameters a network has.

    >>> parameters(nn.Linear(2, 3))
    9
    """
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def loss_by_time(
    process: Diffusion, network: nn.Module, images: Tensor, bands: int = 10, repeats: int = 4
) -> list[float]:
    """The mean loss on these images in equal bands of time, from t = 0 to 1, with fixed noise."""
    means, device = [], next(network.parameters()).device
    with seeded(0, 0, device):
        for band in range(bands):
            x0 = images.repeat(repeats, 1, 1, 1).to(device)
            t = (band + 1 - torch.rand(len(x0), dtype=torch.float64)) / bands
            t = process.schedule.snap(t, torch.ceil)
            means.append(process.errors(network, x0, None, t).mean().item())
    return means
