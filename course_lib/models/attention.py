"""Attention: one layer, the transformer blocks made of it, and a look at its maps."""

import math
from collections import defaultdict
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from .layers import grid, norm, tokens, zeroed


def attend(q, k, v, causal=False):
    """softmax(QKᵀ/√d)·V: queries (..., N, d), keys and values (..., L, d) -> (..., N, d).

    On a CPU bf16 is widened: there PyTorch's bf16 kernel is no faster than the one for float32,
    and its gradient many times slower (tests/benchmarks).
    """
    if q.is_cpu and q.dtype == torch.bfloat16:
        with torch.autocast("cpu", enabled=False):
            return attend(q.float(), k.float(), v.float(), causal).bfloat16()
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


class Attention(nn.Module):
    """softmax(QKᵀ/√d)·V with several heads (Vaswani et al. 2017, eq. 1), batch first.

    Queries come from x (B, N, dim); keys and values from context (B, L, context_dim), or from x
    itself where `context_dim` is None. `causal` lets token n see tokens 0..n only.
    """

    def __init__(self, dim, context_dim=None, heads=4, bias=False, causal=False):
        super().__init__()
        if dim % heads:
            raise ValueError(f"attention of width {dim} can't be split into {heads} equal heads")
        self.heads, self.causal, self.cross = heads, causal, context_dim is not None
        self.to_q = nn.Linear(dim, dim, bias)
        self.to_k = nn.Linear(context_dim or dim, dim, bias)
        self.to_v = nn.Linear(context_dim or dim, dim, bias)
        self.to_out = nn.Linear(dim, dim)

    def split(self, x):
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, N, D) -> (B, heads, N, d)

    def forward(self, x, context=None):
        context = context if self.cross else x  # (B, L, context_dim)
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        q, k, v = self.split(q), self.split(k), self.split(v)
        out = attend(q, k, v, self.causal)  # (B, heads, N, d)
        return self.to_out(out.transpose(1, 2).flatten(2))  # (B, N, D)

    def maps(self, x, context=None):
        """The attention weights themselves, each row summing to 1: (B, heads, N, L)."""
        q, k = self.split(self.to_q(x)), self.split(self.to_k(context if self.cross else x))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        if self.causal:
            future = torch.ones(scores.shape[2:], device=x.device).triu(1).bool()
            scores = scores.masked_fill(future, -torch.inf)
        return scores.softmax(dim=-1)


class ImageAttention(nn.Module):
    """Self-attention between all pixels of a feature map, normalised, around a skip."""

    def __init__(self, channels, heads=1, eps=1e-6):
        super().__init__()
        self.norm = norm(channels, eps)
        self.attention = Attention(channels, heads=heads, bias=True)
        zeroed(self.attention.to_out)

    def forward(self, x):
        return x + grid(self.attention(tokens(self.norm(x))), like=x)


class GEGLU(nn.Module):
    """Feed-forward network in which one half gates the other (Shazeer 2020, eq. 6)."""

    def __init__(self, dim, inner):
        super().__init__()
        self.expand = nn.Linear(dim, 2 * inner)
        self.shrink = nn.Linear(inner, dim)

    def forward(self, x):
        value, gate = self.expand(x).chunk(2, dim=-1)  # (B, N, inner) each
        return self.shrink(value * F.gelu(gate))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention if there is a context, feed-forward; each around a skip."""

    def __init__(self, dim, heads=4, context_dim=None, mlp=4):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads=heads)
        self.cross = None
        if context_dim:
            self.norm2, self.cross = nn.LayerNorm(dim), Attention(dim, context_dim, heads)
        self.norm3, self.feed_forward = nn.LayerNorm(dim), GEGLU(dim, round(mlp * dim))

    def forward(self, x, context=None):
        x = x + self.attention(self.norm1(x))  # (B, N, D)
        if self.cross is not None:
            x = x + self.cross(self.norm2(x), context)
        return x + self.feed_forward(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks on the pixels of a feature map (Rombach et al. 2022, §3.3)."""

    def __init__(self, channels, heads=4, context_dim=None, depth=1, mlp=4):
        super().__init__()
        self.norm = norm(channels, eps=1e-6)
        self.enter = nn.Linear(channels, channels)
        blocks = (TransformerBlock(channels, heads, context_dim, mlp) for _ in range(depth))
        self.blocks = nn.ModuleList(blocks)
        self.leave = zeroed(nn.Linear(channels, channels))

    def forward(self, x, context=None):
        h = self.enter(tokens(self.norm(x)))  # (B, H*W, C)
        for block in self.blocks:
            h = block(h, context)
        return x + grid(self.leave(h), like=x)


@contextmanager
def attention_maps(model):
    """Collects every cross-attention map of `model` while the block runs.

    `with attention_maps(unet) as maps: unet(x, timestep, context)` fills `maps`, a dict from the
    layer's name to a list with one (B, heads, H*W, L) tensor a call.
    """
    maps = defaultdict(list)

    def keep(name):
        return lambda layer, inputs, output: maps[name].append(layer.maps(*inputs).detach())

    cross = {n: m for n, m in model.named_modules() if isinstance(m, Attention) and m.cross}
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in cross.items()]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def heat(maps, size):
    """Mean of collected maps over layers, heads and calls, as pictures: (B, L, size, size)."""
    pictures = []
    if not any(maps.values()):
        raise ValueError("no attention maps were collected: call the model inside the block")
    for layer in (m for calls in maps.values() for m in calls):
        side = math.isqrt(layer.shape[2]) if layer.ndim == 4 else 0
        if side**2 != layer.shape[2] or not layer.numel() or not layer.is_floating_point():
            shape = f"{tuple(layer.shape)} {layer.dtype}"
            raise ValueError(f"a map is {shape}, expected floats (B, heads, H*W, L) of a square")
        picture = layer.mean(1).transpose(1, 2).unflatten(2, (side, side))  # (B, L, H, W)
        pictures.append(F.interpolate(picture, (size, size), mode="bilinear"))
    return torch.stack(pictures).mean(0)
