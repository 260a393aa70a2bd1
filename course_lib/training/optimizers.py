"""The optimisers: AdamW for all parameters, or Muon for the matrices and AdamW for the others.

Muon makes the short trainings of the text-to-image model possible. How much it helps the
autoencoder is measured in tests/benchmarks/optimizers.py.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real

import torch
from torch import Tensor, nn

from course_lib.common.checks import whole_numbers
from course_lib.common.registry import choose
from course_lib.training.rate import DECAYS, learning_rate


def orthogonal(matrices: Tensor, pairs: int = 2) -> Tensor:
    """Approximates U·Vᵀ for each matrix U·S·Vᵀ, so all directions count equally.

    (..., M, N) -> (..., M, N), by Newton-Schulz iterations (Jordan et al. 2024). Each maps the
    singular values s to a·s + b·s³ + c·s⁵, chosen so that small ones grow fast: those above 1/200
    of the matrix's norm end between 0.66 and 1.2. The paper uses five iterations; here four train
    no worse, but three do (tests/benchmarks/LOG.md). They are computed in pairs, because the
    second Gram matrix, which is small, follows from the first.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # all singular values at most 1
    one = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    for _ in range(pairs):
        gram = x @ x.mT
        first = newton_schulz(gram, one)
        second = newton_schulz(first @ gram @ first, one)
        x = second @ first @ x
    return x if wide else x.mT


def newton_schulz(gram: Tensor, one: Tensor) -> Tensor:
    """The matrix of one Newton-Schulz iteration, given X·Xᵀ: a·1 + b·X·Xᵀ + c·(X·Xᵀ)²."""
    a, b, c = 3.4445, -4.7750, 2.0315
    return a * one + b * gram + c * gram @ gram


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum (Jordan et al. 2024; scaled as in Liu et al. 2025, eq. 4).

    For matrices, and for convolution kernels as matrices (out, in · height · width).
    The factor 0.2·√max(M, N) makes its steps about as large as those of AdamW at the same lr.
    """

    def __init__(self, params, lr=1e-3, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            kernels = [p for p in group["params"] if p.grad is not None]
            if not kernels:
                continue
            if group["weight_decay"]:
                torch._foreach_mul_(kernels, 1 - group["lr"] * group["weight_decay"])
            by_shape = defaultdict(list)  # batching matrices of equal shape is 1.3 times as fast
            for p, ahead in zip(kernels, self.nesterov(kernels, group["momentum"]), strict=True):
                by_shape[p.flatten(1).shape].append((p, ahead.flatten(1)))
            for shape, pairs in by_shape.items():
                some, ahead = zip(*pairs, strict=True)
                size = 0.2 * max(shape) ** 0.5
                updates = orthogonal(torch.stack(ahead).bfloat16())  # precise enough here
                updates = [u.view_as(p) for u, p in zip(updates.to(some[0]), some, strict=True)]
                torch._foreach_add_(some, updates, alpha=-group["lr"] * size)

    def nesterov(self, kernels: list[Tensor], momentum: float) -> Sequence[Tensor]:
        """Nesterov's momentum of the gradients."""
        for p in kernels:
            if not self.state[p]:
                self.state[p]["velocity"] = torch.zeros_like(p)
        grads, velocities = [p.grad for p in kernels], [self.state[p]["velocity"] for p in kernels]
        torch._foreach_lerp_(velocities, grads, 1 - momentum)  # one launch on a GPU, not hundreds
        return torch._foreach_lerp(grads, velocities, momentum)


def adamw(model: nn.Module, lr, betas, weight_decay) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov & Hutter 2019) for every parameter."""
    weights = [p for p in model.parameters() if p.requires_grad]
    return [torch.optim.AdamW(weights, lr, betas, weight_decay=weight_decay, fused=True)]


def muon(model: nn.Module, lr, betas, weight_decay) -> list[torch.optim.Optimizer]:
    """Muon for the weights of linear layers and convolutions; AdamW for all other parameters."""
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    kernels = [layer.weight for layer in model.modules() if isinstance(layer, layers)]
    kernels = [kernel for kernel in kernels if kernel.requires_grad]
    known = {id(kernel) for kernel in kernels}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    return [
        Muon(kernels, lr, weight_decay=weight_decay),
        torch.optim.AdamW(rest, lr, betas, weight_decay=weight_decay, fused=True),
    ]


OPTIMIZERS = {"adamw": adamw, "muon": muon}


@dataclass(frozen=True)
class Optimizer:
    """Which optimiser to use, and its learning rate.

    name: "adamw", or "muon", which uses Muon for matrices and kernels and AdamW for the others.
    lr: the peak learning rate. It rises linearly over `warmup` steps and then decays until the
        last step, by `decay`: "cosine", "linear" or "constant".
    betas, weight_decay: those of AdamW; Muon uses the weight decay, too.
    clip: the largest allowed norm of the gradient; longer gradients are scaled down to it.

    Raises ValueError for settings out of range.

    >>> Optimizer("muon", lr=2e-3, warmup=2).rate(step=0, steps=100)
    0.001
    """

    name: str = "adamw"
    lr: float = 1e-3
    warmup: int = 100
    decay: str = "cosine"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self):
        choose("optimizer", self.name, OPTIMIZERS)
        choose("decay", self.decay, DECAYS)
        whole_numbers(0, warmup=self.warmup)
        if not isinstance(self.clip, Real) or not self.clip > 0:
            raise ValueError(
                f"clip must be a positive bound on the gradient's norm, not {self.clip}"
            )
        if not isinstance(self.betas, Sequence) or len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, not {self.betas}")

    @property
    def settings(self) -> dict:
        """The settings, as a card and a state record them."""
        names = asdict(self) | {"betas": list(self.betas)}
        return {"optimizer": names.pop("name")} | names

    def build(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        """The torch optimisers for the model's parameters."""
        return OPTIMIZERS[self.name](model, self.lr, self.betas, self.weight_decay)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0 … steps - 1."""
        return learning_rate(step, steps, self.lr, self.warmup, self.decay)
