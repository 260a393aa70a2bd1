"""Chapter 03: samplers. Each answer is one step, or the loop around it."""

from itertools import pairwise

import torch

from course_lib.teaching.check import Code, Number

# ---- 3.1 write: one step of algorithm 2 --------------------------------------------------------


def ddpm_step(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    mean = (xt - beta / (1 - alpha_bar) ** 0.5 * eps) / (1 - beta) ** 0.5
    return mean + tilde(beta, alpha_bar, alpha_bar_before) ** 0.5 * noise


def tilde(beta, alpha_bar, alpha_bar_before):
    return (1 - alpha_bar_before) / (1 - alpha_bar) * beta


def beta_where_beta_tilde_belongs(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """The mean is right. Your noise has variance beta instead of beta-tilde: multiply the variance
    by (1 - alpha_bar_before) / (1 - alpha_bar), which makes it 0 in the last step."""
    return ddpm_step(xt, eps, beta, alpha_bar, alpha_bar_before, 0) + beta**0.5 * noise


def beta_but_for_the_last_step(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """The mean and the last step are right. In all other steps your noise has variance beta, one of
    the paper's two choices. Use the other, beta-tilde, which needs no `if` for the last step."""
    noise = noise if alpha_bar_before < 1 else 0
    return beta_where_beta_tilde_belongs(xt, eps, beta, alpha_bar, alpha_bar_before, noise)


def variance_without_its_root(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """The mean is right. You multiply the noise by a variance; take its square root, the standard
    deviation. These variances are below 1, so you add far too little noise."""
    mean = ddpm_step(xt, eps, beta, alpha_bar, alpha_bar_before, 0)
    return mean + tilde(beta, alpha_bar, alpha_bar_before) * noise


def noise_level_without_its_root(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """The factor of eps is beta / sqrt(1 - alpha_bar). Yours lacks the square root in the
    denominator."""
    mean = (xt - beta / (1 - alpha_bar) * eps) / (1 - beta) ** 0.5
    return mean + tilde(beta, alpha_bar, alpha_bar_before) ** 0.5 * noise


def divided_by_alpha_without_a_root(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """You divide by alpha = 1 - beta. The step forward shrank the picture by its square root, so
    the step back divides by that root."""
    mean = (xt - beta / (1 - alpha_bar) ** 0.5 * eps) / (1 - beta)
    return mean + tilde(beta, alpha_bar, alpha_bar_before) ** 0.5 * noise


def not_stretched_back(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """You remove noise but never divide by sqrt(alpha). Each step forward shrank the picture a
    little; a thousand steps back that never undo this leave it pale."""
    mean = xt - beta / (1 - alpha_bar) ** 0.5 * eps
    return mean + tilde(beta, alpha_bar, alpha_bar_before) ** 0.5 * noise


def stretched_all_the_way(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """You divide by the root of alpha_bar, which undoes the shrinking of all steps at once. For one
    step, divide by the root of its own alpha, 1 - beta."""
    mean = (xt - beta / (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
    return mean + tilde(beta, alpha_bar, alpha_bar_before) ** 0.5 * noise


def noise_added_instead_of_removed(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """The predicted noise has the wrong sign: a step back subtracts it."""
    return ddpm_step(xt, -eps, beta, alpha_bar, alpha_bar_before, noise)


def straight_to_the_guess(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """You jump all the way to the estimate of x0. One step removes only a small part of eps: its
    factor is beta / sqrt(1 - alpha_bar)."""
    mean = (xt - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
    return mean + tilde(beta, alpha_bar, alpha_bar_before) ** 0.5 * noise


def noise_of_its_own(xt, eps, beta, alpha_bar, alpha_bar_before, noise):
    """You draw new noise inside the function. Use the argument `noise`: the caller decides on the
    seed, and in the last step there must be none."""
    return ddpm_step(xt, eps, beta, alpha_bar, alpha_bar_before, torch.randn_like(xt))


def steps_of_a_table():
    one, nothing = torch.ones(1), torch.zeros(1)
    few = [torch.randn(2, 1, 3, 3) for _ in range(3)]
    return [
        (one, one, 0.36, 0.32, 0.5, nothing),
        (nothing, nothing, 0.36, 0.32, 0.5, one),
        (nothing, nothing, 0.19, 0.81, 1.0, one),
        (few[0], few[1], 0.02, 0.49, 0.5, few[2]),
    ]


# ---- 3.2 write: DDIM's step --------------------------------------------------------------------


def ddim_step(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    x0 = (xt - sigma_t * eps) / alpha_t
    std = spread(alpha_t, sigma_t, alpha_s, sigma_s, eta)
    return alpha_s * x0 + (sigma_s**2 - std**2) ** 0.5 * eps + std * noise


def spread(alpha_t, sigma_t, alpha_s, sigma_s, eta):
    return eta * sigma_s / sigma_t * (sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2) ** 0.5


def noise_counted_twice(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """You put all of the predicted noise back, with factor sigma_s, and add fresh noise on top.
    That is too much noise for time s: the two variances must add up to sigma_s²."""
    x0 = (xt - sigma_t * eps) / alpha_t
    return alpha_s * x0 + sigma_s * eps + spread(alpha_t, sigma_t, alpha_s, sigma_s, eta) * noise


def standard_deviations_subtracted(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """You subtract standard deviations, sigma_s - std. Variances add up, standard deviations don't:
    the factor of eps is the square root of sigma_s² - std²."""
    x0 = (xt - sigma_t * eps) / alpha_t
    std = spread(alpha_t, sigma_t, alpha_s, sigma_s, eta)
    return alpha_s * x0 + (sigma_s - std) * eps + std * noise


def never_any_fresh_noise(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """That is the step for eta = 0. For a larger eta, part of the noise is fresh."""
    return ddim_step(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, 0.0, noise)


def eta_ignored(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """That is the step for eta = 1 whatever eta is. Multiply std by eta."""
    return ddim_step(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, 1.0, noise)


def eta_on_the_variance(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """You multiply the variance by eta. In the paper eta multiplies the standard deviation."""
    return ddim_step(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta**0.5, noise)


def guess_not_stretched(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """Your x0 is xt - sigma_t eps, which is alpha_t times the guess: divide by alpha_t."""
    std = spread(alpha_t, sigma_t, alpha_s, sigma_s, eta)
    rest = (sigma_s**2 - std**2) ** 0.5
    return alpha_s * (xt - sigma_t * eps) + rest * eps + std * noise


def picture_and_noise_exchanged(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """You exchanged the factors of x0 and eps in the new point: alpha_s multiplies x0."""
    x0 = (xt - sigma_t * eps) / alpha_t
    std = spread(alpha_t, sigma_t, alpha_s, sigma_s, eta)
    return alpha_s * eps + (sigma_s**2 - std**2) ** 0.5 * x0 + std * noise


def square_roots_taken_twice(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """You took square roots of alpha_t and alpha_s. Here alpha already multiplies the picture: it
    is the root of alpha-bar (which the DDIM paper calls alpha)."""
    return ddim_step(xt, eps, alpha_t**0.5, sigma_t, alpha_s**0.5, sigma_s, eta, noise)


def ratio_inverted(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """In std you use alpha_s / alpha_t, which is above 1. Going forward from s to t shrinks the
    picture by alpha_t / alpha_s, and the noise in it as well."""
    x0 = (xt - sigma_t * eps) / alpha_t
    std = inverted_spread(alpha_t, sigma_t, alpha_s, sigma_s, eta)
    return alpha_s * x0 + (sigma_s**2 - std**2) ** 0.5 * eps + std * noise


def inverted_spread(alpha_t, sigma_t, alpha_s, sigma_s, eta):
    variance = sigma_t**2 - (alpha_s / alpha_t * sigma_s) ** 2
    return eta * sigma_s / sigma_t * max(variance, 0.0) ** 0.5


def ratio_inverted_without_a_limit(xt, eps, alpha_t, sigma_t, alpha_s, sigma_s, eta, noise):
    """In std you use alpha_s / alpha_t, which is above 1, so you may even take the root of a
    negative number. Going forward from s to t shrinks the picture by alpha_t / alpha_s."""
    x0 = (xt - sigma_t * eps) / alpha_t
    variance = sigma_t**2 - (alpha_s / alpha_t * sigma_s) ** 2
    std = eta * sigma_s / sigma_t * variance**0.5
    return alpha_s * x0 + (sigma_s**2 - std**2) ** 0.5 * eps + std * noise


def steps_between_two_times():
    one, nothing = torch.ones(1), torch.zeros(1)
    few = [torch.randn(2, 1, 3, 3) for _ in range(3)]
    return [
        (
            one,
            nothing,
            0.6,
            0.8,
            0.96,
            0.28,
            0.0,
            nothing,
        ),  # to (0.8, 0.6) alpha_s would be sigma_t
        (nothing, one, 0.6, 0.8, 0.96, 0.28, 0.5, nothing),
        (nothing, nothing, 0.6, 0.8, 0.96, 0.28, 0.5, one),
        (one, one, 0.6, 0.8, 1.0, 0.0, 1.0, one),
        (few[0], few[1], 0.28, 0.96, 0.8, 0.6, 0.7, few[2]),
    ]


# ---- 3.3 debug: the loop -----------------------------------------------------------------------


def walk_back(network, x, alpha_bars, indices):
    return looped(network, x, alpha_bars, indices, torch.tensor(1.0))


def looped(network, x, alpha_bars, indices, end):
    for n, i in enumerate(indices):
        bar = alpha_bars[i]
        before = alpha_bars[indices[n + 1]] if n + 1 < len(indices) else end
        eps = network(x, i)
        x0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt()
        x = before.sqrt() * x0 + (1 - before).sqrt() * eps
    return x


def planted_index_minus_one(network, x, alpha_bars, indices):
    for n, i in enumerate(indices):
        following = indices[n + 1] if n + 1 < len(indices) else -1
        bar, before = alpha_bars[i], alpha_bars[following]
        eps = network(x, i)
        x0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt()
        x = before.sqrt() * x0 + (1 - before).sqrt() * eps
    return x


def ended_at_the_first_entry(network, x, alpha_bars, indices):
    """Your last step leads to alpha_bars[0]. That is the first noisy level, so a trace of noise
    remains. (Some published samplers do this.) The clean end isn't in the table: there ᾱ is 1."""
    return looped(network, x, alpha_bars, indices, alpha_bars[0])


def last_step_left_out(network, x, alpha_bars, indices):
    """Your last step is missing, or ends where it starts: the picture you return still has the last
    noise level of the list. The walk must end at the clean end, where ᾱ is 1."""
    for i, following in pairwise(indices):
        x = looped(network, x, alpha_bars, [i], alpha_bars[following])
    return x


def ended_at_nothing(network, x, alpha_bars, indices):
    """You end at ᾱ = 0, which is pure noise. The clean end has ᾱ = 1."""
    return looped(network, x, alpha_bars, indices, torch.tensor(0.0))


def told_the_number_of_the_step(network, x, alpha_bars, indices):
    """The end is right now. But you tell the network the number of the step instead of the index
    in the table, so it expects a different noise level from the one it sees."""
    number = {i: n for n, i in enumerate(indices)}
    return walk_back(lambda x, i: network(x, number[i]), x, alpha_bars, indices)


def told_one_index_too_many(network, x, alpha_bars, indices):
    """The end is right now. But you shifted the network's index by one: it was trained with 0-based
    indices, so i was right."""
    return walk_back(lambda x, i: network(x, i + 1), x, alpha_bars, indices)


def a_network(x, i):
    return x.tanh() * (1 + i) / 5


def loops():
    bars = torch.tensor([0.9, 0.6, 0.3, 0.1])
    return [
        (a_network, torch.ones(1), bars, [3, 1]),
        (a_network, torch.ones(2), bars, [2, 1, 0]),
        (a_network, torch.randn(2, 1, 3, 3), bars, [3, 2, 1, 0]),
    ]


# ---- 3.4 write: looking ahead ------------------------------------------------------------------


def look_ahead(x0, x0_before, log_snr_before, log_snr_t, log_snr_s):
    return x0 + (log_snr_s - log_snr_t) / 2 * (x0 - x0_before) / (log_snr_t - log_snr_before)


def as_far_as_the_end_of_the_step(x0, x0_before, log_snr_before, log_snr_t, log_snr_s):
    """You extend the line to the end of the step. What counts is the estimate during
    the step, and on average that is the one in its middle: go half as far."""
    return x0 + (log_snr_s - log_snr_t) * (x0 - x0_before) / (log_snr_t - log_snr_before)


def ratio_upside_down(x0, x0_before, log_snr_before, log_snr_t, log_snr_s):
    """You exchanged the two step lengths. The slope is the change of the estimate divided by the
    length of the last step; multiply it by half the length of the next one."""
    return x0 + (log_snr_t - log_snr_before) / 2 * (x0 - x0_before) / (log_snr_s - log_snr_t)


def all_steps_equally_long(x0, x0_before, log_snr_before, log_snr_t, log_snr_s):
    """You added half of the last change. That is right if both steps are equally long in log-SNR,
    and most lists of times are not like that."""
    return x0 + (x0 - x0_before) / 2


def back_instead_of_ahead(x0, x0_before, log_snr_before, log_snr_t, log_snr_s):
    """You go back along the line, towards the older estimate. The middle of the next step lies in
    the other direction: change the sign."""
    return x0 - (log_snr_s - log_snr_t) / 2 * (x0 - x0_before) / (log_snr_t - log_snr_before)


def started_at_the_older_guess(x0, x0_before, log_snr_before, log_snr_t, log_snr_s):
    """You extend the line from the older estimate. Start from the newest, x0."""
    return x0_before + (log_snr_s - log_snr_t) / 2 * (x0 - x0_before) / (log_snr_t - log_snr_before)


def mean_of_the_two_guesses(x0, x0_before, log_snr_before, log_snr_t, log_snr_s):
    """That is the estimate in the middle of the previous step. You need the middle of the next."""
    return (x0 + x0_before) / 2


def guesses():
    few = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    return [
        (torch.ones(1), torch.zeros(1), -2.0, -1.0, 1.0),
        (torch.tensor([0.5, -0.5]), torch.tensor([0.1, 0.3]), 0.0, 2.0, 3.0),
        (*few, -1.5, 0.5, 1.25),
    ]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "3.1": Code(
        ddpm_step,
        steps_of_a_table,
        "With alpha_bar_before = 1 the noise vanishes: the last step needs no `if`.",
        [
            beta_where_beta_tilde_belongs,
            beta_but_for_the_last_step,
            variance_without_its_root,
            noise_level_without_its_root,
            divided_by_alpha_without_a_root,
            not_stretched_back,
            stretched_all_the_way,
            noise_added_instead_of_removed,
            straight_to_the_guess,
            noise_of_its_own,
        ],
    ),
    "3.2": Code(
        ddim_step,
        steps_between_two_times,
        "With eta = 1 this is the step of exercise 3.1, and it may be as long as you like.",
        [
            noise_counted_twice,
            standard_deviations_subtracted,
            never_any_fresh_noise,
            eta_ignored,
            eta_on_the_variance,
            guess_not_stretched,
            picture_and_noise_exchanged,
            square_roots_taken_twice,
            ratio_inverted,
            ratio_inverted_without_a_limit,
        ],
    ),
    "3.3": Code(
        walk_back,
        loops,
        "The clean end is a noise level of its own, and no table of betas lists it.",
        [
            ended_at_the_first_entry,
            last_step_left_out,
            ended_at_nothing,
            told_the_number_of_the_step,
            told_one_index_too_many,
        ],
        given=planted_index_minus_one,
    ),
    "3.4": Code(
        look_ahead,
        guesses,
        "That one line is all that turns DDIM into DPM-Solver++(2M).",
        [
            as_far_as_the_end_of_the_step,
            ratio_upside_down,
            all_steps_equally_long,
            back_instead_of_ahead,
            started_at_the_older_guess,
            mean_of_the_two_guesses,
        ],
    ),
    "3.5": Number(
        8,
        "0.04 / 2 against 0.01 / 4: the more calls you can afford, the more the order pays off.",
        within=0.02,
        misconceptions={
            "the ratio stays": (
                4,
                "That was the ratio before. Twice the calls halve an error of first order, and "
                "divide one of second order by four.",
            ),
            "only the growth of the ratio": (
                2,
                "That is the factor by which the ratio grows when the calls double. Multiply it by "
                "the ratio that was there before.",
            ),
            "DDIM left at 50 calls": (
                16,
                "You compared the second method at 100 calls with DDIM at 50. DDIM also gets 100 "
                "calls, and its error, of first order, is halved.",
            ),
            "upside down": (
                1 / 8,
                "That is the ratio upside down: how many times smaller is the second error?",
            ),
        },
    ),
}
