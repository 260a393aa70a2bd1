"""Chapter 00: one gentle exercise of each kind."""

import torch

from course_lib.teaching.check import Choice, Code

# ---- 0.1 write: from bytes to [-1, 1] ----------------------------------------------------------


def to_signed(picture):
    return picture.float() / 127.5 - 1


def zero_to_one(picture):
    """Now black is 0 and white is 1, so middle grey is 0.5. The networks want black at
    -1, so that middle grey is 0: stretch by 2, then shift by 1."""
    return picture.float() / 255


def stretched_but_not_shifted(picture):
    """The range has the right length, 2, but it starts at 0: subtract 1."""
    return picture.float() / 127.5


def divided_by_128(picture):
    """That is close, but white (255) becomes 0.992 instead of 1: half of 255 is 127.5, not 128."""
    return picture.float() / 128 - 1


def bytes_that_overflow(picture):
    """2 * picture is computed in bytes, and 2 * 200 does not fit in one: it wraps round to 144.
    Call .float() before you multiply."""
    return (2 * picture).float() / 255 - 1


def bytes_of_pictures():
    ends = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    return [(ends,), (torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8),)]


# ---- 0.2 debug: which end is noise? ------------------------------------------------------------


def add_noise(x0, eps, t):
    return (1 - t) * x0 + t * eps


def planted_backwards_clock(x0, eps, t):
    return t * x0 + (1 - t) * eps


def noise_without_fading(x0, eps, t):
    """The picture keeps its full strength while noise is added on top, so at t = 1 you would still
    see it. The two weights must add up to 1: what the noise gains, the picture loses."""
    return x0 + t * eps


def fading_without_noise(x0, eps, t):
    """The picture fades to grey, but no noise comes in: eps has weight 0 at every t."""
    return (1 - t) * x0


def noise_that_also_fades(x0, eps, t):
    """Picture and noise fade together, so at t = 1 nothing is left. Noise should grow."""
    return (1 - t) * x0 + (1 - t) * eps


def square_roots_of_the_weights(x0, eps, t):
    """Your weights are the square roots of 1 - t and t, so their squares add up to 1. That is the
    path of the DDPM paper. Equation (0.1) is a straight line: the weights are 1 - t and t."""
    return (1 - t) ** 0.5 * x0 + t**0.5 * eps


def two_dots():
    return [
        (torch.ones(1), torch.zeros(1), 0.25),
        (torch.zeros(1), torch.ones(1), 0.25),
        (torch.randn(2, 3), torch.randn(2, 3), 0.7),
    ]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "0.1": Code(
        to_signed,
        bytes_of_pictures,
        "Every picture of this course lives in [-1, 1], with middle grey at 0, as noise does.",
        [zero_to_one, stretched_but_not_shifted, divided_by_128, bytes_that_overflow],
    ),
    "0.2": Code(
        add_noise,
        two_dots,
        "t = 0 is the clean picture and t = 1 is noise; it stays so in all chapters.",
        [
            noise_without_fading,
            fading_without_noise,
            noise_that_also_fades,
            square_roots_of_the_weights,
        ],
        given=planted_backwards_clock,
    ),
    "0.3": Choice(
        "a",
        {
            "a": "Each picture draws its noise from its own seed, so neither its neighbours nor "
            "the size of the batch can change it.",
            "b": "The batch is only a way to compute several pictures at once. Noise drawn for a "
            "whole batch would make a picture depend on its neighbours; here each has its seed.",
            "c": "Chance enters only through the starting noise, and the seed fixes that.",
        },
    ),
}
