"""The variational bound: exact for Gaussian data, each term by hand; colours' probabilities."""

from math import log, pi

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from course_lib.diffusion import (
    DDPM,
    Diffusion,
    Gaussian,
    GaussianMixture,
    cosine,
    generators,
    linear,
    points,
    posterior,
    straight,
    variational_bound,
    zero_terminal_snr,
)
from course_lib.diffusion.likelihood import beta, beta_tilde, log_density

SHORT = linear(timesteps=20, beta_start=1e-3, beta_end=0.4)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def half(x, timestep, context):
    return x / 2


def test_posterior_is_the_papers():
    ddpm = DDPM(None).double()
    x0, xt = randn(1, 5), randn(1, 5, seed=1)
    for i in (1, 3, 500, 999):
        mean, var = posterior(ddpm.process, x0, xt, (i + 1) / 1000, i / 1000)
        mean_, var_ = ddpm.posterior(x0, xt, torch.tensor([i]))
        torch.testing.assert_close(mean, mean_, rtol=1e-6, atol=1e-6)  # float32 tables
        assert var == pytest.approx(var_.item(), rel=1e-6)


def test_the_two_variances():
    schedule = linear()
    for i in (1, 10, 999):
        t, s = points(schedule, [(i + 1) / 1000, i / 1000])
        assert beta(t, s) == pytest.approx(schedule.betas[i].item(), rel=1e-9)
        bars = schedule.alpha_bars
        tilde = (1 - bars[i - 1]) / (1 - bars[i]) * schedule.betas[i]
        assert beta_tilde(t, s) == pytest.approx(tilde.item(), rel=1e-9)
        assert beta_tilde(t, s) < beta(t, s)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_each_term_by_hand(variance):
    """Ho et al. 2020, eq. 5, with torch's own KL divergence and the betas."""
    process, x0 = Diffusion(SHORT, "eps"), randn(2, 6).clamp(-1, 1)
    terms = list(
        variational_bound(
            process, half, x0, variance=variance, colours=None, generators=generators([1, 2])
        )
    )
    assert [round(20 * t) for t, _ in terms] == list(range(20, -1, -1))
    gens, bars, betas = generators([1, 2]), SHORT.alpha_bars, SHORT.betas
    before = torch.cat([torch.ones(1), bars[:-1]]).double()
    tildes = (1 - before) / (1 - bars) * betas
    stds = {"small": torch.cat([tildes[1:2], tildes[1:]]), "large": betas}[variance].sqrt()

    def bits(nats):
        return nats.mean(1) / log(2)

    prior = kl_divergence(Normal(bars[-1].sqrt() * x0, (1 - bars[-1]).sqrt()), Normal(0.0, 1.0))
    torch.testing.assert_close(terms[0][1], bits(prior))
    for (_, ours), i in zip(terms[1:], reversed(range(20)), strict=True):
        eps = torch.stack([torch.randn(6, generator=g) for g in gens]).double()
        xt = bars[i].sqrt() * x0 + (1 - bars[i]).sqrt() * eps
        mean = (xt - betas[i] / (1 - bars[i]).sqrt() * (xt / 2)) / (1 - betas[i]).sqrt()
        if i == 0:
            by_hand = -Normal(mean, stds[0]).log_prob(x0)
        else:
            true = (
                before[i].sqrt() * betas[i] * x0 + (1 - betas[i]).sqrt() * (1 - before[i]) * xt
            ) / (1 - bars[i])
            by_hand = kl_divergence(Normal(true, tildes[i].sqrt()), Normal(mean, stds[i]))
        torch.testing.assert_close(ours, bits(by_hand), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("schedule", [SHORT, cosine(timesteps=20), straight()])
def test_for_standard_normal_data_the_bound_is_the_likelihood(schedule, monkeypatch):
    """On a variance-preserving schedule the true reverse steps have variance beta, so no gap.

    Every term is quadratic in its noise, so noise of +1 and -1 gives the mean exactly.
    """
    monkeypatch.setattr(
        "course_lib.diffusion.likelihood.noise_source",
        lambda x, _: lambda: torch.tensor([[1.0], [-1.0]]).to(x),
    )
    process = Diffusion(schedule, "v")
    network = Gaussian(process, torch.zeros(1).double(), 1.0)
    for value in (0.0, 0.5, -3.0):  # for every x0, typical or not
        x0 = torch.full((2, 1), value).double()
        terms = variational_bound(process, network, x0, variance="large", colours=None, steps=20)
        total = sum(bits for _, bits in terms).mean().item()
        exact = -network.log_likelihood(x0[:1]).item() / log(2)
        if schedule.timesteps == 20:
            assert total == pytest.approx(exact, rel=1e-9)
        else:
            assert total > exact + 0.01  # the straight path's are not beta


def test_the_bound_never_beats_the_likelihood_and_closes_with_steps():
    torch.manual_seed(0)
    process, means = Diffusion("linear", "v"), torch.tensor([[-1.0], [0.5]]).double()
    network = GaussianMixture(process, means, torch.tensor([0.1, 0.3]).double())
    x0 = network.sample(2000, torch.Generator().manual_seed(1))
    gaps = {}
    for variance, steps in (("small", 3), ("small", 30), ("large", 3), ("large", 30)):
        terms = variational_bound(
            process, network, x0, steps=steps, variance=variance, colours=None
        )
        gap = sum(b for _, b in terms) + network.log_likelihood(x0) / log(2)
        assert gap.mean() > -5 * gap.std() / 2000**0.5  # 5 standard errors
        gaps[variance, steps] = gap.mean()
    # measured: 0.24 and 0.02, standard errors 0.02 and 0.03
    assert gaps["large", 3] > 0.15 and gaps["large", 30] < 0.15


def test_knowing_x0_leaves_only_the_ends_to_pay():
    process, x0 = Diffusion(SHORT, "x0"), randn(3, 4).clamp(-1, 1)
    terms = list(variational_bound(process, lambda x, t, c: x0, x0, variance="small"))
    for _, bits in terms[1:-1]:
        assert bits.abs().max() < 1e-9
    assert terms[0][1].min() > 0 and terms[-1][1].min() >= 0


@pytest.mark.parametrize("colours", [2, 5, 256])
def test_the_probabilities_of_all_colours_add_up_to_one(colours):
    values = torch.linspace(-1, 1, colours, dtype=torch.float64)
    for mean, std in ((0.0, 0.5), (0.9, 0.01), (-3.0, 1.0), (0.3, 20.0)):
        p = log_density(values, torch.full_like(values, mean), std, colours).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-9)


def test_a_colours_probability_is_its_density_times_its_width():
    x0 = torch.tensor([10 / 255 * 2 - 1]).double()
    mean, std = torch.tensor([-0.8]).double(), 0.3
    density = log_density(x0, mean, std, None)
    ours = log_density(x0, mean, std, 256)
    assert ours.item() == pytest.approx(density.item() + log(2 / 255), abs=1e-4)
    assert density.item() == pytest.approx(
        (-((x0 - mean) ** 2) / (2 * std**2) - log(std) - log(2 * pi) / 2).item()
    )


def test_guessing_at_random_costs_the_bits_of_the_colours():
    """In a wide last step, an inner colour's probability is its width times the density."""
    mean, x0 = torch.zeros(1).double(), torch.zeros(1).double()
    assert -log_density(x0, mean, 0.5, 256).item() / log(2) == pytest.approx(
        log(0.5 * (2 * pi) ** 0.5 * 255 / 2) / log(2), abs=1e-3
    )


@pytest.mark.parametrize("prediction", ["x0", "v", "flow"])
@pytest.mark.parametrize("schedule", [straight(), zero_terminal_snr(SHORT)])
def test_other_schedules_have_a_bound_too(schedule, prediction):
    process = Diffusion(schedule, prediction)
    network = Gaussian(process, torch.zeros(4).double(), 0.2)
    x0 = (randn(500, 4) * 0.2**0.5).clamp(-1, 1)
    terms = list(variational_bound(process, network, x0, steps=20, variance="large"))
    assert terms[0][1].abs().max() == 0  # pure noise keeps nothing
    assert len(terms) == 21 and all(bits.isfinite().all() for _, bits in terms)
    assert 5 < sum(bits for _, bits in terms).mean() < 9


def test_gradients_and_generators():
    process, x0 = Diffusion(SHORT), randn(2, 3).clamp(-1, 1).float()
    runs = [
        sum(b for _, b in variational_bound(process, half, x0[i], generators=generators(seeds)))
        for i, seeds in (([0, 1], [5, 6]), ([1], [6]))
    ]
    torch.testing.assert_close(runs[0][1:], runs[1])
    assert runs[0].dtype == torch.float32
    for _ in variational_bound(process, half, x0):
        assert torch.is_grad_enabled()


def test_refusals():
    process, x0 = Diffusion(SHORT), randn(2, 3).clamp(-1, 1)
    for kwargs, message in (
        ({"variance": "big"}, "unknown variance 'big'"),
        ({"steps": 0}, "steps: expected a whole number"),
        ({"steps": 21}, "times: .* on Table.*, got 21 steps"),
        (
            {"steps": 1, "variance": "small"},
            "steps: expected 2 or more with the small variance, got 1",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            variational_bound(process, half, x0, **kwargs)
    with pytest.raises(ValueError, match=r"x0: .* in \[-1, 1\], got \(1, 2\) .* from 3 to 3"):
        variational_bound(process, half, 3 * torch.ones(1, 2))
    with pytest.raises(ValueError, match="x0: expected finite floats"):
        variational_bound(process, half, torch.ones(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"process: .* got Diffusion\(Straight.*, 'eps'\)"):
        variational_bound(Diffusion("straight", "eps"), half, x0, steps=5)
