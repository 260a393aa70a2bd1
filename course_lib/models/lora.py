"""LoRA, low-rank adaptation (Hu et al. 2022): a small trainable update to frozen weights.

adapted = LoRA(unet, rank=4)                      # freezes unet; only A and B train
prediction = adapted(x, timestep, context)        # as unet itself is called
adapted.scale = 0.5                               # half of the update
both = adapted + another                          # two updates of one network
adapted.merge()                                   # unet itself is adapted, until unmerge()
"""

import re
from collections.abc import Mapping
from math import inf, sqrt

import torch
from torch import Tensor, nn
from torch.func import functional_call

from course_lib.common.checks import require, whole_numbers

ATTENTION = r"\bto_(q|k|v|out)$"  # all layers of each attention; the paper adapts q, v (§7.1)


def adaptable(network: nn.Module) -> dict[str, Tensor]:
    """The weights of its linear layers and convolutions, by the layer's name.

    >>> list(adaptable(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))))
    ['0']
    """
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    return {name: layer.weight for name, layer in layers.items()}


class LowRank(nn.Module):
    """ΔW = α/r · B·A in the shape of a weight W (Hu et al. 2022, §4.1).

    B starts at 0, and so does ΔW. A convolution's kernel (out, in, k, k) is a matrix (out, in·k·k).
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float | None = None):
        super().__init__()
        whole_numbers(1, rank=rank)
        require(alpha is None or 0 < alpha < inf, "alpha", "a positive number", alpha)
        out, inner = weight.flatten(1).shape
        kind = dict(
            device=weight.device, dtype=torch.promote_types(weight.dtype, torch.float32)
        )  # the update is float32 even if the weights are bf16
        self.A = nn.Parameter(torch.randn(rank, inner, **kind) / sqrt(inner))  # (r, in)
        self.B = nn.Parameter(torch.zeros(out, rank, **kind))  # (out, r)
        self.alpha, self.shape = float(rank if alpha is None else alpha), weight.shape

    def factors(self) -> tuple[Tensor, Tensor]:
        """α/r · B and A."""
        return self.alpha / len(self.A) * self.B, self.A

    def forward(self) -> Tensor:
        B, A = self.factors()
        return (B @ A).view(self.shape)


class LoRA(nn.Module):
    """A network whose chosen layers have the weights W + scale · α/r · B·A; W itself is frozen.

    It is called like the network: `prediction = adapted(x, timestep, context)`.
    rank, alpha: r and α (by default r), one for all layers, or a dict with one per layer name.
    layers: a regular expression, searched for in the names; not used if rank is a dict.
    ValueError if no layer has such a name.

    >>> LoRA(nn.Sequential(nn.Linear(8, 8)), rank=2, layers="0")(torch.zeros(1, 8)).shape
    torch.Size([1, 8])
    """

    def __init__(
        self,
        network: nn.Module,
        rank: int | Mapping[str, int] = 4,
        alpha: float | Mapping[str, float] | None = None,
        layers: str = ATTENTION,
    ):
        super().__init__()
        weights = adaptable(network)
        chosen = [name for name in weights if re.search(layers, name)]
        ranks = rank if isinstance(rank, Mapping) else dict.fromkeys(chosen, rank)
        alphas = alpha if isinstance(alpha, Mapping) else dict.fromkeys(ranks, alpha)
        fits = bool(ranks) and alphas.keys() == ranks.keys() <= weights.keys()
        require(fits, "layers and alphas", f"names among {[*weights]}", ", ".join(ranks) or layers)
        updates = (LowRank(weights[name], r, alphas[name]) for name, r in ranks.items())
        self.low_rank, self.names = nn.ModuleList(updates), list(ranks)
        self.network = network.requires_grad_(False)
        self.scale, self.merged = 1.0, None  # merged: the scale of what was merged

    @property
    def updates(self) -> dict[str, LowRank]:
        return dict(zip(self.names, self.low_rank, strict=True))

    def adapted(self, scale: float) -> dict[str, Tensor]:
        """W + scale · ΔW for each adapted layer, by the parameter's name."""
        weights = {name: self.network.get_submodule(name).weight for name in self.names}
        return {
            f"{name}.weight": (weights[name] + scale * update()).to(weights[name].dtype)
            for name, update in self.updates.items()
        }

    def forward(self, *inputs: Tensor) -> Tensor:
        weights = self.adapted(self.scale) if self.merged is None else {}
        return functional_call(self.network, weights, inputs)

    def merge(self) -> nn.Module:
        """Adds the update to the network's own weights and returns the network."""
        if self.merged is None:
            self.add_to_network(self.scale)
            self.merged = self.scale
        return self.network

    def unmerge(self) -> nn.Module:
        """Subtracts a merged update again and returns the network."""
        if self.merged is not None:
            self.add_to_network(-self.merged)
            self.merged = None
        return self.network

    @torch.no_grad()
    def add_to_network(self, scale: float) -> None:
        for name, weight in self.adapted(scale).items():
            self.network.get_parameter(name).copy_(weight)

    @torch.no_grad()
    def __add__(self, other: "LoRA") -> "LoRA":
        """Both at once: s₁B₁A₁ + s₂B₂A₂ = [s₁B₁ s₂B₂]·[A₁; A₂], whose rank is r₁ + r₂."""
        fits = other.network is self.network and self.merged is None is other.merged
        require(fits, "adding LoRAs", "two of one network, neither of them merged", other.names)
        factors = {name: [] for name in [*self.names, *other.names]}
        for lora in (self, other):
            for name, update in lora.updates.items():
                B, A = update.factors()
                factors[name].append((lora.scale * B, A))
        both = LoRA(self.network, {n: sum(len(A) for _, A in each) for n, each in factors.items()})
        for name, update in both.updates.items():
            Bs, As = zip(*factors[name], strict=True)
            update.B.copy_(torch.cat(Bs, dim=1))
            update.A.copy_(torch.cat(As, dim=0))
        return both
