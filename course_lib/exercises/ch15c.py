"""Chapter 15c: data augmentation. Small batches and short lists; only the capstone trains."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.datasets.digits import digits
from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.exercises.capstones import shaped
from course_lib.teaching.augmentation import distances, few_digits
from course_lib.teaching.check import Code, Number, Target, Unusable

# ---- 15c.1 write: whole pixels -----------------------------------------------------------------


def moved(images, down, right):
    return F.pad(images, (right, -right, down, -down), value=-1.0)


def wrapped_around(images, down, right):
    """What leaves on one side comes back on the other: that is `torch.roll`. Strokes would appear
    where no digit has them. Fill with background."""
    return images.roll((down, right), dims=(2, 3))


def filled_with_grey(images, down, right):
    """You fill with 0, which is mid-grey: pixels go from -1 to 1, and background is -1."""
    return F.pad(images, (right, -right, down, -down), value=0.0)


def axes_exchanged(images, down, right):
    """You exchanged the axes. Dimension 2 counts rows, from the top; dimension 3 counts columns."""
    return moved(images, right, down)


def the_other_way(images, down, right):
    """Your digits move up and left: the sign is reversed."""
    return moved(images, -down, -right)


def one_sided(images, down, right):
    """That works for moves down and right only. Negative numbers move up and left."""
    return moved(images, max(down, 0), max(right, 0))


def images_to_move():
    tiny = torch.tensor([[[[0.5, 1.0], [-0.2, 0.1]]]])
    wide = 2 * torch.rand(3, 1, 5, 7) - 1
    return [(tiny, 0, 1), (wide, 2, -1), (wide, -1, 3), (wide, 1, 0)]


# ---- 15c.2 write: the error of a paired difference ---------------------------------------------


def paired_gain(before, after):
    gains = after - before
    return gains.mean(), gains.std() / len(gains) ** 0.5


def not_paired(before, after):
    """You treat the two lists as independent. They share their seeds: a seed with good real digits
    has a high score in both. Subtract first, so that this cancels."""
    variance = before.var() + after.var()
    return (after - before).mean(), (variance / len(before)) ** 0.5


def spread_not_error(before, after):
    """That is the spread of single gains. Their mean is known better: divide by the square root of
    their number."""
    gains = after - before
    return gains.mean(), gains.std()


def divided_by_the_number(before, after):
    """You divided by the number of seeds. The error of a mean falls with its square root."""
    gains = after - before
    return gains.mean(), gains.std() / len(gains)


def divided_by_n(before, after):
    """Your standard deviation divides by n. The mean is estimated from the same numbers, so divide
    by n - 1, as torch's `std` does by default."""
    gains = after - before
    return gains.mean(), gains.std(correction=0) / len(gains) ** 0.5


def loss_for_gain(before, after):
    """Your sign is reversed: a gain is after minus before."""
    return (before - after).mean(), (before - after).std() / len(before) ** 0.5


def scores_in_pairs():
    five = (
        torch.tensor([0.80, 0.70, 0.75, 0.85, 0.90]),
        torch.tensor([0.84, 0.73, 0.80, 0.86, 0.95]),
    )
    base = torch.rand(9)
    return [five, (base, base + 0.05 * torch.randn(9) - 0.1), (torch.rand(4), torch.rand(4))]


# ---- 15c.3 debug: the share of copies ----------------------------------------------------------


def share_of_copies(synthetic, training, held_out):
    found = torch.cdist(synthetic, training).min(dim=1).values
    limit = torch.cdist(held_out, training).min(dim=1).values.quantile(0.1)
    return (found < limit).float().mean()


def planted_training_with_itself(synthetic, training, held_out):
    found = torch.cdist(synthetic, training).min(dim=1).values
    limit = torch.cdist(training, training).min(dim=1).values.quantile(0.1)
    return (found < limit).float().mean()


def nearest_held_out(synthetic, training, held_out):
    """You look for the nearest *held-out* digit. A copy is near to a digit of the training set."""
    found = torch.cdist(synthetic, held_out).min(dim=1).values
    limit = torch.cdist(held_out, training).min(dim=1).values.quantile(0.1)
    return (found < limit).float().mean()


def nearest_synthetic(synthetic, training, held_out):
    """You take for each training digit the nearest synthetic one. The question is asked of each
    synthetic digit: take the minimum over the training digits, dim 1."""
    found = torch.cdist(synthetic, training).min(dim=0).values
    limit = torch.cdist(held_out, training).min(dim=1).values.quantile(0.1)
    return (found < limit).float().mean()


def synthetic_as_yardstick(synthetic, training, held_out):
    """Your limit comes from the synthetic digits themselves, so a tenth of them is below it
    whatever they look like. Take it from real digits that the model has not seen."""
    found = torch.cdist(synthetic, training).min(dim=1).values
    return (found < found.quantile(0.1)).float().mean()


def points_and_near_copies():
    few = torch.tensor([[0.1], [1.5]]), torch.tensor([[0.0], [2.0]]), torch.tensor([[0.7], [2.4]])
    cases = [few]
    for count, width, noise in ((12, 3, 0.02), (30, 4, 0.3), (40, 6, 0.7)):
        training, held_out = torch.randn(count, width), torch.randn(count + 9, width)
        chosen = torch.randint(count, (count // 2 + 5,))
        cases.append(
            (training[chosen] + noise * torch.randn(len(chosen), width), training, held_out)
        )
    return cases


# ---- 15c.5 capstone: a generator from 500 digits -----------------------------------------------


def generate(images, labels, wanted):
    inner = [nn.Linear(64 + 10 + 8, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU()]
    network = nn.Sequential(*inner, nn.Linear(256, 64))

    def x0_at(xt, t, digit):
        waves = [f(torch.pi * k * t) for f in (torch.sin, torch.cos) for k in (0.5, 1, 2, 4)]
        return network(torch.cat([xt, F.one_hot(digit, 10), *waves], dim=1))

    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(600):
        chosen = torch.randint(len(labels), (64,))
        x0, t = images[chosen].flatten(1), torch.rand(64, 1)
        xt = (1 - t) * x0 + t * torch.randn_like(x0)
        loss = (x0_at(xt, t, labels[chosen]) - x0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, times = torch.randn(len(wanted), 64), torch.linspace(1, 0, 21)
    with torch.no_grad():
        for t, s in pairwise(times):
            x0 = x0_at(x, t.expand(len(x), 1), wanted).clamp(-1, 1)
            x = (1 - s) * x0 + s * (x - (1 - t) * x0) / t
    return x.reshape(-1, 1, 8, 8)


def right_and_new(answer):
    """The share of 200 digits that have the right label and aren't copies, from 50 per class."""
    (images, labels), wanted = few_digits(50, seed=20), torch.arange(200) % 10
    drawn = shaped(answer(images, labels, wanted), (200, 1, 8, 8), "the digits")
    everything, theirs = digits(8, "train")
    found = theirs[nearest_neighbours(drawn, everything)[1][:, 0]]
    limit = distances(digits(8, "test")[0], images).quantile(0.01)
    right, new = found == wanted, distances(drawn, images) >= limit
    if new.float().mean() < 0.5:
        raise Unusable(
            f"{1 - new.float().mean():.0%} of your digits are copies of the training digits: "
            "does the sampler start from pure noise, and is the training short?"
        )
    if right.float().mean() < 0.3:
        raise Unusable(
            f"only {right.float().mean():.0%} of your digits have the label that was wanted. Does "
            "the network read it, in training and in sampling?"
        )
    return (right & new).float().mean().item()


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "15c.1": Code(
        moved,
        images_to_move,
        "Background comes in at one side, and what leaves at the other is lost.",
        [wrapped_around, filled_with_grey, axes_exchanged, the_other_way, one_sided],
    ),
    "15c.2": Code(
        paired_gain,
        scores_in_pairs,
        "Pairing removes what both scores share, the luck of the draw.",
        [not_paired, spread_not_error, divided_by_the_number, divided_by_n, loss_for_gain],
    ),
    "15c.3": Code(
        share_of_copies,
        points_and_near_copies,
        "The yardstick is real data that the model has never seen.",
        [nearest_held_out, nearest_synthetic, synthetic_as_yardstick],
        given=planted_training_with_itself,
    ),
    "15c.4": Number(
        0.18,
        "Of 500 digits 90 are labelled wrongly. A fixed share of one half would have limited it to "
        "10 %.",
        within=0.02,
        misconceptions={
            "an equal share": (
                0.10,
                "That holds for batches with an equal share of each source. Here both are poured "
                "into one pool: how many of its 500 digits are wrong?",
            ),
            "the synthetic ones alone": (
                0.20,
                "That is the share among the synthetic digits. The real ones, which are right, are "
                "in the pool too.",
            ),
            "divided by the synthetic ones": (
                0.1 * 0.2,
                "You weighted the wrong labels by the share of *real* digits, one tenth. They are "
                "in the other nine tenths.",
            ),
        },
    ),
    "15c.5": Target(
        generate,
        right_and_new,
        bound=0.85,  # seeds 0, 1, 2: 0.97, 0.98, 0.96
        meaning="the share of digits that are right and new is",
        well_done="A generator of labelled digits from 500 examples, in thirty lines.",
        most=False,
    ),
}
