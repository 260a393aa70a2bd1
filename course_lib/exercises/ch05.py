"""Chapter 05: the bound, a draw that lets gradients through, free nats, scaling and its units."""

import torch
import torch.nn.functional as F

from course_lib.teaching.check import Choice, Code, with_gradients

# ---- 5.1 write: the loss of a VAE --------------------------------------------------------------


def vae_loss(x, reconstruction, mu, logvar, variance):
    error = 0.5 * (x - reconstruction).square().flatten(1).sum(1) / variance
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)
    return (error + kl).mean()


def error_averaged_over_pixels(x, reconstruction, mu, logvar, variance):
    """You average the squared error over the pixels and sum the KL over the latent. The bound sums
    both: averaged, the error counts no more than one pixel, and all dimensions collapse."""
    error = 0.5 * F.mse_loss(reconstruction, x) / variance
    return error + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1).mean()


def everything_averaged(x, reconstruction, mu, logvar, variance):
    """You average over pixels and over latent numbers as well as over the batch. Sum within a
    picture and average over the batch only; otherwise the balance of the two terms depends on how
    many pixels and latent numbers there are."""
    error = 0.5 * F.mse_loss(reconstruction, x) / variance
    return error + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean()


def summed_over_the_batch(x, reconstruction, mu, logvar, variance):
    """You sum over the batch too. Then a larger batch means a larger loss and a larger step: take
    the mean over the first dimension."""
    return vae_loss(x, reconstruction, mu, logvar, variance) * len(x)


def standard_deviation_for_variance(x, reconstruction, mu, logvar, variance):
    """Your KL takes exp(logvar / 2), the standard deviation, where the variance exp(logvar)
    belongs."""
    error = 0.5 * (x - reconstruction).square().flatten(1).sum(1) / variance
    kl = 0.5 * (mu**2 + (0.5 * logvar).exp() - 1 - logvar).flatten(1).sum(1)
    return (error + kl).mean()


def kl_subtracted(x, reconstruction, mu, logvar, variance):
    """You subtract the KL. In the bound it has a minus, but the loss is minus the bound, so
    here it has a plus: the further q is from the prior, the larger the loss."""
    error = 0.5 * (x - reconstruction).square().flatten(1).sum(1) / variance
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)
    return (error - kl).mean()


def half_forgotten(x, reconstruction, mu, logvar, variance):
    """Your error has no 1/2. The logarithm of a Gaussian is minus the square over *twice* the
    variance."""
    error = (x - reconstruction).square().flatten(1).sum(1) / variance
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)
    return (error + kl).mean()


def variance_forgotten(x, reconstruction, mu, logvar, variance):
    """You do not divide the error by the decoder's variance, so it is 1 whatever you are given."""
    return vae_loss(x, reconstruction, mu, logvar, 1.0)


def multiplied_by_the_variance(x, reconstruction, mu, logvar, variance):
    """You multiply the error by the variance. A decoder that is sure of its pixels (a small
    variance) must be penalised more for missing them: divide."""
    return vae_loss(x, reconstruction, mu, logvar, 1 / variance)


def beta_form(x, reconstruction, mu, logvar, variance):
    """You multiplied the KL by the variance instead of dividing the error by it. That is the form
    with a β, (5.5): variance times the loss. It has the same minimum, but its value isn't minus the
    bound, in nats."""
    return vae_loss(x, reconstruction, mu, logvar, variance) * variance


def beta_form_without_the_half(x, reconstruction, mu, logvar, variance):
    """You wrote squared error + variance · KL. In the bound the squared error is divided by *twice*
    the variance, and the KL has no factor."""
    error = (x - reconstruction).square().flatten(1).sum(1)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)
    return (error + variance * kl).mean()


def cut_from_the_graph(x, reconstruction, mu, logvar, variance):
    """The value is right, but no gradient comes out of it: after detach, item or no_grad nothing
    can be learned from a loss."""
    return vae_loss(x, reconstruction, mu, logvar, variance).detach()


def pictures_and_moments():
    one = torch.ones(1, 2)
    few = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    return [
        (one, 0 * one, torch.tensor([[2.0]]), torch.tensor([[1.0]]), 0.5),
        (*few, torch.randn(3, 5), torch.randn(3, 5), 0.1),
    ]


# ---- 5.2 debug: a draw that teaches ------------------------------------------------------------


def draw(mu, logvar, eps):
    return mu + (0.5 * logvar).exp() * eps


def planted_outside_the_graph(mu, logvar, eps):
    with torch.no_grad():
        std = logvar.exp()
        z = mu + std * eps
    return z


def variance_as_the_spread(mu, logvar, eps):
    """The gradient flows now, but exp(logvar) is the variance. The noise is multiplied by the
    standard deviation, exp(logvar / 2)."""
    return mu + logvar.exp() * eps


def gradient_still_cut(mu, logvar, eps):
    """The value is right, but no gradient gets through: under no_grad, or after detach, the encoder
    never learns how its output affected the picture."""
    return draw(mu, logvar, eps).detach()


def spread_that_does_not_learn(mu, logvar, eps):
    """The mean gets its gradient and the spread gets none. The encoder would never learn how
    certain to be: the standard deviation must be part of the graph, too."""
    return mu + (0.5 * logvar).exp().detach() * eps


def mean_that_does_not_learn(mu, logvar, eps):
    """The spread gets its gradient and the mean gets none, so the encoder can't learn where
    to put the picture."""
    return mu.detach() + (0.5 * logvar).exp() * eps


def logarithm_as_the_spread(mu, logvar, eps):
    """You multiply the noise by the logarithm itself, which may even be negative: take
    exp(logvar / 2)."""
    return mu + logvar * eps


def noise_forgotten(mu, logvar, eps):
    """You return the mean without any noise: that is a plain autoencoder."""
    return mu + 0 * logvar


def sampled_without_a_gradient(mu, logvar, eps):
    """You called `.sample()`, which draws noise of its own and cuts the gradient. Write the sample
    as mu plus standard deviation times the given eps."""
    return torch.distributions.Normal(mu, (0.5 * logvar).exp()).sample()


def noise_of_its_own(mu, logvar, eps):
    """You draw new noise inside the function (`.rsample()`, `randn_like`). The gradient flows, but
    the noise is an argument here: use eps."""
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu)


def draws():
    small = torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([1.0])
    return [small, (torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 3))]


# ---- 5.3 write: free nats ----------------------------------------------------------------------


def numbers_kl(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def free_nats(mu, logvar, free):
    return numbers_kl(mu, logvar).mean(0).clamp(min=free).sum()


def clamped_for_each_picture(mu, logvar, free):
    """You clamp each picture's KL and average afterwards. The free nats apply to a latent
    dimension's mean over the batch, so it may spend a lot on some pictures and nothing on
    others."""
    return numbers_kl(mu, logvar).clamp(min=free).mean(0).sum()


def clamped_as_a_whole(mu, logvar, free):
    """You clamp the sum. Then one busy dimension uses up what is free, and the others still gain by
    collapsing: each dimension has its own allowance."""
    return numbers_kl(mu, logvar).mean(0).sum().clamp(min=free)


def clamped_from_above(mu, logvar, free):
    """You take the smaller of the two. That stops penalising dimensions that encode too much. You
    want no reward for encoding less than `free`: take the larger of the two."""
    return numbers_kl(mu, logvar).mean(0).clamp(max=free).sum()


def averaged_over_the_latent(mu, logvar, free):
    """You average over the latent's dimensions. The bound sums them."""
    return numbers_kl(mu, logvar).mean(0).clamp(min=free).mean()


def summed_over_the_batch_first(mu, logvar, free):
    """You sum over the batch before you compare, so a larger batch uses up the free nats sooner:
    take the mean over dim 0."""
    return numbers_kl(mu, logvar).sum(0).clamp(min=free).sum()


def what_exceeds_the_free(mu, logvar, free):
    """You return what exceeds the free nats. Its gradients are right, so training would be the
    same; but the loss lacks `free` and no longer bounds the likelihood."""
    return (numbers_kl(mu, logvar).mean(0) - free).clamp(min=0).sum()


def floats_without_a_gradient(mu, logvar, free):
    """The value is right, but you compare plain floats, and no gradient comes out of them. Compare
    the tensor: `.clamp(min=free)`."""
    return sum(max(free, each) for each in numbers_kl(mu, logvar).mean(0).tolist())


def nothing_free(mu, logvar, free):
    """That is the ordinary KL term: `free` isn't used. Clamp each dimension's mean KL from
    below."""
    return numbers_kl(mu, logvar).mean(0).sum() + 0 * free


def moments_of_two_numbers():
    small = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    wide = torch.randn(8, 5) * torch.tensor([0.1, 0.5, 1.0, 1.5, 2.0])
    quiet = 0.1 * torch.randn(4, 3)  # less than `free` in all of it
    return [
        (small, 0 * small, 0.5),
        (quiet, 0.5 * quiet.flip(0), 0.4),
        (wide, 0.3 * torch.randn(8, 5), 0.4),
    ]


# ---- 5.4 write: fitting shift and scale --------------------------------------------------------


def shift_and_scale(mu, logvar):
    variance = mu.var((0, 2, 3)) + logvar.exp().mean((0, 2, 3))
    return mu.mean((0, 2, 3)), variance.rsqrt()


def spread_of_the_means_alone(mu, logvar):
    """You measured the means only. In training the decoder sees samples, whose own variance
    adds to that of the means; without it an unused channel would be amplified enormously."""
    return mu.mean((0, 2, 3)), mu.std((0, 2, 3)).reciprocal()


def standard_deviations_added(mu, logvar):
    """You added standard deviations. Variances of independent noise add up: add the squares, then
    take the root."""
    spread = mu.std((0, 2, 3)) + (0.5 * logvar).exp().mean((0, 2, 3))
    return mu.mean((0, 2, 3)), spread.reciprocal()


def spread_instead_of_scale(mu, logvar):
    """You return the standard deviation. The scale is what latents are *multiplied* by: one over
    it."""
    shift, scale = shift_and_scale(mu, logvar)
    return shift, scale.reciprocal()


def divided_by_the_variance(mu, logvar):
    """You return one over the variance. One over its square root makes the new variance 1."""
    shift, scale = shift_and_scale(mu, logvar)
    return shift, scale**2


def one_number_for_all(mu, logvar):
    """You computed one number for all channels, as Stable Diffusion does. Here each channel has its
    own: average over dims 0, 2 and 3 and leave dim 1."""
    scale = (mu.var() + logvar.exp().mean()).rsqrt()
    return mu.mean().expand(mu.shape[1]), scale.expand(mu.shape[1])


def logarithm_averaged(mu, logvar):
    """You averaged logvar and then took its exponential: that is the geometric mean, and it is too
    small. Take the exponential first: variances are what adds up."""
    variance = mu.var((0, 2, 3)) + logvar.mean((0, 2, 3)).exp()
    return mu.mean((0, 2, 3)), variance.rsqrt()


def moments():
    small = torch.tensor([0.0, 1, 2, 3]).reshape(2, 1, 1, 2), torch.tensor([0.0, 1, 2, -1])
    wide = torch.tensor([0.02, 1.0, 5.0]).reshape(-1, 1, 1)
    return [
        (small[0], small[1].reshape(2, 1, 1, 2)),
        (torch.randn(6, 3, 4, 4) * wide + wide, torch.randn(6, 3, 4, 4)),
    ]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "5.1": Code(
        vae_loss,
        pictures_and_moments,
        "Multiply it by the variance and you get equation (5.5): the decoder's variance is β.",
        [
            error_averaged_over_pixels,
            everything_averaged,
            summed_over_the_batch,
            standard_deviation_for_variance,
            kl_subtracted,
            half_forgotten,
            variance_forgotten,
            multiplied_by_the_variance,
            cut_from_the_graph,
            beta_form,
            beta_form_without_the_half,
        ],
        run=with_gradients("loss", reconstruction=1, mu=2, logvar=3),
    ),
    "5.2": Code(
        draw,
        draws,
        "You fixed both: the spread, and the path for the gradient.",
        [
            variance_as_the_spread,
            gradient_still_cut,
            spread_that_does_not_learn,
            mean_that_does_not_learn,
            logarithm_as_the_spread,
            noise_forgotten,
            sampled_without_a_gradient,
            noise_of_its_own,
        ],
        given=planted_outside_the_graph,
        run=with_gradients("z", mu=0, logvar=1),
    ),
    "5.3": Code(
        free_nats,
        moments_of_two_numbers,
        "Below `free` the gradient is zero, so a dimension gains nothing by collapsing.",
        [
            clamped_for_each_picture,
            clamped_as_a_whole,
            clamped_from_above,
            averaged_over_the_latent,
            summed_over_the_batch_first,
            what_exceeds_the_free,
            floats_without_a_gradient,
            nothing_free,
        ],
        run=with_gradients("nats", mu=0, logvar=1),
    ),
    "5.4": Code(
        shift_and_scale,
        moments,
        "An unused channel keeps its scale of 1 and stays near 0.",
        [
            spread_of_the_means_alone,
            standard_deviations_added,
            spread_instead_of_scale,
            divided_by_the_variance,
            one_number_for_all,
            logarithm_averaged,
        ],
    ),
    "5.5": Choice(
        "c",
        {
            "a": "It gives the best samples, yet its loss is not the lowest. The network predicts "
            "the noise: how easy is that when there is hardly anything else to see?",
            "b": "Where the latent is twenty times as strong as the noise, the noise is hard to "
            "see, and to predict it the network must know the latent very exactly. That loss is "
            "the highest.",
            "c": "The network sees hardly anything but noise, so predicting the noise is trivial, "
            "and the loss falls far below the others'. It measures how easy the task is, not how "
            "good the samples are.",
            "d": "The units change how much of what the network sees is noise at each time, so "
            "they change the task, and with it the loss.",
        },
    ),
}
