"""Chapter 05's derivations, checked numerically: the bound, water-filling, weights and units."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from course_lib.diffusion import Diffusion, initial_noise, sample
from course_lib.diffusion.analytic import Gaussian
from course_lib.exercises.ch05 import draw, shift_and_scale, vae_loss
from course_lib.models import VAE, AutoencoderKL
from course_lib.models.vae import gaussian_kl


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_log_likelihood_is_the_bound_and_the_divergence_from_the_posterior():
    """(5.1) and (5.2) for a model that is known exactly: z ~ N(0, 1), x = w z + noise."""
    w, v, x = 2.0, 0.5, torch.tensor(1.5).double()
    log_p = Normal(0.0, math.sqrt(w**2 + v)).log_prob(x)
    posterior = Normal(w * x / (w**2 + v), math.sqrt(v / (w**2 + v)))
    for mean, std in ((0.0, 1.0), (0.6, 0.1), (-1.0, 2.0)):
        mu, logvar = torch.tensor([mean, 2 * math.log(std)]).double()
        expected_square = (x - w * mu) ** 2 + w**2 * logvar.exp()
        fit = -0.5 * math.log(2 * math.pi * v) - expected_square / (2 * v)
        bound = fit - gaussian_kl(mu, logvar)  # (5.2)
        gap = torch.distributions.kl_divergence(Normal(mu, std), posterior)
        torch.testing.assert_close(bound + gap, log_p)  # (5.1)


def linear_vae(weights, encode, spread):
    """A VAE whose decoder is z -> weights z and whose encoder returns N(encode x, spread²)."""
    latent = weights.shape[1]
    vae = VAE(1, size=8, channels=4, latent=latent)
    vae.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * latent))
    vae.decoder = nn.Sequential(nn.Linear(latent, 64, bias=False), nn.Unflatten(1, (1, 8, 8)))
    with torch.no_grad():
        vae.decoder[0].weight.copy_(weights)
        vae.encoder[1].weight.copy_(torch.cat([encode, torch.zeros(latent, 64)]))
        vae.encoder[1].bias.copy_(torch.cat([torch.zeros(latent), 2 * spread.log()]))
    return vae


def test_the_loss_is_minus_the_log_likelihood_where_q_is_the_posterior():
    """(5.2) and (5.5): VAE.loss = -β log p(x) + a constant, and more for any other q."""
    v, latent = 0.05, 3
    columns, _ = torch.linalg.qr(torch.randn(64, latent))
    sizes = torch.tensor([0.9, 0.5, 0.3])
    weights = columns * sizes  # orthogonal, so that the posterior factorises
    encode, spread = (weights / (sizes**2 + v)).T, (v / (sizes**2 + v)).sqrt()
    vae = linear_vae(weights, encode, spread)
    x = (0.3 * torch.randn(1, 64)).clamp(-1, 1)
    covariance = weights @ weights.T + v * torch.eye(64)
    log_p = MultivariateNormal(torch.zeros(64), covariance).log_prob(x).item()
    constant = 0.5 * 64 * math.log(2 * math.pi * v)  # what the loss leaves out
    many = x.view(1, 1, 8, 8).expand(40_000, -1, -1, -1)
    with torch.no_grad():
        loss = vae.loss(many, kl_weight=v)[0].item()
        assert loss / v == pytest.approx(-log_p - constant, rel=2e-3)
        vae.encoder[1].bias[latent:] -= 1.0  # another q
        assert vae.loss(many, kl_weight=v)[0].item() > loss + 0.01


def test_the_loss_of_the_exercise_is_the_librarys():
    """(5.5): divided by the decoder's variance, or multiplied by it."""
    vae, x = VAE(1, size=8, channels=4, latent=5), 2 * torch.rand(6, 1, 8, 8) - 1
    torch.manual_seed(1)
    ours = vae.loss(x, kl_weight=0.1)[0]
    torch.manual_seed(1)
    reconstruction, mu, logvar = vae(x)
    torch.testing.assert_close(vae_loss(x, reconstruction, mu, logvar, 0.1), ours / 0.1)


def test_a_draw_is_moved_by_its_mean_and_stretched_by_its_spread():
    """(5.4): the gradient of E[z²] = mu² + std² through the samples."""
    mu, logvar = torch.tensor(0.7, requires_grad=True), torch.tensor(-0.4, requires_grad=True)
    draw(mu, logvar, torch.randn(200_000)).square().mean().backward()
    assert mu.grad.item() == pytest.approx(1.4, abs=0.02)
    assert logvar.grad.item() == pytest.approx(math.exp(-0.4), abs=0.02)


@pytest.mark.parametrize(("variance", "v"), [(4.0, 1.0), (1.3, 1.0), (0.5, 1.0), (3.0, 0.01)])
def test_water_filling_is_where_the_linear_autoencoder_ends(variance, v):
    """(5.6): the parameters of a linear VAE on one Gaussian direction, by gradient descent."""
    a, d, log_s2 = (torch.tensor(x).double().requires_grad_() for x in (0.5, 0.5, -0.5))

    def terms():
        s2 = log_s2.exp()
        distortion = (1 - d * a) ** 2 * variance + d**2 * s2
        return distortion, 0.5 * (a**2 * variance + s2 - 1 - log_s2)

    optimiser = torch.optim.LBFGS(
        [a, d, log_s2], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        distortion, rate = terms()
        loss = 0.5 * distortion + v * rate
        loss.backward()
        return loss

    optimiser.step(closure)
    distortion, rate = terms()
    assert rate.item() == pytest.approx(max(0.0, 0.5 * math.log(variance / v)), abs=1e-3)
    assert distortion.item() == pytest.approx(min(variance, v), abs=1e-3)


def test_a_weight_on_means_is_a_beta_on_sums():
    """(5.7): P/2 times AutoencoderKL's loss is the bound with β = weight · P / (2 Z)."""
    vae, x, weight = (
        AutoencoderKL(channels=16, latent_channels=3),
        2 * torch.rand(4, 3, 16, 16),
        0.03,
    )
    x = x - 1
    mu, logvar = vae.encode_moments(x)
    pixels, numbers = x[0].numel(), mu[0].numel()
    torch.manual_seed(1)
    loss = vae.loss(x, weight)[0]
    torch.manual_seed(1)
    z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
    error = 0.5 * (vae.reconstruct(z) - x).square().flatten(1).sum(1).mean()
    beta = weight * pixels / (2 * numbers)
    kl = gaussian_kl(mu, logvar).flatten(1).sum(1).mean()
    torch.testing.assert_close(pixels / 2 * loss, error + beta * kl)


def test_the_exercises_shift_and_scale_are_the_librarys():
    """(5.8)"""
    vae, x = AutoencoderKL(channels=16, latent_channels=3), 2 * torch.rand(8, 3, 16, 16) - 1
    vae.fit_scaling(x)
    with torch.no_grad():
        shift, scale = shift_and_scale(*vae.encode_moments(x))
    torch.testing.assert_close(vae.shift_factor, shift)
    torch.testing.assert_close(vae.scaling_factor, scale)


@pytest.mark.parametrize("spread", [0.2, 1.0, 5.49])
@pytest.mark.parametrize("schedule", ["scaled_linear", "straight"])
def test_latents_in_other_units_shift_the_log_snr(schedule, spread):
    """(5.9): measured on noised latents."""
    process, t = Diffusion(schedule), 0.4
    z0, eps = spread * torch.randn(200_000), torch.randn(200_000)
    zt = process.add_noise(z0, t, eps)
    noise = process.at(t, eps)[1] * eps
    measured = ((zt - noise).var() / noise.var()).log().item()
    expected = process.schedule.log_snr(t).item() + 2 * math.log(spread)
    assert measured == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("spread", [1.0, 5.49, 20.0])
def test_what_the_first_noise_lacks_the_samples_lack(spread):
    """(5.10): the exact network, started from N(0, 1) on a schedule that ends with some signal."""
    process = Diffusion("scaled_linear")
    network = Gaussian(process, torch.zeros(1), spread**2)
    noise = initial_noise([torch.Generator().manual_seed(0)], (10_000,)).T.contiguous()
    z = sample(process, network, noise, steps=1000)
    alpha, sigma = process.schedule(1.0)
    expected = 1 / (alpha**2 * spread**2 + sigma**2).sqrt()
    assert (z.std() / noise.std() / spread).item() == pytest.approx(expected.item(), rel=0.01)
