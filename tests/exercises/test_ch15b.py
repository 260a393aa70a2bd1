"""Chapter 15b's equations on Gaussians, and its capstone with sound and unsound samplers."""

import pytest
import torch

from course_lib.diffusion import Diffusion, Gaussian
from course_lib.exercises import ch15b
from course_lib.exercises.ch15b import EXERCISES, after_one_ray, posterior_sampler
from course_lib.pipelines import exact_posterior

MEAN = torch.tensor([0.3, -0.5, 0.1]).double()
ROOT = torch.tensor([[1.0, 0.2, 0.5], [0.0, 0.8, -0.3], [0.4, 0.1, 0.6]]).double()
COVARIANCE = ROOT @ ROOT.T
MATRIX = torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.8, 0.0]]).double()
Y, STD = torch.tensor([0.7, -0.4]).double(), 0.3


def test_ray_by_ray_is_all_rays_at_once():
    """Exercise 15b.1 against equation 15b.2."""
    step = MEAN, COVARIANCE
    for ray, value in zip(MATRIX, Y, strict=True):
        step = after_one_ray(*step, ray, value, STD)
    exact = exact_posterior(MEAN, COVARIANCE, MATRIX, Y, STD)
    for found, expected in zip(step, exact, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_likelihood_of_noisy_data_is_an_average():
    """(15b.4): p(y | xt) is the mean of p(y | x0) over p(x0 | xt)."""
    process, t = Diffusion("cosine", "x0"), 0.4
    prior, xt = Gaussian(process, MEAN, COVARIANCE), torch.tensor([[0.4, 0.1, -0.6]]).double()
    alpha, sigma = process.at(t, xt)
    identity = alpha * torch.eye(3).double()
    mean, covariance = exact_posterior(MEAN, COVARIANCE, identity, xt[0], sigma.item())
    torch.testing.assert_close(prior.x0(xt, t)[0], mean)
    normal = torch.distributions.MultivariateNormal
    exact = normal(MATRIX @ mean, MATRIX @ covariance @ MATRIX.T + STD**2 * torch.eye(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x0 = normal(mean, covariance).sample((200_000,))
    average = normal(x0 @ MATRIX.T, STD**2 * torch.eye(2).double()).log_prob(Y).exp()
    error = average.std() / len(average) ** 0.5
    assert abs(average.mean() - exact.log_prob(Y).exp()) < 4 * error


def test_the_variance_of_independent_pixels():
    """(15b.8) is (15b.2) with alpha for A and sigma for the noise."""
    alpha, sigma, v = 0.6, 0.5, 0.3
    one = torch.eye(1).double()
    _, variance = exact_posterior(0 * one[0], v * one, alpha * one, one[0], sigma)
    assert variance.item() == pytest.approx(v * sigma**2 / (v * alpha**2 + sigma**2))


def estimate_taken_for_certain(network, noise, alpha_bars, matrix, y, noise_std, steps):
    """With r = 0, A Aᵀ drops out of the matrix."""
    return changed(network, noise, alpha_bars, matrix, y, noise_std, steps, certain=True)


def no_gradient_through_the_network(network, noise, alpha_bars, matrix, y, noise_std, steps):
    return changed(network, noise, alpha_bars, matrix, y, noise_std, steps, through=False)


def noise_left_as_it_was(network, noise, alpha_bars, matrix, y, noise_std, steps):
    return changed(network, noise, alpha_bars, matrix, y, noise_std, steps, follow=False)


def changed(
    network, noise, bars, matrix, y, noise_std, steps, certain=False, through=True, follow=True
):
    x, T = noise, len(bars)
    indices = [round(T * (steps - n) / steps) - 1 for n in range(steps)]
    for i, following in zip(indices, [*indices[1:], None], strict=True):
        alpha, sigma = bars[i].sqrt(), (1 - bars[i]).sqrt()
        before = torch.tensor(1.0) if following is None else bars[following]
        x = x.detach().requires_grad_()
        eps = network(x, i)
        x0 = (x - sigma * eps) / alpha
        r2 = 0 if certain else sigma**2 / (alpha**2 + sigma**2)
        of_y = noise_std**2 * torch.eye(len(matrix)) + r2 * matrix @ matrix.T
        residual = torch.linalg.solve(of_y, (y - x0.detach() @ matrix.T).T).T @ matrix
        score = torch.autograd.grad(x0, x, residual)[0] if through else residual
        x, x0, eps = x.detach(), x0.detach() + sigma**2 / alpha * score, eps.detach()
        eps = (x - alpha * x0) / sigma if follow else eps
        x = before.sqrt() * x0 + (1 - before).sqrt() * eps
    return x


def from_the_prior(network, noise, alpha_bars, matrix, y, noise_std, steps):
    return posterior_sampler(network, noise, alpha_bars, 0 * matrix, y, noise_std, steps)


def no_spread(network, noise, alpha_bars, matrix, y, noise_std, steps):
    found = posterior_sampler(network, noise, alpha_bars, matrix, y, noise_std, steps)
    return found.mean(0, keepdim=True).expand_as(found)


def test_the_capstones_reference_reaches_its_target():
    assert EXERCISES["15b.6"].examine(posterior_sampler).status == "right"
    assert EXERCISES["15b.6"].examine(lambda *inputs: ...).status == "not attempted"


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (estimate_taken_for_certain, None),
        (no_gradient_through_the_network, None),
        (noise_left_as_it_was, None),
        (from_the_prior, "measurement_ignored"),
        (no_spread, "only_the_mean_survives"),
        (lambda *inputs: posterior_sampler(*inputs)[:7], None),
    ],
)
def test_the_capstone_refuses_unsound_samplers(answer, mistake):
    verdict = EXERCISES["15b.6"].examine(answer)
    assert (verdict.status, verdict.misconception) == ("wrong", mistake), verdict


def test_the_distance_is_that_of_gaussians():
    """Equal shapes at a distance, and one shape twice as large as the other."""
    mean, other, cov = torch.zeros(2), torch.tensor([3.0, 4.0]), torch.eye(2)
    assert ch15b.wasserstein(mean, cov, other, cov) == pytest.approx(5, abs=1e-4)
    assert ch15b.wasserstein(mean, cov, mean, 4 * cov) == pytest.approx(2**0.5, abs=1e-4)
