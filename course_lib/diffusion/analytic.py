"""Data so simple that the perfect network is a formula: Gaussians and mixtures of them.

If x0 ~ sum_k w_k N(m_k, C_k), then xt ~ sum_k w_k N(alpha m_k, alpha² C_k + sigma²), and the
best answer, the score, the lowest possible loss and the likelihood are all in closed form. Each
object here is a network, `answer = network(x, timestep, context)`, for one process.
"""

import torch
from torch import Tensor, nn

from course_lib.common.checks import WHOLE, finite, floating, same_device
from course_lib.diffusion.process import Diffusion
from course_lib.diffusion.schedules import Time


class GaussianMixture(nn.Module):
    """The perfect network for a mixture of K Gaussians in D dimensions.

    means:       (K, D)
    covariances: (K, D, D), or (K,) variances of round Gaussians; 0 makes points, so that a data
                 set can be its own mixture
    weights:     (K,), equal if None
    As context it takes labels (B,), the component each sample must come from; K means any.
    Data x is (B, ...) with D numbers in each sample.
    """

    def __init__(
        self,
        process: Diffusion,
        means: Tensor,
        covariances: Tensor,
        weights: Tensor | None = None,
    ):
        super().__init__()
        same_device("covariances", covariances, "the tensor of means", means)
        for name, x in {"means": means, "covariances": covariances}.items():
            floating(name, x)
            finite(name, x)
        if means.dim() != 2:
            raise ValueError(f"means must be (K, D), got {tuple(means.shape)}")
        K, D = means.shape
        if covariances.shape not in ((K,), (K, D, D)):
            raise ValueError(
                f"covariances must be {(K,)} or {(K, D, D)}, got {tuple(covariances.shape)}"
            )
        weights = torch.ones(K) if weights is None else weights
        if weights.shape != (K,) or not (weights > 0).all():
            raise ValueError(f"weights must be {K} positive numbers, got {weights.tolist()}")
        variances, axes = covariances[:, None], None  # (K, 1)
        if covariances.dim() == 3:
            if not torch.allclose(covariances, covariances.mT):
                raise ValueError("covariances must be symmetric")
            variances, axes = torch.linalg.eigh(covariances)  # (K, D), (K, D, D)
        if variances.min() < -1e-6 * variances.abs().max():
            raise ValueError(f"covariances have a negative variance, {variances.min():g}")
        self.process = process
        self.register_buffer("means", means)
        self.register_buffer("variances", variances.clamp(min=0))
        self.register_buffer("axes", axes)
        self.register_buffer("log_weights", weights.to(means).log().log_softmax(0))

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        """The mean of the process's target, given x: what training would end at."""
        t = self.process.schedule.time(timestep)
        return self.process.answer(self.x0(x, t, context), self.eps(x, t, context), t)

    def x0(self, x: Tensor, t: Time, context: Tensor | None = None) -> Tensor:
        """The posterior mean E[x0 | xt = x]."""
        log_joint, whitened = self.seen(x, t, context)
        return self.mixed(log_joint, self.guesses(x, t, whitened)).view_as(x)

    def eps(self, x: Tensor, t: Time, context: Tensor | None = None) -> Tensor:
        """The posterior mean E[eps | xt = x], which is -sigma times the score."""
        return -self.process.at(t, x)[1] * self.score(x, t, context)

    def score(self, x: Tensor, t: Time, context: Tensor | None = None) -> Tensor:
        """The gradient of log p_t(x)."""
        log_joint, whitened = self.seen(x, t, context)
        return -self.mixed(log_joint, self.along(whitened)).view_as(x)

    def log_likelihood(self, x: Tensor, t: Time = 0.0, context: Tensor | None = None) -> Tensor:
        """log p_t(x), (B,), in nats; at t = 0 that of the data."""
        log_joint, _ = self.seen(x, t, context)
        finite("x", x)
        return log_joint.logsumexp(1)

    def loss_floor(self, x: Tensor, t: Time, context: Tensor | None = None) -> Tensor:
        """The lowest mean squared error any network can have at xt = x, (B,).

        It is the variance of x0 given x, in units of the answer. Its mean over xt is the floor
        under the training loss.
        """
        alpha, sigma, total = self.levels(x, t)
        if not (sigma > 0).all():
            raise ValueError("without noise there is nothing to predict: t must be above 0")
        finite("x", x)
        log_joint, whitened = self.seen(x, t, context)
        guesses = self.guesses(x, t, whitened)  # (B, K, D)
        within = self.variances * sigma**2 / total
        between = (guesses - self.mixed(log_joint, guesses)[:, None]).square()
        variance = self.mixed(log_joint, within + between).mean(1)  # (B,)
        a, b = self.process.row(alpha, sigma)
        return ((a - b * alpha / sigma) ** 2).flatten() * variance  # at fixed xt, eps moves with x0

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Data x0: (count, D)."""
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        weights = self.log_weights.exp()
        k = torch.multinomial(weights, count, replacement=True, generator=generator)
        noise = torch.empty_like(self.means[k]).normal_(generator=generator)
        spread = self.variances[k].sqrt() * noise
        if self.axes is not None:
            spread = torch.einsum("bij,bj->bi", self.axes[k], spread)
        return self.means[k] + spread

    # The work. Each component sees x from its own mean, along its own axes: (B, K, D).

    def levels(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """alpha and sigma (B or 1, 1, 1), and the variances of xt in each component."""
        D = self.means.shape[1]
        if x.dim() < 2 or x.shape[1:].numel() != D:
            raise ValueError(f"x is {tuple(x.shape)}, expected (B, ...) with {D} numbers a sample")
        same_device("x", x, "the mixture", self.means)
        alpha, sigma = self.process.at(t, x.flatten(1)[:, None])
        total = alpha**2 * self.variances + sigma**2
        if not (total > 0).all():
            raise ValueError("a mixture of points has no density without noise: t must be above 0")
        return alpha, sigma, total

    def seen(self, x: Tensor, t: Time, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """log p(k) + log p_t(x | k) (B, K), and the offsets over their variances (B, K, D)."""
        alpha, _, total = self.levels(x, t)
        offsets = x.flatten(1)[:, None] - alpha * self.means
        if self.axes is not None:
            offsets = torch.einsum("kdi,bkd->bki", self.axes, offsets)
        log_normals = -(offsets.square() / total + (2 * torch.pi * total).log()).sum(2) / 2
        log_joint = self.log_weights + log_normals
        if context is not None:
            check_labels(context, x, len(self.means))
            k = torch.arange(len(self.means), device=x.device)
            other = (context[:, None] != k) & (context[:, None] < len(k))
            log_joint = log_joint.masked_fill(other, -torch.inf)
        return log_joint, offsets / total

    def guesses(self, x: Tensor, t: Time, whitened: Tensor) -> Tensor:
        """E[x0 | x, k] (B, K, D)."""
        return self.means + self.along(self.levels(x, t)[0] * self.variances * whitened)

    def along(self, coordinates: Tensor) -> Tensor:
        """From each component's axes back to those of x."""
        if self.axes is None:
            return coordinates
        return torch.einsum("kdi,bki->bkd", self.axes, coordinates)

    def mixed(self, log_joint: Tensor, values: Tensor) -> Tensor:
        """The mean of (B, K, D) over the components, by their share p(k | x): (B, D)."""
        return (log_joint.softmax(1)[..., None] * values).sum(1)


class Gaussian(GaussianMixture):
    """The perfect network for one Gaussian: mean (D,), covariance (D, D) or one variance ()."""

    def __init__(self, process: Diffusion, mean: Tensor, covariance: Tensor | float):
        covariance = torch.as_tensor(covariance, dtype=mean.dtype, device=mean.device)
        super().__init__(process, mean[None], covariance[None])


def check_labels(labels: Tensor, x: Tensor, K: int) -> None:
    """ValueError unless they are the numbers of components, one for each sample of x."""
    same_device("context", labels, "x", x)
    whole = labels.shape == (len(x),) and labels.dtype in WHOLE
    if not whole or not ((labels >= 0) & (labels <= K)).all():
        got = f"{tuple(labels.shape)} {labels.dtype}"
        raise ValueError(f"context must be ({len(x)},) whole labels in 0 ... {K}, got {got}")
