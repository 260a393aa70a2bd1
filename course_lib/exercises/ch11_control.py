"""Chapter 11, second half: exercises 11.5 and 11.6, on zero convolutions and on rewards."""

import torch
from torch import Tensor

from course_lib.teaching.check import Code

# ---- 11.5 write: the first step of a zero convolution -------------------------------------------


def first_step(h, wanted, lr):
    slope = -2 * wanted / wanted.numel()  # of the loss, with respect to the output, which is 0
    weight = -lr * torch.einsum("bdhw,bchw->dc", slope, h)
    bias = -lr * slope.sum((0, 2, 3))
    return weight, bias


def stays_at_zero(h, wanted, lr):
    """You multiplied by the weights, which are 0. That is the gradient with respect to the *input*
    h. The gradient with respect to the weights is (slope of the output) · h, and h isn't 0."""
    channels = wanted.shape[1]
    return torch.zeros(channels, h.shape[1]), torch.zeros(channels)


def uphill(h, wanted, lr):
    """Your step goes uphill: it moves the output away from what is wanted. SGD subtracts the
    gradient, and the slope of (0 − wanted)² is −2 · wanted."""
    weight, bias = first_step(h, wanted, lr)
    return -weight, -bias


def summed(h, wanted, lr):
    """You took the gradient of the *sum* of the squared errors. The loss is their mean, over the
    samples, the channels and the positions: divide by B · D · H · W."""
    weight, bias = first_step(h, wanted, lr)
    return weight * wanted.numel(), bias * wanted.numel()


def mean_over_samples(h, wanted, lr):
    """You divided by the number of samples only. The mean is over the samples, the channels and the
    positions."""
    weight, bias = first_step(h, wanted, lr)
    return weight * wanted[0].numel(), bias * wanted[0].numel()


def without_the_two(h, wanted, lr):
    """The derivative of a square brings down a factor of 2."""
    weight, bias = first_step(h, wanted, lr)
    return weight / 2, bias / 2


def of_the_means(h, wanted, lr):
    """You averaged h and wanted over the positions first, and then multiplied. Each position has
    its own product of the two, and these are summed."""
    weight = 2 * lr / wanted[:, :, 0, 0].numel() * wanted.mean((2, 3)).T @ h.mean((2, 3))
    return weight, first_step(h, wanted, lr)[1]


def turned_around(h, wanted, lr):
    """Your weight is (C, D). A convolution's is (out, in), which is (D, C) here."""
    weight, bias = first_step(h, wanted, lr)
    return weight.T, bias


def features_and_wanted():
    shapes = ((1, 2, 3, 1, 0.5), (2, 3, 4, 5, 2.0), (4, 5, 2, 3, 0.1))  # B, C, D, H, lr
    return [
        (torch.randn(B, C, H, H + 1) + 0.5, torch.randn(B, D, H, H + 1), lr)
        for B, C, D, H, lr in shapes
    ]


# ---- 11.6 write: a reward in a network that predicts the flow -----------------------------------


def climb(flow, slope, alpha, sigma, scale):
    alpha, sigma = (each.view(-1, 1, 1, 1) for each in (alpha, sigma))
    return flow - scale * sigma * (alpha + sigma) / alpha * slope


def noise_alone(flow, slope, alpha, sigma, scale):
    """You moved the noise in the prediction and left its x0 as it was. But x_t doesn't change, so
    if ε falls, x0 = (x_t − σε)/α rises, and the flow is ε − x0."""
    return flow - scale * sigma.view(-1, 1, 1, 1) * slope


def data_alone(flow, slope, alpha, sigma, scale):
    """You moved the x0 in the prediction and left its noise as it was. Both change: ε by −wσ·slope,
    and x0 so that αx0 + σε is still x_t."""
    return flow - scale * (sigma**2 / alpha).view(-1, 1, 1, 1) * slope


def downhill(flow, slope, alpha, sigma, scale):
    """Your prediction leads to a lower reward. Where the reward rises with x_t, there should be
    *less* noise in that direction."""
    return 2 * flow - climb(flow, slope, alpha, sigma, scale)


def straight_path(flow, slope, alpha, sigma, scale):
    """On the straight path α + σ = 1, and then you are right. On a cosine path, for example, the
    sum is larger, so keep it."""
    return flow - scale * (sigma / alpha).view(-1, 1, 1, 1) * slope


def score_not_noise(flow, slope, alpha, sigma, scale):
    """The slope is added to the *score*, and the score is −ε/σ. So ε changes by −wσ·slope: your
    change lacks the factor σ."""
    alpha, sigma = (each.view(-1, 1, 1, 1) for each in (alpha, sigma))
    return flow - scale * (alpha + sigma) / alpha * slope


def flows_and_slopes():
    """Three on the cosine path, and one on a path where α² + σ² is not 1."""
    cases = []
    for shape, scale in (((1, 1, 1, 2), 0.7), ((3, 2, 4, 5), 2.5), ((4, 3, 2, 2), 0.2)):
        angle = 0.2 + 1.1 * torch.rand(shape[0])
        cases.append((torch.randn(shape), torch.randn(shape), angle.cos(), angle.sin(), scale))
    flow, slope = torch.randn(2, 2, 2, 3, 2)
    return [*cases, (flow, slope, Tensor([0.3, 0.9]), Tensor([1.4, 0.25]), 1.3)]


# ---- the chapter's second half ------------------------------------------------------------------

EXERCISES = {
    "11.5": Code(
        first_step,
        features_and_wanted,
        "So after a single step the output already leans towards what is wanted, wherever h is "
        "large. From the second step on, the layers before it learn as well.",
        [
            *(stays_at_zero, uphill, summed, mean_over_samples, without_the_two),
            *(of_the_means, turned_around),
        ],
    ),
    "11.6": Code(
        climb,
        flows_and_slopes,
        "The same guidance, for any network that predicts the flow, on any path.",
        [noise_alone, data_alone, downhill, straight_path, score_not_noise],
    ),
}
