"""Chapter 01: forward noising. Every answer is a line or two of arithmetic."""

import torch

from course_lib.teaching.check import Choice, Code

# ---- 1.1 write: the half-life ------------------------------------------------------------------


def half_life(beta):
    return 2 * torch.log(torch.tensor(0.5)) / torch.log(1 - beta)


def halved_the_power(beta):
    """You found when alpha-bar is a half. That is the picture's power, the square of its amplitude,
    and it halves twice as fast. The amplitude shrinks by the square root of 1 - beta."""
    return torch.log(torch.tensor(0.5)) / torch.log(1 - beta)


def forgetting_in_a_straight_line(beta):
    """You divided the half that is lost by the loss of the first step. But each step takes a share
    of what is left, so later steps take less: the decay is a power, not a straight line."""
    return 0.5 / (1 - torch.sqrt(1 - beta))


def good_for_small_beta_only(beta):
    """2 log(2) / beta is a fine rule of thumb while beta is tiny, since log(1 - beta) is then close
    to -beta. For larger betas take the logarithm itself."""
    return 2 * torch.log(torch.tensor(2.0)) / beta


def two_kinds_of_logarithm(beta):
    """You divided a logarithm to base 2 by a natural one. Either kind works, but numerator and
    denominator must use the same."""
    return 2 * torch.log2(torch.tensor(0.5)) / torch.log(1 - beta)


def beta_without_the_one(beta):
    """You took the logarithm of beta. What a step keeps is the root of 1 - beta; the root of beta
    is what it adds in noise."""
    return 2 * torch.log(torch.tensor(0.5)) / torch.log(beta)


def some_betas():
    return [(torch.tensor([0.19]),), (torch.tensor([0.001, 0.02, 0.3, 0.75]),)]


def drawn_betas():
    return [(0.5 * torch.rand(6),)]


# ---- 1.2 debug: the walk -----------------------------------------------------------------------


def walk_to(x0, betas, noises):
    x = x0
    for beta, noise in zip(betas, noises, strict=True):
        x = (1 - beta).sqrt() * x + beta.sqrt() * noise
    return x


def planted_jump_in_a_loop(x0, betas, noises):
    alpha_bars = (1 - betas).cumprod(0)
    x = x0
    for alpha_bar, noise in zip(alpha_bars, noises, strict=True):
        x = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
    return x


def started_again_in_each_step(x0, betas, noises):
    """Each of your steps starts from x0 again, so only the last one counts. A step starts where the
    previous one ended: at x."""
    for beta, noise in zip(betas, noises, strict=True):
        x = (1 - beta).sqrt() * x0 + beta.sqrt() * noise
    return x


def jump_with_the_last_noise_alone(x0, betas, noises):
    """That is the jump (1.2) to the last step with the last noise. Its distribution is right, but
    it isn't the walk: it uses none of the other steps' noises."""
    bar = (1 - betas).prod()
    return bar.sqrt() * x0 + (1 - bar).sqrt() * noises[-1]


def noise_without_its_root(x0, betas, noises):
    """The noise is multiplied by beta. For a variance of beta, multiply by its square root;
    otherwise hardly any noise comes in."""
    x = x0
    for beta, noise in zip(betas, noises, strict=True):
        x = (1 - beta).sqrt() * x + beta * noise
    return x


def pull_without_its_root(x0, betas, noises):
    """The picture shrinks by 1 - beta, without the square root: the variance falls to about a half
    instead of staying at 1."""
    x = x0
    for beta, noise in zip(betas, noises, strict=True):
        x = (1 - beta) * x + beta.sqrt() * noise
    return x


def kicks_without_the_pull(x0, betas, noises):
    """You only add noise, so the variance grows with every step. Shrink x by the square root of
    1 - beta first."""
    x = x0
    for beta, noise in zip(betas, noises, strict=True):
        x = x + beta.sqrt() * noise
    return x


def factors_of_a_step_exchanged(x0, betas, noises):
    """The two factors are exchanged: a step keeps nearly all of the picture, the root of 1 - beta,
    and adds a little noise, the root of beta."""
    x = x0
    for beta, noise in zip(betas, noises, strict=True):
        x = beta.sqrt() * x + (1 - beta).sqrt() * noise
    return x


def walks():
    two = torch.tensor([0.19, 0.36])
    return [
        (torch.ones(1), two, torch.zeros(2, 1)),
        (torch.zeros(1), two, torch.tensor([[1.0], [0.0]])),
        (torch.randn(2, 1, 3, 3), 0.5 * torch.rand(5), torch.randn(5, 2, 1, 3, 3)),
    ]


# ---- 1.3 write: the jump from the middle -------------------------------------------------------


def jump_on(xs, betas, s, t, eps):
    kept = (1 - betas[s:t]).prod()
    return kept.sqrt() * xs + (1 - kept).sqrt() * eps


def from_the_clean_end(xs, betas, s, t, eps):
    """You jump as if xs were clean, over all t steps. But xs has already taken the first s of
    them: only the steps s+1 to t remain."""
    return jump_on(xs, betas, 0, t, eps)


def noise_levels_subtracted(xs, betas, s, t, eps):
    """You added the difference of the two noise variances. But the noise that is already in xs
    shrinks together with the picture, so more has to be added: 1 - alpha_bar_t / alpha_bar_s."""
    bars = torch.cat([torch.ones(1), (1 - betas).cumprod(0)])
    return (bars[t] / bars[s]).sqrt() * xs + (bars[s] - bars[t]).sqrt() * eps


def no_clean_end_in_the_table(xs, betas, s, t, eps):
    """You divide by alpha_bars[s - 1]. At s = 0 that is entry -1, the last one: the table begins
    after the first step. The clean end isn't in the table; there alpha_bar is 1."""
    bars = (1 - betas).cumprod(0)
    kept = bars[t - 1] / bars[s - 1]
    return kept.sqrt() * xs + (1 - kept).sqrt() * eps


def one_step_late(xs, betas, s, t, eps):
    """Your steps are s+2 to t. Python counts from 0, so the step that leaves s has betas[s]."""
    return jump_on(xs, betas, s + 1, t, eps)


def one_step_too_many(xs, betas, s, t, eps):
    """Your product begins one step early, with the step that led to xs. The step that leaves s has
    betas[s], since Python counts from 0."""
    return jump_on(xs, betas, max(s - 1, 0), t, eps)


def last_step_only(xs, betas, s, t, eps):
    """That is a single step, the last one. Between s and t there may be many, and what they keep is
    the product of their 1 - beta."""
    return jump_on(xs, betas, t - 1, t, eps)


def no_square_roots(xs, betas, s, t, eps):
    """Picture and noise are multiplied by variances. Amplitudes are their square roots."""
    kept = (1 - betas[s:t]).prod()
    return kept * xs + (1 - kept) * eps


def betas_summed(xs, betas, s, t, eps):
    """You took 1 minus the sum of the betas. That is close while the betas are tiny, and negative
    when there are many. What the steps keep is the product of their 1 - beta."""
    noise = betas[s:t].sum()
    return (1 - noise).clamp(min=0).sqrt() * xs + noise.sqrt() * eps


def picture_and_noise_exchanged(xs, betas, s, t, eps):
    """The two factors are exchanged: the root of the product goes with the picture."""
    kept = (1 - betas[s:t]).prod()
    return (1 - kept).sqrt() * xs + kept.sqrt() * eps


def jumps():
    betas = torch.tensor([0.19, 0.36, 0.5])
    one, nothing = torch.ones(1), torch.zeros(1)
    few = torch.randn(2, 1, 3, 3), 0.3 * torch.rand(9)
    return [
        (one, betas, 1, 3, nothing),
        (nothing, betas, 1, 3, one),
        (one, betas, 0, 2, nothing),
        (*few, 3, 8, torch.randn(2, 1, 3, 3)),  # an odd number of steps, too
        (*few, 5, 6, torch.randn(2, 1, 3, 3)),
    ]


# ---- 1.5 write: a long step back ---------------------------------------------------------------


def step_back(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t):
    c = alpha_t / alpha_s
    b = sigma_t**2 - (c * sigma_s) ** 2
    return weighed(x0, xt, alpha_s, sigma_s, sigma_t, c, b)


def weighed(x0, xt, alpha_s, sigma_s, sigma_t, c, b):
    mean = alpha_s * b / sigma_t**2 * x0 + c * sigma_s**2 / sigma_t**2 * xt
    return mean, b * sigma_s**2 / sigma_t**2


def beta_where_beta_tilde_belongs(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t):
    """The mean is right. Your variance is b, the variance of the step forward; knowing x0 makes the
    way back less uncertain: multiply by sigma_s² / sigma_t², as in (1.8)."""
    mean, _ = step_back(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t)
    return mean, sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2


def noise_added_is_a_plain_difference(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t):
    """You took sigma_t² - sigma_s² for the noise that the step adds. The noise already present
    shrinks by alpha_t / alpha_s on the way, so the step adds more than that."""
    c, b = alpha_t / alpha_s, sigma_t**2 - sigma_s**2
    return weighed(x0, xt, alpha_s, sigma_s, sigma_t, c, b)


def one_step_keeps_all_of_alpha_t(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t):
    """You let the step from s to t keep alpha_t. That is what all steps from x0 to t keep together;
    this one keeps alpha_t / alpha_s."""
    b = sigma_t**2 - (alpha_t * sigma_s) ** 2
    return weighed(x0, xt, alpha_s, sigma_s, sigma_t, alpha_t, b)


def ratio_not_squared(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t):
    """In b the factor alpha_t / alpha_s scales a variance, so it must be squared (fact 1)."""
    c = alpha_t / alpha_s
    return weighed(x0, xt, alpha_s, sigma_s, sigma_t, c, sigma_t**2 - c * sigma_s**2)


def weights_exchanged(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t):
    """The weights of x0 and xt are exchanged. Check with a tiny step, s close to t: then the mean
    must be close to xt."""
    mean, variance = step_back(xt, x0, alpha_s, sigma_s, alpha_t, sigma_t)
    return mean, variance


def x0_not_faded(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t):
    """The weight of x0 lacks alpha_s: at time s the picture has already faded, to
    alpha_s x0."""
    c = alpha_t / alpha_s
    b = sigma_t**2 - (c * sigma_s) ** 2
    return weighed(x0 / alpha_s, xt, alpha_s, sigma_s, sigma_t, c, b)


def standard_deviation_for_variance(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t):
    """The mean is right. Your second value is the standard deviation; return its square, the
    variance."""
    mean, variance = step_back(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t)
    return mean, variance**0.5


def back_along_the_same_noise(x0, xt, alpha_s, sigma_s, alpha_t, sigma_t):
    """You solved for the noise and re-noised x0 with it. That is a step too (DDIM's, chapter 03),
    but not the mean of this distribution: part of the noise at s is still undecided."""
    eps = (xt - alpha_t * x0) / sigma_t
    return alpha_s * x0 + sigma_s * eps, 0.0


def ways_back():
    one, half = torch.ones(1), torch.full((1,), 0.5)
    few = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    return [
        (one, half, 0.96, 0.28, 0.6, 0.8),  # from (0.6, 0.8) to (0.8, 0.6) alpha_s would be sigma_t
        (one, half, 1.0, 0.0, 0.6, 0.8),
        (*few, 0.8, 0.6, 0.28, 0.96),
    ]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "1.1": Code(
        half_life,
        some_betas,
        "For small betas it is close to 1.4 / beta: at DDPM's last, 0.02, some 70 steps.",
        [
            halved_the_power,
            forgetting_in_a_straight_line,
            good_for_small_beta_only,
            two_kinds_of_logarithm,
            beta_without_the_one,
        ],
        more=drawn_betas,
    ),
    "1.2": Code(
        walk_to,
        walks,
        "The step, (1.1), belongs in a loop; the jump, (1.2), replaces the whole loop.",
        [
            started_again_in_each_step,
            jump_with_the_last_noise_alone,
            noise_without_its_root,
            pull_without_its_root,
            kicks_without_the_pull,
            factors_of_a_step_exchanged,
        ],
        given=planted_jump_in_a_loop,
    ),
    "1.3": Code(
        jump_on,
        jumps,
        "The product over the steps between is alpha_bar_t / alpha_bar_s. You need it in 1.5.",
        [
            from_the_clean_end,
            noise_levels_subtracted,
            no_clean_end_in_the_table,
            one_step_late,
            one_step_too_many,
            last_step_only,
            no_square_roots,
            betas_summed,
            picture_and_noise_exchanged,
        ],
    ),
    "1.4": Choice(
        "d",
        {
            "a": "The noise at the end is 1 minus the product of all 1 - beta, and the order of "
            "the factors doesn't change a product.",
            "b": "The end depends only on the product of all 1 - beta, whatever their order.",
            "c": "The end is the same. But x_t on the way depends on the product of the first t "
            "factors, and after shuffling those are different factors.",
            "d": "The end depends on the product of all 1 - beta, whatever their order; the way "
            "there depends on the products of the first t, and they differ.",
        },
    ),
    "1.5": Code(
        step_back,
        ways_back,
        "With s one step before t these are (1.8) and (1.9); with s = 0 it is x0, without any "
        "spread.",
        [
            beta_where_beta_tilde_belongs,
            noise_added_is_a_plain_difference,
            one_step_keeps_all_of_alpha_t,
            ratio_not_squared,
            weights_exchanged,
            x0_not_faded,
            standard_deviation_for_variance,
            back_along_the_same_noise,
        ],
    ),
}
