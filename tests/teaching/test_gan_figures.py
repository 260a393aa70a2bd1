"""Chapter 17's schematic and the smallest GAN: the equations (17.5), (17.6) and (17.8)."""

import math

import pytest
import torch

from course_lib.teaching.gan_figures import dirac_figure, dirac_path, gan_schematic
from course_lib.training.adversarial import LOSSES


def test_the_schematic_says_the_sizes():
    figure, alt = gan_schematic(64, (1, 16, 16))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert any("64 numbers" in text for text in texts) and "1 × 16 × 16" in alt


def test_without_r1_the_squared_distance_grows_by_the_tangents_square():
    path = dirac_path(r1=0.0, lr=0.1, steps=100)
    s = torch.sigmoid(path[:-1].prod(1))
    growth = path[1:].square().sum(1) / path[:-1].square().sum(1)
    torch.testing.assert_close(growth, 1 + 0.01 * s**2)


@pytest.mark.parametrize("loss", ["minimax", "non-saturating"])
@pytest.mark.parametrize("r1", [0.3, 3.0])
def test_near_the_solution_it_shrinks_at_the_rate_of_the_slowest_eigenvalue(r1, loss):
    """Mescheder et al. 2018, lemma 4.1: -γ/2 ± sqrt(γ² - 1)/2, for the loss whose slope is 1/2."""
    path, h = dirac_path(r1, lr=0.05, steps=1000, loss=loss), 0.05
    root = torch.sqrt(torch.tensor(r1**2 - 1, dtype=torch.complex64)) / 2
    slowest = max(abs(1 + h * (-r1 / 2 + sign * root)) for sign in (-1, 1))  # of one step
    last = path[[600, 1000]].norm(dim=1).log()  # a whole number of turns isn't needed: 400 steps
    assert (last[1] - last[0]).item() / 400 == pytest.approx(math.log(slowest), rel=0.1)


def test_the_non_saturating_loss_descends_a_reversed_divergence_less_two_of_jensen_and_shannon():
    """Arjovsky & Bottou 2017, theorem 2.5, on three values with the softmax of three weights."""
    p, weights = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.1, -0.4, 0.9]).double()
    weights.requires_grad_()
    q = weights.softmax(0)
    logit = (p / q).log().detach()  # the best discriminator, held fixed
    of_generator = (q * -logit.sigmoid().log()).sum()
    assert LOSSES["non-saturating"][1](logit[:1]).item() == pytest.approx(
        -logit[0].sigmoid().log().item()
    )
    m = (p + q) / 2
    two_jsd = (p * (p / m).log() + q * (q / m).log()).sum()
    divergence = (q * (q / p).log()).sum() - two_jsd
    (found,) = torch.autograd.grad(of_generator, weights, retain_graph=True)
    (expected,) = torch.autograd.grad(divergence, weights)
    torch.testing.assert_close(found, expected)


def test_the_figure_says_where_the_path_ends():
    left, right = dirac_figure(r1=1.0).axes
    assert left.get_title(loc="left") == "γ = 1"
    assert right.get_title(loc="left").endswith("after 400 steps: 0.000")
    for axis in (left, right):
        assert axis.get_xlabel() and axis.get_ylabel()
