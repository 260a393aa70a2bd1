"""Exercise 17.7: sound steps in several styles pass, and each unsound one is refused."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.datasets.toy import gaussian_ring, ring_centres
from course_lib.exercises.ch17_capstone import EXERCISES, share_of_the_ring, train_step

CAPSTONE = EXERCISES["17.7"]


def other_style(generator, discriminator, optimizer_g, optimizer_d, real, z, r1):
    """The generator first, binary cross-entropy, and `backward` twice for the discriminator."""
    fake = generator(z)
    logits = discriminator(fake)
    optimizer_g.zero_grad()
    F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
    optimizer_g.step()
    optimizer_d.zero_grad()
    real.requires_grad_()
    logits = torch.cat([discriminator(real), discriminator(fake.detach())])
    labels = torch.cat([torch.ones(len(real)), torch.zeros(len(fake))])
    (2 * F.binary_cross_entropy_with_logits(logits, labels)).backward()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    (r1 / 2 * (gradient**2).sum(1).mean()).backward()
    optimizer_d.step()


def changed(generator, discriminator, optimizer_g, optimizer_d, real, z, r1, mistake):
    """The reference with one mistake."""
    real = real.clone().requires_grad_()
    fake = generator(z)
    at = fake if mistake in ("attached", "penalty at the fakes") else fake.detach()
    of_real, of_fake = discriminator(real), discriminator(at)
    if mistake == "labels exchanged":
        loss = F.softplus(of_real).mean() + F.softplus(-of_fake).mean()
    else:
        loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
    if mistake != "no penalty":
        logits, where = (of_fake, fake) if mistake == "penalty at the fakes" else (of_real, real)
        (gradient,) = torch.autograd.grad(logits.sum(), where, create_graph=True)
        gradient = gradient.detach() if mistake == "penalty detached" else gradient
        loss = loss + r1 / 2 * gradient.square().sum(1).mean()
    optimizer_g.zero_grad()
    if mistake != "old gradients":
        optimizer_d.zero_grad()
    loss.backward()
    if mistake != "discriminator never moves":
        optimizer_d.step()
    if mistake == "no step of the generator":
        return
    logits = discriminator(generator(z).detach() if mistake == "detached" else generator(z))
    signs = {"saturating": -F.softplus(logits), "wrong sign": F.softplus(logits)}
    loss = signs.get(mistake, F.softplus(-logits)).mean()
    if mistake != "attached":
        optimizer_g.zero_grad()
    loss.backward()
    optimizer_g.step()


NAMED = {
    "attached": "generator_not_moved_by_the_discriminator",
    "detached": "generator_not_moved_by_the_discriminator",
    "no step of the generator": "generator_not_moved_by_the_discriminator",
    "discriminator never moves": "discriminator_not_moved",
    "wrong sign": "generator_flees",
    "saturating": "saturating",
    "old gradients": "old_gradients_left",
    "no penalty": "penalty_without_a_gradient",
    "penalty detached": "penalty_without_a_gradient",
}


UNNAMED = ("labels exchanged",)  # only the training tells


def with_mistake(mistake):
    return lambda *inputs: changed(*inputs, mistake)


def test_the_reference_reaches_the_target():
    assert CAPSTONE.examine(train_step).status == "right"
    assert CAPSTONE.examine(...).status == CAPSTONE.examine(lambda *x: ...).status
    assert CAPSTONE.examine(...).status == "not attempted"


def test_another_style_is_right():
    assert CAPSTONE.examine(other_style).status == "right"


@pytest.mark.parametrize("mistake", [*NAMED, *UNNAMED])
def test_each_mistake_is_refused(mistake):
    verdict = CAPSTONE.examine(with_mistake(mistake))
    assert (verdict.status, verdict.misconception) == ("wrong", NAMED.get(mistake)), verdict


def test_no_quick_test_fires_on_a_sound_step():
    for answer in (train_step, other_style):
        for mistake in CAPSTONE.misconceptions:
            torch.manual_seed(0)
            assert not mistake(answer), mistake.__name__


def test_a_mode_counts_for_an_eighth_at_most_and_a_point_between_two_for_nothing():
    centres = ring_centres()
    assert share_of_the_ring(centres.repeat(5, 1)) == pytest.approx(1)
    assert share_of_the_ring(centres[:3].repeat(5, 1)) == pytest.approx(3 / 8)
    between = (centres + centres.roll(1, 0)) / 2
    assert share_of_the_ring(torch.cat([centres, between])) == pytest.approx(1 / 2)
    real = share_of_the_ring(gaussian_ring(20_000, torch.Generator().manual_seed(0)))
    assert 0.96 < real < 0.99
