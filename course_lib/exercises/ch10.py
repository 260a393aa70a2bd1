"""Chapter 10: real pictures. Lists of pairs and names; only the capstone trains."""

import zlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.datasets.emoji import COMMON, Emoji
from course_lib.exercises.capstones import shaped
from course_lib.teaching.check import Choice, Code, Number, Target, Unusable

# ---- 10.1 write: families of near duplicates ---------------------------------------------------


def join_families(count, pairs):
    family = list(range(count))
    for i, j in pairs:
        low, high = sorted((family[i], family[j]))
        family = [low if each == high else each for each in family]
    return family


def only_its_own_pairs(count, pairs):
    """You look at each picture's own pairs only. If a is near b and b is near c, then all three are
    one family, although a and c may look different."""
    family = list(range(count))
    for i, j in pairs:
        family[i], family[j] = min(family[i], j), min(family[j], i)
    return family


def one_pass(count, pairs):
    """You change only the two pictures of a pair. When two families meet, every member of the one
    must move to the other."""
    family = list(range(count))
    for i, j in pairs:
        family[i] = family[j] = min(family[i], family[j])
    return family


def largest_member(count, pairs):
    """Your families are right, but you named each by its largest number. The smallest was asked
    for."""
    smallest = join_families(count, pairs)
    return [max(i for i in range(count) if smallest[i] == name) for name in smallest]


def numbered_in_order(count, pairs):
    """Your families are right, but you numbered them 0, 1, 2, … A family is named by its smallest
    member, so that adding a picture at the end renames nothing."""
    smallest = join_families(count, pairs)
    names = sorted(set(smallest))
    return [names.index(name) for name in smallest]


def pairs_of_pictures():
    chain = 5, [(3, 4), (1, 4)]  # 1, 3 and 4 are one family
    meeting = 8, [(5, 2), (7, 6), (2, 6), (1, 3)]
    many = 30, torch.randint(30, (18, 2)).tolist()
    return [chain, meeting, many, (4, [])]


# ---- 10.2 write: the bootstrap over concepts ---------------------------------------------------


def bootstrap_means(values, concepts, draws):
    member = F.one_hot(concepts).float()  # (N, K)
    return (values @ member)[draws].sum(1) / member.sum(0)[draws].sum(1)


def mean_of_means(values, concepts, draws):
    """You averaged the concepts' means, so a concept with one picture counts as much as one with
    four. Divide the sum of all drawn values by the number of drawn pictures."""
    member = F.one_hot(concepts).float()
    return ((values @ member) / member.sum(0))[draws].mean(1)


def always_divided_by_all(values, concepts, draws):
    """You divided by the number of all pictures. A resample that drew large concepts has more
    pictures than that: divide by its own number."""
    return (values @ F.one_hot(concepts).float())[draws].sum(1) / len(values)


def each_concept_once(values, concepts, draws):
    """A concept that was drawn twice counts twice. You took it once."""
    taken = torch.stack([(row[:, None] == concepts).any(0) for row in draws]).float()
    return (taken * values).sum(1) / taken.sum(1)


def pictures_drawn(values, concepts, draws):
    """You used the draws as numbers of pictures. They are numbers of concepts: all pictures of a
    drawn concept come along."""
    return values[draws].mean(1)


def values_and_draws():
    small = torch.tensor([1.0, 0.0, 1.0, 0.5]), torch.tensor([0, 1, 1, 1])
    cases = [(*small, torch.tensor([[0, 0], [0, 1], [1, 1]]))]
    for concepts_count, pictures in ((5, 14), (9, 40)):
        more = torch.randint(concepts_count, (pictures - concepts_count,))
        member = torch.cat([torch.arange(concepts_count), more])  # every concept has a picture
        draws = torch.randint(concepts_count, (6, concepts_count))
        cases.append((torch.rand(pictures), member, draws))
    return cases


# ---- 10.3 debug: a split that leaks ------------------------------------------------------------


def held_out(names, families, percent):
    return [zlib.crc32(family.encode()) % 100 < percent for family in families]


def planted_split_by_name(names, families, percent):
    import zlib  # as in the reader's cell, which stands alone

    return [zlib.crc32(name.encode()) % 100 < percent for name in names]


def by_both(names, families, percent):
    """You mixed the name into the hash, so the members of a family still get places of their own.
    Only the family may decide."""
    both = zip(names, families, strict=True)
    return [zlib.crc32((family + name).encode()) % 100 < percent for name, family in both]


def any_member(names, families, percent):
    """No family is split now. But you hold out a family if *any* of its names falls below the
    limit, so large families are held out more often. Take one place for each family."""
    named = zip(names, families, strict=True)
    out = {family for name, family in named if zlib.crc32(name.encode()) % 100 < percent}
    return [family in out for family in families]


def training_marked(names, families, percent):
    """No family is split now, but your True marks the training pictures. It should mark the
    held-out ones."""
    return [zlib.crc32(family.encode()) % 100 >= percent for family in families]


def every_hundredth(names, families, percent):
    """You hold out one place in a hundred more than asked for: of the places 0 to 99, take those
    *below* the limit."""
    return [zlib.crc32(family.encode()) % 100 <= percent for family in families]


def names_and_families():
    who = ["person", "man", "woman"]
    things = ["cook", "farmer", "singer", "pilot", "judge", "guard", "student", "teacher"]
    people = [(f"{one} {thing}", f"person {thing}") for thing in things for one in who]
    fruit = [(f"fruit {n}", f"fruit {n}") for n in range(40)]
    cases = []
    for pairs, percent in ((people[:6], 50), (people, 30), (people + fruit, 20)):
        names, groups = map(list, zip(*pairs, strict=True))
        places = sorted({zlib.crc32(group.encode()) % 100 for group in groups})
        cases += [(names, groups, percent), (names, groups, places[len(places) // 3])]
    return cases


def more_names_and_families():
    numbers = torch.randint(10**6, (60,)).tolist()
    return [([f"picture {n}" for n in numbers], [f"set {n % 17}" for n in numbers], 25)]


# ---- 10.6 capstone: a judge of three studios ---------------------------------------------------


def train_judge(images, studios):
    network = nn.Sequential(
        *(nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(48, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 3)),
    )
    steps = 300
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,))
        shift = torch.randint(-2, 3, (2,)).tolist()
        loss = F.cross_entropy(network(images[chosen].roll(shift, (2, 3))), studios[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    return lambda pictures: network(pictures).argmax(1)


def drawings(split: str, count: int) -> tuple[Tensor, Tensor]:
    """`count` drawings by each of three studios at 32 pixels, and the studios' numbers."""
    images = [Emoji(32, split, studios=[studio]).batch(range(count))[0] for studio in COMMON]
    return torch.cat(images), torch.arange(len(COMMON)).repeat_interleave(count)


def named_studios(answer) -> Tensor:
    """Trains the judge on 1,200 drawings; what it says about 240 of held-out concepts."""
    judge = answer(*drawings("train", 400))
    if not callable(judge):
        raise Unusable("train_judge must return a function from pictures to studios.")
    with torch.no_grad():
        return shaped(judge(drawings("new concepts", 80)[0]), (240,), "what the judge says")


def share_named(said: Tensor) -> float:
    """The share of right studios; Unusable for an answer that can't be a judge's."""
    if said.is_floating_point() or not ((said >= 0) & (said < len(COMMON))).all():
        raise Unusable("the judge must return whole numbers: 0, 1 or 2 for each picture.")
    if (said == said[0]).all():
        raise Unusable(f"your judge says {said[0].item()} of every picture.")
    return (said == drawings("new concepts", 80)[1]).float().mean().item()


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "10.1": Code(
        join_families,
        pairs_of_pictures,
        "Near duplicates of near duplicates are one family: that is a union-find.",
        [only_its_own_pairs, one_pass, largest_member, numbered_in_order],
    ),
    "10.2": Code(
        bootstrap_means,
        values_and_draws,
        "The spread of these means is the error bar, without any formula for the variance.",
        [mean_of_means, always_divided_by_all, each_concept_once, pictures_drawn],
    ),
    "10.3": Code(
        held_out,
        names_and_families,
        "A family decides as one, and always in the same way, however many pictures are added.",
        [by_both, any_member, training_marked, every_hundredth],
        given=planted_split_by_name,
        more=more_names_and_families,
    ),
    "10.4": Number(
        0.18 / 1.1,
        "200 of 1,100 pictures have a twin, and nine in ten of these twins are in training: 16 % "
        "of your test can be answered by looking it up.",
        within=0.03,
        misconceptions={
            "all twins": (
                2 / 11,
                "18 % of the pictures have a twin, and 18 % of the *pairs* are torn apart. The "
                "question is about held-out pictures whose twin is in training: most have no twin, "
                "and one twin in ten is held out as well.",
            ),
            "one of each pair": (
                0.09 / 1.1,
                "You counted 100 pictures with a twin. Both of a pair have one: 200.",
            ),
        },
    ),
    "10.5": Choice(
        "b",
        {
            "a": "Nor is noise a copy, and noise lies far from everything. A large distance says "
            "that nothing was copied, not that anything was learned.",
            "b": "Distance rules out copies and nothing else. Whether the pictures show what they "
            "should, a judge must say; read both together.",
            "c": "Copies lie *nearer* than real held-out pictures do, whatever the judge.",
            "d": "Root-mean-square distances at 32 pixels are crude, but a copy has distance 0 in "
            "any metric. They answer this question.",
        },
    ),
    "10.6": Target(
        train_judge,
        named_studios,
        bound=0.65,  # seeds 0, 1, 2: 0.758, 0.758, 0.762
        meaning="the share of held-out drawings whose studio is named is",
        well_done="A judge that never saw these concepts knows who drew them.",
        most=False,
        measure=share_named,
    ),
}
