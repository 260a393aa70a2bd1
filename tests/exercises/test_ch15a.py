"""Chapter 15a's exercises: the capstone's reference over seeds, typical failures, the numbers."""

import pytest
import torch

from course_lib.exercises import ch15a
from course_lib.exercises.ch15a import EXERCISES, balanced_strings, is_balanced, learn_brackets

CAPSTONE = EXERCISES["15a.6"]


def test_the_bound_by_counting_is_the_integral_over_time():
    """Sets of n masks have the weight 1 / (n C(L, n)) in (15a.5): L/n, averaged over n and sets."""
    L, nats = 4, torch.tensor([0.3, 1.1, 0.7, 2.0])
    sets = torch.cartesian_prod(*[torch.tensor([0, 1])] * L).bool()[1:]
    n = sets.sum(1)
    ways = torch.tensor([0, 4, 6, 4, 1.0])[n]
    by_count = ch15a.bound_by_count(nats.expand(len(sets), -1), sets)
    mean = (by_count / ways / L).sum()  # n uniform, then a set of that size
    times = (torch.arange(200_000) + 0.5) / 200_000
    chance = times[:, None] ** n * (1 - times[:, None]) ** (L - n)
    integral = (chance * (sets * nats).sum(1) / times[:, None]).sum(1).mean()
    assert mean.item() == pytest.approx(integral.item(), rel=1e-4)


def test_lifting_under_any_schedule_agrees_with_the_uniform_one():
    t, s = 0.7, 0.2
    assert ch15a.lift_probability(1 - t, 1 - s) == pytest.approx((t - s) / t)


def test_balanced_strings_are_counted_by_catalan():
    assert [len(balanced_strings(pairs)) for pairs in (1, 2, 3, 4)] == [1, 2, 5, 14]
    rows = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 1], [0, 1, 1, 0]])
    assert is_balanced(rows).tolist() == [True, False, False, False]
    assert round(100 * 14 / 2**8) == 5  # what the chapter says of random ones


@pytest.mark.parametrize("seed", range(5))
def test_the_reference_is_well_above_the_bound(seed):
    network = ch15a.bracket_network()
    torch.manual_seed(seed)
    drawn = learn_brackets(network, balanced_strings(), 2, 400, 400)
    assert is_balanced(drawn).float().mean() > CAPSTONE.bound + 0.05
    assert len(drawn.unique(dim=0)) >= 12


def test_the_capstone_knows_right_from_left_open():
    assert CAPSTONE.examine(learn_brackets).status == "right"
    assert CAPSTONE.examine(lambda *inputs: ...).status == "not attempted"


def untrained(network, data, mask, steps, count):
    return torch.randint(2, (count, data.shape[1]))


def copies(network, data, mask, steps, count):
    learn_brackets(network, data, mask, 2, 2)
    return data[:1].expand(count, -1)


def masks_stay(network, data, mask, steps, count):
    drawn = learn_brackets(network, data, mask, steps, count)
    drawn[:, 0] = mask
    return drawn


def a_list(network, data, mask, steps, count):
    return learn_brackets(network, data, mask, 2, count).tolist()


def one_step(network, data, mask, steps, count):
    learn_brackets(network, data, mask, steps, 2)
    x = torch.full((count, data.shape[1]), mask)
    return network(x).softmax(2).flatten(0, 1).multinomial(1).view_as(x)


@pytest.mark.parametrize(
    ("answer", "mistake", "told"),
    [
        (untrained, "network_not_trained", "weights don't change"),
        (copies, None, "only 1 different strings"),
        (masks_stay, "masks_left_over", "Masks are left"),
        (one_step, None, "the target is at least 0.85"),
        (a_list, None, "expected a tensor of shape (400, 8), got list"),
    ],
)
def test_failures_are_refused_and_named_where_known(answer, mistake, told):
    verdict = CAPSTONE.examine(answer)
    assert (verdict.status, verdict.misconception) == ("wrong", mistake), verdict
    assert told in verdict.message and "\n" not in verdict.message
