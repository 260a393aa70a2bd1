"""Chapter 16, first half: copies, membership and duplicates. The second half is `ch16_measures`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.datasets.duplicates import near_duplicates
from course_lib.datasets.emoji import Emoji
from course_lib.datasets.emoji.dataset import as_images, pictures
from course_lib.evaluation.memorisation import copy_threshold, distance_ratio
from course_lib.exercises.capstones import shaped
from course_lib.teaching.check import Code, Number, Target, Unusable

# ---- 16.1 write: the area under the ROC curve ---------------------------------------------------


def area_under_roc(members, others):
    gaps = others[None] - members[:, None]  # (M, N)
    return ((gaps > 0).double() + 0.5 * (gaps == 0)).mean()


def large_errors_betray(members, others):
    """The sign is reversed: a model fits what it was trained on better, so it is the *smaller*
    error that suggests a member."""
    return 1 - area_under_roc(members, others)


def ties_are_lost(members, others):
    """You count ties as wrong. Whoever can't tell two pictures apart guesses, and is right half of
    the time: a tie counts one half."""
    return (others[None] > members[:, None]).double().mean()


def ties_are_won(members, others):
    """You count ties as right. Whoever can't tell two pictures apart guesses, and is right half of
    the time: a tie counts one half."""
    return (others[None] >= members[:, None]).double().mean()


def pair_by_pair(members, others):
    """You compare the first member with the first other, and so on. Compare every member with every
    other: M times N pairs."""
    count = min(len(members), len(others))
    gaps = others[:count] - members[:count]
    return ((gaps > 0).double() + 0.5 * (gaps == 0)).mean()


def accuracy_at_the_median(members, others):
    """That is the accuracy at one threshold, the median of all errors. The AUC needs no threshold:
    it compares every member with every other."""
    limit = torch.cat([members, others]).median()
    right = torch.cat([members < limit, others >= limit])
    return right.double().mean()


def errors_of_both():
    tiny = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.5, 0.7])
    grid = [torch.randint(0, 9, (n,)) / 8 for n in (7, 12)]
    return [tiny, (torch.rand(9), torch.rand(14) + 0.3), tuple(grid)]


# ---- 16.2 debug: a ratio that isn't blind to duplicates -----------------------------------------


def ratio_to_a_rival(samples, training, groups):
    distances = torch.cdist(samples, training)  # (B, N)
    nearest, place = distances.min(dim=1)
    same = groups == groups[place][:, None]  # (B, N)
    second = distances.masked_fill(same, torch.inf).min(dim=1).values
    return nearest / second


def planted_blind_ratio(samples, training, groups):
    distances = torch.cdist(samples, training)
    nearest, second = distances.topk(2, largest=False).values.unbind(dim=1)
    return nearest / second


def only_the_first_of_each_group(samples, training, groups):
    """You threw pictures away before you looked for the nearest. A copy of the second of two near
    duplicates is now compared with the first, and seems farther away than it is. Keep all of them
    for the nearest, and leave out the whole group for the second."""
    firsts = torch.tensor([int((groups == g).nonzero()[0]) for g in groups.unique()])
    return planted_blind_ratio(samples, training[firsts], groups)


def the_same_group_only(samples, training, groups):
    """The other way round: you look for the second *within* the group of the nearest picture. It
    must be looked for outside."""
    distances = torch.cdist(samples, training)
    nearest, place = distances.min(dim=1)
    other = groups != groups[place][:, None]
    other[torch.arange(len(samples)), place] = True
    second = distances.masked_fill(other, torch.inf).min(dim=1).values
    return nearest / second


def turned_over(samples, training, groups):
    """You divide the second distance by the first. A copy must have a ratio near 0, not a large
    one."""
    return 1 / ratio_to_a_rival(samples, training, groups)


def second_is_the_mean(samples, training, groups):
    """You divide by the mean distance to the other groups. The question is whether one picture is
    much nearer than its *closest* rival, so take the minimum."""
    distances = torch.cdist(samples, training)
    nearest, place = distances.min(dim=1)
    other = groups != groups[place][:, None]
    return nearest / ((distances * other).sum(1) / other.sum(1))


def copies_of_duplicates():
    few = torch.tensor([[0.0, 0.0], [4.0, 1.0], [4.0, 1.5], [0.0, 9.0]])
    cases = [(torch.tensor([[4.0, 1.4], [1.0, 2.0]]), few, torch.tensor([0, 1, 1, 2]))]
    for count, width in ((7, 3), (12, 5)):
        training = torch.randn(count, width)
        again = training[:4] + 0.05 * torch.randn(4, width)
        samples = torch.cat([again + 0.02 * torch.randn(4, width), torch.randn(5, width)])
        groups = torch.cat([torch.arange(count), torch.arange(4)])
        order = torch.randperm(count + 4)
        cases.append((samples, torch.cat([training, again])[order], groups[order]))
    return cases


# ---- 16.7 capstone: an audit --------------------------------------------------------------------

TRAINING, DUPLICATED, HELD_OUT, PLANTED, FRESH = 300, 60, 600, 120, 200
ALLOWED = 0.05  # of the fresh drawings may be accused: 10 of 200


def find_copies(samples, training, held_out):
    groups = near_duplicates(((training + 1) * 127.5).round().byte()).tolist()
    firsts = sorted({group: i for i, group in reversed(list(enumerate(groups)))}.values())
    unique = training[firsts]
    return distance_ratio(samples, unique) < copy_threshold(held_out, unique)


def drawings(count: int) -> Tensor:
    """Different drawings at 32 pixels, in random order: (count, 3, 32, 32) in [-1, 1]."""
    examples = Emoji(32).examples
    chosen = torch.randperm(len(examples))[: count + count // 10].tolist()
    pixels = [pictures(examples[i][1])[examples[i][0]] for i in chosen]
    images = as_images(pixels, 32)
    groups = near_duplicates(((images + 1) * 127.5).round().byte()).tolist()
    firsts = {group: i for i, group in reversed(list(enumerate(groups)))}
    return images[sorted(firsts.values())[:count]]


def saved_again(images: Tensor) -> Tensor:
    """Near duplicates: softer, a little paler."""
    return 1 - 0.97 * (1 - 0.8 * images - 0.2 * soft(images))


def copied(images: Tensor) -> Tensor:
    """As a model copies: softer, paler by chance, with a little noise."""
    paler = 0.85 + 0.15 * torch.rand(len(images), 1, 1, 1)
    drawn = 1 - paler * (1 - 0.5 * images - 0.5 * soft(images))
    return (drawn + 0.05 * torch.randn_like(drawn)).clamp(-1, 1)


def soft(images: Tensor) -> Tensor:
    """Each pixel is the mean of its 3 x 3 neighbours, with white around the picture."""
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), value=1.0), 3, stride=1)


def planted_set() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples, training and held-out drawings, and which samples are copies."""
    training, held_out, fresh = drawings(TRAINING + HELD_OUT + FRESH).split(
        [TRAINING, HELD_OUT, FRESH]
    )
    half = PLANTED // 2
    originals = torch.cat([training[:half], training[DUPLICATED : DUPLICATED + half]])
    samples = torch.cat([copied(originals), fresh])
    is_copy = torch.arange(len(samples)) < PLANTED
    entries = torch.cat([training, saved_again(training[:DUPLICATED])])
    order, places = torch.randperm(len(samples)), torch.randperm(len(entries))
    return samples[order], entries[places], held_out, is_copy[order]


def copies_found(answer) -> float:
    """The share of planted copies that an audit finds, if it accuses few fresh drawings."""
    samples, training, held_out, is_copy = planted_set()
    given = answer(samples.clone(), training.clone(), held_out.clone())
    said = shaped(torch.as_tensor(given), (len(samples),), "the verdicts").bool()
    accused = said[~is_copy].float().mean().item()
    if accused > ALLOWED:
        raise Unusable(
            f"you accuse {accused:.0%} of {FRESH} drawings that nobody copied, and at most "
            f"{ALLOWED:.0%} are allowed: where does your limit come from?"
        )
    return said[is_copy].float().mean().item()


# ---- the chapter --------------------------------------------------------------------------------

EXERCISES = {
    "16.1": Code(
        area_under_roc,
        errors_of_both,
        "One number without a threshold: 0.5 for a model that betrays nobody, 1 for one that "
        "betrays all.",
        [large_errors_betray, ties_are_lost, ties_are_won, pair_by_pair, accuracy_at_the_median],
    ),
    "16.2": Code(
        ratio_to_a_rival,
        copies_of_duplicates,
        "The rival must be another picture, not the same one saved again.",
        [only_the_first_of_each_group, the_same_group_only, turned_over, second_is_the_mean],
        given=planted_blind_ratio,
    ),
    "16.3": Number(
        16.8,
        "1,344 times before and 80 times after. The files that remain share the steps, so the "
        "factor is less than 21.",
        within=0.02,
        misconceptions={
            "the number of copies": (
                21,
                "Deduplication also makes the set smaller, from 5,000 files to 4,000, and with "
                "equally many steps each file that remains comes more often than before.",
            ),
            "the files that were removed": (
                20,
                "You counted the files that were removed. Compare how often the picture is seen: "
                "steps × batch / files × its files, before and after.",
            ),
            "the wrong way round": (
                26.25,
                "You multiplied by 5,000 / 4,000. A smaller set brings each file more often, so it "
                "lowers the factor.",
            ),
            "the set's shrinking alone": (
                1.25,
                "That is by how much *every* file is seen more often in the smaller set.",
            ),
        },
    ),
    "16.7": Target(
        find_copies,
        copies_found,
        bound=0.85,  # seeds 0, 1, 2, 3: 0.99, 0.97, 0.99, 0.95
        meaning="the share of planted copies that your audit finds is",
        well_done="Deduplicate, compare, take the limit from real drawings: that is an audit.",
        most=False,
    ),
}
