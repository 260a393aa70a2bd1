"""What a data set holds, counted in the data: for the data statements of `course card`.

    data_facts("digits")["images"]     # '1,797'

Where a data set is endless, the counts are of its first examples, and say so.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache

import torch

from course_lib.common.registry import choose
from course_lib.datasets.digits import digits
from course_lib.datasets.emoji.captions import words
from course_lib.datasets.emoji.concepts import SIZE, SPLITS, concepts, split_of
from course_lib.datasets.molecules import PROPERTIES, TOKENS, molecules, pieces
from course_lib.datasets.phantoms import phantoms
from course_lib.datasets.scenes import Scenes
from course_lib.datasets.scenes.dataset import HELD_OUT_PAIRS
from course_lib.datasets.scenes.grammar import COLOURS, SHAPES, SIZES
from course_lib.datasets.scenes.review import WORDS

FIRST = 1000  # captions of the endless scenes
DRAWN = 100  # phantoms
Facts = dict[str, int | str]


def digits_facts() -> Facts:
    images, labels = digits(8)
    each = labels.bincount()
    return {
        "images": len(images),
        "train": len(digits(8, "train")[0]),
        "test": len(digits(8, "test")[0]),
        "width": images.shape[-1],
        "levels": len(images.unique()),
        "fewest of a digit": each.min().item(),
        "most of a digit": each.max().item(),
        "duplicates": len(images) - len(images.unique(dim=0)),
    }


def molecules_facts() -> Facts:
    smiles, properties = molecules()
    train, test = (molecules(split)[0] for split in ("train", "test"))
    low, high = properties.amin(0), properties.amax(0)
    ends = zip(PROPERTIES, low.tolist(), high.tolist(), strict=True)
    return {
        "molecules": len(smiles),
        "distinct": len({*smiles}),
        "train": len(train),
        "test": len(test),
        "shared": len({*train} & {*test}),
        "tokens": len(TOKENS) - 1,  # without the one that fills a sequence
        "longest": max(len(pieces(each)) for each in smiles),
    } | {name: f"{least:.3g} to {most:.3g}" for name, least, most in ends}


def phantoms_facts() -> Facts:
    drawn = phantoms(DRAWN, torch.Generator().manual_seed(0))
    added = drawn.lesion - drawn.healthy  # densities from 0 to 1 became pixels from -1 to 1
    return {
        "counted in the first": DRAWN,
        "width": drawn.healthy.shape[-1],
        "share of pixels in the head": percent((drawn.healthy > -0.9).float().mean().item()),
        "share of pixels in a lesion": percent((added > 0.35).float().mean().item()),
        "largest change by a lesion": f"{added.max().item() / 2:.2f} in density",
    }


def scenes_facts() -> Facts:
    data = Scenes(64)
    captions = [data.caption(i) for i in range(FIRST)]
    kinds = Counter(data.scene(i)[0].kind for i in range(FIRST))
    said = [len(caption.split()) for caption in captions]
    return {
        "counted in the first": FIRST,
        "width": data.size,
        "colours": len(COLOURS),
        "shapes": len(SHAPES),
        "sizes": len(SIZES),
        "pairs of colour and shape held out": len(HELD_OUT_PAIRS),
        "words": len(WORDS),
        "distinct captions": len({*captions}),
        "words in a caption": f"{min(said)} to {max(said)}",
    } | {kind: percent(count / FIRST) for kind, count in sorted(kinds.items())}


def emoji_facts() -> Facts:
    known = concepts()
    drawn = [(concept, studio) for concept in known for studio in concept.studios]
    splits = Counter(split_of(*pair) for pair in drawn)
    genders = Counter(concept.gender for concept in known)
    return {
        "pictures": len(drawn),
        "concepts": len(known),
        "families": len({concept.family for concept in known}),
        "width": SIZE,
        **Counter(studio for _, studio in drawn),
        **{split: splits[split] for split in SPLITS},
        **{gender: genders[gender] for gender in ("man", "woman", "person")},
        **Counter(concept.group for concept in known),
        "words": len(words()),
    }


DATA = {
    "digits": digits_facts,
    "scenes": scenes_facts,
    "phantoms": phantoms_facts,
    "molecules": molecules_facts,
    "emoji": emoji_facts,
}


@cache
def data_facts(name: str) -> dict[str, str]:
    """What was counted in that data set, as text; ValueError for an unknown name.

    >>> data_facts("digits")["train"]
    '1,541'
    """
    facts = choose("data set", name, DATA)()
    return {k: f"{fact:,}" if isinstance(fact, int) else fact for k, fact in facts.items()}


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def listed(facts: dict[str, str]) -> Sequence[str]:
    """The facts as rows of a Markdown table."""
    return ["| counted | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())]
