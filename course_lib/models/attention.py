"""Attention: the layer, the transformer blocks built from it, and its attention maps."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import require
from course_lib.models.layers import grid, norm, tokens, zeroed


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """softmax(QKᵀ/√d)·V: queries (..., N, d), keys and values (..., L, d) -> (..., N, d).

    On a CPU bf16 is converted to float32, because PyTorch's bf16 kernel is no faster there, and
    its gradient is many times slower (tests/benchmarks).

    >>> attend(torch.zeros(1, 2, 4), torch.zeros(1, 3, 4), torch.ones(1, 3, 4)).shape
    torch.Size([1, 2, 4])
    """
    if q.is_cpu and q.dtype == torch.bfloat16:
        with torch.autocast("cpu", enabled=False):
            return attend(q.float(), k.float(), v.float(), causal).bfloat16()
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


class Attention(nn.Module):
    """softmax(QKᵀ/√d)·V with several heads (Vaswani et al. 2017, eq. 1), batch first.

    Queries come from x (B, N, dim); keys and values come from context (B, L, context_dim), or from
    x itself if `context_dim` is None. If `causal`, token n attends to tokens 0..n only.

    >>> Attention(16, context_dim=8, heads=4)(torch.zeros(1, 9, 16), torch.zeros(1, 5, 8)).shape
    torch.Size([1, 9, 16])
    """

    def __init__(
        self,
        dim: int,
        context_dim: int | None = None,
        heads: int = 4,
        bias: bool = False,
        causal: bool = False,
    ):
        super().__init__()
        require(dim % heads == 0, "width of attention", f"a multiple of {heads} heads", dim)
        self.heads, self.causal, self.cross = heads, causal, context_dim is not None
        self.to_q = nn.Linear(dim, dim, bias)
        self.to_k = nn.Linear(context_dim or dim, dim, bias)
        self.to_v = nn.Linear(context_dim or dim, dim, bias)
        self.to_out = nn.Linear(dim, dim)

    def split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, N, D) -> (B, heads, N, d)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = context if self.cross else x  # (B, L, context_dim)
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        q, k, v = self.split_heads(q), self.split_heads(k), self.split_heads(v)
        out = attend(q, k, v, self.causal)  # (B, heads, N, d)
        return self.to_out(out.transpose(1, 2).flatten(2))  # (B, N, D)

    def maps(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The attention weights themselves, each row summing to 1: (B, heads, N, L)."""
        q, k = self.to_q(x), self.to_k(context if self.cross else x)
        q, k = self.split_heads(q), self.split_heads(k)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        if self.causal:
            future = torch.ones(scores.shape[2:], device=x.device).triu(1).bool()
            scores = scores.masked_fill(future, -torch.inf)
        return scores.softmax(dim=-1)


class ImageAttention(Attention):
    """Self-attention between all pixels of a feature map: a residual branch with a norm first."""

    def __init__(self, channels: int, heads: int = 1, eps: float = 1e-6):
        super().__init__(channels, heads=heads, bias=True)
        self.group_norm = norm(channels, eps)
        zeroed(self.to_out)

    def forward(self, x: Tensor) -> Tensor:
        return x + grid(super().forward(tokens(self.group_norm(x))), like=x)  # (B, C, H, W)


class FeedForward(nn.Module):
    """Two linear layers; half of the inner units gate the other half (GEGLU, Shazeer 2020)."""

    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.proj_in = nn.Linear(dim, 2 * inner)
        self.proj_out = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj_in(x).chunk(2, dim=-1)  # (B, N, inner) each
        return self.proj_out(value * F.gelu(gate))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention if there is a context, feed-forward; each is residual.

    >>> TransformerBlock(16, context_dim=8)(torch.zeros(1, 9, 16), torch.zeros(1, 5, 8)).shape
    torch.Size([1, 9, 16])
    """

    def __init__(
        self, dim: int, heads: int = 4, context_dim: int | None = None, mlp_ratio: float = 4
    ):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(dim), Attention(dim, heads=heads)
        self.attn2 = None
        if context_dim:
            self.norm2, self.attn2 = nn.LayerNorm(dim), Attention(dim, context_dim, heads)
        self.norm3, self.ff = nn.LayerNorm(dim), FeedForward(dim, round(mlp_ratio * dim))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x + self.attn1(self.norm1(x))  # (B, N, D)
        if self.attn2 is not None:
            x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks on the pixels of a feature map (Rombach et al. 2022, §3.3).

    >>> layer = SpatialTransformer(16, context_dim=8)
    >>> layer(torch.zeros(1, 16, 4, 4), torch.zeros(1, 5, 8)).shape
    torch.Size([1, 16, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        context_dim: int | None = None,
        layers: int = 1,
        mlp_ratio: float = 4,
    ):
        super().__init__()
        self.norm = norm(channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, heads, context_dim, mlp_ratio) for _ in range(layers)
        )
        self.proj_out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.proj_in(tokens(self.norm(x)))  # (B, H*W, C)
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + grid(self.proj_out(h), like=x)  # (B, C, H, W)


@contextmanager
def attention_maps(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Collects every cross-attention map of `model` inside the `with` block.

    The dict maps each layer's name to a list with one (B, heads, H*W, L) tensor per call.

    >>> block = TransformerBlock(8, context_dim=6)
    >>> with attention_maps(block) as maps:
    ...     x = block(torch.zeros(1, 9, 8), torch.zeros(1, 5, 6))
    >>> {name: calls[0].shape for name, calls in maps.items()}
    {'attn2': torch.Size([1, 4, 9, 5])}
    """
    maps = defaultdict(list)

    def keep(name):
        return lambda layer, inputs, output: maps[name].append(layer.maps(*inputs).detach())

    layers = cross_attention(model).items()
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def edited_attention(model: nn.Module, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the `with` block, every cross-attention of `model` uses edit(maps) for its maps.

    edit: a function of attention maps (B, heads, H*W, L), to others of the same shape.

    >>> block, x = TransformerBlock(8, context_dim=6), torch.zeros(1, 9, 8)
    >>> with edited_attention(block, lambda maps: 0 * maps):  # no word has an effect
    ...     y = block(x, torch.randn(1, 5, 6))
    >>> torch.equal(y, block(x, torch.zeros(1, 5, 6)))
    True
    """

    def replace(layer: Attention, inputs: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        maps = edit(layer.maps(*inputs))  # (B, heads, N, L)
        out = maps @ layer.split_heads(layer.to_v(inputs[1]))  # (B, heads, N, d)
        return layer.to_out(out.transpose(1, 2).flatten(2))

    hooks = [layer.register_forward_hook(replace) for layer in cross_attention(model).values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def cross_attention(model: nn.Module) -> dict[str, Attention]:
    """The model's layers of cross-attention, by name."""
    layers = model.named_modules()
    return {name: m for name, m in layers if isinstance(m, Attention) and m.cross}


def heat_map(maps: dict[str, list[Tensor]], size: int) -> Tensor:
    """The mean of collected maps over layers, heads and calls, as images: (B, L, size, size).

    One image for each token of the context, as in Tang et al. 2023 (DAAM, §3).

    >>> heat_map({"attn2": [torch.full((1, 4, 9, 5), 0.2)]}, size=6).shape
    torch.Size([1, 5, 6, 6])
    """
    layers = [layer for calls in maps.values() for layer in calls]
    require(bool(layers), "attention maps", "a call of the model inside the block", "none")
    images = []
    for layer in layers:
        side = math.isqrt(layer.shape[2]) if layer.ndim == 4 else 0
        fits = side**2 == layer.shape[2] and layer.numel() and layer.is_floating_point()
        require(bool(fits), "attention maps", "floats (B, heads, H*W, L) of a square", layer)
        image = layer.mean(1).transpose(1, 2).unflatten(2, (side, side))  # (B, L, H, W)
        images.append(F.interpolate(image, (size, size), mode="bilinear"))
    return torch.stack(images).mean(0)
