"""Inverse problems: what does y = A x0 + noise say about x0?

    operator = fourier(frequency_mask(32, acceleration=4))
    y = operator(x0) + noise_std * torch.randn(len(x0), operator.count)
    network = posterior_network(process, network, operator, y, noise_std)   # for any sampler

fourier, tomography   two ways to measure a picture: some of its frequencies, or its projections
pseudo_inverse        sets everything that wasn't measured to zero
total_variation       keeps only the edges that the measurements require
posterior_network     a diffusion model as the prior
exact_posterior       for a Gaussian prior, by Bayes' rule
"""

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.checks import check_tensor, is_finite, require, whole_numbers
from course_lib.diffusion.process import Diffusion, Network


class Operator:
    """A linear measurement y = A x of pictures: the matrix A and its singular value decomposition.

    matrix: (M, D) with M <= D, for pictures with D numbers each; shape: theirs, (C, H, W).
    Pictures are (B, C, H, W), measurements (B, M).

    >>> operator = Operator(torch.tensor([[1.0, 1.0]]), shape=(1, 1, 2))
    >>> operator(torch.tensor([[[[3.0, 4.0]]]]))
    tensor([[7.]])
    """

    def __init__(self, matrix: Tensor, shape: tuple[int, ...]):
        fits = matrix.dim() == 2 and matrix.shape[1] == torch.Size(shape).numel()
        ok = fits and is_finite(matrix) and 0 < len(matrix) <= matrix.shape[1]
        require(ok, "matrix", f"(M, D) finite floats, 1 to D rows, for pictures {shape}", matrix)
        self.matrix, self.shape, self.count = matrix, shape, len(matrix)
        self.U, self.S, self.Vh = torch.linalg.svd(matrix, full_matrices=False)

    def __call__(self, x: Tensor) -> Tensor:
        """A x, without noise."""
        check_tensor("x", x, ("B", *self.shape), self.matrix)
        return x.flatten(1) @ self.matrix.T

    def to(self, like: torch.device | torch.dtype | Tensor) -> "Operator":
        """The same operator on another device or in another precision."""
        return Operator(self.matrix.to(like), self.shape)

    def transpose(self, y: Tensor) -> Tensor:
        """Aᵀ y, a picture."""
        return (y @ self.matrix).view(-1, *self.shape)

    def solve(self, y: Tensor, noise_variance: float, variance: Tensor | float) -> Tensor:
        """(noise_variance + variance A Aᵀ)⁻¹ y; variance: one number, or (B, 1)."""
        return y @ self.U / (noise_variance + variance * self.S**2) @ self.U.T

    def pseudo_inverse(self, y: Tensor, cutoff: float = 0.05) -> Tensor:
        """The picture with the smallest norm that explains y; "zero filling" for frequencies.

        Singular values below `cutoff` times the largest count as not measured, because their noise
        would be amplified more than 1 / cutoff times.
        """
        inverse = torch.where(self.S / self.S[0] > cutoff, 1 / self.S, 0)
        return (y @ self.U * inverse @ self.Vh).view(-1, *self.shape)

    def nearest(self, x: Tensor, y: Tensor, step: float) -> Tensor:
        """The picture z that minimises |y − A z|²/2 + |z − x|²/(2 step)."""
        z = (x + step * self.transpose(y)).flatten(1)
        measured = step * self.S**2 / (1 + step * self.S**2)
        return (z - z @ self.Vh.T * measured @ self.Vh).view_as(x)


# ---- two ways to measure ------------------------------------------------------------------------


def frequency_mask(
    size: int, acceleration: int, generator: torch.Generator | None = None
) -> Tensor:
    """Which frequencies are measured: bool (size, size), in the order of `torch.fft`.

    All of the lowest, and a random choice of the others, fewer and fewer towards high frequencies
    (Lustig et al. 2007). A real picture's spectrum is symmetric, so k and −k are chosen together.

    >>> frequency_mask(8, acceleration=2)[0, 0]
    tensor(True)
    """
    whole_numbers(1, size=size, acceleration=acceleration)
    f = torch.fft.fftfreq(size, 1 / size)
    radius = (f[:, None] ** 2 + f**2).sqrt()  # (size, size)
    gumbel = -torch.empty(size, size).exponential_(generator=generator).log()
    key = (gumbel - 2 * (1 + radius).log()).masked_fill(radius <= 2, torch.inf)
    key = torch.maximum(key, mirrored(key))
    return key >= key.flatten().topk(size**2 // acceleration).values[-1]


def mirrored(spectrum: Tensor) -> Tensor:
    """The value at −k, for each frequency k."""
    return spectrum.flip(0, 1).roll((1, 1), (0, 1))


def fourier(mask: Tensor) -> Operator:
    """The frequencies in the mask as real numbers: M = mask.sum(), and A Aᵀ = 1.

    For a pair k, −k the real and the imaginary part are measured, multiplied by √2. Frequencies
    that are their own mirror image have no imaginary part.

    >>> fourier(frequency_mask(8, acceleration=2)).count
    32
    """
    size = len(mask)
    ok = mask.shape == (size, size) and mask.dtype == torch.bool and mask.any()
    ok = ok and torch.equal(mask, mirrored(mask))
    require(ok, "mask", "a square of bool, symmetric, with a frequency in it", mask)
    pixels = torch.eye(size**2).view(-1, size, size)
    spectrum = torch.fft.fft2(pixels, norm="ortho")  # (D, size, size): of each pixel
    index = torch.arange(size**2).view(size, size)
    alone, pair = mask & (index == mirrored(index)), mask & (index < mirrored(index))
    paired = 2**0.5 * spectrum[:, pair]
    rows = torch.cat([spectrum[:, alone].real, paired.real, paired.imag], 1).T  # (M, D)
    return Operator(rows.contiguous(), (1, size, size))


def tomography(size: int, views: int) -> Operator:
    """Parallel-beam tomography: projections of the picture from `views` directions over 180°.

    Each view has `size` rays, one pixel wide and one pixel apart. A measurement is the sum along a
    ray, divided by √size, so M = views · size.

    >>> tomography(8, views=4).count
    32
    """
    whole_numbers(1, size=size, views=views)
    require(views <= size, "views", f"at most {size}, one for each pixel of a side", views)
    angles = pi * torch.arange(views) / views
    fine = (torch.arange(4 * size) + 0.5) / 4 - size / 2  # four points per pixel, in pixels
    down, right = torch.meshgrid(fine, fine, indexing="ij")
    across = right * angles.cos()[:, None, None] + down * angles.sin()[:, None, None]
    rays = torch.arange(size) + 0.5 - size / 2
    near = (1 - (across[:, None] - rays[:, None, None]).abs()).clamp(min=0)  # (views, rays, 4s, 4s)
    matrix = F.avg_pool2d(near, 4).flatten(0, 1).flatten(1) / size**0.5  # (M, D)
    return Operator(matrix, (1, size, size))


# ---- total variation ----------------------------------------------------------------------------


def total_variation(operator: Operator, y: Tensor, strength: float, steps: int = 200) -> Tensor:
    """The picture x that minimises |y − A x|²/2 + strength · (sum of |∇x|) (Rudin et al. 1992).

    It is found by the primal-dual method of Chambolle & Pock (2011, algorithm 1). The dual variable
    p has the direction of each pixel's gradient, and its length is at most `strength`.

    >>> two_pixels = Operator(torch.eye(2), shape=(1, 1, 2))  # a step from 0 to 1 shrinks
    >>> x = total_variation(two_pixels, torch.tensor([[0.0, 1.0]]), strength=0.2)
    >>> print(f"{x[0, 0, 0, 0]:.2f} {x[0, 0, 0, 1]:.2f}")
    0.20 0.80
    """
    require(strength >= 0, "strength", "a number of at least 0", strength)
    whole_numbers(1, steps=steps)
    check_tensor("y", y, ("B", operator.count), operator.matrix)
    balance = 0.1 / min(max(strength, 1e-3), 0.1)  # the shorter p, the longer the steps of x
    of_p, of_x = 8**-0.5 / balance, 8**-0.5 * balance  # their product times |∇|² is 1
    x = ahead = operator.pseudo_inverse(y)
    p = torch.zeros_like(gradient(x))
    for _ in range(steps):
        p = p + of_p * gradient(ahead)
        p = p * (strength / p.norm(dim=1, keepdim=True).clamp(min=max(strength, 1e-12)))
        before, x = x, operator.nearest(x + of_x * divergence(p), y, of_x)
        ahead = 2 * x - before
    return x


def gradient(x: Tensor) -> Tensor:
    """Differences to the pixels below and on the right: (B, 1, H, W) -> (B, 2, H, W)."""
    down = F.pad(x.diff(dim=2), (0, 0, 0, 1))
    right = F.pad(x.diff(dim=3), (0, 1))
    return torch.cat([down, right], 1)


def divergence(p: Tensor) -> Tensor:
    """Minus the transpose of `gradient`: (B, 2, H, W) -> (B, 1, H, W)."""
    down, right = p[:, :1, :-1], p[:, 1:, :, :-1]
    return (
        F.pad(down, (0, 0, 0, 1))
        - F.pad(down, (0, 0, 1, 0))
        + (F.pad(right, (0, 1)) - F.pad(right, (1, 0)))
    )


# ---- a diffusion model as the prior -------------------------------------------------------------


def posterior_network(
    process: Diffusion,
    network: Network,
    operator: Operator,
    y: Tensor,
    noise_std: float,
    variance: float = 1.0,
) -> Network:
    """The network's prediction, given y = A x0 + noise_std · noise: ΠGDM (Song et al. 2023).

    By Bayes' rule, the posterior's score is the prior's plus the gradient of log p(y | xt). If x0
    given xt is Gaussian, with the network's estimate as its mean and r² times the unit matrix as
    its covariance, then y given xt is Gaussian, too, and the gradient takes one backward pass
    through the network.

    variance: that of the data, which gives r² = variance σ² / (variance α² + σ²). This is exact if
        the pixels are independent Gaussians. 0 gives r² = 0, which is the likelihood of DPS
        (Chung et al. 2023): it treats the estimate as certain.
    y: (B, M), one measurement for each sample. ValueError at alpha = 0, where xt contains no
    information about y: start a little before pure noise.

    >>> pixel, process = Operator(torch.eye(1), (1, 1, 1)), Diffusion("linear", "x0")
    >>> network = posterior_network(process, lambda x, *rest: 0 * x, pixel, torch.ones(2, 1), 0.1)
    >>> network(torch.zeros(2, 1, 1, 1), torch.tensor(499.0), None).shape
    torch.Size([2, 1, 1, 1])
    """
    require(noise_std > 0, "noise_std", "a number above 0", noise_std)
    require(variance >= 0, "variance", "a number of at least 0", variance)
    check_tensor("y", y, ("B", operator.count), operator.matrix)
    require(is_finite(y), "y", "finite measurements", y)

    def conditional(x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        check_tensor("x", x, (len(y), *operator.shape), operator.matrix)
        t = process.schedule.time(timestep)
        alpha, sigma = process.at(t, x)  # (B, 1, 1, 1)
        require((alpha > 0).all(), "timestep", "one before pure noise", timestep)
        r2 = (variance * sigma**2 / (variance * alpha**2 + sigma**2)).flatten(1)  # (B, 1)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            x0, _ = process.x0_and_eps(network(x, timestep, context), x, t)
        residual = operator.solve(y - operator(x0.detach()), noise_std**2, r2)  # (B, M)
        (score,) = torch.autograd.grad(x0, x, operator.transpose(residual))  # of log p(y | xt)
        x, x0 = x.detach(), x0.detach() + sigma**2 / alpha * score
        return process.target(x0, (x - alpha * x0) / sigma, t)

    return conditional


def exact_posterior(
    mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise_std: float
) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of x0 given y (M,), for x0 ~ N(mean, covariance).

    >>> two = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    >>> exact_posterior(torch.zeros(2), two, torch.tensor([[1.0, 0.0]]), torch.ones(1), 1.0)[0]
    tensor([0.5000, 0.2500])
    """
    require(noise_std > 0, "noise_std", "a number above 0", noise_std)
    D, M = len(mean), len(y)
    shapes = {"mean": ("D",), "y": ("M",), "covariance": (D, D), "matrix": (M, D)}
    given = dict(zip(shapes, (mean, y, covariance, matrix), strict=True))
    for name, x in given.items():
        check_tensor(name, x, shapes[name], mean)
    for name, x in given.items():
        require(is_finite(x), name, "finite floats", x)
    of_y = matrix @ covariance @ matrix.T + noise_std**2 * torch.eye(len(matrix)).to(matrix)
    gain = torch.linalg.solve(of_y, matrix @ covariance).T  # (D, M)
    return mean + gain @ (y - matrix @ mean), covariance - gain @ matrix @ covariance
