"""The layers that every network of the course is built from, smallest first."""

import functools
import inspect
import math
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.common.checks import same_device


def keeps_kwargs(init):
    """Decorates `__init__`: `Model(**model.kwargs)` builds the same model again."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self, *args, **kwargs):
        call = signature.bind(self, *args, **kwargs)
        call.apply_defaults()
        init(self, *args, **kwargs)
        self.kwargs = {name: value for name, value in call.arguments.items() if name != "self"}

    return wrapper


def check_fits(what, x, model):
    """Refuses (ValueError) what is not floating point, or can't meet the model's weights."""
    owner, weight = f"this {type(model).__name__}", next(model.parameters(), x)
    if not x.is_floating_point():
        raise ValueError(f"{what} are {x.dtype}, but {owner} takes floating point")
    same_device(what, x, owner, weight)
    cast = not x.is_meta and torch.is_autocast_enabled(x.device.type)
    if x.dtype != weight.dtype and not cast:
        raise ValueError(f"{what} are {x.dtype}, but {owner} is {weight.dtype}")


def check_image(x, channels, multiple, model, what="images"):
    """Refuses (ValueError) what does not fit or is not (B, channels, H, W), H and W multiples."""
    check_fits(what, x, model)
    owner = type(model).__name__
    if x.ndim != 4 or x.shape[1] != channels or not x.numel():
        wanted = f"(B, {channels}, H, W), at least one"
        raise ValueError(f"{what} are {tuple(x.shape)}, but this {owner} takes {wanted}")
    if x.shape[2] % multiple or x.shape[3] % multiple:
        size = f"{x.shape[2]}×{x.shape[3]}"
        raise ValueError(f"{what} are {size}, but this {owner} needs sides divisible by {multiple}")


def check_size(x, size, model):
    """Refuses (ValueError) inputs of another height and width than the model was built for."""
    if x.shape[2:] != size:
        owner = type(model).__name__
        came, built = (" × ".join(map(str, each)) for each in (x.shape[2:], size))
        raise ValueError(f"inputs are {came}, but this {owner} was built for {built}")


def check_timestep(timestep, x):
    """Refuses (ValueError) what is neither one timestep nor one for each sample of x."""
    if timestep.shape not in {(), (len(x),)}:
        raise ValueError(f"timestep is {tuple(timestep.shape)}, expected ({len(x)},)")
    same_device("timestep", timestep, "the input", x)


def check_context(context, x, model):
    """Refuses (ValueError) what is not (B, L, model.context_dim), or None where that is None."""
    shape = None if context is None else tuple(context.shape)
    built = f"this {type(model).__name__} was built with context_dim={model.context_dim}"
    if (shape is None) != (model.context_dim is None):
        raise ValueError(f"context is {shape}, but {built}")
    if shape and (len(shape) != 3 or shape[0] != len(x) or shape[2] != model.context_dim):
        raise ValueError(f"context is {shape}, but {built} and the batch is {len(x)}")
    if shape:
        check_fits("contexts", context, model)


def unknown(x):
    """Whether the numbers in a tensor can't be looked at: it is only being traced or recorded."""
    traced = torch.compiler.is_compiling() or x.is_meta
    return traced or (x.is_cuda and torch.cuda.is_current_stream_capturing())


def check_range(images):
    """Refuses (ValueError) images clearly outside [-1, 1]; a decoder's overshoot may pass."""
    if unknown(images):
        return
    low, high = images.aminmax()
    if not (low >= -1.5 and high <= 1.5):  # nor is NaN
        raise ValueError(f"images are in [{low:.3g}, {high:.3g}], expected [-1, 1]")


def conv(in_channels, out_channels):
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def norm(channels, eps=1e-5):
    """Group normalisation (Wu & He 2018): 32 groups, or as many as leave 4 channels in each.

    A group of one channel would erase whatever is added to a channel as a whole: the time.
    """
    most = min(32, max(channels // 4, 1))
    groups = next(g for g in range(most, 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, eps)


def zeroed(layer):
    """Zero-init for the last layer of a residual branch: each block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


@contextmanager
def watch(layer):
    """Collects what a layer returns while the block runs: `with watch(unet.middle) as seen: …`."""
    seen = []
    hook = layer.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()


def tokens(x):
    return x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, H*W, C)


def grid(x, like):
    return x.transpose(1, 2).reshape(like.shape)  # (B, H*W, C) -> (B, C, H, W)


def sinusoids(x, channels):
    """cos and sin of x at wavelengths from 2π to 2π·10000: (B,) -> (B, channels)."""
    ladder = torch.arange(channels // 2, device=x.device, dtype=torch.float32) / (channels // 2)
    angles = x.float().unsqueeze(1) * torch.exp(-math.log(10000.0) * ladder)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep, then two linear layers (Ho et al. 2020, appendix B)."""

    def __init__(self, channels, dim):
        super().__init__()
        self.half = channels // 2
        self.linear1 = nn.Linear(2 * self.half, dim)
        self.linear2 = nn.Linear(dim, dim)

    def waves(self, timestep):
        return sinusoids(timestep, 2 * self.half)  # (B, channels)

    def forward(self, timestep):
        waves = self.waves(timestep).to(self.linear1.weight.dtype)  # (B, channels)
        return self.linear2(F.silu(self.linear1(waves)))  # (B, dim)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, around a skip (He et al. 2016); time enters in the middle.

    It is added to every channel, or, with `film`, also multiplies it (Dhariwal & Nichol 2021,
    adaptive group normalisation; Perez et al. 2018).
    """

    def __init__(self, in_channels, out_channels, time_dim=None, eps=1e-5, film=False):
        super().__init__()
        self.norm1 = norm(in_channels, eps)
        self.conv1 = conv(in_channels, out_channels)
        self.time = nn.Linear(time_dim, out_channels) if time_dim else None
        self.gain = zeroed(nn.Linear(time_dim, out_channels)) if time_dim and film else None
        self.norm2 = norm(out_channels, eps)
        self.conv2 = zeroed(conv(out_channels, out_channels))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, time=None):
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        if self.time is None:
            h = self.norm2(h)
        else:
            shift = self.time(F.silu(time))[..., None, None]  # (B, out, 1, 1)
            if self.gain is None:
                h = self.norm2(h + shift)
            else:
                gain = self.gain(F.silu(time))[..., None, None]
                h = self.norm2(h) * (1 + gain) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class Down(nn.Module):
    """Half the size: a convolution of stride 2. `even=False` pads right and bottom only (VAEs)."""

    def __init__(self, channels, even=True):
        super().__init__()
        self.even = even
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=int(even))

    def forward(self, x):
        return self.conv(x if self.even else F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Twice the size: each pixel repeated, then a convolution (Odena et al. 2016)."""

    def __init__(self, channels):
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def foreteller(channels, dim):
    """From the middle's features to another network's of the clean picture; for training only.

    A network that must foretell them learns early what is in the picture (Yu et al. 2025, REPA).
    """
    layers = nn.Conv2d(channels, 2 * dim, 1), nn.SiLU(), nn.Conv2d(2 * dim, dim, 1)
    return nn.Sequential(*layers)
