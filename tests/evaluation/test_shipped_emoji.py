"""The emoji judges that ship, on real pictures: their cards must hold."""

import pytest
import torch

from course_lib.common.checkpoints import published, read_card
from course_lib.datasets.emoji import STUDIOS, Emoji
from course_lib.evaluation.emoji import EmojiJudge, data_of_judges
from course_lib.evaluation.emoji_prompts import JUDGES
from course_lib.evaluation.metrics import find, from_card, wilson

FAIR, ALL = JUDGES
pytestmark = pytest.mark.skipif(
    not set(JUDGES) <= set(published()), reason="the judges are still to be trained"
)


def real(count: int, **which):
    """Pictures, names and studios of the first examples of a split."""
    data = Emoji(**which)
    seen = [data.example(i) for i in range(count)]
    return data.batch(range(count))[0], [c.name for c, _ in seen], [studio for _, studio in seen]


@pytest.mark.parametrize("name", JUDGES)
def test_the_card_lies_in_the_interval_that_a_small_sample_allows(name):
    judge, said = EmojiJudge(name), from_card(read_card(name))
    for split in ("new pairs", "new concepts"):
        found = judge.metrics(*real(100, split=split, studios=STUDIOS), split=split)
        for metric in found:
            low, high = wilson(metric.value, metric.count, z=4.0)
            assert low <= find(said, metric.property, split=split).value <= high, metric.label


def test_the_fair_judge_knows_held_out_drawings_by_other_hands_and_not_new_concepts():
    said = from_card(read_card(FAIR))
    pairs = {p: find(said, p, split="new pairs") for p in ("top1", "top5", "studio", "known")}
    assert pairs["top5"].interval[0] > 0.6 and pairs["studio"].interval[0] > 0.85
    assert pairs["top1"].value < pairs["top5"].value
    assert find(said, "top5", split="new concepts").value == 0  # they were never labels


def test_the_other_judge_knows_everything_there_is():
    said = from_card(read_card(ALL))
    for split in ("new pairs", "new concepts"):
        assert find(said, "top5", split=split).interval[0] > 0.95


@pytest.mark.parametrize("name", JUDGES)
def test_what_shows_nothing_is_refused(name):
    judge, generator = EmojiJudge(name), torch.Generator().manual_seed(1)
    noise = (torch.randn(50, 3, 64, 64, generator=generator) / 2).clamp(-1, 1)
    images = Emoji().batch(range(100))[0]
    mixed = (images[:50] + images[50:]) / 2
    for unknown in (noise, mixed):
        assert sum(seen.known for seen in judge.read(unknown)) <= 5
    assert sum(seen.known for seen in judge.read(images)) >= 95


def test_both_judges_are_of_the_present_list_of_concepts():
    for name in JUDGES:
        assert read_card(name)["settings"]["data"] == data_of_judges()
