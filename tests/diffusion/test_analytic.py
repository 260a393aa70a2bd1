"""Optimal networks: score and means, compared with autograd, integrals and each other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from course_lib.diffusion import SCHEDULES, Diffusion, Gaussian, GaussianMixture, sample
from course_lib.diffusion.process import PREDICTIONS

COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]]).double()
MEAN = torch.tensor([0.3, -0.7]).double()


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def mixture(process, full=True):
    roots = randn(3, 2, 2, seed=4) / 2
    covariances = roots @ roots.mT if full else torch.tensor([0.1, 0.3, 0.05]).double()
    return GaussianMixture(
        process, randn(3, 2, seed=5), covariances, torch.tensor([0.5, 0.2, 0.3]).double()
    )


def test_a_gaussians_likelihood_is_torchs():
    for schedule in SCHEDULES:
        process, x = Diffusion(schedule, "v"), randn(10, 2)
        for t in (0.0, 0.2, 1.0):
            alpha, sigma = process.schedule(t)
            noisy = MultivariateNormal(
                alpha * MEAN, alpha**2 * COVARIANCE + sigma**2 * torch.eye(2).double()
            )
            ours = Gaussian(process, MEAN, COVARIANCE).log_likelihood(x, t)
            torch.testing.assert_close(ours, noisy.log_prob(x))


@pytest.mark.parametrize("full", [True, False])
def test_a_mixtures_likelihood_integrates_to_one(full):
    process = Diffusion("cosine", "eps")
    axis = torch.linspace(-8, 8, 401).double()
    x = torch.cartesian_prod(axis, axis)
    for t in (0.1, 0.6):
        total = mixture(process, full).log_likelihood(x, t).exp().sum() * (16 / 400) ** 2
        assert total.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("full", [True, False])
@given(t=st.floats(0.01, 1))
def test_the_score_is_the_gradient_of_the_log_likelihood(full, t):
    network = mixture(Diffusion("linear", "eps"), full)
    x = randn(6, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(network.log_likelihood(x, t).sum(), x)
    torch.testing.assert_close(network.score(x, t), gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_tweedie(schedule, full):
    """The posterior means add up to x, and E[eps] = -sigma * score."""
    process = Diffusion(schedule, "v")
    network, x, t = mixture(process, full), randn(5, 2), torch.linspace(0.1, 1, 5).double()
    alpha, sigma = process.at(t, x)
    x0, eps = network.x0(x, t), network.eps(x, t)
    torch.testing.assert_close(alpha * x0 + sigma * eps, x)
    torch.testing.assert_close(eps, -sigma * network.score(x, t))


def test_the_posterior_mean_by_brute_force():
    """E[x0 | xt] as a weighted mean over many samples of x0."""
    process = Diffusion("straight", "flow")
    network, xt, t = mixture(process), torch.tensor([[0.2, -0.1]]).double(), 0.5
    x0 = network.sample(400_000, torch.Generator().manual_seed(0))
    alpha, sigma = process.schedule(t)
    weight = (-(xt - alpha * x0).square().sum(1) / (2 * sigma**2)).softmax(0)
    mean = (weight[:, None] * x0).sum(0)
    spread = (weight[:, None] * (x0 - mean) ** 2).sum(0)
    error = 5 * (spread * (weight**2).sum()).sqrt()  # 5 standard errors of a weighted mean
    assert error.max() < 0.02
    assert ((network.x0(xt, t)[0] - mean).abs() < error).all()
    lowest = network.minimum_loss(xt, t).item()
    assert lowest == pytest.approx((spread.mean() / sigma**2).item(), rel=0.03)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_as_a_network_it_answers_every_target(schedule, prediction):
    process, x = Diffusion(schedule, prediction), randn(4, 2)
    network, t = mixture(process), torch.tensor([0.1, 0.4, 0.7, 0.95]).double()
    predicted = network(x, process.timestep(t, x), None)
    x0, eps = process.x0_and_eps(predicted, x, t)
    torch.testing.assert_close(x0, network.x0(x, t))
    torch.testing.assert_close(eps, network.eps(x, t))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_network_gets_below_the_minimum_loss_and_this_one_reaches_it(schedule, prediction):
    process = Diffusion(schedule, prediction)
    network, n = mixture(process), 20_000
    x0, eps = network.sample(n, torch.Generator().manual_seed(0)), randn(n, 2, seed=1)
    for t in (0.2, 0.8):
        xt = process.add_noise(x0, t, eps)
        errors = process.errors(network, x0, None, t, eps)
        lowest = network.minimum_loss(xt, t).mean().item()
        noise = 5 * (errors.std() / n**0.5).item()
        assert errors.mean().item() == pytest.approx(lowest, abs=noise)
        for worse in (lambda x, s, c: 1.1 * network(x, s), lambda x, s, c: network(x, s) + 0.2):
            assert process.loss(worse, x0, t=t, eps=eps) > errors.mean()


def test_a_gaussians_minimum_loss_is_the_same_everywhere():
    process = Diffusion("linear", "eps")
    network = Gaussian(process, MEAN, COVARIANCE)
    alpha, sigma = process.schedule(0.3)
    variances = torch.linalg.eigvalsh(COVARIANCE)
    expected = (alpha**2 * variances / (alpha**2 * variances + sigma**2)).mean()
    lowest = network.minimum_loss(randn(7, 2), 0.3)
    torch.testing.assert_close(lowest, expected.expand(7))


def test_a_gaussian_is_a_mixture_of_one_and_round_is_full():
    process, x = Diffusion("linear", "eps"), randn(4, 3)
    mean, eye = randn(3, seed=1), torch.eye(3).double()
    nets = [
        Gaussian(process, mean, 0.3),
        Gaussian(process, mean, 0.3 * eye),
        GaussianMixture(process, mean[None], torch.tensor([0.3]).double()),
        GaussianMixture(process, torch.stack([mean, mean]), 0.3 * torch.stack([eye, eye])),
    ]
    for other in nets[1:]:
        for method in ("x0", "eps", "score", "log_likelihood", "minimum_loss"):
            a, b = (getattr(net, method)(x, 0.4) for net in (nets[0], other))
            torch.testing.assert_close(a, b)


def test_points_are_a_dataset_that_is_its_own_mixture():
    """With variance 0, the posterior mean is a softmax over the data: it can only memorise."""
    data, process = randn(5, 1, 4, 4), Diffusion("cosine", "v")
    network = GaussianMixture(process, data.flatten(1), torch.zeros(5).double())
    found = sample(process, network, randn(8, 1, 4, 4, seed=2), steps=50)
    nearest = (found[:, None] - data).flatten(2).norm(dim=2).min(1).values
    assert found.shape == (8, 1, 4, 4) and nearest.max() < 1e-3


def test_samples_have_the_mixtures_moments():
    network, n = mixture(Diffusion()), 100_000
    x0 = network.sample(n, torch.Generator().manual_seed(0))
    weights = network.log_weights.exp()[:, None]
    mean = (weights * network.means).sum(0)
    roots = randn(3, 2, 2, seed=4) / 2
    centred = network.means - mean
    covariance = (
        weights[..., None] * (roots @ roots.mT + centred[:, :, None] * centred[:, None])
    ).sum(0)
    torch.testing.assert_close(x0.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(x0.T.cov(), covariance, rtol=0, atol=0.03)


def test_labels_pick_their_component():
    process, x = Diffusion("linear", "eps"), randn(4, 2)
    network = mixture(process, full=False)
    for k in range(3):
        labels = torch.full((4,), k)
        alone = Gaussian(process, network.means[k], network.variances[k, 0])
        torch.testing.assert_close(network.x0(x, 0.5, labels), alone.x0(x, 0.5))
    anyone = torch.full((4,), 3)
    torch.testing.assert_close(network.x0(x, 0.5, anyone), network.x0(x, 0.5))


def test_it_moves_whole():
    network = mixture(Diffusion("linear", "eps"))
    assert {b.dtype for b in network.float().buffers()} == {torch.float32}
    x = torch.randn(3, 2)
    assert network(x, torch.full((3,), 500.0)).dtype == torch.float32
    network.to("meta")
    assert {b.device.type for b in network.buffers()} == {"meta"}


def test_refusals():
    process = Diffusion()
    with pytest.raises(
        ValueError, match=r"covariances: expected \(3,\) or \(3, 2, 2\) .*, got \(2,\)"
    ):
        GaussianMixture(process, randn(3, 2), torch.ones(2))
    with pytest.raises(ValueError, match="variances: expected none below 0"):
        Gaussian(process, MEAN, -COVARIANCE)
    with pytest.raises(ValueError, match="symmetric"):
        Gaussian(process, MEAN, torch.tensor([[1.0, 0.5], [0.0, 1.0]]).double())
    with pytest.raises(ValueError, match="weights: expected 3 positives"):
        GaussianMixture(process, randn(3, 2), torch.ones(3), torch.tensor([1.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match=r"x: expected the mixture's D per sample, got \(4, 3\)"):
        mixture(process)(randn(4, 3), torch.full((4,), 499.0))
