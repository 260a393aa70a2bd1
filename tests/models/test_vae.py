"""VAE and AutoencoderKL: closed forms, scaling, refusals."""

import json

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from course_lib.models import SD15_VAE, VAE, AutoencoderKL
from course_lib.models.vae import Patchify, Unpatchify, gaussian_kl, reparameterize

TINY = dict(latent_channels=4, channels=16, multipliers=(1, 2))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(size=32, batch=4, channels=3):
    return 2 * torch.rand(batch, channels, size, size) - 1


def test_parameters_of_stable_diffusion():
    with torch.device("meta"):
        vae = AutoencoderKL(**SD15_VAE)
        z = vae.encode(torch.zeros(1, 3, 512, 512))
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert z.shape == (1, 4, 64, 64)
    assert (
        AutoencoderKL(scaling_factor=0.18215).scaling_factor.tolist()
        == [pytest.approx(0.18215)] * 4
    )


def test_kl_is_the_closed_form():
    mu, logvar = torch.randn(2, 3, 4).double()
    peer = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0, torch.ones(3, 4).double()))
    torch.testing.assert_close(gaussian_kl(mu, logvar), peer)


def test_reparameterize_has_the_moments_and_the_gradients():
    mu = torch.full((100_000,), 0.5, requires_grad=True)
    logvar = torch.full((100_000,), -1.0, requires_grad=True)
    z = reparameterize(mu, logvar)
    # five standard errors of 100,000 draws with std exp(-1/2) = 0.607
    assert abs(z.mean() - 0.5) < 5 * 0.607 / 100_000**0.5
    assert abs(z.std() - 0.607) < 5 * 0.607 / 200_000**0.5
    z.sum().backward()
    torch.testing.assert_close(mu.grad, torch.ones_like(mu))
    torch.testing.assert_close(logvar.grad, (z - mu).detach() / 2)


@pytest.mark.parametrize(
    ("keywords", "factor"),
    [
        (dict(multipliers=(1, 2, 2)), 4),
        (dict(multipliers=(1, 2, 2, 2)), 8),
        (dict(multipliers=(1, 2), patch_size=4), 8),
        (dict(multipliers=(1,), patch_size=4, attention=False, decoder_layers_per_block=1), 4),
        (dict(multipliers=(1,), patch_size=8, attention=False), 8),
    ],
)
def test_latents_are_smaller_by_the_factor(keywords, factor):
    vae = AutoencoderKL(channels=16, latent_channels=5, **keywords)
    x = images()
    assert vae.factor == factor
    z = vae.encode(x)
    assert z.shape == (4, 5, 32 // factor, 32 // factor)
    assert vae.decode(z).shape == vae(x).shape == x.shape


def test_noise_in_the_loss_is_in_units_of_the_latents_spread():
    """With an identity decoder, the only error is the noise, whose variance is known."""
    vae, x = AutoencoderKL(**TINY), images(16, batch=64)
    vae.reconstruct = lambda z: z
    mu, logvar = vae.encode_moments(x)
    vae.encode_moments = lambda x: (3 * mu, torch.full_like(logvar, -30))  # nearly no noise of q
    error = vae.loss(3 * mu, noise=0.6)[1]["error"]
    # the deviation is u · 0.6 · std(z), u uniform in [0, 1], so that the mean of u² is 1/3
    expected = 0.6**2 / 3 * (3 * mu).var((0, 2, 3)).mean()
    assert error.item() == pytest.approx(expected.item(), rel=0.25)  # 64 draws of u²: ± 11 %
    assert vae.loss(3 * mu)[1]["error"] < 1e-4 * expected  # and none unless asked for


def test_transformed_latents_must_give_the_transformed_picture():
    """With an identity for a network, a turn of both leaves no error, and a turn of one does."""
    vae, x = AutoencoderKL(**TINY), images(8)
    vae.encode_moments = lambda x: (x, torch.full_like(x, -30))
    vae.reconstruct = lambda z: z
    for transform in (lambda x: torch.rot90(x, 1, (2, 3)), lambda x: x[..., ::2, ::2]):
        assert vae.loss(x, transform=transform)[1]["error"] < 1e-6
    vae.reconstruct = lambda z: torch.rot90(z, 1, (2, 3))
    assert vae.loss(x, transform=lambda x: torch.rot90(x, 2, (2, 3)))[1]["error"] > 1e-2


def test_fitted_draws_have_mean_0_and_variance_1_and_decode_alike():
    vae, x = AutoencoderKL(**TINY).double(), images(16, batch=16).double()
    before, logvar = vae(x), vae.encode_moments(x)[1]
    vae.fit_scaling(x.split(4))
    z = vae.encode(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4).double())
    noise = logvar.exp().mean((0, 2, 3))  # a draw's variance is that of the means plus q's own
    total = z.var((0, 2, 3)) + vae.scaling_factor**2 * noise
    torch.testing.assert_close(total, torch.ones(4).double())
    torch.testing.assert_close(vae.decode(z), before)
    twin = AutoencoderKL(**json.loads(json.dumps(vae.kwargs))).double()
    twin.load_state_dict(vae.state_dict())  # the scaling travels with the weights
    assert torch.equal(twin.encode(x), z)
    one = AutoencoderKL(**TINY).double()
    one.load_state_dict(vae.state_dict())
    one.fit_scaling(x)  # one batch, fitted anew, to the same numbers
    torch.testing.assert_close(one.scaling_factor, vae.scaling_factor)


def test_a_channel_that_says_nothing_is_not_blown_up():
    vae, x = AutoencoderKL(**TINY), images(16, batch=8)
    with torch.no_grad():  # channel 0: a mean of nearly 0 and the prior's variance, as KL wants
        vae.quant_conv.weight[[0, 4]] *= 1e-4
        vae.quant_conv.bias[[0, 4]] = 0
    vae.fit_scaling(x)
    assert vae.scaling_factor[0] == pytest.approx(1, abs=1e-3)
    assert vae.encode(x)[:, 0].abs().max() < 1e-2


def test_a_sampled_latent_scatters_around_the_mean():
    vae, x = AutoencoderKL(scaling_factor=2.0, **TINY), images(16, batch=1).expand(128, -1, -1, -1)
    mu, logvar = vae.encode_moments(x[:1])
    draws = vae.encode(x, sample=True)
    spread = (draws - 2 * mu) / (2 * (0.5 * logvar).exp())
    # standard normal numbers: five standard errors
    assert abs(spread.mean()) < 5 / draws.numel() ** 0.5
    assert abs(spread.std() - 1) < 5 / (2 * draws.numel()) ** 0.5


def test_log_variance_is_clamped():
    vae = AutoencoderKL(**TINY)
    torch.nn.init.constant_(vae.quant_conv.bias, 1000.0)
    assert vae.encode_moments(images())[1].max() == 20
    torch.nn.init.constant_(vae.quant_conv.bias, -1000.0)
    assert vae.encode_moments(images())[1].min() == -30


@pytest.mark.parametrize(
    "model", [AutoencoderKL(**TINY), AutoencoderKL(patch_size=4, **TINY), VAE()]
)
def test_every_parameter_learns(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    loss, parts = model.loss(images(), kl_weight=0.5)
    torch.testing.assert_close(loss, parts["error"] + 0.5 * parts["kl"])
    loss.backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_training_reduces_the_loss():
    vae, x = AutoencoderKL(patch_size=2, **TINY), images(1, batch=8).expand(-1, -1, 16, 16)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss, _ = vae.loss(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("layer, shape", [(Patchify, (2, 3, 8, 8)), (Unpatchify, (2, 3, 2, 2))])
def test_patches_are_the_convolution_whose_kernel_is_its_stride(layer, shape):
    ours, x = layer(3, 5, 4), torch.randn(shape)
    plain = layer.__mro__[1](3, 5, 4, stride=4)
    plain.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), plain(x))
    with torch.autocast("cpu", torch.bfloat16):  # three roundings to 8 bits
        rough = ours(x)
    exact = plain(x)
    assert 0 < (rough - exact).abs().max() < 0.03 * exact.std()


def test_flat_vae_shapes_and_keywords():
    vae, x = VAE(), images()
    reconstruction, mu, logvar = vae(x)
    assert mu.shape == logvar.shape == (4, 256)
    assert reconstruction.shape == x.shape
    small = VAE(**json.loads(json.dumps(VAE(1, 16, 8, 32).kwargs)))
    assert small(images(16, channels=1))[1].shape == (4, 32)


@pytest.mark.parametrize("build", [lambda: AutoencoderKL(patch_size=2, **TINY), VAE])
def test_autocast_channels_last_and_compile(build):
    vae, x = build(), images()
    encode = vae.encode_moments if isinstance(vae, AutoencoderKL) else vae.encode
    mu, _ = encode(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert vae.loss(x)[0].isfinite()
        rough, _ = encode(x)
    assert (rough - mu).abs().mean() < 0.05 * mu.abs().mean()  # 8 bits of mantissa
    compiled = torch.compile(encode, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x)[0], mu, rtol=1e-4, atol=1e-5)
    vae.to(memory_format=torch.channels_last)
    last, _ = encode(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, mu, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda vae: vae.encode(images(channels=1)),
            r"images: expected \(B, 3, 4h, 4w\) .*, got \(4, 1, 32, 32\)",
        ),
        (
            lambda vae: vae.encode(images(size=30)),
            r"images: expected \(B, 3, 4h, 4w\) .*, got \(4, 3, 30, 30\)",
        ),
        (
            lambda vae: vae.encode(images().to(torch.uint8)),
            "images: expected .* torch.float32 .*torch.uint8",
        ),
        (
            lambda vae: vae.encode(255 * images()),
            r"images: expected values in \[-1, 1\], got \[-25",
        ),
        (lambda vae: vae.encode(images()[0]), r"images: .*, got \(3, 32, 32\)"),
        (
            lambda vae: vae.decode(torch.zeros(1, 8, 4, 4)),
            r"latents: expected \(B, 4, h, w\) .*, got \(1, 8, 4, 4\)",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(AutoencoderKL(patch_size=2, **TINY))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda vae: vae.encode(images(size=64)),
            r"images: expected \(B, 3, 32, 32\) .*, got \(4, 3, 64, 64\)",
        ),
        (lambda vae: vae.encode(images(channels=1)), r"images: .*, got \(4, 1, 32, 32\)"),
        (
            lambda vae: vae.decode(torch.zeros(1, 8)),
            r"latents: expected \(B, 256\) .*, got \(1, 8\)",
        ),
    ],
)
def test_flat_vae_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(VAE())
