"""Chapter 08's equations on exact mixtures, for which networks and gradients are formulas."""

import pytest
import torch

from course_lib.diffusion import Diffusion, GaussianMixture, guided
from course_lib.exercises import ch08

MEANS = torch.tensor([[-1.0, 0.3], [1.0, -0.2], [0.2, 1.0]]).double()
VARIANCES = torch.tensor([0.2, 0.3, 0.1]).double()
WEIGHTS = torch.tensor([0.5, 0.3, 0.2]).double()
T, ANY = 0.35, 3


def mixture(prediction="eps"):
    return GaussianMixture(Diffusion("linear", prediction), MEANS, VARIANCES, WEIGHTS)


def points(seed=0):
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(seed)).double()


def log_class(network, x, labels, t=T):
    """log p(c | x_t), an optimal classifier of noisy points: the probability of component c."""
    return network.log_joint(x, t, None)[0].log_softmax(1)[torch.arange(len(x)), labels]


def gradient_of(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


LABELS = torch.tensor([0, 1, 2, 1, 0])


def test_the_conditional_score_is_the_scores_sum_with_the_classifiers_gradient():
    """Bayes' rule: equation 8.1."""
    network, x = mixture(), points()
    gradient = gradient_of(lambda x: log_class(network, x, LABELS), x)
    torch.testing.assert_close(network.score(x, T, LABELS), network.score(x, T) + gradient)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, 7.0])
def test_classifier_guidance_is_classifier_free_guidance_where_both_are_exact(scale):
    """Equations 8.2 and 8.3."""
    network, x = mixture(), points()
    sigma, timestep = network.process.at(T, x)[1], network.process.timestep(T, x)
    gradient = gradient_of(lambda x: log_class(network, x, LABELS), x)
    by_classifier = network(x, timestep) - scale * sigma * gradient
    free = guided(network, ANY, scale)(x, timestep, LABELS)
    torch.testing.assert_close(by_classifier, free)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, 7.0])
def test_exercise_8_1_is_the_estimate_of_x0_from_the_guided_noise(scale):
    network, x = mixture(), points()
    (alpha, sigma), timestep = network.process.at(T, x), network.process.timestep(T, x)
    gradient = gradient_of(lambda x: log_class(network, x, LABELS), x)
    guided_noise = guided(network, ANY, scale)(x, timestep, LABELS)
    torch.testing.assert_close(
        ch08.classifier_guided_x0(network.x0(x, T), gradient, alpha, sigma, scale),
        network.process.x0_and_eps(guided_noise, x, T)[0],
    )


def test_without_noise_the_guided_score_is_the_tilted_densitys():
    """Equation 8.4: p(x) p(c | x)^w, up to a constant."""
    network, x, scale = mixture(), points(), 3.0
    tilted = lambda x: network.log_likelihood(x) + scale * log_class(network, x, LABELS, 0.0)  # noqa: E731
    slopes = network.score(x, 0.0), network.score(x, 0.0, LABELS)
    torch.testing.assert_close(gradient_of(tilted, x), slopes[0] + scale * (slopes[1] - slopes[0]))


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
def test_guidance_extrapolates_the_guess_of_x0(prediction):
    """Equation 8.5, for any network."""
    network, x, scale = mixture(prediction), points(), 4.0
    process = network.process
    predicted = guided(network, ANY, scale)(x, process.timestep(T, x), LABELS)
    some, all_ = network.x0(x, T, LABELS), network.x0(x, T)
    torch.testing.assert_close(process.x0_and_eps(predicted, x, T)[0], all_ + scale * (some - all_))
    hull = MEANS.abs().max()
    assert all_.abs().max() < hull + 1 and (all_ + 40 * (some - all_)).abs().max() > hull + 1


def test_off_means_one_and_an_interval_has_two_ends():
    """Equation 8.7."""
    scales = [ch08.scale_at(t, 5.0, 0.2, 0.8) for t in (0.1, 0.2, 0.5, 0.8, 0.9)]
    assert scales == [1, 1, 5, 5, 1]
