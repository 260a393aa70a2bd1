"""The denoising network: UNet, TextUNet, and UNetBlock, which the course studies closely."""

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.common.checks import WHOLE, same_device

from .attention import Attention, SpatialTransformer
from .layers import (
    Down,
    ResBlock,
    TimeEmbedding,
    Up,
    check_context,
    check_fits,
    check_image,
    check_size,
    check_timestep,
    conv,
    foreteller,
    grid,
    keeps_kwargs,
    norm,
    tokens,
    unknown,
    zeroed,
)
from .text import TextEncoder


class Block(nn.Module):
    """A residual block that knows the time, then, if `transformer`, one that reads the context."""

    def __init__(self, in_channels, out_channels, clock, transformer=None):
        super().__init__()
        self.residual = ResBlock(in_channels, out_channels, **clock)
        self.transformer = SpatialTransformer(out_channels, **transformer) if transformer else None

    def forward(self, x, time, context=None):
        h = self.residual(x, time)
        return h if self.transformer is None else self.transformer(h, context)


class DownStage(nn.Module):
    """Blocks at one resolution, then half of it; every result is kept for the way up."""

    def __init__(self, in_channels, channels, blocks, halve, clock, transformer):
        super().__init__()
        widths = [in_channels] + [channels] * (blocks - 1)
        self.blocks = nn.ModuleList(Block(w, channels, clock, transformer) for w in widths)
        self.down = Down(channels) if halve else None

    def forward(self, x, time, context, skips):
        for block in self.blocks:
            x = block(x, time, context)
            skips.append(x)
        if self.down is not None:
            x = self.down(x)
            skips.append(x)
        return x


class Middle(nn.Module):
    """The lowest resolution: residual block, transformer, residual block."""

    def __init__(self, channels, clock, transformer):
        super().__init__()
        self.first = Block(channels, channels, clock, transformer)
        self.second = ResBlock(channels, channels, **clock)

    def forward(self, x, time, context):
        return self.second(self.first(x, time, context), time)


class UpStage(nn.Module):
    """Blocks at one resolution, each beside what was kept on the way down; then twice the size."""

    def __init__(self, in_channels, channels, above, blocks, double, clock, transformer):
        super().__init__()
        received = [in_channels] + [channels] * blocks
        kept = [channels] * blocks + [above]
        widths = [a + b for a, b in zip(received, kept, strict=True)]
        self.blocks = nn.ModuleList(Block(w, channels, clock, transformer) for w in widths)
        self.up = Up(channels) if double else None

    def forward(self, x, time, context, skips):
        for block in self.blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), time, context)
        return x if self.up is None else self.up(x)


class UNet(nn.Module):
    """The U-Net of diffusion models (Ho et al. 2020, app. B; Rombach et al. 2022, §3.3).

    `answer = unet(x, timestep, context)`: x and answer (B, in/out_channels, H, W), timestep (B,),
    and the context is, as the network was built,
    - with `context_dim`: (B, L, context_dim), read by cross-attention;
    - with `classes`: (B,) integers 0..classes, added to the time embedding; `classes` itself
      stands for "no class";
    - otherwise None.
    `multipliers` and `attention` list the stages from the top, each half the size of the one
    above; `blocks` is the number of blocks a stage, one more on the way up. H and W must be
    multiples of 2**(stages - 1); ValueError for these and other misfits.
    """

    @keeps_kwargs
    def __init__(
        self,
        in_channels=3,
        out_channels=None,
        channels=64,
        multipliers=(1, 2, 4),
        blocks=2,
        attention=(False, True, True),
        heads=4,
        context_dim=None,
        classes=None,
        depth=1,  # transformer blocks at each place of attention
        mlp=4,  # inner width of their feed-forward networks, in multiples
        size=None,  # of x, if the network is to know where in the picture each number stands
        film=False,  # let the time embedding multiply as well as add (see ResBlock)
        align=None,  # width of features that the middle learns to foretell (see `foreteller`)
    ):
        super().__init__()
        check_keywords(multipliers, attention, context_dim, classes)
        self.in_channels, self.context_dim, self.classes = in_channels, context_dim, classes
        self.multiple = 2 ** (len(multipliers) - 1)
        time_dim = 4 * channels
        clock = dict(time_dim=time_dim, film=film)
        widths = [round(channels * m) for m in multipliers]
        above = [channels, *widths[:-1]]  # what enters each stage on the way down
        below = [*widths[1:], widths[-1]]  # and on the way up
        reader = dict(heads=heads, context_dim=context_dim, depth=depth, mlp=mlp)
        readers = [reader if attend else None for attend in attention]
        stages = range(len(widths))  # from the top

        self.time = TimeEmbedding(channels, time_dim)
        self.label = nn.Embedding(classes + 1, time_dim) if classes else None
        self.enter = conv(in_channels, channels)
        self.position = nn.Parameter(torch.zeros(channels, size, size)) if size else None
        self.down = nn.ModuleList(
            DownStage(above[i], widths[i], blocks, i < stages[-1], clock, readers[i])
            for i in stages
        )
        self.middle = Middle(widths[-1], clock, reader if any(attention) else None)
        self.align = foreteller(widths[-1], align) if align else None
        self.up = nn.ModuleList(
            UpStage(below[i], widths[i], above[i], blocks, i > 0, clock, readers[i])
            for i in reversed(stages)
        )
        out = zeroed(conv(widths[0], out_channels or in_channels))
        self.leave = nn.Sequential(norm(widths[0]), nn.SiLU(), out)

    def forward(self, x, timestep, context=None):
        self.check(x, timestep, context)
        time = self.time(timestep.expand(len(x)))  # (B, time_dim)
        if self.label is not None:
            time = time + self.label(context)
        h = self.enter(x)
        if self.position is not None:
            h = h + self.position
        skips = [h]
        for stage in self.down:
            h = stage(h, time, context, skips)
        h = self.middle(h, time, context)
        for stage in self.up:
            h = stage(h, time, context, skips)
        return self.leave(h)

    def check(self, x, timestep, context):
        """ValueError where something is not what this UNet was built for."""
        check_image(x, self.in_channels, self.multiple, self, "inputs")
        if self.position is not None:
            check_size(x, self.position.shape[1:], self)
        check_timestep(timestep, x)
        if self.classes:
            check_labels(context, x, self.classes)
        else:
            check_context(context, x, self)


def check_labels(labels, x, classes):
    """ValueError unless labels are (B,) integers in 0..classes, `classes` being the null."""
    batch = len(x)
    wanted = f"({batch},) integers in 0..{classes}"
    if labels is None or labels.dtype not in WHOLE or labels.shape != (batch,):
        received = None if labels is None else f"{tuple(labels.shape)} {labels.dtype}"
        raise ValueError(f"labels are {received}, but this UNet takes {wanted}")
    same_device("labels", labels, "the input", x)
    if unknown(labels):
        return
    low, high = labels.aminmax()
    if low < 0 or high > classes:
        raise ValueError(f"labels are in {low}..{high}, but this UNet takes {wanted}")


def check_keywords(multipliers, attention, context_dim, classes):
    if len(multipliers) != len(attention):
        stages = f"multipliers={multipliers} and attention={attention}"
        raise ValueError(f"{stages} list different numbers of stages")
    if context_dim and classes:
        raise ValueError("a UNet reads a context or class labels: give context_dim or classes")
    if context_dim and not any(attention):
        raise ValueError("a context is read by attention, but attention is False at every stage")


class TextUNet(nn.Module):
    """A U-Net and the text encoder that learns with it: eq. 3 of Rombach et al. 2022.

    `answer = network(x, timestep, ids)`: token ids (B, L) take the place of the context. unet and
    text: keywords of UNet and TextEncoder.
    """

    @keeps_kwargs
    def __init__(self, unet, text):
        super().__init__()
        self.unet, self.text = UNet(**unet), TextEncoder(**text)

    def forward(self, x, timestep, ids):
        return self.unet(x, timestep, self.text(ids))


class UNetBlock(nn.Module):
    """One block of a text-to-image U-Net, small enough to look into.

    Convolution, time embedding, cross-attention from every pixel to every text token, convolution,
    around a skip. x (B, in_c, H, W), time (B, time_emb_dim), text (B, L, text_emb_dim) ->
    (B, out_c, H, W); with `return_maps=True` also the attention maps (B, heads, H*W, L).
    """

    @keeps_kwargs
    def __init__(self, in_c, out_c, time_emb_dim, text_emb_dim, heads=4):
        super().__init__()
        self.in_c, self.text_emb_dim = in_c, text_emb_dim
        self.norm1, self.conv1 = norm(in_c), conv(in_c, out_c)
        self.time = nn.Linear(time_emb_dim, out_c)
        self.norm2, self.attention = norm(out_c), Attention(out_c, text_emb_dim, heads)
        self.norm3, self.conv2 = norm(out_c), zeroed(conv(out_c, out_c))
        self.skip = nn.Identity() if in_c == out_c else nn.Conv2d(in_c, out_c, 1)

    def forward(self, x, time, text, return_maps=False):
        check_image(x, self.in_c, 1, self, "inputs")
        check_fits("times", time, self)
        check_fits("texts", text, self)
        if time.shape != (len(x), self.time.in_features):
            wanted = (len(x), self.time.in_features)
            raise ValueError(f"time is {tuple(time.shape)}, but this UNetBlock takes {wanted}")
        if text.ndim != 3 or text.shape[::2] != (len(x), self.text_emb_dim):
            wanted = f"(B, L, {self.text_emb_dim}), and the batch is {len(x)}"
            raise ValueError(f"text is {tuple(text.shape)}, but this UNetBlock takes {wanted}")
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out_c, H, W)
        h = h + self.time(F.silu(time))[..., None, None]
        pixels = tokens(self.norm2(h))  # (B, H*W, out_c)
        h = h + grid(self.attention(pixels, text), like=h)
        h = self.skip(x) + self.conv2(F.silu(self.norm3(h)))
        return (h, self.attention.maps(pixels, text)) if return_maps else h


# Stable Diffusion 1.5's U-Net: 859,520,964 parameters
SD15_UNET = dict(
    in_channels=4,
    channels=320,
    multipliers=(1, 2, 4, 4),
    attention=(True, True, True, False),
    heads=8,
    context_dim=768,
)
