"""Chapter 17, first half: the game and its discriminator. The rest is in `ch17_measures` and
`ch17_capstone`.
"""

import math

import torch
import torch.nn.functional as F

from course_lib.teaching.check import Code, with_gradients
from course_lib.teaching.predictions import Number

# ---- 17.1 write: how many times likelier? ------------------------------------------------------


def density_ratio(logits, reals, fakes):
    return fakes / reals * logits.exp()


def batches_taken_for_equal(logits, reals, fakes):
    """That is right only for as many real samples as fakes. Here the discriminator also learned
    which of the two comes more often, and that is in its logit, too."""
    return logits.exp()


def counts_the_wrong_way_round(logits, reals, fakes):
    """You counted the batch twice. Many reals in the batch raise the logit everywhere, so they must
    be divided out again."""
    return reals / fakes * logits.exp()


def fake_over_real(logits, reals, fakes):
    """That is the generator's density over the data's. A high logit means that a sample is likelier
    among the real ones, so the ratio asked for rises with it."""
    return reals / fakes * (-logits).exp()


def probability_returned(logits, reals, fakes):
    """You corrected the probability D. The ratio of the densities is in the *odds*, D / (1 − D),
    which are the exponential of the logit."""
    return fakes / reals * logits.sigmoid()


def divided_by_the_share(logits, reals, fakes):
    """You divided by the share of real samples in the batch. The odds contain the ratio of the two
    counts, not a count's share of all."""
    return logits.exp() * (reals + fakes) / reals


def logits_and_batches():
    yield torch.tensor([0.4, -1.3]), 30, 50
    yield torch.randn(5), 48, 16
    yield torch.randn(3, 4) - 1, 7, 64


# ---- 17.2 predict: a generator without a bad sample --------------------------------------------

SEEN, GONE = 1 / 4, 3 / 4  # the shares of the data in 2 of 8 modes, and in the other 6
LOWEST = SEEN * math.log(5) + math.log(5 / 4)  # D is 1/5 where the generator is, else 1

# ---- 17.3 write: spectral norm of a convolution ------------------------------------------------


def normalized(kernel, u):
    matrix = kernel.flatten(1)
    with torch.no_grad():
        v = F.normalize(matrix.T @ u, dim=0)
        u = F.normalize(matrix @ v, dim=0)
    return kernel / (u @ matrix @ v)


def divided_by_the_norm_of_all(kernel, u):
    """You divided by the Frobenius norm, the root of the sum of *all* squared singular values. The
    largest one alone says how far the layer can stretch a vector."""
    return kernel / kernel.norm()


def u_left_as_it_was(kernel, u):
    """You compute v and then use the old u. The step has two halves: u from v comes second."""
    matrix = kernel.flatten(1)
    with torch.no_grad():
        v = F.normalize(matrix.T @ u, dim=0)
    return kernel / (u @ matrix @ v)


def v_not_normalised(kernel, u):
    """Your v isn't a unit vector, so uᵀWv is the stretch of a longer one. Normalise both."""
    matrix = kernel.flatten(1)
    with torch.no_grad():
        v = matrix.T @ u
        u = F.normalize(matrix @ v, dim=0)
    return kernel / (u @ matrix @ v)


def gradient_through_the_iteration(kernel, u):
    """The values are right, but your gradient also runs through the step that found u and v. They
    are constants here: compute them under `torch.no_grad()`."""
    matrix = kernel.flatten(1)
    v = F.normalize(matrix.T @ u, dim=0)
    u = F.normalize(matrix @ v, dim=0)
    return kernel / (u @ matrix @ v)


def size_without_gradient(kernel, u):
    """The values are right, but no gradient flows through the singular value. So the discriminator
    would be told that longer kernels help, which the division then undoes. Only u and v are
    constants; uᵀWv depends on W."""
    matrix = kernel.flatten(1)
    with torch.no_grad():
        v = F.normalize(matrix.T @ u, dim=0)
        u = F.normalize(matrix @ v, dim=0)
        size = u @ matrix @ v
    return kernel / size


def kernels():
    small = torch.tensor([[0.9, -0.4, 0.3], [0.2, 0.7, -1.1]]).view(2, 3, 1, 1)
    yield small, torch.tensor([0.6, 0.8])
    yield torch.randn(5, 2, 3, 3), F.normalize(torch.randn(5), dim=0)
    yield 0.2 * torch.randn(4, 3, 1, 2), F.normalize(torch.randn(4), dim=0)


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "17.1": Code(
        density_ratio,
        logits_and_batches,
        "A classifier that tells two sets apart has learned the ratio of their densities, up to "
        "the ratio of their sizes.",
        [
            batches_taken_for_equal,
            counts_the_wrong_way_round,
            fake_over_real,
            probability_returned,
            divided_by_the_share,
        ],
    ),
    "17.2": Number(
        LOWEST,
        "D is 1/5 in the two modes, where the generator is four times as dense as the data, and 1 "
        "in the other six. So ¼ log 5 + log 5/4: far below log 4, without a single bad sample.",
        within=0.01,
        misconceptions={
            "can't be told apart": (
                math.log(4),
                "That is the loss if D = 1/2 everywhere. But in its two modes the generator puts "
                "four times as many samples as there are real ones, and D can use that.",
            ),
            "the divergence": (
                (math.log(4) - LOWEST) / 2,
                "That is the Jensen-Shannon divergence of the two. The lowest loss is log 4 minus "
                "twice that.",
            ),
            "twice the divergence": (
                math.log(4) - LOWEST,
                "That is twice the Jensen-Shannon divergence, by which the loss falls below log 4. "
                "What is asked for is the loss.",
            ),
            "mean of both terms": (
                LOWEST / 2,
                "You averaged the two terms. The loss is their sum.",
            ),
            "D is 1/2 in the two modes": (
                SEEN * math.log(2) + math.log(2),
                "You took D = 1/2 in the two modes. There the data has density 1/8 per mode and "
                "the generator 1/2, so D = (1/8) / (1/8 + 1/2).",
            ),
            "bits": (LOWEST / math.log(2), "That is in bits. The loss uses natural logarithms."),
            "the value of the game": (
                -LOWEST,
                "That is the value of the game, V. The discriminator's loss is −V.",
            ),
        },
    ),
    "17.3": Code(
        normalized,
        kernels,
        "One step for each training step is enough, because the weights hardly change in between.",
        [
            divided_by_the_norm_of_all,
            u_left_as_it_was,
            v_not_normalised,
            gradient_through_the_iteration,
            size_without_gradient,
        ],
        run=with_gradients("normalized", kernel=0),
    ),
}
