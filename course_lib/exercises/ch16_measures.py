"""Chapter 16, its second half: whose mark it is, true shares behind a judge's, two detectors."""

import torch

from course_lib.teaching.check import Code, Number

# ---- 16.4 debug: a mark for each customer ------------------------------------------------------


def whose_mark(distances, negatives, fpr):
    limit = negatives.min(dim=1).values.quantile(fpr)
    nearest, customer = distances.min(dim=1)
    return torch.where(nearest < limit, customer, -1)


def planted_limit_for_each(distances, negatives, fpr):
    limits = negatives.quantile(fpr, dim=0)
    nearest, customer = distances.min(dim=1)
    return torch.where(nearest < limits[customer], customer, -1)


def divided_by_the_customers(distances, negatives, fpr):
    """You divided the rate by the number of customers. That keeps the promise (Bonferroni), but it
    misses more marks than it must: a picture that is near to one key is often near to others. Take
    the limit from what decides, the *smallest* distance of each unmarked picture."""
    limits = negatives.quantile(fpr / negatives.shape[1], dim=0)
    nearest, customer = distances.min(dim=1)
    return torch.where(nearest < limits[customer], customer, -1)


def all_distances_in_one_heap(distances, negatives, fpr):
    """You took the limit from all distances together. An unmarked picture is accused if *any* of
    its distances is below the limit, and with many customers that is likely."""
    limit = negatives.flatten().quantile(fpr)
    nearest, customer = distances.min(dim=1)
    return torch.where(nearest < limit, customer, -1)


def mean_over_customers(distances, negatives, fpr):
    """You averaged each unmarked picture's distances. The smallest of them decides whether it is
    accused."""
    limit = negatives.mean(dim=1).quantile(fpr)
    nearest, customer = distances.min(dim=1)
    return torch.where(nearest < limit, customer, -1)


def farthest_key(distances, negatives, fpr):
    """You took the largest distance. A mark is where the distance from the key is *small*."""
    limit = negatives.max(dim=1).values.quantile(1 - fpr)
    farthest, customer = distances.max(dim=1)
    return torch.where(farthest > limit, customer, -1)


def customers_and_negatives():
    cases = []
    for pictures, customers, unmarked, fpr in (
        (3, 2, 4, 0.4),
        (5, 3, 40, 0.1),
        (150, 12, 200, 0.05),
    ):
        alike = 0.3 * torch.randn(unmarked, 1)  # an odd picture is far from every key
        negatives = 2 + alike + 0.3 * torch.randn(unmarked, customers)
        distances = 2 + 0.3 * torch.randn(pictures, 1) + 0.3 * torch.randn(pictures, customers)
        marked = torch.arange(0, pictures, 2)
        distances[marked, torch.randint(customers, marked.shape)] -= torch.rand(len(marked)) * 2
        cases.append((distances, negatives, fpr))
    return cases


# ---- 16.5 write: true shares from a judge's probabilities --------------------------------------


def true_shares(probabilities, prior, rounds):
    shares = prior
    for _ in range(rounds):
        weighted = probabilities * shares / prior  # (B, K)
        posterior = weighted / weighted.sum(dim=1, keepdim=True)
        shares = posterior.mean(dim=0)
    return shares


def one_round_only(probabilities, prior, rounds):
    """This is the plain average of the judge's probabilities, which still assume its prior. Reweigh
    them by the shares that you have found, as a ratio to that prior, and average again. (Did you
    divide by the shares of the round before? Then nothing ever changes: what is inside the
    probabilities stays the prior of the judge's training.)"""
    return probabilities.mean(dim=0)


def prior_kept(probabilities, prior, rounds):
    """You multiplied by the new shares without dividing by the prior, which is already inside the
    judge's probabilities. So it counts twice."""
    shares = prior
    for _ in range(rounds):
        weighted = probabilities * shares
        shares = (weighted / weighted.sum(dim=1, keepdim=True)).mean(dim=0)
    return shares


def not_normalised(probabilities, prior, rounds):
    """After reweighing, the probabilities of a picture no longer sum to 1. Divide each row by its
    sum before you average."""
    shares = prior
    for _ in range(rounds):
        shares = (probabilities * shares / prior).mean(dim=0)
        shares = shares / shares.sum()
    return shares


def rows_and_columns(probabilities, prior, rounds):
    """You normalised over the pictures. The probabilities of *one* picture must sum to 1."""
    shares = prior
    for _ in range(rounds):
        weighted = probabilities * shares / prior
        shares = (weighted / weighted.sum(dim=0, keepdim=True)).mean(dim=0)
    return shares


def verdicts_counted(probabilities, prior, rounds):
    """You counted which class is the most probable. The judge said more than that: how sure it is.
    Use its probabilities."""
    return probabilities.argmax(dim=1).bincount(minlength=len(prior)) / len(probabilities)


def unsure_judges():
    cases = []
    priors = (
        torch.tensor([0.7, 0.3]),
        torch.tensor([0.5, 0.2, 0.3]),
        torch.tensor([0.1, 0.25, 0.4, 0.25]),
    )
    for pictures, prior, rounds in zip((3, 6, 40), priors, (2, 3, 8), strict=True):
        what = torch.rand(len(prior)).multinomial(pictures, replacement=True)
        logits = 1.5 * torch.nn.functional.one_hot(what, len(prior)) + torch.randn(
            pictures, len(prior)
        )
        cases.append((logits.softmax(dim=1), prior, rounds))
    return cases


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "16.4": Code(
        whose_mark,
        customers_and_negatives,
        "The limit comes from what decides: the nearest of all keys. Every customer who is added "
        "makes it stricter.",
        [
            divided_by_the_customers,
            all_distances_in_one_heap,
            mean_over_customers,
            farthest_key,
        ],
        given=planted_limit_for_each,
    ),
    "16.5": Code(
        true_shares,
        unsure_judges,
        "That is expectation maximisation for the shares: the judge's opinions stay, its prior "
        "goes.",
        [
            one_round_only,
            prior_kept,
            not_normalised,
            rows_and_columns,
            verdicts_counted,
        ],
    ),
    "16.6": Number(
        0.61951,
        "0.9² · 0.005 right double alarms against 0.05² · 0.995 wrong ones. The second alarm lifts "
        "8 % to 62 %, if the detectors really err independently.",
        within=0.015,
        misconceptions={
            "one alarm": (
                0.082949,
                "That is one detector's alarm. Both raised one: square both rates first.",
            ),
            "both find it": (
                0.81,
                "That is how probably both raise an alarm *if* a model drew the picture. The "
                "question is the reverse, and there the base rate counts.",
            ),
            "no false alarm": (
                0.9975,
                "You forgot the base rate: 199 of 200 pictures are real, and even a rare mistake "
                "about them adds up.",
            ),
            "two chances": (
                0.15902,
                "You combined two single alarms as if one of them had to be right. Ask instead how "
                "many double alarms there are, right ones and wrong ones.",
            ),
            "only the false alarms squared": (
                0.64403,
                "Only drawn pictures that *both* find raise two alarms: 0.9², not 0.9.",
            ),
        },
    ),
}
