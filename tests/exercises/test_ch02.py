"""Chapter 02's derivations, checked on exact normal distributions, line by line."""

from math import log

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from course_lib.diffusion import (
    DDPM,
    Diffusion,
    Gaussian,
    GaussianMixture,
    generators,
    initial_noise,
    linear,
    posterior,
    sample,
    variational_bound,
)
from course_lib.diffusion.likelihood import kl
from course_lib.diffusion.process import PREDICTIONS
from course_lib.exercises.ch02 import (
    EXERCISES,
    bits_per_dimension,
    min_snr_loss,
    v_loss,
    x0_and_eps,
)

T, MEAN, STD = 10, 0.6, 0.5
TABLE = linear(T, beta_start=0.02, beta_end=0.5)
BETAS, BARS = TABLE.betas, TABLE.alpha_bars
BEFORE = torch.cat([torch.ones(1), BARS[:-1]]).double()
PROCESS = Diffusion(TABLE, "eps")
PERFECT = Gaussian(PROCESS, torch.tensor([MEAN]).double(), STD**2)
COIN = torch.tensor([[-1.0], [1.0]]).double()  # the mean of a quadratic in normal noise, exactly


def half(x, timestep, context=None):
    return x / 2


def model_mean(network, x, t):
    """The mean of the model's step from t to t - 1, from (2.6) with the network's noise: (N, 1)."""
    eps = network(x, torch.full((len(x),), t - 1.0), None)
    return (x - BETAS[t - 1] / (1 - BARS[t - 1]).sqrt() * eps) / (1 - BETAS[t - 1]).sqrt()


def true_back(x0, x, t):
    mean = BEFORE[t - 1].sqrt() * BETAS[t - 1] * x0
    mean = mean + (1 - BETAS[t - 1]).sqrt() * (1 - BEFORE[t - 1]) * x
    return mean / (1 - BARS[t - 1]), (1 - BEFORE[t - 1]) / (1 - BARS[t - 1]) * BETAS[t - 1]


def model_path(network, noise):
    """(2.1): noise (N, T + 1) -> x_T, ..., x_0, (N, T + 1)."""
    path = [noise[:, :1]]
    for t in range(T, 0, -1):
        std = BETAS[t - 1].sqrt()
        path.append(model_mean(network, path[-1], t) + std * noise[:, T - t + 1 : T - t + 2])
    return torch.cat(path, 1)


def data_path(x0, noise):
    """noise (N, T) -> x_T, ..., x_1, (N, T), by the steps of chapter 01."""
    x, path = torch.full((len(noise), 1), x0, dtype=torch.float64), []
    for t in range(1, T + 1):
        x = (1 - BETAS[t - 1]).sqrt() * x + BETAS[t - 1].sqrt() * noise[:, T - t : T - t + 1]
        path.append(x)
    return torch.cat(path[::-1], 1)


def as_normal(path_of, draws):
    """The distribution of a linear function of its noises."""
    mean = path_of(torch.zeros(1, draws).double())[0]
    matrix = (path_of(torch.eye(draws).double()) - mean).T
    return MultivariateNormal(mean, matrix @ matrix.T)


def exact_terms(network, x0):
    """The terms of (2.3) in nats, with torch's own divergence: L_T, L_{T-1}, ..., L_1, L_0."""
    x0 = torch.tensor([[x0]], dtype=torch.float64)
    terms = [kl_divergence(Normal(BARS[-1].sqrt() * x0, (1 - BARS[-1]).sqrt()), Normal(0.0, 1.0))]
    for t in range(T, 0, -1):
        x = BARS[t - 1].sqrt() * x0 + (1 - BARS[t - 1]).sqrt() * COIN
        ours = Normal(model_mean(network, x, t), BETAS[t - 1].sqrt())
        if t > 1:
            mean, variance = true_back(x0, x, t)
            terms.append(kl_divergence(Normal(mean, variance.sqrt()), ours).mean())
        else:
            terms.append(-ours.log_prob(x0).mean())
    return torch.stack([term.squeeze() for term in terms])


def test_the_model_is_a_chain_of_normals():
    """(2.1): the exact distribution at the end of such a chain is that of the library's samples.

    The library's sampler has the variance beta-tilde, and so does the chain here.
    """
    n = 20_000
    noise = initial_noise(generators(range(n)), (1,)).double()
    torch.manual_seed(0)
    draws = sample(PROCESS, PERFECT, noise, steps=T, sampler="ancestral")
    mean, variance = torch.zeros(1, 1).double(), torch.ones(()).double()
    for t in range(T, 0, -1):  # a step is x -> slope x + offset, plus noise
        offset = model_mean(PERFECT, torch.zeros(1, 1).double(), t)
        slope = model_mean(PERFECT, torch.ones(1, 1).double(), t) - offset
        mean = slope * mean + offset
        variance = slope**2 * variance + true_back(0.0, 0.0, t)[1]
    assert abs(draws.mean() - mean) < 5 * (variance / n) ** 0.5
    assert abs(draws.var() / variance - 1) < 5 * (2 / n) ** 0.5


@pytest.mark.parametrize("network", [PERFECT, half])
@pytest.mark.parametrize("x0", [1.1, -0.7])
def test_the_likelihood_is_the_bound_less_the_divergence_of_the_paths(network, x0):
    """(2.2) with (2.3): a sum of eleven terms on one side, ten-dimensional normals on the other."""
    model = as_normal(lambda noise: model_path(network, noise), T + 1)
    mean, cov = model.mean, model.covariance_matrix
    gain = cov[:-1, -1] / cov[-1, -1]
    ending_there = MultivariateNormal(
        mean[:-1] + gain * (x0 - mean[-1]), cov[:-1, :-1] - torch.outer(gain, cov[-1, :-1])
    )
    gap = kl_divergence(as_normal(lambda noise: data_path(x0, noise), T), ending_there)
    cost = -Normal(mean[-1], cov[-1, -1].sqrt()).log_prob(torch.tensor(x0, dtype=torch.float64))
    bound = exact_terms(network, x0).sum()
    assert bound.item() == pytest.approx((cost + gap).item(), abs=1e-9)
    assert gap > 0.01


@pytest.mark.parametrize("network", [PERFECT, half])
def test_the_librarys_terms_are_those_of_the_chapter(network, monkeypatch):
    """(2.3): each term of `variational_bound`, made exact by noise of -1 and +1."""
    source = "course_lib.diffusion.likelihood.noise_source"
    monkeypatch.setattr(source, lambda x, _: lambda: COIN.to(x))
    x0 = torch.full((2, 1), 1.1).double()
    ours = [bits.mean() for _, bits in variational_bound(PROCESS, network, x0, colours=None)]
    torch.testing.assert_close(torch.stack(ours) * log(2), exact_terms(network, 1.1))


def test_paths_become_steps_without_a_mean():
    """(2.3) without the mean: it holds for every single path and any network."""
    torch.manual_seed(0)
    x0 = torch.full((50, 1), 1.1).double()
    path = torch.cat([data_path(1.1, torch.randn(50, T).double()), x0], 1)  # x_T, ..., x_0
    at = {t: path[:, T - t : T - t + 1] for t in range(T + 1)}
    whole = turned = -Normal(0.0, 1.0).log_prob(at[T])
    for t in range(1, T + 1):
        beta = BETAS[t - 1]
        back = Normal(model_mean(half, at[t], t), beta.sqrt()).log_prob(at[t - 1])
        whole = whole + Normal((1 - beta).sqrt() * at[t - 1], beta.sqrt()).log_prob(at[t]) - back
        turned = turned - back
        if t > 1:
            mean, variance = true_back(x0, at[t], t)
            turned = turned + Normal(mean, variance.sqrt()).log_prob(at[t - 1])
    turned = turned + Normal(BARS[-1].sqrt() * x0, (1 - BARS[-1]).sqrt()).log_prob(at[T])
    torch.testing.assert_close(whole, turned)


def test_the_divergence_of_normals_is_torchs():
    """(2.4)."""
    torch.manual_seed(0)
    for m1, v1, m2, v2 in torch.rand(20, 4).double() + 0.1:
        ours = kl(m1, v1.item(), m2, v2.item())
        torch.testing.assert_close(
            ours, kl_divergence(Normal(m1, v1.sqrt()), Normal(m2, v2.sqrt()))
        )


@pytest.mark.parametrize("t", range(2, T + 1))
def test_a_term_is_a_squared_error_of_means_and_a_constant(t):
    """(2.5)."""
    x0, x = torch.tensor([[1.1]]).double(), torch.randn(4, 1).double()
    (true_mean, tilde), mean, v = true_back(x0, x, t), model_mean(half, x, t), BETAS[t - 1].item()
    constant = (tilde / v - 1 - (tilde / v).log()) / 2
    ours = kl(true_mean, tilde.item(), mean, v)
    torch.testing.assert_close(ours, (true_mean - mean).square() / (2 * v) + constant)


@pytest.mark.parametrize("i", [0, 1, 500, 999])
def test_the_true_mean_by_the_noise(i):
    """(2.6): x_t and eps give the same as the paper's posterior with x_t and x_0."""
    ddpm = DDPM(None)
    gen = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 5, generator=gen).double()
    t = (i + 1) / 1000
    xt = ddpm.process.add_noise(x0, t, eps)
    betas, bars = ddpm.process.schedule.betas, ddpm.process.schedule.alpha_bars
    mean = (xt - betas[i] / (1 - bars[i]).sqrt() * eps) / (1 - betas[i]).sqrt()
    ours, _ = posterior(ddpm.process, x0, xt, t, i / 1000)
    torch.testing.assert_close(mean, ours)


@pytest.mark.parametrize("network", [PERFECT, half])
def test_the_whole_bound_is_a_constant_and_a_weighted_squared_error(network):
    """(2.7), L_0 included: the terms minus their constants are w_t times the error of the noise."""
    x0, terms = torch.tensor([[1.1]], dtype=torch.float64), exact_terms(network, 1.1)
    for t in range(1, T + 1):
        v, alpha, bar = BETAS[t - 1], 1 - BETAS[t - 1], BARS[t - 1]
        x = bar.sqrt() * x0 + (1 - bar).sqrt() * COIN
        error = (COIN - network(x, torch.full((2,), t - 1.0), None)).square().mean()
        weight = BETAS[t - 1] ** 2 / (2 * v * alpha * (1 - bar))
        tilde = true_back(x0, x, t)[1]
        constant = (
            (tilde / v - 1 - (tilde / v).log()) / 2 if t > 1 else (2 * torch.pi * v).log() / 2
        )
        torch.testing.assert_close(terms[T + 1 - t], constant + weight * error)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_an_error_of_the_answer_is_an_error_of_x0(schedule, prediction):
    """(2.8): the loss of every prediction type is the loss of x0 times a function of time."""
    process, gen = Diffusion(schedule, prediction), torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 6, 3, generator=gen).double()
    for t in (0.05, 0.5, 0.95):
        alpha, sigma = process.schedule(t)
        a, b = process.coefficients(alpha, sigma)
        xt = process.add_noise(x0, t, eps)
        guess, _ = process.x0_and_eps(xt.sin(), xt, t)
        errors = process.errors(lambda x, timestep, context: x.sin(), x0, None, t, eps)
        expected = (a - b * alpha / sigma) ** 2 * (x0 - guess).square().mean(1)
        torch.testing.assert_close(errors, expected)


def test_with_the_small_variance_a_step_pays_for_the_signal_it_brings():
    """(2.9), compared with the library's terms."""
    process = Diffusion(TABLE, "eps")
    snr, seen = BARS / (1 - BARS), []

    def network(x, timestep, context=None):
        seen.append((x, half(x, timestep)))
        return half(x, timestep)

    torch.manual_seed(0)
    x0 = torch.randn(5, 3).double()
    terms = list(variational_bound(process, network, x0, variance="small", colours=None))
    for (_, bits), t in zip(terms[1:-1], range(T, 1, -1), strict=True):
        x, predicted = seen[T - t]
        guess, _ = process.x0_and_eps(predicted, x, t / T)
        nats = (snr[t - 2] - snr[t - 1]) / 2 * (x0 - guess).square().mean(1)
        torch.testing.assert_close(bits * log(2), nats)


def test_the_square_of_the_error_is_a_floor_and_a_distance():
    """(2.12), for a network that is not the best one."""
    process = Diffusion("linear", "eps")
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]]).double()
    best = GaussianMixture(process, means, torch.tensor([0.1, 0.3]).double())
    torch.manual_seed(0)
    x0, n, t = best.sample(100_000), 100_000, 0.2
    eps = torch.randn_like(x0)
    xt = process.add_noise(x0, t, eps)
    told = process.timestep(t, xt)
    worse = lambda x, timestep, context=None: 0.5 * best(x, timestep)  # noqa: E731
    errors = process.errors(worse, x0, None, t, eps)
    distance = (worse(xt, told) - best(xt, told)).square().mean(1)
    difference = errors - best.minimum_loss(xt, t) - distance  # its mean is 0
    assert abs(difference.mean()) < 5 * difference.std() / n**0.5
    assert distance.mean() > 10 * difference.std() / n**0.5


def test_the_exercises_references_are_the_librarys():
    gen = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 8, 3, generator=gen).double()
    steps = torch.tensor([1, 2, 3, 4, 6, 8, 9, 10])
    t = steps.double() / T
    told = lambda x, timestep, context=None: x / 2 + timestep.view(-1, 1)  # noqa: E731
    by_hand = v_loss(told, x0, steps, eps, BARS)
    torch.testing.assert_close(by_hand, Diffusion(TABLE, "v").loss(told, x0, t=t, eps=eps))
    for prediction in PREDICTIONS:
        process = Diffusion(TABLE, prediction)
        xt = process.add_noise(x0, 0.3, eps)
        alpha, sigma = (value.item() for value in process.schedule(0.3))
        a, b = process.coefficients(alpha, sigma)
        for ours, theirs in zip(
            x0_and_eps(xt.sin(), xt, alpha, sigma, a, b),
            process.x0_and_eps(xt.sin(), xt, 0.3),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs)
    process = Diffusion(TABLE, "eps")
    predicted = half(process.add_noise(x0, t, eps), None)
    ours = min_snr_loss(predicted, eps, *process.schedule(t))
    torch.testing.assert_close(
        ours, process.loss(half, x0, t=t, eps=eps, weighting="min_snr"), rtol=1e-6, atol=0
    )
    density = Normal(0.0, 0.5).log_prob(torch.tensor([[0.1, -0.3]])).sum(1)
    in_levels = Normal(0.0, 0.5 * 127.5).log_prob(127.5 * torch.tensor([[0.1, -0.3]])).sum(1)
    torch.testing.assert_close(bits_per_dimension(density, 2), -in_levels / (2 * log(2)))


def test_an_index_of_shape_b_1_is_refused_by_its_shape():
    """If an answer passes a column of indices, the message names both shapes."""

    def told_a_column(network, x0, t, eps, alpha_bars):
        bar = alpha_bars[t - 1][:, None]
        alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
        prediction = network(alpha * x0 + sigma * eps, (t - 1)[:, None])
        return (prediction - (alpha * eps - sigma * x0)).square().mean()

    verdict = EXERCISES["2.2"].examine(told_a_column)
    assert verdict.status == "wrong"
    assert "expects indices of shape (1,), got (1, 1)" in verdict.message
