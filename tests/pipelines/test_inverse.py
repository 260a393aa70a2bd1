"""Measurements and posteriors, compared with torch's FFT, closed forms and Bayes' rule."""

import pytest
import torch

from course_lib.diffusion import Diffusion, Gaussian
from course_lib.pipelines import (
    Operator,
    exact_posterior,
    fourier,
    frequency_mask,
    posterior_network,
    tomography,
    total_variation,
)
from course_lib.pipelines.inverse import divergence, gradient

D, M = 6, 3


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


MATRIX, MEAN = randn(M, D), randn(D, seed=1)
COVARIANCE = randn(D, D, seed=2) @ randn(D, D, seed=2).T / D + 0.1 * torch.eye(D)
OPERATOR = Operator(MATRIX, (D,))


# ---- operators ---------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", [fourier(frequency_mask(8, 2, generator())), tomography(8, 3)])
def test_the_transpose_is_the_transpose(operator):
    x, y = randn(2, 1, 8, 8).float(), randn(2, operator.count, seed=1).float()
    ours, theirs = (operator(x) * y).sum(1), (x * operator.transpose(y)).sum((1, 2, 3))
    torch.testing.assert_close(ours, theirs)


def test_solve_inverts_the_covariance_of_a_measurement():
    y, variance = randn(4, M), torch.tensor([[0.3], [0.7], [1.1], [2.0]]).double()
    for i, r2 in enumerate(variance.flatten().tolist()):
        of_y = 0.2 * torch.eye(M) + r2 * MATRIX @ MATRIX.T
        expected = torch.linalg.solve(of_y, y[i])
        torch.testing.assert_close(OPERATOR.solve(y, 0.2, variance)[i], expected)


def test_the_nearest_picture_has_no_slope_left():
    x, y, step = randn(2, D), randn(2, M, seed=1), 0.7
    z = OPERATOR.nearest(x, y, step)
    slope = OPERATOR.transpose(OPERATOR(z) - y) + (z - x) / step
    assert slope.abs().max() < 1e-12


@pytest.mark.parametrize("acceleration", [1, 2, 4, 8])
def test_a_mask_is_symmetric_holds_the_low_frequencies_and_has_the_size_asked_for(acceleration):
    mask = frequency_mask(32, acceleration, generator())
    f = torch.fft.fftfreq(32, 1 / 32).long()
    down, right = torch.meshgrid(f, f, indexing="ij")
    assert torch.equal(mask, mask[-down, -right])
    assert mask[(down**2 + right**2) <= 4].all()
    assert abs(mask.sum() - 1024 / acceleration) <= 1  # a pair more or less


def test_zero_filling_is_what_the_fft_says():
    """The pseudo-inverse of selected frequencies: the inverse FFT of the spectrum with zeros."""
    mask, x = frequency_mask(16, 4, generator()), randn(3, 1, 16, 16).float()
    operator = fourier(mask)
    rows = operator.matrix @ operator.matrix.T
    torch.testing.assert_close(rows, torch.eye(operator.count), atol=1e-5, rtol=0)
    expected = torch.fft.ifft2(torch.fft.fft2(x) * mask).real
    found = operator.pseudo_inverse(operator(x))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_all_frequencies_give_the_picture_back():
    operator, x = fourier(torch.ones(8, 8, dtype=torch.bool)), randn(2, 1, 8, 8).float()
    torch.testing.assert_close(operator.pseudo_inverse(operator(x)), x, atol=1e-5, rtol=0)


def test_two_views_are_the_sums_of_columns_and_rows():
    x = randn(1, 1, 8, 8).float()
    across, down = tomography(8, 2)(x).view(2, 8) * 8**0.5
    blurred = torch.nn.functional.pad(torch.eye(8), (1, 1))  # a pixel's hat reaches 1/8 further
    hat = 0.75 * torch.eye(8) + 0.125 * (blurred[:, 2:] + blurred[:, :-2])
    torch.testing.assert_close(across, hat @ x[0, 0].sum(0))
    torch.testing.assert_close(down, hat @ x[0, 0].sum(1))


def test_each_view_of_a_disc_is_its_chords():
    """A disc's projection is 2 √(r² − s²) at a distance s from the centre, in every direction."""
    size, radius = 64, 20.0
    side = (torch.arange(8 * size) + 0.5) / 8 - size / 2
    disc = ((side[:, None] ** 2 + side**2) <= radius**2).float()[None, None]
    disc = torch.nn.functional.avg_pool2d(disc, 8)
    shadows = tomography(size, 7)(disc).view(7, size) * size**0.5
    s = torch.arange(size) + 0.5 - size / 2
    chords = 2 * (radius**2 - s**2).clamp(min=0).sqrt()
    inner = s.abs() < radius - 2  # a ray has a width, and the edge is steep
    assert (shadows - chords)[:, inner].abs().max() < 0.35
    torch.testing.assert_close(shadows.sum(1), disc.sum().expand(7), rtol=1e-3, atol=0)


def test_directions_that_were_not_measured_stay_zero():
    """Singular values below the cutoff count as not measured, those above are inverted."""
    matrix = torch.diag(torch.tensor([2.0, 1.0, 0.01]))
    y = torch.tensor([[2.0, 3.0, 1.0]])
    found = Operator(matrix, (3,)).pseudo_inverse(y)
    torch.testing.assert_close(found, torch.tensor([[1.0, 3.0, 0.0]]))


# ---- total variation ---------------------------------------------------------------------------


def test_divergence_is_minus_the_transpose_of_the_gradient():
    x, p = randn(2, 1, 5, 7), randn(2, 2, 5, 7, seed=1)
    left, right = (gradient(x) * p).sum((1, 2, 3)), -(x * divergence(p)).sum((1, 2, 3))
    torch.testing.assert_close(left, right)


def test_total_variation_lowers_a_step_by_its_weight_over_its_width():
    """For a step from 0 to 1 between 3 and 5 columns: levels s/3 and 1 − s/5 at strength s."""
    step = torch.zeros(1, 1, 4, 8)
    step[..., 3:] = 1
    operator, s = Operator(torch.eye(32), (1, 4, 8)), 0.3
    found = total_variation(operator, step.flatten(1), s, steps=2000)
    expected = torch.where(step > 0, 1 - s / 5, s / 3)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_strength_0_is_least_squares_and_much_strength_is_flat():
    operator, y = Operator(torch.eye(16), (1, 4, 4)), randn(2, 16).float()
    torch.testing.assert_close(total_variation(operator, y, 0.0).flatten(1), y)
    flat = total_variation(operator, y, 100.0, steps=3000).flatten(1)
    torch.testing.assert_close(flat, y.mean(1, keepdim=True).expand(2, 16), atol=1e-3, rtol=0)


def test_no_small_change_lowers_the_objective():
    operator = fourier(frequency_mask(8, 2, generator()))
    y, strength = randn(1, operator.count).float(), 0.05

    def objective(x):
        return (operator(x) - y).square().sum() / 2 + strength * gradient(x).norm(dim=1).sum()

    found = total_variation(operator, y, strength, steps=3000)
    for seed in range(50):
        for size in (1e-1, 1e-2):
            other = found + size * randn(1, 1, 8, 8, seed=seed).float()
            assert objective(found) <= objective(other)


# ---- the posterior -----------------------------------------------------------------------------


def test_the_exact_posterior_adds_the_precisions():
    """Covariance (C⁻¹ + AᵀA/s²)⁻¹, and the corresponding mean."""
    y, std = randn(M, seed=3), 0.3
    mean, covariance = exact_posterior(MEAN, COVARIANCE, MATRIX, y, std)
    precision = COVARIANCE.inverse() + MATRIX.T @ MATRIX / std**2
    torch.testing.assert_close(covariance, precision.inverse())
    weighed = COVARIANCE.inverse() @ MEAN + MATRIX.T @ y / std**2
    torch.testing.assert_close(mean, torch.linalg.solve(precision, weighed))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
@pytest.mark.parametrize("t", [0.02, 0.3, 0.7, 0.95])
def test_for_independent_gaussian_pixels_it_is_exact(prediction, t):
    """The network given y is the optimal network for the exact posterior, at every time."""
    variance, std, y = 0.6, 0.3, randn(4, M, seed=3)
    process, x = Diffusion("cosine", prediction), randn(4, D, seed=4)
    prior = Gaussian(process, MEAN, variance)
    network = posterior_network(process, prior, OPERATOR, y, std, variance)
    found = network(x, process.timestep(t, x))
    for i in range(4):
        exact = exact_posterior(MEAN, variance * torch.eye(D).double(), MATRIX, y[i], std)
        expected = Gaussian(process, *exact)(x[i : i + 1], process.timestep(t, x[i : i + 1]))
        torch.testing.assert_close(found[i : i + 1], expected)


@pytest.mark.parametrize("variance", [0.0, 1.0])
def test_the_gradient_is_that_of_a_gaussian_likelihood(variance):
    """The gradient of log N(y; A x0(xt), s² + r² A Aᵀ), from torch's density, with r fixed."""
    process, std, t, y = Diffusion("linear", "x0"), 0.4, 0.3, randn(2, M, seed=3)
    prior = Gaussian(process, MEAN, COVARIANCE)
    x = randn(2, D, seed=4).requires_grad_()
    alpha, sigma = process.at(t, x)
    r2 = variance * sigma**2 / (variance * alpha**2 + sigma**2)
    of_y = std**2 * torch.eye(M) + r2 * MATRIX @ MATRIX.T
    likelihood = torch.distributions.MultivariateNormal(prior.x0(x, t) @ MATRIX.T, of_y)
    (slope,) = torch.autograd.grad(likelihood.log_prob(y).sum(), x)
    network = posterior_network(process, prior, OPERATOR, y, std, variance)
    found = network(x.detach(), process.timestep(t, x))
    torch.testing.assert_close(found, prior.x0(x, t).detach() + sigma**2 / alpha * slope)


def test_the_covariance_of_x0_is_the_estimates_slope():
    """Tweedie's second formula: Cov[x0 | xt] = σ²/α · ∂x0/∂xt, symmetric for an optimal network."""
    process, t, x = Diffusion("cosine", "v"), 0.4, randn(1, D, seed=4)
    prior = Gaussian(process, MEAN, COVARIANCE)
    alpha, sigma = process.at(t, x)
    slope = torch.autograd.functional.jacobian(lambda x: prior.x0(x, t), x)[0, :, 0]
    exact = exact_posterior(MEAN, COVARIANCE, alpha * torch.eye(D).double(), x[0], sigma.item())
    torch.testing.assert_close(sigma**2 / alpha * slope, exact[1])


def test_pure_noise_is_refused():
    process, x = Diffusion("straight", "flow"), randn(1, D)
    network = posterior_network(process, lambda x, *rest: x, OPERATOR, randn(1, M), 0.1)
    with pytest.raises(ValueError, match="before pure noise"):
        network(x, process.timestep(1.0, x))
