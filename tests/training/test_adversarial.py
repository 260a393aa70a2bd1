"""A GAN's losses: closed forms, who gets which gradient, and the game that circles without R1."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import nn

from course_lib.models import GAN, Discriminator, Generator
from course_lib.training import Folder, Optimizer, adversarial_loss, train
from course_lib.training.adversarial import LOSSES, frozen, r1_penalty

P, Q = torch.tensor([1, 2, 5]), torch.tensor([3, 4, 1])  # of 8 samples, how many have each value


def logits_of_samples(logits):
    """One logit for each of the 8 real and the 8 generated samples."""
    return logits.repeat_interleave(P), logits.repeat_interleave(Q)


def test_at_the_best_discriminator_the_loss_is_that_of_jensen_and_shannon():
    """Goodfellow et al. 2014, theorem 1: V = 2·JSD - log 4 at D = p / (p + q)."""
    best = torch.log(P / Q).double().requires_grad_()  # sigmoid(log(p/q)) = p / (p + q)
    torch.testing.assert_close(best.sigmoid(), (P / (P + Q)).double())
    loss = LOSSES["minimax"][0](*logits_of_samples(best))
    divergence = jensenshannon(P.numpy() / 8, Q.numpy() / 8) ** 2  # scipy's is the square root
    assert -loss.item() == pytest.approx(2 * divergence - np.log(4), abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, best)
    assert gradient.abs().max() < 1e-7  # no discriminator is better
    for other in (best + 0.1, best * 0.9):
        assert LOSSES["minimax"][0](*logits_of_samples(other)) > loss


def test_the_generators_losses_have_the_slopes_of_log_d_and_log_one_minus_d():
    logit = torch.tensor([-8.0, 0.0, 1.5], requires_grad=True)
    d = logit.detach().sigmoid()
    slopes = {
        name: torch.autograd.grad(3 * LOSSES[name][1](logit), logit)[0]
        for name in ("minimax", "non-saturating", "hinge")
    }
    torch.testing.assert_close(slopes["minimax"], -d)  # of log(1 - D): vanishes where D is sure
    torch.testing.assert_close(slopes["non-saturating"], d - 1)  # of -log D: doesn't
    torch.testing.assert_close(slopes["hinge"], -torch.ones(3))


def test_hinge_ignores_what_is_beyond_its_margins():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert LOSSES["hinge"][0](real, fake).item() == pytest.approx((0.5 + 1.25) / 2)


def test_r1_of_a_linear_discriminator_is_the_square_of_its_weight():
    w, x = torch.randn(6), torch.randn(5, 2, 3, requires_grad=True)
    logits = (x.flatten(1) * w).sum(1) + 2.0
    torch.testing.assert_close(r1_penalty(logits, x), w.square().sum().expand(5))


def test_r1_can_be_differentiated_again():
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    x = torch.randn(5, 2, requires_grad=True)
    r1_penalty(x @ w, x).mean().backward()
    torch.testing.assert_close(w.grad, torch.tensor([6.0, 8.0]))  # of |w|²


def small():
    torch.manual_seed(0)
    body = nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)
    return GAN(nn.Linear(3, 2), nn.Sequential(*body), latent=3), torch.randn(16, 2)


@pytest.mark.parametrize("name", LOSSES)
def test_each_network_gets_the_gradient_of_its_own_loss_alone(name):
    gan, real = small()
    torch.manual_seed(1)
    adversarial_loss(gan, real, loss=name, r1=0.3).backward()
    found = [weight.grad for weight in gan.parameters()]
    of_discriminator, of_generator = LOSSES[name]
    torch.manual_seed(1)
    fake = gan(torch.randn(16, 3))
    x = real.clone().requires_grad_()
    slope = torch.autograd.grad(gan.discriminator(x).sum(), x, create_graph=True)[0]  # (16, 2)
    theirs = of_discriminator(gan.discriminator(real), gan.discriminator(fake))
    theirs = theirs + 0.3 / 2 * (slope**2).sum(1).mean()
    expected = [
        *torch.autograd.grad(
            of_generator(gan.discriminator(fake)), gan.generator.parameters(), retain_graph=True
        ),
        *torch.autograd.grad(theirs, gan.discriminator.parameters(), allow_unused=True),
    ]
    for ours, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, reference)
    assert all(weight.requires_grad for weight in gan.parameters())


def test_frozen_ends_also_with_an_error_and_respects_what_was_frozen_before():
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    with pytest.raises(KeyError), frozen(network):
        assert not network.weight.requires_grad
        raise KeyError
    assert network.weight.requires_grad and not network.bias.requires_grad


class Dirac(nn.Module):
    """One number: as generator the place theta of all samples, as discriminator the slope psi."""

    def __init__(self, start):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start))

    def forward(self, x):
        return (self.weight * x).flatten()


@pytest.mark.parametrize("r1, ends", [(0.0, "outside"), (1.0, "at the solution")])
def test_the_dirac_gan_circles_outwards_unless_r1_damps_it(r1, ends):
    """Mescheder et al. 2018, lemma 2.3 and theorem 4.1: the real data is one point, 0."""
    gan = GAN(Dirac(0.5), Dirac(0.5), latent=1)
    gan.generator.forward = lambda z: gan.generator.weight.expand(len(z), 1)
    start = 0.5**0.5  # its distance from the solution (0, 0)
    for _ in range(600):
        weights = list(gan.parameters())
        loss = adversarial_loss(gan, torch.zeros(1, 1), loss="minimax", r1=r1)
        slopes = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight -= 0.1 * slope
    radius = torch.stack(list(gan.parameters())).norm().item()
    assert radius > 1.2 * start if ends == "outside" else radius < 1e-3


def test_train_takes_both_networks_and_resumes_bit_for_bit(tmp_path):
    sizes = dict(size=8, channels=(8, 8), classes=3)

    def begin(folder):
        torch.manual_seed(0)
        discriminator = Discriminator(1, spectral=True, **sizes)
        gan = GAN(Generator(1, latent=4, **sizes), discriminator, latent=4)
        settings = dict(steps=4, optimizer=Optimizer(betas=(0.0, 0.99)), device="cpu")
        return train(
            gan,
            loss=lambda gan, data: adversarial_loss(gan, *data),
            batch=lambda index: (torch.rand(4, 1, 8, 8), torch.randint(3, (4,))),
            folder=Folder(folder, save_every=2),
            **settings,
        )

    whole = begin(tmp_path / "whole")
    losses = [step.loss for step in whole]
    for step in begin(tmp_path / "halves"):
        if step.index == 3:
            break
    resumed = begin(tmp_path / "halves")
    assert resumed.done == 2 and [step.loss for step in resumed] == losses[2:]
    for name, weight in whole.ema.state_dict().items():
        assert torch.equal(weight, resumed.ema.state_dict()[name]), name


def test_refusals():
    gan, real = small()
    with pytest.raises(ValueError, match="did you mean 'minimax'"):
        adversarial_loss(gan, real, loss="minmax")
    with pytest.raises(ValueError, match="r1: expected a factor of at least 0, got -1"):
        adversarial_loss(gan, real, r1=-1)
