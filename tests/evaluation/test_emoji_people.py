"""Families of a man, a woman and a person among the emoji, and what the judge says of them."""

from types import SimpleNamespace

import pytest
import torch

from course_lib.datasets.emoji import COMMON, STUDIOS, concepts, picture, split_of
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.emoji_people import GENDERS, drawings, jobs, read_people, trios


def test_a_trio_is_a_man_a_woman_and_a_person_of_one_family():
    assert len(trios()) == 80 and len({trio.family for trio in trios()}) == 80
    for trio in trios():
        assert tuple(concept.gender for concept in trio.concepts) == GENDERS
        assert {concept.family for concept in trio.concepts} == {trio.family}


def test_jobs_are_trained_on_in_every_studios_hand():
    names = [[concept.name for concept in trio.concepts] for trio in jobs()]
    assert len(names) == 14
    assert ["man firefighter", "woman firefighter", "firefighter"] in names
    for trio in jobs():
        man, woman, person = trio.concepts
        assert (man.name, woman.name) == (f"man {person.name}", f"woman {person.name}")
        assert {split_of(each, by) for each in trio.concepts for by in COMMON} == {"train"}


def test_drawings_are_those_of_the_split():
    images, of, truth = drawings("new pairs")
    assert len(images) == len(of) == len(truth) == 88
    images, of, truth = drawings("train", jobs()[:1])
    trio = jobs()[0]
    expected = [
        picture(concept.name, studio)
        for concept in trio.concepts
        for studio in STUDIOS
        if studio in concept.studios and split_of(concept, studio) == "train"
    ]
    torch.testing.assert_close(images, torch.stack(expected))
    assert set(of) == {trio}
    assert [trio.concepts[place].gender for place in truth] == [GENDERS[place] for place in truth]


def test_the_verdict_is_the_largest_of_the_three_logits():
    logits = torch.zeros(4, len(concepts()))
    trio, other = jobs()[:2]
    logits[0, trio.woman] = 1  # a woman of this family
    logits[1, trio.man], logits[1, trio.person] = 1, 2  # a person, and else a man
    logits[2, other.man], logits[2, trio.woman] = 3, 2  # first another family
    logits[3, trio.person], logits[3, trio.man], logits[3, trio.woman] = 3, 1, 2
    who = torch.eye(4)
    judge = SimpleNamespace(logits=lambda images: (logits, torch.zeros(4, 1), who))
    seen = read_people(judge, torch.zeros(4, 3, 64, 64), [trio] * 4)
    assert seen.gender.tolist() == [1, 2, 1, 2]
    assert seen.man_or_woman.tolist() == [1, 0, 1, 1]
    assert seen.family.tolist() == [True, True, False, True]
    assert seen.studio.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("split, least", [("new pairs", 0.55), ("train", 0.85)])
def test_the_judge_tells_men_and_women_apart_better_than_persons(split, least):
    images, of, truth = drawings(split)
    seen = read_people(EmojiJudge(), images, of).gender
    right = [(seen == truth)[truth == gender].float().mean().item() for gender in range(3)]
    assert sum(right) / 3 > least and right[2] == min(right)
