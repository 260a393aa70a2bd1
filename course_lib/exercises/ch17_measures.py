"""Chapter 17, its second half: coverage, four models to diagnose, and truncation."""

import torch

from course_lib.teaching.check import Code
from course_lib.teaching.predictions import Choice, Number

# ---- 17.4 debug: a measure of variety that strays can't buy ------------------------------------


def coverage(real, generated, k):
    radii = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    inside = torch.cdist(real, generated) <= radii[:, None]
    return inside.any(dim=1).double().mean()


def planted_recall(real, generated, k):
    radii = torch.cdist(generated, generated).kthvalue(k + 1, dim=1).values
    inside = torch.cdist(real, generated) <= radii
    return inside.any(dim=1).double().mean()


def precision_instead(real, generated, k):
    """The balls are right, but you count generated samples: that is precision, and a collapsed
    model scores 1. Count the *real* ones whose ball isn't empty."""
    radii = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    inside = torch.cdist(real, generated) <= radii[:, None]
    return inside.any(dim=0).double().mean()


def itself_counted(real, generated, k):
    """Your balls are too small: the nearest of all real samples is the sample itself, at distance
    0. The given code adds 1 to k for that."""
    radii = torch.cdist(real, real).kthvalue(k, dim=1).values
    inside = torch.cdist(real, generated) <= radii[:, None]
    return inside.any(dim=1).double().mean()


def radii_across(real, generated, k):
    """Now a ball around a real sample reaches to the k-th nearest *generated* one, so it is never
    empty. Its size must come from the real samples alone."""
    radii = torch.cdist(real, generated).kthvalue(k, dim=1).values
    inside = torch.cdist(real, generated) <= radii[:, None]
    return inside.any(dim=1).double().mean()


def density_instead(real, generated, k):
    """You count in how many balls each generated sample lies. That is Naeem et al.'s *density*,
    their answer to precision. For coverage, a ball counts once, however many samples it has."""
    radii = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    inside = torch.cdist(real, generated) <= radii[:, None]
    return inside.double().sum(dim=0).mean() / k


def strays():
    line = torch.tensor([[0.0], [1.0], [3.0], [4.5], [9.0]])
    yield line, torch.tensor([[0.4], [0.6], [40.0]]), 1
    yield torch.randn(14, 2), torch.cat([0.2 * torch.randn(9, 2), 9 * torch.randn(2, 2)]), 2
    yield torch.randn(25, 3), torch.cat([0.5 * torch.randn(30, 3), 7 * torch.randn(5, 3)]), 3


# ---- 17.6 predict: truncation of a perfect generator -------------------------------------------

VARIANCES, TRUNCATION = (4.0, 1.0, 0.25), 0.7
AFTER_TRUNCATION = sum(VARIANCES) * (1 - TRUNCATION) ** 2  # (std - 0.7 std)², summed

# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "17.4": Code(
        coverage,
        strays,
        "Balls around the real samples keep their size, however far the model strays.",
        [precision_instead, itself_counted, radii_across, density_instead],
        given=planted_recall,
    ),
    "17.5": Choice(
        "c",
        {
            "a": "Model P misses four modes, and model Q's samples look wrong. Their Fréchet "
            "distances don't show it, because a ring with every second mode has the same mean and "
            "covariance as the whole one.",
            "b": "A collapsed model may draw perfectly what it draws: all of P's samples are near "
            "a centre, at four centres only. Q does the opposite: all eight, and few near them.",
            "c": "P draws four of eight modes, perfectly. Most of Q's samples lie between the "
            "modes. R's modes and precision are fine, but its samples lie far nearer to the "
            "training points than new data does, and with so few different points its recall is "
            "the lowest. S is as good as real samples are.",
            "d": "R isn't collapsed: it draws all eight modes. Low recall has two causes here, and "
            "the distance to the training points tells them apart.",
        },
    ),
    "17.6": Number(
        AFTER_TRUNCATION,
        "Each standard deviation shrinks to 0.7 of its size, and the distance adds up the squared "
        "differences: 0.3² · (4 + 1 + 0.25). Each sample looks fine, but the set is too narrow.",
        within=0.01,
        misconceptions={
            "variances compared": (
                sum(VARIANCES) * (1 - TRUNCATION**2),
                "You subtracted the variances. For covariances that share their axes, the distance "
                "is the sum of the squared differences of the *standard deviations*.",
            ),
            "not squared": (
                sum(VARIANCES) * (1 - TRUNCATION),
                "You forgot to square: (σ − ψσ)² = σ² (1 − ψ)².",
            ),
            "variances shrunk by ψ": (
                sum(VARIANCES) * (1 - TRUNCATION**0.5) ** 2,
                "The noise is multiplied by ψ, so its standard deviation is, and its variance by "
                "ψ².",
            ),
            "of one direction": (
                (1 - TRUNCATION) ** 2,
                "That would be a single direction of variance 1. Add up all three, each with its "
                "own variance.",
            ),
            "variances squared": (
                sum(v**2 for v in VARIANCES) * (1 - TRUNCATION**2) ** 2,
                "You squared the differences of the variances. Square those of the standard "
                "deviations.",
            ),
        },
    ),
}
