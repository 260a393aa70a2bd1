"""DiT, a transformer in the U-Net's place: a picture is a row of tokens, and nothing convolves."""

import torch
import torch.nn.functional as F
from torch import nn

from .attention import GEGLU, Attention
from .layers import (
    TimeEmbedding,
    check_context,
    check_image,
    check_size,
    check_timestep,
    foreteller,
    keeps_kwargs,
    sinusoids,
    tokens,
    zeroed,
)


def patchify(x, patch):
    """Squares of patch × patch pixels as tokens, row by row: (B, C, H, W) -> (B, N, C·patch²)."""
    return tokens(F.pixel_unshuffle(x, patch))


def unpatchify(x, patch, side):
    """The picture whose patches these are, `side` in a row: (B, N, C·patch²) -> (B, C, H, W)."""
    return F.pixel_shuffle(x.mT.unflatten(2, (side, side)), patch)


def positions(side, dim):
    """Sinusoids of each token's row, then of its column: (side², dim)."""
    waves = sinusoids(torch.arange(side), dim // 2)  # (side, dim/2)
    return torch.cat([waves.repeat_interleave(side, dim=0), waves.repeat(side, 1)], dim=1)


class Branch(nn.Module):
    """A layer around a skip, steered by the time: adaLN-Zero (Peebles & Xie 2023, §3.2).

    Time shifts and scales what the layer sees, and gates what it adds.
    """

    def __init__(self, dim, layer):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.steer = zeroed(nn.Linear(dim, 3 * dim))  # gates of 0: each branch starts silent
        self.layer = layer

    def forward(self, x, time, *context):
        shift, scale, gate = self.steer(F.silu(time)).unsqueeze(1).chunk(3, dim=2)  # (B, 1, D)
        return x + gate * self.layer(self.norm(x) * (1 + scale) + shift, *context)


class DiTBlock(nn.Module):
    """Self-attention, cross-attention if there is a context, feed-forward; time steers all three.

    The paper knows class labels alone; a context is read as in PixArt-α (Chen et al. 2023, §2.3).
    """

    def __init__(self, dim, heads=4, context_dim=None, mlp=4):
        super().__init__()
        self.attention = Branch(dim, Attention(dim, heads=heads))
        self.cross = Branch(dim, Attention(dim, context_dim, heads)) if context_dim else None
        self.feed_forward = Branch(dim, GEGLU(dim, round(mlp * dim)))

    def forward(self, x, time, context=None):
        x = self.attention(x, time)  # (B, N, D)
        if self.cross is not None:
            x = self.cross(x, time, context)
        return self.feed_forward(x, time)


class DiT(nn.Module):
    """The diffusion transformer (Peebles & Xie 2023): patches in, blocks of one width, patches out.

    `answer = dit(x, timestep, context)`: x and answer (B, in/out_channels, size, size), timestep
    (B,), context (B, L, context_dim) if it was built with one, else None; ValueError for misfits.
    `patch` is the side of a token in pixels: half of it means four times the tokens.
    """

    @keeps_kwargs
    def __init__(
        self,
        in_channels=3,
        out_channels=None,
        size=32,  # of x
        patch=2,
        dim=128,
        layers=6,
        heads=4,
        mlp=4,  # inner width of the feed-forward networks, in multiples
        context_dim=None,
        align=None,  # width of features that the middle learns to foretell (see `foreteller`)
    ):
        super().__init__()
        if patch < 1 or size % patch:
            raise ValueError(f"a picture of {size} × {size} can't be cut into patches of {patch}")
        if dim % 4:
            raise ValueError(f"a position takes sin and cos of row and column: dim={dim} / 4 each")
        self.in_channels, self.context_dim = in_channels, context_dim
        self.size, self.patch, self.side = (size, size), patch, size // patch
        out_channels = out_channels or in_channels

        self.time = TimeEmbedding(dim, dim)
        self.enter = nn.Linear(in_channels * patch**2, dim)
        self.position = nn.Parameter(positions(self.side, dim))  # a start: it learns on
        blocks = (DiTBlock(dim, heads, context_dim, mlp) for _ in range(layers))
        self.blocks = nn.ModuleList(blocks)
        self.foretell = foreteller(dim, align) if align else None
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.steer = zeroed(nn.Linear(dim, 2 * dim))
        self.leave = zeroed(nn.Linear(dim, out_channels * patch**2))

    def forward(self, x, timestep, context=None):
        self.check(x, timestep, context)
        time = self.time(timestep.expand(len(x)))  # (B, D)
        h = self.enter(patchify(x, self.patch)) + self.position  # (B, N, D)
        for block in self.blocks:
            h = block(h, time, context)
        shift, scale = self.steer(F.silu(time)).unsqueeze(1).chunk(2, dim=2)  # (B, 1, D)
        patches = self.leave(self.norm(h) * (1 + scale) + shift)  # (B, N, out_channels·patch²)
        return unpatchify(patches, self.patch, self.side)

    @property
    def middle(self):
        """The block half-way, whose tokens `align` reads."""
        return self.blocks[(len(self.blocks) - 1) // 2]

    def align(self, h):
        """What it foretells for each square of 2 × 2 tokens: (B, N, D) -> (B, align, h/2, w/2)."""
        return self.foretell(F.avg_pool2d(unpatchify(h, 1, self.side), 2))

    def check(self, x, timestep, context):
        """ValueError where something is not what this DiT was built for."""
        check_image(x, self.in_channels, self.patch, self, "inputs")
        check_size(x, self.size, self)
        check_timestep(timestep, x)
        check_context(context, x, self)
