"""Data so simple that the optimal network is a formula: Gaussians and mixtures of Gaussians.

If x0 ~ sum_k w_k N(m_k, C_k), then xt ~ sum_k w_k N(alpha m_k, alpha² C_k + sigma²), and the
best prediction, the score, the lowest possible loss and the likelihood have closed forms. Each
object here is a network, `prediction = network(x, timestep, context)`, for one process.
"""

import torch
from torch import Tensor, nn

from course_lib.common.checks import is_finite, require
from course_lib.diffusion.process import Diffusion
from course_lib.diffusion.schedules import Time


class GaussianMixture(nn.Module):
    """The optimal network for a mixture of K Gaussians in D dimensions.

    means:       (K, D)
    covariances: (K, D, D), or (K,) variances of isotropic Gaussians; with variance 0 the mixture
                 is a set of points, such as a training set
    weights:     (K,), equal if None
    The context is a label for each sample, (B,): the component that it comes from, or K for any.
    Data x is (B, ...) with D numbers in each sample.

    >>> network = GaussianMixture(Diffusion("linear"), torch.eye(2), torch.zeros(2))  # two points
    >>> network.x0(torch.zeros(1, 2), t=0.5)  # half-way between them
    tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self,
        process: Diffusion,
        means: Tensor,
        covariances: Tensor,
        weights: Tensor | None = None,
    ):
        super().__init__()
        weights = torch.ones(len(means)) if weights is None else weights
        require(means.dim() == 2 and is_finite(means), "means", "(K, D) finite floats", means)
        K, D = means.shape
        covariances = covariances.to(means)
        ok = covariances.shape in ((K,), (K, D, D)) and is_finite(covariances)
        require(ok, "covariances", f"{(K,)} or {(K, D, D)} finite floats", covariances)
        require(weights.shape == (K,) and weights.min() > 0, "weights", f"{K} positives", weights)
        variances, axes = covariances[:, None], None  # (K, 1)
        if covariances.dim() == 3:
            symmetric = torch.allclose(covariances, covariances.mT)
            require(symmetric, "covariances", "symmetric matrices", covariances)
            variances, axes = torch.linalg.eigh(covariances)  # (K, D), (K, D, D)
        require(variances.min() >= -1e-6 * variances.max(), "variances", "none below 0", variances)
        self.process = process
        self.register_buffer("means", means)
        self.register_buffer("variances", variances.clamp(min=0))
        self.register_buffer("axes", axes)
        self.register_buffer("log_weights", weights.to(means).log().log_softmax(0))

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        """The mean of the regression target, given x: what training would converge to."""
        require(x[:1].numel() in (0, self.means[0].numel()), "x", "the mixture's D per sample", x)
        t = self.process.schedule.time(timestep)
        return self.process.target(self.x0(x, t, context), self.eps(x, t, context), t)

    def x0(self, x: Tensor, t: Time, context: Tensor | None = None) -> Tensor:
        """The posterior mean E[x0 | xt = x]."""
        log_joint, whitened = self.log_joint(x, t, context)
        return self.mean(log_joint, self.component_x0(x, t, whitened)).view_as(x)

    def eps(self, x: Tensor, t: Time, context: Tensor | None = None) -> Tensor:
        """The posterior mean E[eps | xt = x], which is -sigma times the score."""
        return -self.process.at(t, x)[1] * self.score(x, t, context)

    def score(self, x: Tensor, t: Time, context: Tensor | None = None) -> Tensor:
        """The gradient of log p_t(x)."""
        log_joint, whitened = self.log_joint(x, t, context)
        return -self.mean(log_joint, self.rotated(whitened)).view_as(x)

    def log_likelihood(self, x: Tensor, t: Time = 0.0, context: Tensor | None = None) -> Tensor:
        """log p_t(x), (B,), in nats; at t = 0, the log-likelihood of the data."""
        log_joint, _ = self.log_joint(x, t, context)
        return log_joint.logsumexp(1)

    def minimum_loss(self, x: Tensor, t: Time, context: Tensor | None = None) -> Tensor:
        """The lowest mean squared error that any network can have at xt = x, (B,), for t > 0.

        It is the variance of x0 given x, in units of the prediction. Its mean over xt is the
        lowest value that the training loss can reach.
        """
        log_joint, whitened = self.log_joint(x, t, context)
        alpha, sigma, total = self.coefficients(x, t)
        x0 = self.component_x0(x, t, whitened)  # (B, K, D)
        within = self.variances * sigma**2 / total
        between = (x0 - self.mean(log_joint, x0)[:, None]).square()
        variance = self.mean(log_joint, within + between).mean(1)  # (B,)
        a, b = self.process.coefficients(alpha, sigma)
        return ((a - b * alpha / sigma) ** 2).flatten() * variance  # at fixed xt, eps moves with x0

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Data x0: (count, D)."""
        require(count >= 1, "count", "at least 1", count)
        weights = self.log_weights.exp()
        k = torch.multinomial(weights, count, replacement=True, generator=generator)
        noise = torch.empty_like(self.means[k]).normal_(generator=generator)
        spread = self.variances[k].sqrt() * noise
        if self.axes is not None:
            spread = torch.einsum("bij,bj->bi", self.axes[k], spread)
        return self.means[k] + spread

    # From here on, (B, K, D) holds x relative to each component's mean, along its principal axes.

    def coefficients(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """alpha and sigma (B or 1, 1, 1), and the variances of xt in each component."""
        alpha, sigma = self.process.at(t, x.flatten(1)[:, None])
        return alpha, sigma, alpha**2 * self.variances + sigma**2

    def log_joint(self, x: Tensor, t: Time, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """log p(k) + log p_t(x | k) (B, K), and the offsets divided by the variances (B, K, D)."""
        alpha, _, total = self.coefficients(x, t)
        offsets = x.flatten(1)[:, None] - alpha * self.means
        if self.axes is not None:
            offsets = torch.einsum("kdi,bkd->bki", self.axes, offsets)
        log_normals = -(offsets.square() / total + (2 * torch.pi * total).log()).sum(2) / 2
        log_joint = self.log_weights + log_normals
        if context is not None:
            k = torch.arange(len(self.means), device=x.device)
            other = (context[:, None] != k) & (context[:, None] < len(k))
            log_joint = log_joint.masked_fill(other, -torch.inf)
        return log_joint, offsets / total

    def component_x0(self, x: Tensor, t: Time, whitened: Tensor) -> Tensor:
        """E[x0 | x, k] (B, K, D)."""
        alpha, _, _ = self.coefficients(x, t)
        return self.means + self.rotated(alpha * self.variances * whitened)

    def rotated(self, coordinates: Tensor) -> Tensor:
        """From each component's axes back to those of x."""
        if self.axes is None:
            return coordinates
        return torch.einsum("kdi,bki->bkd", self.axes, coordinates)

    def mean(self, log_joint: Tensor, values: Tensor) -> Tensor:
        """The mean of (B, K, D) over the components, weighted by p(k | x): (B, D)."""
        return (log_joint.softmax(1)[..., None] * values).sum(1)


class Gaussian(GaussianMixture):
    """The optimal network for one Gaussian: mean (D,), covariance (D, D) or one variance ().

    >>> network = Gaussian(Diffusion("linear", "x0"), torch.zeros(2), 1.0)
    >>> x0 = network(torch.ones(1, 2), torch.tensor([999.0]))  # E[x0 | x] = alpha x
    """

    def __init__(self, process: Diffusion, mean: Tensor, covariance: Tensor | float):
        covariance = torch.as_tensor(covariance, dtype=mean.dtype, device=mean.device)
        super().__init__(process, mean[None], covariance[None])

    def flow_map(self, x: Tensor, t: Time, s: Time) -> Tensor:
        """Where the probability flow (Song et al. 2021b, eq. 13) takes x from t to s, exactly.

        Along each principal axis, the distance from the mean keeps its number of standard
        deviations.
        """
        _, whitened = self.log_joint(x, t, None)  # (B, 1, D)
        alpha, _, total = self.coefficients(x, s)
        offsets = (total * self.coefficients(x, t)[2]).sqrt() * whitened
        return (alpha * self.means + self.rotated(offsets)).view_as(x)
