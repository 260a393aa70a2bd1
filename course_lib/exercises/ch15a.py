"""Chapter 15a: masked diffusion. Sequences of a few tokens, so checks are instant."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from course_lib.exercises.capstones import shaped
from course_lib.models import SequenceTransformer
from course_lib.teaching.check import Choice, Code, Number, Target, Unusable

# ---- 15a.1 write: lifting a mask under any schedule --------------------------------------------


def lift_probability(alpha_t, alpha_s):
    return (alpha_s - alpha_t) / (1 - alpha_t)


def not_given_that_it_is_masked(alpha_t, alpha_s):
    """That is the share of *all* tokens that are masked at t and no longer at s. You know that this
    one is masked at t: divide by the probability of that, 1 - alpha_t."""
    return alpha_s - alpha_t


def divided_by_what_is_kept(alpha_t, alpha_s):
    """You divided by alpha_t, the probability of *not* being masked at t. The condition is that the
    token is masked at t."""
    return (alpha_s - alpha_t) / alpha_t


def divided_at_s(alpha_t, alpha_s):
    """You divided by the probability of a mask at s. What you know is x_t: divide by the
    probability of a mask at t."""
    return (alpha_s - alpha_t) / (1 - alpha_s)


def probability_of_staying(alpha_t, alpha_s):
    """That is the probability that the mask stays. Lifting it is the other case: 1 minus that."""
    return (1 - alpha_s) / (1 - alpha_t)


def marginal_at_s(alpha_t, alpha_s):
    """alpha_s is the probability of no mask at s if nothing is known about t. Here the token is
    known to be masked at t."""
    return alpha_s


def pairs_of_alphas():
    return [
        (0.2, 0.6),
        (0.0, 0.25),
        (0.55, 1.0),
        (torch.tensor([0.1, 0.3]), torch.tensor([0.4, 0.9])),
    ]


def drawn_alphas():
    return [tuple(pair) for pair in torch.rand(4, 2).sort(dim=1).values.tolist()]


# ---- 15a.2 write: the bound by counting masks --------------------------------------------------


def bound_by_count(nats, hidden):
    length, masks = hidden.shape[1], hidden.sum(dim=1)
    return length * (hidden * nats).sum(dim=1) / masks


def mean_over_the_masks(nats, hidden):
    """That is the mean over the masked tokens, so the bound of *one* token. A sequence has as many
    terms as tokens: multiply by the length."""
    return (hidden * nats).sum(dim=1) / hidden.sum(dim=1)


def sum_over_the_masks(nats, hidden):
    """You added up the masked tokens without a weight. With few masks most of the sequence is given
    away for nothing: each masked token stands for length / masks of them."""
    return (hidden * nats).sum(dim=1)


def visible_tokens_counted(nats, hidden):
    """You took the visible tokens into the sum as well. The network reads them, so predicting them
    is no achievement. Only what is hidden counts."""
    return hidden.shape[1] * nats.sum(dim=1) / hidden.sum(dim=1)


def one_count_for_the_batch(nats, hidden):
    """You divided by the masks of the whole batch. Each sequence has its own number of them."""
    return hidden.shape[1] * (hidden * nats).sum(dim=1) / hidden.sum()


def divided_by_what_is_visible(nats, hidden):
    """You divided by the number of visible tokens. It is the number of masked ones."""
    return hidden.shape[1] * (hidden * nats).sum(dim=1) / (~hidden).sum(dim=1)


def nats_with_masks():
    small = torch.tensor([[0.5, 2.0, 1.0]]), torch.tensor([[True, False, True]])
    hidden = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 1, 0], [0, 1, 1, 1, 1]]).bool()
    return [small, (torch.rand(3, 5) + 0.5, hidden)]


# ---- 15a.3 debug: a step of the sampler --------------------------------------------------------


def lift(x, x0, draws, t, s, mask):
    lifted = (x == mask) & (draws < (t - s) / t)
    return torch.where(lifted, x0, x)


def planted_step(x, x0, draws, t, s, mask):
    lifted = draws < (t - s)
    return torch.where(lifted, x0, x)


def visible_tokens_redrawn(x, x0, draws, t, s, mask):
    """The probability is right now, but tokens that are already visible are still replaced. Masked
    diffusion never changes its mind: lift masks only."""
    return torch.where(draws < (t - s) / t, x0, x)


def steps_too_small(x, x0, draws, t, s, mask):
    """Visible tokens stay now, but the probability is wrong: after the last step masks are left
    over. At s = 0 every mask must be lifted."""
    return torch.where((x == mask) & (draws < t - s), x0, x)


def lifted_above(x, x0, draws, t, s, mask):
    """You lift where the draw lies *above* (t - s) / t, which has the probability s / t: that is
    the one of staying."""
    return torch.where((x == mask) & (draws > (t - s) / t), x0, x)


def divided_by_s(x, x0, draws, t, s, mask):
    """You divided by s, which is 0 in the last step. Divide by t: the token is masked at t."""
    return torch.where((x == mask) & (draws < (t - s) / max(s, 1e-9)), x0, x)


def all_at_once(x, x0, draws, t, s, mask):
    """You lift all masks at once. Then no token can depend on another one: lift each with
    probability (t - s) / t."""
    return torch.where(x == mask, x0, x)


def half_lifted_sequences():
    x = torch.tensor([[4, 1, 4, 4]])
    few = x, torch.tensor([[0, 2, 3, 1]]), torch.tensor([[0.3, 0.1, 0.7, 0.45]])
    last = x, torch.tensor([[2, 3, 1, 0]]), torch.tensor([[0.2, 0.6, 0.95, 0.999]])
    many = torch.randint(5, (3, 20)), torch.randint(4, (3, 20)), torch.rand(3, 20)
    return [(*few, 0.8, 0.4, 4), (*last, 0.25, 0.0, 4), (*many, 0.6, 0.5, 4)]


# ---- 15a.6 capstone: brackets ------------------------------------------------------------------

PAIRS = 4  # of brackets in a string


def balanced_strings(pairs: int = PAIRS) -> torch.Tensor:
    """All strings of that many pairs of brackets that close as they open: 0 is "(", 1 is ")"."""
    rows = torch.cartesian_prod(*[torch.arange(2)] * (2 * pairs))
    return rows[is_balanced(rows)]


def is_balanced(rows: torch.Tensor) -> torch.Tensor:
    """Whether no bracket closes before it opens, and all are closed at the end: (N, L) -> (N,)."""
    depth = (1 - 2 * rows).cumsum(dim=1)
    return (depth >= 0).all(dim=1) & (depth[:, -1] == 0)


def learn_brackets(network, data, mask, steps, count):
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        x0 = data[torch.randint(len(data), (64,))]
        t = 1 - torch.rand(64, 1)
        hidden = torch.rand(x0.shape) < t
        logits = network(torch.where(hidden, mask, x0))
        nats = F.cross_entropy(logits.mT, x0, reduction="none")
        loss = ((hidden * nats).sum(1) / t[:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    length = data.shape[1]
    x = torch.full((count, length), mask)
    with torch.no_grad():
        for _ in range(length):  # lift one mask at a time, at a random place
            x0 = network(x).softmax(2).flatten(0, 1).multinomial(1).view_as(x)
            place = ((x == mask) + torch.rand(x.shape)).argmax(1, keepdim=True)
            x = x.scatter(1, place, x0.gather(1, place))
    return x


def bracket_network() -> SequenceTransformer:
    torch.manual_seed(0)
    return SequenceTransformer(vocab_size=2, length=2 * PAIRS, dim=32, layers=2, heads=2)


def drawn_strings(answer: Callable) -> torch.Tensor:
    return answer(bracket_network(), balanced_strings(), 2, 400, 400)


def share_balanced(drawn: torch.Tensor) -> float:
    drawn = shaped(drawn, (400, 2 * PAIRS), "the strings")
    different = len(drawn.unique(dim=0))  # 14 of all strings are balanced
    if different < 8:
        raise Unusable(f"only {different} different strings among 400.")
    return is_balanced(drawn).float().mean().item()


def masks_left_over(answer: Callable) -> bool:
    """Masks are left in the strings that you return. The last step must lift every one."""
    return (answer(bracket_network(), balanced_strings(), 2, 2, 20) == 2).any()


def network_not_trained(answer: Callable) -> bool:
    """The network's weights don't change. Does each step call `backward()` and the optimizer's
    `step()`?"""
    network = bracket_network()
    before = [weight.clone() for weight in network.parameters()]
    answer(network, balanced_strings(), 2, 2, 20)
    return all(map(torch.equal, before, network.parameters()))


# ---- the chapter -------------------------------------------------------------------------------

UNTRAINED = 40 * math.log(12)  # nats: 40 tokens out of 12, all equally likely

EXERCISES = {
    "15a.1": Code(
        lift_probability,
        pairs_of_alphas,
        "With alpha = 1 - t it is (t - s) / t, equation (15a.2).",
        [
            not_given_that_it_is_masked,
            divided_by_what_is_kept,
            divided_at_s,
            probability_of_staying,
            marginal_at_s,
        ],
        more=drawn_alphas,
    ),
    "15a.2": Code(
        bound_by_count,
        nats_with_masks,
        "No time is left in it: the number of masks is what the time was for.",
        [
            mean_over_the_masks,
            sum_over_the_masks,
            visible_tokens_counted,
            one_count_for_the_batch,
            divided_by_what_is_visible,
        ],
    ),
    "15a.3": Code(
        lift,
        half_lifted_sequences,
        "What is visible stays, and at s = 0 no mask is left.",
        [visible_tokens_redrawn, steps_too_small, lifted_above, divided_by_s, all_at_once],
        given=planted_step,
    ),
    "15a.4": Number(
        UNTRAINED,
        "40 · log 12 nats, as for any model that finds all strings equally likely. On average only "
        "half of the tokens are masked, and the weight 1/t makes up for exactly that.",
        within=0.01,
        misconceptions={
            "half of the tokens": (
                UNTRAINED / 2,
                "You counted the masked tokens, half of all on average, without their weight 1/t. "
                "At time t there are 40 · t masks, each of them weighted by 1/t.",
            ),
            "one token": (
                math.log(12),
                "That is the cross-entropy of one token. The bound is one for the whole sequence.",
            ),
            "bits": (
                40 * math.log2(12),
                "That is the number in bits. The loss uses natural logarithms: nats.",
            ),
            "the mask as a thirteenth token": (
                40 * math.log(13),
                "You counted the mask as a token that the network may predict. It has a logit for "
                "each of the 12 clean tokens only.",
            ),
        },
    ),
    "15a.5": Choice(
        "b",
        {
            "a": "Few of its strings are copies, and a copy would be valid. Look at what the masks "
            "hide from each other.",
            "b": "In one step all tokens are drawn at the same time, each by itself. The network "
            "knows how often a ring is open, but not whether its partner is being closed, so "
            "brackets and ring digits match by luck only. This is the gap between the bound with "
            "few steps and with many in section 5.",
            "c": "The network isn't worse at t = 1, and it was trained there as often as at any "
            "other time. Each token's distribution is right; they are just not drawn together.",
            "d": "The length is no problem: ends are tokens like the others. Think of two tokens "
            "that must agree, such as the digits of a ring.",
        },
    ),
    "15a.6": Target(
        learn_brackets,
        drawn_strings,
        bound=0.85,  # five seeds of the reference reach 0.9: tests/exercises/test_ch15a.py
        meaning="the share of balanced strings is",
        well_done="A loss in four lines and a sampler in four: that is all of masked diffusion.",
        most=False,
        misconceptions=[masks_left_over, network_not_trained],
        measure=share_balanced,
    ),
}
