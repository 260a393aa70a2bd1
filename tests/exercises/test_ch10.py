"""Chapter 10's exercises: what they measure, on cases whose answers are known."""

import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from course_lib.datasets.emoji import COMMON, concepts, split_of
from course_lib.evaluation.metrics import clustered
from course_lib.exercises import ch10
from course_lib.teaching.check import Unusable


def test_families_are_connected_components():
    for count, pairs in ch10.pairs_of_pictures():
        rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
        links = coo_array(([1] * len(pairs), (rows, columns)), shape=(count, count))
        number, label = connected_components(links, directed=False)
        found = ch10.join_families(count, pairs)
        assert len(set(found)) == number
        for i, name in enumerate(found):
            members = [j for j in range(count) if label[j] == label[i]]
            assert name == min(members)


def test_the_bootstraps_spread_is_the_clustered_standard_error():
    torch.manual_seed(0)
    member = torch.arange(200).repeat_interleave(torch.randint(1, 5, (200,)))
    values = (torch.rand(200)[member] + 0.2 * torch.rand(len(member))).float()
    draws = torch.randint(200, (4000, 200))
    metric = clustered("right", values, member.tolist())
    error = (metric.interval[1] - metric.value) / 1.96
    means = ch10.bootstrap_means(values, member, draws)
    assert means.mean().item() == pytest.approx(metric.value, abs=error / 10)
    assert means.std().item() == pytest.approx(error, rel=0.05)


def test_a_split_by_family_tears_none_apart_and_one_by_name_does():
    people = [c for c in concepts() if c.gender]
    names, families = [c.name for c in people], [c.family for c in people]

    def torn(held_out):
        sides = {}
        for family, out in zip(families, held_out, strict=True):
            sides.setdefault(family, set()).add(out)
        return sum(len(each) == 2 for each in sides.values())

    assert torn(ch10.held_out(names, families, 20)) == 0
    assert torn(ch10.planted_split_by_name(names, families, 20)) > 20


def test_a_fifth_is_held_out_as_the_data_set_does():
    out = ch10.held_out([c.name for c in concepts()], [c.family for c in concepts()], 5)
    assert out == [split_of(c, COMMON[0]) == "new concepts" for c in concepts()]


def test_the_share_of_twins_by_simulation():
    torch.manual_seed(0)
    shares = []
    for _ in range(400):
        out = torch.zeros(1100, dtype=torch.bool)
        out[torch.randperm(1100)[:110]] = True
        first, second = out[:100], out[100:200]  # picture n and its twin 100 + n
        shares.append((first != second).sum().item() / 110)
    assert ch10.EXERCISES["10.4"].right == pytest.approx(sum(shares) / len(shares), rel=0.03)


def test_the_judge_is_asked_about_concepts_that_no_studio_showed():
    images, studios = ch10.drawings("train", 400)
    held, truth = ch10.drawings("new concepts", 80)
    assert images.shape == (1200, 3, 32, 32) and studios.bincount().tolist() == [400] * 3
    assert held.shape == (240, 3, 32, 32) and truth.bincount().tolist() == [80] * 3
    assert torch.cdist(held.flatten(1), images.flatten(1)).min() > 0.5


def test_the_capstones_reference_reaches_its_bound_with_room():
    torch.manual_seed(0)
    said = ch10.named_studios(ch10.train_judge)
    assert ch10.share_named(said) > ch10.EXERCISES["10.6"].bound + 0.03


def always_noto(images, studios):
    return lambda pictures: torch.ones(len(pictures), dtype=torch.long)


def logits(images, studios):
    return lambda pictures: torch.randn(len(pictures))


def four_studios(images, studios):
    return lambda pictures: torch.arange(len(pictures)) % 4


@pytest.mark.parametrize(
    "answer, line",
    [
        (always_noto, "says 1 of every picture"),
        (logits, "whole numbers"),
        (four_studios, "whole numbers"),
    ],
)
def test_what_is_no_judge_is_told_why(answer, line):
    with pytest.raises(Unusable, match=line):
        ch10.share_named(ch10.named_studios(answer))


def test_a_judge_that_returns_nothing_or_the_wrong_shape_is_refused():
    with pytest.raises(Unusable, match="must return a function"):
        ch10.named_studios(lambda images, studios: None)
    with pytest.raises(Unusable, match=r"\(240,\)"):
        ch10.named_studios(lambda images, studios: lambda pictures: torch.zeros(3))
