"""Chapter 08: guidance. Tiny networks and small tensors, so checks are instant."""

import torch

from course_lib.teaching.check import Code, Number

# ---- 8.1 write: a classifier's gradient, for the estimate of x0 ---------------------------------


def classifier_guided_x0(x0, gradient, alpha, sigma, scale):
    return x0 + scale * sigma**2 / alpha * gradient


def gradient_subtracted(x0, gradient, alpha, sigma, scale):
    """You subtracted the gradient, so samples move away from the class. Less noise means more of
    x0: where eps loses, x0 gains."""
    return x0 - scale * sigma**2 / alpha * gradient


def noise_in_place_of_x0(x0, gradient, alpha, sigma, scale):
    """That is how the *noise* changes, (8.2). Put the guided noise into x0 = (x_t - sigma * eps) /
    alpha, and see what becomes of its gradient."""
    return x0 - scale * sigma * gradient


def sigma_once(x0, gradient, alpha, sigma, scale):
    """One sigma is missing. It comes in twice: the noise changes by sigma times the gradient, and
    x0 by sigma times the noise."""
    return x0 + scale * sigma / alpha * gradient


def alpha_forgotten(x0, gradient, alpha, sigma, scale):
    """You forgot to divide by alpha: x0 = (x_t - sigma * eps) / alpha."""
    return x0 + scale * sigma**2 * gradient


def alpha_multiplied(x0, gradient, alpha, sigma, scale):
    """You multiplied by alpha. Divide by it: x0 = (x_t - sigma * eps) / alpha."""
    return x0 + scale * sigma**2 * alpha * gradient


def sigma_forgotten(x0, gradient, alpha, sigma, scale):
    """You added the bare gradient. It is a score, which has to be turned into a change of the
    noise first, and that into a change of x0."""
    return x0 + scale * gradient


def scale_on_everything(x0, gradient, alpha, sigma, scale):
    """Your scale multiplies the network's own estimate as well. Scale only the classifier's
    part."""
    return scale * (x0 + sigma**2 / alpha * gradient)


def one_plus_the_scale(x0, gradient, alpha, sigma, scale):
    """You used 1 + scale, as some papers count for classifier-*free* guidance. In (8.2) the
    gradient is multiplied by the scale itself, so a scale of 0 means no guidance."""
    return x0 + (1 + scale) * sigma**2 / alpha * gradient


def scale_forgotten(x0, gradient, alpha, sigma, scale):
    """That is right for scale 1 only: multiply the gradient by the scale."""
    return x0 + sigma**2 / alpha * gradient


def estimates_with_gradients():
    one = torch.tensor([[1.0, 0.4]])
    few = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    return [(one, torch.tensor([[2.0, -1.0]]), 0.8, 0.6, 3.0), (*few, 0.5, 0.7, 2.0)]


# ---- 8.2 write: dropping labels ----------------------------------------------------------------


def drop_labels(labels, null, p, draws):
    return torch.where(draws < p, null, labels)


def kept_with_probability_p(labels, null, p, draws):
    """You keep a label with probability p and drop all others, so nearly all of the training is
    unconditional. Drop a label where its number in `draws` is below p."""
    return torch.where(draws < p, labels, null)


def all_or_none(labels, null, p, draws):
    """One draw decides for the whole batch. That is right on average, but each step then
    trains only with or only without labels, and the loss jumps. Decide for each sample."""
    return torch.where(draws[0] < p, torch.full_like(labels, null), labels)


def class_zero_for_nothing(labels, null, p, draws):
    """You put class 0 in place of what is dropped. But class 0 is a digit: the network
    would learn that a zero can look like any digit. Use `null`."""
    return torch.where(draws < p, 0, labels)


def everything_dropped(labels, null, p, draws):
    """You dropped all labels, so the network never learns what a label means."""
    return torch.full_like(labels, null)


def samples_left_out(labels, null, p, draws):
    """You removed the samples. Keep them, without their label: they teach the network the
    unconditional prediction."""
    return labels[draws >= p]


def dropped_above_p(labels, null, p, draws):
    """You drop where draws > p, so most labels are lost. Drop with probability p: where draws <
    p."""
    return torch.where(draws > p, null, labels)


def draws_of_its_own(labels, null, p, draws):
    """You draw new random numbers inside the function. Use `draws`: the caller decides on the seed,
    so that training can be repeated."""
    return torch.where(torch.rand(labels.shape) < p, null, labels)


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
    """Now guidance is on outside the interval and off inside it."""
    return 1.0 if low < t <= high else scale


def no_upper_end(t, scale, low, high):
    """The value outside is right now, but the upper end is missing: at the noisiest times, where
    guidance does the most harm, it is on again."""
    return scale if t > low else 1.0


def no_lower_end(t, scale, low, high):
    """The value outside is right now, but the lower end is missing: at the cleanest times guidance
    costs a call of the network and changes nothing visible."""
    return scale if t <= high else 1.0


def always_on(t, scale, low, high):
    """Guidance is on at all times: you don't use the interval."""
    return scale


def never_below_one(t, scale, low, high):
    """You take the larger of 1 and the scale. A scale below 1 is allowed, too: in the interval,
    return `scale` whatever it is."""
    return max(1.0, scale) if low < t <= high else 1.0


def times_and_intervals():
    return [
        (0.9, 5.0, 0.2, 0.8),
        (0.5, 5.0, 0.2, 0.8),
        (0.1, 5.0, 0.2, 0.8),
        (0.8, 3.0, 0.2, 0.8),
        (0.2, 5.0, 0.2, 0.8),
        (0.3, 5.0, 0.2, 0.8),
        (0.85, 5.0, 0.2, 0.8),
        (0.5, 0.5, 0.2, 0.8),  # a scale below 1
    ]


def drawn_times():
    return [(t, 1 + 4 * scale, 0.3, 0.7) for t, scale in torch.rand(8, 2).tolist()]


# ---- 8.4 write: rescaled guidance --------------------------------------------------------------


def rescaled(strong, conditional, share):
    dims = tuple(range(1, strong.ndim))
    ratio = conditional.std(dims, keepdim=True) / strong.std(dims, keepdim=True)
    return share * strong * ratio + (1 - share) * strong


def one_spread_for_the_batch(strong, conditional, share):
    """You measured one spread over the whole batch, so a picture's contrast depends on its
    neighbours. Leave dim 0 out of the standard deviation."""
    return share * strong * (conditional.std() / strong.std()) + (1 - share) * strong


def ratio_upside_down(strong, conditional, share):
    """Your factor is upside down: what is spread too far is spread even further."""
    dims = tuple(range(1, strong.ndim))
    ratio = strong.std(dims, keepdim=True) / conditional.std(dims, keepdim=True)
    return share * strong * ratio + (1 - share) * strong


def shares_exchanged(strong, conditional, share):
    """You exchanged the two shares: at share = 0 nothing should change."""
    return rescaled(strong, conditional, 1 - share)


def variances_compared(strong, conditional, share):
    """You compared variances. Multiply by a ratio of standard deviations, their square
    roots."""
    dims = tuple(range(1, strong.ndim))
    ratio = conditional.var(dims, keepdim=True) / strong.var(dims, keepdim=True)
    return share * strong * ratio + (1 - share) * strong


def conditional_mixed_in(strong, conditional, share):
    """You mixed in the conditional prediction itself. That is guidance with a smaller scale. Keep
    the guided prediction's direction, but give it the conditional one's spread."""
    return share * conditional + (1 - share) * strong


def two_predictions():
    small = torch.tensor([[4.0, -2.0, 1.0]]), torch.tensor([[1.0, -1.0, 0.0]])
    wide = 3 * torch.randn(3, 2, 4, 4) * torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1, 1)
    return [(*small, 0.5), (wide, torch.randn(3, 2, 4, 4) + 1, 0.7), (wide, wide / 2, 0.0)]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "8.1": Code(
        classifier_guided_x0,
        estimates_with_gradients,
        "A score changes x0 by sigma² / alpha times itself: Tweedie's formula, with a classifier.",
        [
            gradient_subtracted,
            noise_in_place_of_x0,
            sigma_once,
            alpha_forgotten,
            alpha_multiplied,
            sigma_forgotten,
            scale_on_everything,
            one_plus_the_scale,
            scale_forgotten,
        ],
    ),
    "8.2": Code(
        drop_labels,
        labels_with_draws,
        "One line in training, and one network makes both predictions that guidance needs.",
        [
            kept_with_probability_p,
            all_or_none,
            class_zero_for_nothing,
            everything_dropped,
            samples_left_out,
            dropped_above_p,
            draws_of_its_own,
        ],
    ),
    "8.3": Code(
        scale_at,
        times_and_intervals,
        "Off means 1, not 0: without guidance the network still reads the caption.",
        [guided_outside, no_upper_end, no_lower_end, always_on, never_below_one],
        given=planted_no_condition_outside,
        more=drawn_times,
    ),
    "8.4": Code(
        rescaled,
        two_predictions,
        "The direction of the guided prediction, with the spread of the conditional one.",
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
                "That is the conditional guess alone, scale 1. Guidance goes further in the same "
                "direction: put both guesses into equation (8.5).",
            ),
            "counted from the conditional guess": (
                6.0,
                "You started from the conditional guess, 1 + 5 · (1 - 0). In this course, "
                "guidance starts from the unconditional one.",
            ),
            "scale minus one": (
                4.0,
                "4 is how far it overshoots the class's mean. Where does that end?",
            ),
            "an average": (
                0.5,
                "Averages lie between the two guesses. A scale above 1 leads beyond them.",
            ),
        },
    ),
}
