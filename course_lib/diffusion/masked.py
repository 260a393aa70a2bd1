"""Masked (absorbing) diffusion of token sequences: the noise is a mask (Austin et al. 2021).

Time runs from 0 = clean to 1 = nothing but masks. At time t each token has been masked with
probability t, independently of the others, and a network predicts what stands behind the masks:

    logits = network(xt, timestep, context)     # ids (B, L) -> (B, L, V), V clean tokens

Guidance is `guided(network, null, scale)`, unchanged: it exaggerates differences of logits.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.checks import WHOLE, check_tensor, require, whole_numbers
from course_lib.common.registry import choose
from course_lib.diffusion.process import TIME_SAMPLING, Network, broadcast
from course_lib.diffusion.schedules import Time


class MaskedDiffusion:
    """Masked diffusion; clean tokens are ids from 0 to `mask` - 1, and `mask` is the noise.

    >>> process, x0 = MaskedDiffusion(mask=3), torch.tensor([[0, 1, 2]])
    >>> process.add_noise(x0, 0.5, draws=torch.tensor([[0.1, 0.6, 0.9]]))
    tensor([[3, 1, 2]])
    """

    def __init__(self, mask: int):
        self.mask = mask

    def add_noise(self, x0: Tensor, t: Time, draws: Tensor) -> Tensor:
        """xt ~ q(xt | x0): masked where the uniform draw lies below t (Austin et al. 2021, 3.1)."""
        t = broadcast(torch.as_tensor(t), x0).to(draws)
        return torch.where(draws < t, self.mask, x0)

    def bound(
        self, network: Network, x0: Tensor, context: Tensor | None, t: Tensor, draws: Tensor
    ) -> Tensor:
        """Unbiased estimates of the bound on -log p(x0), in nats for each sequence: (B,).

        The cross-entropy behind the masks, over t (Sahoo et al. 2024, section 3; Shi et al. 2024).
        t: a time in (0, 1] for each; draws: uniform numbers in [0, 1) like x0.
        """
        xt = self.add_noise(x0, t, draws)
        logits = network(xt, t.expand(len(x0)), context)
        return ((xt == self.mask) * self._nats(logits, x0)).sum(1) / t.to(logits)

    def bound_by_count(
        self, network: Network, x0: Tensor, context: Tensor | None, n: Tensor, draws: Tensor
    ) -> Tensor:
        """Estimates of the same bound with less noise, since no 1/t can be huge: (B,).

        n: how many tokens of each sequence are masked, those with its smallest draws; uniform from
        1 to L (Hoogeboom et al. 2022, section 3; Ou et al. 2025).
        """
        hidden = draws.argsort(1).argsort(1) < n[:, None]  # (B, L)
        xt, length = torch.where(hidden, self.mask, x0), x0.shape[1]
        logits = network(xt, n / length, context)
        return (hidden * self._nats(logits, x0)).sum(1) * (length / n).to(logits)

    def _nats(self, logits: Tensor, x0: Tensor) -> Tensor:
        """-log p of each token of x0: (B, L)."""
        require(logits.shape[2:] == (self.mask,), "logits", f"(B, L, {self.mask})", logits)
        return F.cross_entropy(logits.mT, x0, reduction="none")

    def loss(self, network: Network, x0: Tensor, context: Tensor | None = None) -> Tensor:
        """The mean of the bound's estimates: a scalar to minimise."""
        return self.random_bound(network, x0, context).mean()

    def random_bound(self, network: Network, x0: Tensor, context: Tensor | None = None) -> Tensor:
        """`bound_by_count` with random counts, spread evenly over the batch: (B,)."""
        check_tensor("x0", x0, ("B", "L"), x0, WHOLE, values=(0, self.mask - 1))
        t = TIME_SAMPLING["antithetic"](len(x0)).to(x0.device)  # (0, 1]
        n = (t * x0.shape[1]).ceil()
        draws = torch.rand(x0.shape, device=x0.device)
        return self.bound_by_count(network, x0, context, n, draws)

    def step(
        self,
        xt: Tensor,
        logits: Tensor,
        t: float,
        s: float,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """x_s from x_t, s < t: each mask is lifted with probability (t - s) / t.

        What appears is drawn from the network's prediction, for each token by itself.
        """
        probabilities = logits.softmax(-1).flatten(0, 1)  # (B·L, V)
        x0 = probabilities.multinomial(1, generator=generator).view_as(xt)
        draws = torch.rand(xt.shape, generator=generator, device=xt.device)
        lifted = (xt == self.mask) & (draws < (t - s) / t)
        return torch.where(lifted, x0, xt)

    def surest(
        self,
        xt: Tensor,
        logits: Tensor,
        t: float,
        s: float,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """x_s from x_t with (t - s) L masks fewer: those where the network is surest are lifted.

        The tokens are drawn from the prediction all the same. So for a perfect network, one mask
        at a time, any order is right; a trained one errs less this way (Kim et al. 2025).
        """
        probabilities = logits.softmax(-1)  # (B, L, V)
        x0 = probabilities.flatten(0, 1).multinomial(1, generator=generator).view_as(xt)
        sure = probabilities.amax(2).masked_fill(xt != self.mask, -1)  # (B, L)
        rank = sure.argsort(1, descending=True).argsort(1)
        count = round(t * xt.shape[1]) - round(s * xt.shape[1])
        return torch.where((xt == self.mask) & (rank < count), x0, xt)

    @torch.no_grad()
    def trajectory(
        self,
        network: Network,
        shape: Sequence[int],
        context: Tensor | None = None,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
        order: str = "random",
    ) -> Iterator[Tensor]:
        """Yields x_1 (masks alone), ..., x_0 (none): steps + 1 tensors of ids, of shape (B, L).

        steps: as many as a sequence has tokens, unless given. order: which masks are lifted first,
        "random" ones (`step`) or the "surest".
        """
        lift = choose("order", order, {"random": self.step, "surest": self.surest})
        batch, length = shape
        steps = length if steps is None else steps
        whole_numbers(1, sequences=batch, length=length, steps=steps)
        x = torch.full((batch, length), self.mask, device=device)
        yield x
        for t, s in pairwise(torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()):
            logits = network(x, torch.full((batch,), t, device=device), context)
            x = lift(x, logits, t, s, generator)
            yield x

    def sample(self, network: Network, shape: Sequence[int], *args, **kwargs) -> Tensor:
        """New sequences (B, L): the last of the `trajectory`, whose arguments it takes."""
        *_, x0 = self.trajectory(network, shape, *args, **kwargs)
        return x0
