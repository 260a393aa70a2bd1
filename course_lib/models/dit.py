"""DiT, a transformer instead of the U-Net: an image is a sequence of tokens, no convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import require
from course_lib.models.attention import Attention, FeedForward
from course_lib.models.layers import (
    TimeEmbedding,
    check_inputs,
    keeps_kwargs,
    sinusoids,
    tokens,
    zeroed,
)


def patchify(x: Tensor, patch_size: int) -> Tensor:
    """Each square patch becomes a token, row by row: (B, C, H, W) -> (B, N, C·patch_size²).

    >>> patchify(torch.zeros(1, 3, 8, 8), 2).shape
    torch.Size([1, 16, 12])
    """
    return tokens(F.pixel_unshuffle(x, patch_size))


def unpatchify(x: Tensor, patch_size: int, side: int) -> Tensor:
    """The inverse, with `side` patches in a row: (B, N, C·patch_size²) -> (B, C, H, W)."""
    return F.pixel_shuffle(x.mT.unflatten(2, (side, side)), patch_size)


def positions(side: int, dim: int) -> Tensor:
    """Sinusoids of each token's row, followed by those of its column: (side², dim)."""
    waves = sinusoids(torch.arange(side), dim // 2)  # (side, dim/2)
    return torch.cat([waves.repeat_interleave(side, dim=0), waves.repeat(side, 1)], dim=1)


class AdaLNZero(nn.Module):
    """A residual layer, modulated by the time: adaLN-Zero (Peebles & Xie 2023, §3.2).

    The time embedding shifts and scales the layer's input, and gates its output.
    """

    def __init__(self, dim: int, layer: nn.Module):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(dim, 3 * dim))  # the gate is 0: starts as the identity
        self.layer = layer

    def forward(self, x: Tensor, temb: Tensor, *context: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(F.silu(temb)).unsqueeze(1).chunk(3, 2)  # (B, 1, D)
        return x + gate * self.layer(self.norm(x) * (1 + scale) + shift, *context)  # (B, N, D)


class DiTBlock(nn.Module):
    """Self-attention, cross-attention if there is a context, feed-forward; each with adaLN-Zero.

    The paper has class labels only; cross-attention is as in PixArt-α (Chen et al. 2023, §2.3).
    """

    def __init__(
        self, dim: int, heads: int = 4, context_dim: int | None = None, mlp_ratio: float = 4
    ):
        super().__init__()
        self.attn1 = AdaLNZero(dim, Attention(dim, heads=heads))
        self.attn2 = AdaLNZero(dim, Attention(dim, context_dim, heads)) if context_dim else None
        self.ff = AdaLNZero(dim, FeedForward(dim, round(mlp_ratio * dim)))

    def forward(self, x: Tensor, temb: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.attn1(x, temb)  # (B, N, D)
        if self.attn2 is not None:
            x = self.attn2(x, temb, context)
        return self.ff(x, temb)


class DiT(nn.Module):
    """The diffusion transformer (Peebles & Xie 2023): patches in, blocks of one width, patches out.

    `prediction = dit(x, timestep, context)`: x and prediction (B, in/out_channels, size, size),
    timestep (B,), context (B, L, context_dim), or None if `context_dim` is None; ValueError for
    inputs that do not fit. Half the `patch_size` means four times the tokens.

    >>> dit = DiT(size=8, dim=16, layers=2)
    >>> dit(torch.zeros(1, 3, 8, 8), torch.tensor([500.0])).shape
    torch.Size([1, 3, 8, 8])
    """

    classes, interval = None, False

    @keeps_kwargs
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int | None = None,
        size: int = 32,  # of x
        patch_size: int = 2,  # side of a token in pixels
        dim: int = 128,
        layers: int = 6,
        heads: int = 4,
        mlp_ratio: float = 4,  # inner width of the feed-forward networks, in multiples
        context_dim: int | None = None,
    ):
        super().__init__()
        fits = patch_size > 0 == size % patch_size
        require(fits, "patch_size", f"patches that divide {size}", patch_size)
        require(dim % 4 == 0, "dim", "a multiple of 4: sine and cosine of row and column", dim)
        self.in_channels, self.context_dim = in_channels, context_dim
        self.input_shape = in_channels, size, size
        self.patch_size, self.side = patch_size, size // patch_size
        out_channels = out_channels or in_channels

        self.time_embedding = TimeEmbedding(dim, dim)
        self.proj_in = nn.Linear(in_channels * patch_size**2, dim)
        self.pos_embed = nn.Parameter(positions(self.side, dim))  # the initial values
        self.transformer_blocks = nn.ModuleList(
            DiTBlock(dim, heads, context_dim, mlp_ratio) for _ in range(layers)
        )
        self.norm_out = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(dim, 2 * dim))
        self.proj_out = zeroed(nn.Linear(dim, out_channels * patch_size**2))

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        check_inputs(self, x, timestep, context)
        temb = self.time_embedding(timestep.expand(len(x)))  # (B, D)
        h = self.proj_in(patchify(x, self.patch_size)) + self.pos_embed  # (B, N, D)
        for block in self.transformer_blocks:
            h = block(h, temb, context)
        shift, scale = self.modulation(F.silu(temb)).unsqueeze(1).chunk(2, dim=2)  # (B, 1, D)
        h = self.proj_out(self.norm_out(h) * (1 + scale) + shift)  # (B, N, out·patch_size²)
        return unpatchify(h, self.patch_size, self.side)
