"""Chapter 15c: data augmentation. Small batches and short lists; only the capstone trains."""

import torch
import torch.nn.functional as F

from course_lib.datasets.digits import digits
from course_lib.teaching.augmentation import classifier, few_digits
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


def held_out_with_itself(synthetic, training, held_out):
    """Among themselves, each held-out digit has distance 0 to itself, so your limit is 0 again. Ask
    how far they are from the *training* digits."""
    found = torch.cdist(synthetic, training).min(dim=1).values
    limit = torch.cdist(held_out, held_out).min(dim=1).values.quantile(0.1)
    return (found < limit).float().mean()


def points_and_near_copies():
    cases = []
    for count, width, noise in ((12, 3, 0.02), (30, 4, 0.3), (40, 6, 0.7)):
        training, held_out = torch.randn(count, width), torch.randn(count + 9, width)
        chosen = torch.randint(count, (count // 2 + 5,))
        cases.append(
            (training[chosen] + noise * torch.randn(len(chosen), width), training, held_out)
        )
    return cases


# ---- 15c.5 capstone: a hundred digits, one classifier ------------------------------------------


def learn(images, labels):
    model = classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(400):
        chosen = torch.randint(len(labels), (64,))
        angle = 0.35 * (2 * torch.rand(64) - 1)
        shift = 0.35 * (2 * torch.rand(64, 2) - 1)
        size = 1 + 0.15 * (2 * torch.rand(64) - 1)
        cos, sin = size * angle.cos(), size * angle.sin()
        rows = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], 1)
        grid = F.affine_grid(rows.reshape(64, 2, 3), (64, 1, 8, 8), align_corners=False)
        batch = F.grid_sample(images[chosen] + 1, grid, align_corners=False) - 1
        loss = F.cross_entropy(model(batch), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def accuracy_with_ten_of_each(answer):
    """The mean over three draws of ten real digits per class."""
    images, labels = digits(8, "test")
    right = []
    for seed in (10, 11, 12):
        logits = answer(*few_digits(10, seed))(images)
        if not isinstance(logits, torch.Tensor) or logits.shape != (len(labels), 10):
            raise Unusable("the classifier must return logits (B, 10) for images (B, 1, 8, 8).")
        right.append((logits.argmax(1) == labels).float().mean())
    return torch.stack(right).mean().item()


def never_trained(answer):
    """Your classifier is right on fewer than 3 in 10 of the digits that it was given: it isn't
    trained. Does the loop call backward and step, and do you return the model that it trained?"""
    images, labels = few_digits(10, 0)
    return (answer(images, labels)(images).argmax(1) == labels).float().mean().item() < 0.3


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
        [nearest_held_out, nearest_synthetic, synthetic_as_yardstick, held_out_with_itself],
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
        learn,
        accuracy_with_ten_of_each,
        bound=0.9,
        meaning="the mean accuracy on held-out digits is",
        well_done="A hundred labelled digits, and the right idea of what may change in them.",
        most=False,
        misconceptions=[never_trained],
    ),
}
