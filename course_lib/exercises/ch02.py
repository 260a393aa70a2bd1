"""Chapter 02: the DDPM loss. A toy network with one weight replaces the U-Net."""

from math import log

import torch
from torch import nn

from course_lib.teaching.check import Choice, Code, with_gradients


class ToyNetwork(nn.Module):
    """A network with one weight that depends on everything it is told, so every mistake shows."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, timestep):
        if timestep.shape != (len(x),):
            given = tuple(timestep.shape)
            raise ValueError(f"the network expects indices of shape ({len(x)},), got {given}")
        return self.weight * x + 0.1 * timestep.reshape(-1, *[1] * (x.dim() - 1)).to(x)


# ---- 2.1 write: bits per dimension -------------------------------------------------------------


def bits_per_dimension(log_p, dimensions):
    return -log_p / (dimensions * log(2)) + log(127.5) / log(2)


def still_in_the_networks_units(log_p, dimensions):
    """Those are the bits of a picture in [-1, 1]. In grey levels, values lie 127.5 times further
    apart, so the density is 127.5 times smaller along each dimension, and each dimension costs
    log2(127.5) bits more."""
    return -log_p / (dimensions * log(2))


def stretched_the_wrong_way(log_p, dimensions):
    """You subtracted log2(127.5). Stretching an axis makes the density smaller, and a smaller
    density means more bits: add it."""
    return -log_p / (dimensions * log(2)) - log(127.5) / log(2)


def nats_per_dimension(log_p, dimensions):
    """Those are nats: a natural logarithm throughout. Divide by log(2)."""
    return -log_p / dimensions + log(127.5)


def half_in_nats(log_p, dimensions):
    """The first part is in bits and the second still in nats: log2(127.5) = log(127.5) / log(2)."""
    return -log_p / (dimensions * log(2)) + log(127.5)


def the_picture_stretched_once(log_p, dimensions):
    """You added log2(127.5) once for the whole picture. Every dimension is stretched, so the
    picture pays it once for each of them."""
    return (-log_p / log(2) + log(127.5) / log(2)) / dimensions


def bits_of_the_whole_picture(log_p, dimensions):
    """Those are the bits of a whole picture. Divide by the number of dimensions, so that
    pictures of different sizes can be compared."""
    return -log_p / log(2) + dimensions * log(127.5) / log(2)


def minus_forgotten(log_p, dimensions):
    """You forgot the minus: bits measure how *unlikely* a picture is, so they are -log2 of its
    probability. A picture of higher density must need fewer bits."""
    return log_p / (dimensions * log(2)) + log(127.5) / log(2)


def densities():
    return [(torch.tensor([0.0, 4.0]), 2), (300 * torch.randn(5), 768)]


# ---- 2.2 write: one step with v ----------------------------------------------------------------


def v_loss(network, x0, t, eps, alpha_bars):
    bar = alpha_bars[t - 1].reshape(-1, 1)
    alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
    xt = alpha * x0 + sigma * eps
    return (network(xt, t - 1) - (alpha * eps - sigma * x0)).square().mean()


def asked_for_the_noise(network, x0, t, eps, alpha_bars):
    """Your target is eps, as in the paper's loss (2.10). Here the network predicts v, so the target
    is alpha * eps - sigma * x0."""
    bar = alpha_bars[t - 1].reshape(-1, 1)
    xt = bar.sqrt() * x0 + (1 - bar).sqrt() * eps
    return (network(xt, t - 1) - eps).square().mean()


def v_with_its_sign_turned(network, x0, t, eps, alpha_bars):
    """Your target is sigma * x0 - alpha * eps, which is -v. A network would learn it just as well,
    but every sampler would then step the wrong way."""
    bar = alpha_bars[t - 1].reshape(-1, 1)
    alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
    return (network(alpha * x0 + sigma * eps, t - 1) - (sigma * x0 - alpha * eps)).square().mean()


def v_with_its_coefficients_swapped(network, x0, t, eps, alpha_bars):
    """Your target is sigma * eps - alpha * x0. In v the coefficients are swapped: at the clean
    end v is all noise, and at the noisy end it is all picture."""
    bar = alpha_bars[t - 1].reshape(-1, 1)
    alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
    return (network(alpha * x0 + sigma * eps, t - 1) - (sigma * eps - alpha * x0)).square().mean()


def without_the_roots(network, x0, t, eps, alpha_bars):
    """You multiplied by alpha-bar and 1 - alpha-bar. Those belong to variances; alpha and sigma are
    their square roots."""
    alpha = alpha_bars[t - 1].reshape(-1, 1)
    sigma = 1 - alpha
    xt = alpha * x0 + sigma * eps
    return (network(xt, t - 1) - (alpha * eps - sigma * x0)).square().mean()


def one_entry_late(network, x0, t, eps, alpha_bars):
    """You read alpha_bars[t]. After t steps the product has t factors, and it is entry t - 1
    of the table (chapter 01, section 6), which has no entry for the clean end."""
    bar = alpha_bars[t].reshape(-1, 1)
    alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
    xt = alpha * x0 + sigma * eps
    return (network(xt, t - 1) - (alpha * eps - sigma * x0)).square().mean()


def network_told_the_steps(network, x0, t, eps, alpha_bars):
    """Everything is right except what you tell the network: t counts the steps taken, but published
    networks expect the table's 0-based index, t - 1."""
    bar = alpha_bars[t - 1].reshape(-1, 1)
    alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
    xt = alpha * x0 + sigma * eps
    return (network(xt, t) - (alpha * eps - sigma * x0)).square().mean()


def summed_squares(network, x0, t, eps, alpha_bars):
    """You sum the squares. The mean keeps the loss, and so the learning rate, independent of the
    size of the batch and of the data."""
    return v_loss(network, x0, t, eps, alpha_bars) * x0.numel()


def squares_summed_over_a_picture(network, x0, t, eps, alpha_bars):
    """You sum over a picture's numbers, as (2.10) does on paper. In code their mean is taken, so
    that pictures of different sizes can be compared."""
    return v_loss(network, x0, t, eps, alpha_bars) * x0[0].numel()


def time_divided_by_1000(network, x0, t, eps, alpha_bars):
    """You tell the network t / 1000. It expects the table's 0-based index, t - 1: to a network that
    was trained with indices up to 999, all your times look like the clean end."""
    told = t / 1000
    return v_loss(lambda xt, index: network(xt, told), x0, t, eps, alpha_bars)


def cut_from_the_graph(network, x0, t, eps, alpha_bars):
    """The value is right, but no gradient reaches the network: after float(), item(), detach() or
    no_grad() nothing can be learned from a loss. Return the tensor itself."""
    return v_loss(network, x0, t, eps, alpha_bars).detach()


def training_steps():
    bars = torch.tensor([0.64, 0.36])
    table = (1 - torch.linspace(0.05, 0.4, 8)).cumprod(0)
    t = torch.tensor([1, 3, 7, 5])  # not the last: one entry later must be in the table
    return [
        (ToyNetwork(), torch.ones(1, 1), torch.tensor([1]), torch.full((1, 1), 2.0), bars),
        (ToyNetwork(), torch.randn(4, 3), t, torch.randn(4, 3), table),
    ]


# ---- 2.3 write: two equations, two unknowns ----------------------------------------------------


def x0_and_eps(prediction, xt, alpha, sigma, a, b):
    det = alpha * b - sigma * a
    return (b * xt - sigma * prediction) / det, (alpha * prediction - a * xt) / det


def the_two_exchanged(prediction, xt, alpha, sigma, a, b):
    """Both are right, but in the wrong order: return x0 first, then eps."""
    x0, eps = x0_and_eps(prediction, xt, alpha, sigma, a, b)
    return eps, x0


def only_for_a_network_that_predicts_the_noise(prediction, xt, alpha, sigma, a, b):
    """You used the prediction itself as the noise. That is right for the row (0, 1) only; your
    function must work for every row (a, b)."""
    return (xt - sigma * prediction) / alpha, prediction


def determinant_upside_down(prediction, xt, alpha, sigma, a, b):
    """Both have the wrong sign: the determinant is alpha b - sigma a, not sigma a - alpha b."""
    x0, eps = x0_and_eps(prediction, xt, alpha, sigma, a, b)
    return -x0, -eps


def forgot_to_divide(prediction, xt, alpha, sigma, a, b):
    """You eliminated the other unknown, but its factor is still there: divide by the determinant
    alpha b - sigma a."""
    return b * xt - sigma * prediction, alpha * prediction - a * xt


def multiplied_instead_of_solved(prediction, xt, alpha, sigma, a, b):
    """You multiplied by the matrix instead of its inverse: this mixes x0 and eps once more instead
    of separating them."""
    return alpha * xt + sigma * prediction, a * xt + b * prediction


def only_where_the_squares_add_to_one(prediction, xt, alpha, sigma, a, b):
    """You inverted a rotation. That is right only for v, the row (-sigma, alpha), and only where
    alpha² + sigma² = 1."""
    return alpha * xt - sigma * prediction, sigma * xt + alpha * prediction


def divided_by_sigma(prediction, xt, alpha, sigma, a, b):
    """You found x0 and then eps as (xt - alpha x0) / sigma. At the clean end sigma is 0, and that
    gives 0 / 0. Solve for eps as you did for x0: it needs only the determinant."""
    x0 = (b * xt - sigma * prediction) / (alpha * b - sigma * a)
    return x0, (xt - alpha * x0) / sigma


def equations():
    one = torch.ones(1)
    xt, prediction = torch.randn(2, 3, 4)
    return [
        (3.0 * one, 2.0 * one, 0.5, 2.0, -1.0, 1.0),
        (prediction, xt, 0.8, 0.6, 0.0, 1.0),
        (prediction, xt, 0.8, 0.6, -0.6, 0.8),
        (prediction, xt, 0.3, 0.7, 1.0, 0.0),
        (prediction, xt, torch.tensor(1.0), torch.tensor(0.0), -1.0, 2.0),  # at the clean end
    ]


# ---- 2.4 debug: min-SNR ------------------------------------------------------------------------


def min_snr_loss(prediction, eps, alpha, sigma):
    snr = (alpha / sigma).square()
    errors = (prediction - eps).square().mean(1)
    return (snr.clamp(max=5) / snr * errors).mean()


def planted_the_weight_of_another_prediction(prediction, eps, alpha, sigma):
    snr = (alpha / sigma).square()
    errors = (prediction - eps).square().mean(1)
    return (snr.clamp(max=5) * errors).mean()


def the_weight_of_v(prediction, eps, alpha, sigma):
    """min(SNR, 5) / (SNR + 1) belongs to a network that predicts v. An error of eps is an error of
    x0 times the SNR alone."""
    snr = (alpha / sigma).square()
    return (snr.clamp(max=5) / (snr + 1) * (prediction - eps).square().mean(1)).mean()


def turned_into_a_floor(prediction, eps, alpha, sigma):
    """clamp(min=5) raises small ratios to 5. You want an upper limit: min(SNR, 5) is
    clamp(max=5)."""
    snr = (alpha / sigma).square()
    return (snr.clamp(min=5) / snr * (prediction - eps).square().mean(1)).mean()


def a_ratio_without_the_square(prediction, eps, alpha, sigma):
    """You divided by alpha / sigma. The signal-to-noise ratio compares variances, so it is the
    square of that."""
    snr = alpha / sigma
    return (snr.clamp(max=5) / snr * (prediction - eps).square().mean(1)).mean()


def two_means_multiplied(prediction, eps, alpha, sigma):
    """You multiplied the mean weight by the mean error. Multiply each sample's error by its own
    weight before you take the mean; otherwise the weights only change the learning rate."""
    snr = (alpha / sigma).square()
    weights, errors = snr.clamp(max=5) / snr, (prediction - eps).square().mean(1)
    return weights.mean() * errors.mean()


def no_weight_at_all(prediction, eps, alpha, sigma):
    """That is the simple loss, in which all times have the same weight."""
    return (prediction - eps).square().mean()


def min_snr_without_a_gradient(prediction, eps, alpha, sigma):
    """The value is right, but no gradient reaches the prediction: without detach(), item() or
    no_grad() the network can learn from this loss."""
    return min_snr_loss(prediction, eps, alpha, sigma).detach()


def batches():
    two = torch.tensor([[0.0], [0.0]])
    alpha = torch.tensor([0.96, 0.6])
    t = torch.rand(6) * 0.9 + 0.05
    return [
        (two, torch.tensor([[1.0], [2.0]]), alpha, (1 - alpha**2).sqrt()),
        (torch.randn(6, 4), torch.randn(6, 4), (1 - t**2).sqrt(), t),
    ]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "2.1": Code(
        bits_per_dimension,
        densities,
        "Eight bits a number is what storing grey levels costs; a model is good if it needs fewer.",
        [
            still_in_the_networks_units,
            stretched_the_wrong_way,
            nats_per_dimension,
            half_in_nats,
            the_picture_stretched_once,
            bits_of_the_whole_picture,
            minus_forgotten,
        ],
    ),
    "2.2": Code(
        v_loss,
        training_steps,
        "Only one row of two coefficients changed: that is the whole family.",
        [
            asked_for_the_noise,
            v_with_its_sign_turned,
            v_with_its_coefficients_swapped,
            without_the_roots,
            one_entry_late,
            network_told_the_steps,
            summed_squares,
            squares_summed_over_a_picture,
            time_divided_by_1000,
            cut_from_the_graph,
        ],
        run=with_gradients("loss", network=0),
    ),
    "2.3": Code(
        x0_and_eps,
        equations,
        "These two lines are all a sampler needs to know about what its network predicts.",
        [
            the_two_exchanged,
            only_for_a_network_that_predicts_the_noise,
            determinant_upside_down,
            forgot_to_divide,
            multiplied_instead_of_solved,
            only_where_the_squares_add_to_one,
            divided_by_sigma,
        ],
    ),
    "2.4": Code(
        min_snr_loss,
        batches,
        "A weight belongs to one prediction type: min(SNR, 5) on x0 is min(SNR, 5) / SNR on eps.",
        [
            the_weight_of_v,
            turned_into_a_floor,
            a_ratio_without_the_square,
            two_means_multiplied,
            no_weight_at_all,
            min_snr_without_a_gradient,
        ],
        run=with_gradients("loss", prediction=0),
        given=planted_the_weight_of_another_prediction,
    ),
    "2.5": Choice(
        "b",
        {
            "a": "That would be so if the two times had to share the same weights. Here each has "
            "its own, so neither can gain at the other's expense.",
            "b": "At each time the best prediction is the mean of the target given xt, and a "
            "positive weight on a sum of squares doesn't move its minimum. Weights matter only "
            "where times compete for the same weights of the network.",
            "c": "A weight on the loss is not a factor on the prediction: 100 times a sum of "
            "squares has its minimum where the sum itself has.",
            "d": "Half of this is right: nothing changes at t = 0.9. But look at t = 0.1 by "
            "itself: where is 100 times a sum of squares smallest?",
        },
    ),
}
