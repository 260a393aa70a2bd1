"""The layers that all networks of the course are built from, smallest first."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import WHOLE, check_tensor, require


def keeps_kwargs(init: Callable) -> Callable:
    """A decorator for `__init__`, so that `Model(**model.kwargs)` builds the same model again."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self, *args, **kwargs):
        call = signature.bind(self, *args, **kwargs)
        call.apply_defaults()
        init(self, *args, **kwargs)
        self.kwargs = {name: value for name, value in call.arguments.items() if name != "self"}

    return wrapper


def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """Group normalisation (Wu & He 2018): 32 groups, or fewer, to leave 4 channels in each.

    A group of a single channel would erase whatever is added to the whole channel, such as the
    time embedding.
    """
    most = min(32, max(channels // 4, 1))
    groups = next(g for g in range(most, 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, eps)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with zero weights. At the end of a residual branch, the block is the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


@contextmanager
def capture(layer: nn.Module) -> Iterator[list]:
    """Collects the outputs of a layer inside the `with` block, through a forward hook.

    >>> layer = nn.Linear(2, 3)
    >>> with capture(layer) as outputs:
    ...     y = layer(torch.ones(1, 2))
    >>> torch.equal(outputs[0], y)
    True
    """
    outputs = []
    hook = layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, H*W, C)


def grid(x: Tensor, like: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(like.shape)  # (B, H*W, C) -> (B, C, H, W)


def sinusoids(x: Tensor, channels: int) -> Tensor:
    """cos and sin of x at wavelengths from 2π to 2π·10000: (B,) -> (B, channels).

    Sinusoidal position embeddings (Vaswani et al. 2017, §3.5), cosines first as in diffusers.

    >>> sinusoids(torch.tensor([0.0]), 4)
    tensor([[1., 1., 0., 0.]])
    """
    ladder = torch.arange(channels // 2, device=x.device, dtype=torch.float32) / (channels // 2)
    angles = x.float().unsqueeze(1) * torch.exp(-math.log(10000.0) * ladder)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep, then two linear layers (Ho et al. 2020, appendix B).

    >>> TimeEmbedding(16, dim=32)(torch.tensor([500.0])).shape
    torch.Size([1, 32])
    """

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.channels = channels // 2 * 2
        self.linear_1 = nn.Linear(self.channels, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, timestep: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(self.waves(timestep))))  # (B, dim)

    def waves(self, timestep: Tensor) -> Tensor:
        return sinusoids(timestep, self.channels).to(self.linear_1.weight.dtype)  # (B, channels)


class IntervalEmbedding(TimeEmbedding):
    """The embedding of where a step starts and how long it is (Geng et al. 2025, section 4.3).

    timestep (B, 2): where the step starts and where it ends; (B,) is a step of length 0. The part
    for the length starts as zero, so a trained network's weights still mean the same.

    >>> IntervalEmbedding(16, dim=32)(torch.tensor([[500.0, 250.0]])).shape
    torch.Size([1, 32])
    """

    def __init__(self, channels: int, dim: int):
        super().__init__(channels, dim)
        self.length = zeroed(nn.Linear(self.channels, dim))

    def forward(self, timestep: Tensor) -> Tensor:
        start, end = timestep.unbind(1) if timestep.dim() == 2 else (timestep, timestep)
        h = self.linear_1(self.waves(start)) + self.length(self.waves(start - end))
        return self.linear_2(F.silu(h))  # (B, dim)


class ResnetBlock(nn.Module):
    """A residual block: norm, SiLU and convolution, twice, plus the skip (He et al. 2016).

    In the middle, the time embedding `temb` is added to every channel and, with `film`, multiplies
    it, too (Dhariwal & Nichol 2021, adaptive group normalisation; Perez et al. 2018, FiLM).

    >>> ResnetBlock(8, 16, time_dim=4)(torch.zeros(1, 8, 4, 4), torch.zeros(1, 4)).shape
    torch.Size([1, 16, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        time_dim: int | None = None,
        eps: float = 1e-5,
        film: bool = False,
    ):
        super().__init__()
        self.norm1 = norm(in_channels, eps)
        self.conv1 = conv(in_channels, out_channels)
        self.time_emb_proj = nn.Linear(time_dim, out_channels) if time_dim else None
        film = film and time_dim
        self.time_emb_scale = zeroed(nn.Linear(time_dim, out_channels)) if film else None
        self.norm2 = norm(out_channels, eps)
        self.conv2 = zeroed(conv(out_channels, out_channels))
        same = in_channels == out_channels
        self.conv_shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        if self.time_emb_proj is None:
            h = self.norm2(h)
        else:
            shift = self.time_emb_proj(F.silu(temb))[..., None, None]  # (B, out, 1, 1)
            if self.time_emb_scale is None:
                h = self.norm2(h + shift)
            else:
                scale = self.time_emb_scale(F.silu(temb))[..., None, None]  # (B, out, 1, 1)
                h = self.norm2(h) * (1 + scale) + shift
        return self.conv_shortcut(x) + self.conv2(F.silu(h))


class Downsample(nn.Module):
    """Halves the size: a stride-2 convolution. `even=False` pads right and bottom only (VAEs)."""

    def __init__(self, channels: int, even: bool = True):
        super().__init__()
        self.even = even
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=int(even))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.even else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the size: repeats each pixel, then convolves (Odena et al. 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def check_inputs(network: nn.Module, x: Tensor, timestep: Tensor, context: Tensor | None) -> None:
    """ValueError unless the inputs are what this UNet or DiT was built for."""
    weight = next(network.parameters())
    check_tensor("x", x, ("B", *network.input_shape), weight)
    shapes = [(), (x.shape[0],), *[(x.shape[0], 2)] * network.interval]
    fits = timestep.shape in shapes and timestep.device == x.device
    require(fits, "timestep", f"{' or '.join(map(str, shapes[1:]))}, as many as x", timestep)
    if network.classes:
        check_tensor("context", context, x.shape[:1], weight, WHOLE, values=(0, network.classes))
    elif network.context_dim:
        check_tensor("context", context, (*x.shape[:1], "L", network.context_dim), weight)
    else:
        require(context is None, "context", "None, since context_dim is None", context)
