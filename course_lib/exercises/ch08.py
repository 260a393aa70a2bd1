"""Chapter 08: guidance. Tiny networks and small tensors, so checks are instant."""

import torch

from course_lib.teaching.check import Code, Number

# ---- 8.1 write: a classifier's gradient joins the answer ----------------------------------------


def classifier_guided(eps, gradient, sigma, scale):
    return eps - scale * sigma * gradient


def gradient_added(eps, gradient, sigma, scale):
    """You added the gradient, and the samples will flee from the class. The noise points away from
    the data: eps is minus sigma times the score, so what is added to the score is taken from
    eps."""
    return eps + scale * sigma * gradient


def sigma_forgotten(eps, gradient, sigma, scale):
    """The gradient is a score; the network answers noise. Between them stands the factor sigma:
    without it guidance is far too strong where little noise is left."""
    return eps - scale * gradient


def divided_by_sigma(eps, gradient, sigma, scale):
    """You divided by sigma. From the score to the noise one multiplies: eps = -sigma * score."""
    return eps - scale * gradient / sigma


def variance_for_sigma(eps, gradient, sigma, scale):
    """You used sigma squared, which turns a score into a step of x0. The noise wants sigma
    itself."""
    return eps - scale * sigma**2 * gradient


def scale_on_everything(eps, gradient, sigma, scale):
    """The scale multiplies the network's own answer as well, so x0 comes out wrong everywhere. Only
    the classifier's part is turned up."""
    return scale * (eps - sigma * gradient)


def answers_with_gradients():
    one = torch.ones(1, 2)
    few = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    return [(one, torch.tensor([[2.0, -1.0]]), 0.5, 3.0), (*few, 0.8, 2.0)]


# ---- 8.2 write: dropping labels ----------------------------------------------------------------


def drop_labels(labels, null, p, draws):
    return torch.where(draws < p, null, labels)


def kept_with_probability_p(labels, null, p, draws):
    """You keep a label with probability p and drop the others, so that nearly all of the training
    is unconditional. Drop where the draw lies below p."""
    return torch.where(draws < p, labels, null)


def all_or_none(labels, null, p, draws):
    """One draw decides for the whole batch. It is right on average, but each step then trains one
    of the two networks only, and the loss jumps between them. Decide for each sample."""
    return torch.where(draws[0] < p, torch.full_like(labels, null), labels)


def class_zero_for_nothing(labels, null, p, draws):
    """You put class 0 in place of what is dropped. That is a class of its own, the digit zero:
    the network would learn that a zero looks like any digit. Use `null`."""
    return torch.where(draws < p, 0, labels)


def everything_dropped(labels, null, p, draws):
    """All labels are gone: the network learns to draw any digit and nothing else."""
    return torch.full_like(labels, null)


def samples_left_out(labels, null, p, draws):
    """You removed the samples. They must stay, without their label: they are what teaches the
    network the unconditional answer."""
    return labels[draws >= p]


def labels_with_draws():
    few = torch.tensor([3, 7, 1, 4]), 10, 0.5, torch.tensor([0.9, 0.2, 0.6, 0.1])
    many = torch.randint(10, (40,)), 10, 0.1, torch.rand(40)
    last = torch.tensor([5, 6, 7]), 10, 0.25, torch.tensor([0.05, 0.5, 0.25])  # 0.25: not below
    return [few, many, last]


# ---- 8.3 debug: the guidance interval ----------------------------------------------------------


def scale_at(t, scale, low, high):
    return scale if low < t <= high else 1.0


def planted_no_condition_outside(t, scale, low, high):
    return scale if low < t <= high else 0.0


def guided_outside(t, scale, low, high):
    """Now guidance is on outside of the interval and off within."""
    return 1.0 if low < t <= high else scale


def no_upper_end(t, scale, low, high):
    """Outside is mended, but the upper end has gone: at the noisiest times, where guidance does
    most harm, it is on again."""
    return scale if t > low else 1.0


def no_lower_end(t, scale, low, high):
    """Outside is mended, but the lower end has gone: at the cleanest times guidance costs a call
    of the network and changes nothing that is seen."""
    return scale if t <= high else 1.0


def always_on(t, scale, low, high):
    """Guidance is on at every time: the interval is not read."""
    return scale


def times_and_intervals():
    return [
        (0.9, 5.0, 0.2, 0.8),
        (0.5, 5.0, 0.2, 0.8),
        (0.1, 5.0, 0.2, 0.8),
        (0.8, 3.0, 0.2, 0.8),
        (0.2, 5.0, 0.2, 0.8),
    ]


# ---- 8.4 write: rescaled guidance --------------------------------------------------------------


def rescaled(strong, conditional, share):
    dims = tuple(range(1, strong.ndim))
    ratio = conditional.std(dims, keepdim=True) / strong.std(dims, keepdim=True)
    return share * strong * ratio + (1 - share) * strong


def one_spread_for_the_batch(strong, conditional, share):
    """You measured one spread over the whole batch, so a picture's brightness depends on its
    neighbours. Leave dim 0 out of the standard deviation."""
    return share * strong * (conditional.std() / strong.std()) + (1 - share) * strong


def ratio_upside_down(strong, conditional, share):
    """Your factor is upside down: what is too wide becomes wider still."""
    dims = tuple(range(1, strong.ndim))
    ratio = strong.std(dims, keepdim=True) / conditional.std(dims, keepdim=True)
    return share * strong * ratio + (1 - share) * strong


def shares_exchanged(strong, conditional, share):
    """The two shares are exchanged: at share = 0 nothing should change."""
    return rescaled(strong, conditional, 1 - share)


def variances_compared(strong, conditional, share):
    """You compared variances. Numbers are multiplied by a ratio of standard deviations, the
    variances' square roots."""
    dims = tuple(range(1, strong.ndim))
    ratio = conditional.var(dims, keepdim=True) / strong.var(dims, keepdim=True)
    return share * strong * ratio + (1 - share) * strong


def conditional_mixed_in(strong, conditional, share):
    """You mixed in the conditional answer itself. That is guidance with a smaller scale; what is
    wanted is the guided answer's direction at the conditional one's spread."""
    return share * conditional + (1 - share) * strong


def two_answers():
    small = torch.tensor([[4.0, -2.0, 1.0]]), torch.tensor([[1.0, -1.0, 0.0]])
    wide = 3 * torch.randn(3, 1, 4, 4) * torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1, 1)
    return [(*small, 0.5), (wide, torch.randn(3, 1, 4, 4), 0.7), (wide, wide / 2, 0.0)]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "8.1": Code(
        classifier_guided,
        answers_with_gradients,
        "Bayes' rule is added to the score, and eps is minus sigma times the score.",
        [
            gradient_added,
            sigma_forgotten,
            divided_by_sigma,
            variance_for_sigma,
            scale_on_everything,
        ],
    ),
    "8.2": Code(
        drop_labels,
        labels_with_draws,
        "One line in training: after it one network is both of those that guidance needs.",
        [
            kept_with_probability_p,
            all_or_none,
            class_zero_for_nothing,
            everything_dropped,
            samples_left_out,
        ],
    ),
    "8.3": Code(
        scale_at,
        times_and_intervals,
        "Off means 1, not 0: without guidance the caption is still read.",
        [guided_outside, no_upper_end, no_lower_end, always_on],
        given=planted_no_condition_outside,
    ),
    "8.4": Code(
        rescaled,
        two_answers,
        "The direction of the guided answer, at the spread of the conditional one.",
        [
            one_spread_for_the_batch,
            ratio_upside_down,
            shares_exchanged,
            variances_compared,
            conditional_mixed_in,
        ],
    ),
    "8.5": Number(
        5.0,
        "The two guesses are 0 (the mean of all data) and 1 (the mean of the class): 0 + 5 · (1 - "
        "0). No point of the data lies there; guidance extrapolates.",
        within=0.05,
        misconceptions={
            "the class mean": (
                1.0,
                "That is the conditional guess alone, scale 1. Guidance walks on in the same "
                "direction: put both guesses into equation (8.5).",
            ),
            "counted from the conditional guess": (
                6.0,
                "You started from the conditional guess, 1 + 5 · (1 - 0). In this course's count "
                "guidance starts from the unconditional one.",
            ),
            "scale minus one": (
                4.0,
                "4 is how far it overshoots the class's mean. Where does that end?",
            ),
            "an average": (
                0.5,
                "Averages lie between the two guesses. A scale above 1 leads outside of them.",
            ),
        },
    ),
}
