"""All kinds of answers: not attempted, right, a known mistake, an unknown one, an error."""

import numpy as np
import pytest
import torch

from course_lib.teaching.check import Choice, Code, Number, check, examine, with_gradients


def noised(x0, eps, alpha, sigma):
    return alpha * x0 + sigma * eps


def swapped(x0, eps, alpha, sigma):
    """The signal has
    the noise's weight."""
    return sigma * x0 + alpha * eps


def planted(x0, eps, alpha, sigma):
    """As handed out."""
    return alpha * x0 + sigma**2 * eps


def cases():
    return [
        (torch.ones(1), torch.zeros(1), 0.8, 0.6),
        (torch.randn(2, 3), torch.randn(2, 3), 0.6, 0.8),
    ]


exercise = Code(noised, cases, "Well.", [swapped], given=planted)


def verdict(answer, exercise=exercise):
    found = exercise.examine(answer)
    return found.status, found.message


def test_untouched_stubs_are_not_attempted():
    def stub(x0, eps, alpha, sigma):
        """alpha * x0 + sigma * eps."""
        ...

    def bare(x0, eps, alpha, sigma): ...

    def half(x0, eps, alpha, sigma):
        signal = alpha * x0
        return signal + ...

    class Stub:
        def __call__(self, *args):
            """The same."""
            ...

    for answer in (stub, bare, half, Stub, ..., None, lambda *a: ..., planted):
        assert verdict(answer)[0] == "not attempted", answer


def test_right_answers_however_written():
    for answer in (
        noised,
        lambda *a: noised(*a).numpy(),
        lambda *a: noised(*a).double() + 1e-7,
        lambda x0, eps, alpha, sigma: torch.add(alpha * x0, eps, alpha=sigma),
    ):
        assert verdict(answer) == ("right", ". Well.")


def test_known_misconceptions_are_named_and_explained():
    found = exercise.examine(lambda x0, eps, alpha, sigma: x0.mul(sigma) + eps.mul(alpha))
    assert (found.status, found.misconception) == ("wrong", "swapped")
    assert found.message == ". The signal has the noise's weight."


def test_unknown_mistakes_show_the_first_input_that_differs():
    status, message = verdict(lambda x0, eps, alpha, sigma: alpha * x0 + 2 * sigma * eps)
    assert status == "wrong" and "alpha = 0.6" in message  # the first case has no noise in it
    assert "x0 = [[" in message and "at [0, 0] yours is" in message
    status, message = verdict(lambda x0, eps, alpha, sigma: alpha * x0 + sigma * eps + 1)
    assert "x0 = [1.0], eps = [0.0]" in message and "yours is 1.8, expected 0.8" in message


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda *a: -noised(*a), "Only the sign is wrong"),
        (lambda *a: noised(*a)[..., None], "the shape is not"),
        (lambda *a: 7, "yours has shape (), expected (1,)"),
        (lambda *a: "blue", "yours is 'blue'"),
        (lambda *a: None, "not attempted"),
        (lambda *a: [print][1], "IndexError: list index out of range"),
        (lambda x0: x0, "calling it raised TypeError"),
        (lambda x0, eps, alpha, sigma: x0.mul_(alpha).add_(sigma * eps), "changes its input"),
        (7, "expected a function, got 7"),
    ],
)
def test_the_reader_is_told_what_is_wrong(answer, told):
    status, message = verdict(answer)
    assert told in status + message


def test_relations_between_wrong_and_right():
    matrix = Code(lambda x: x @ x, lambda: [(torch.arange(4.0).reshape(2, 2),)], "")
    assert "the transpose" in verdict(lambda x: (x @ x).T, matrix)[1]
    assert "multiply by 0.5" in verdict(lambda x: 2 * x @ x, matrix)[1]
    assert "off by the same amount: add -3" in verdict(lambda x: x @ x + 3, matrix)[1]


def test_a_tensor_counts_as_the_list_of_its_numbers():
    countdown = Code(lambda n: [n - 1, n - 2], lambda: [(2,), (9,)], "")
    assert verdict(lambda n: torch.tensor([n - 1, n - 2]), countdown)[0] == "right"
    told = verdict(lambda n: torch.tensor([n - 1, n]), countdown)[1]
    assert "in value 2 of 2, yours is 2, expected 0" in told


def test_a_list_counts_as_the_tensor_of_its_numbers():
    two = Code(lambda x: 2 * x, lambda: [(torch.tensor([1, 2]),)], "")
    assert verdict(lambda x: (2 * x).tolist(), two)[0] == "right"
    assert verdict(lambda x: (2 * x).flip(0).numpy()[::-1], two)[0] == "right"  # a negative stride
    assert "yours is 'blue'" in verdict(lambda x: "blue", two)[1]


@pytest.mark.parametrize("wrong", [lambda x: x < 1, lambda x: 10**30, lambda x: np.array(["red"])])
def test_strange_answers_are_judged_in_one_line(wrong):
    two = Code(lambda x: 2 * x, lambda: [(torch.tensor([1, 2]),)], "")
    status, message = verdict(wrong, two)
    assert status == "wrong" and "\n" not in message


def test_a_dot_dot_dot_that_picks_is_no_open_place():
    last = Code(lambda x: 2 * x[..., 0], lambda: [(torch.ones(2, 2),)], "")
    assert verdict(lambda x: x[..., 0], last)[0] == "wrong"
    assert verdict(lambda x: 2 * ... * x, last)[0] == "not attempted"

    def half_written(x):
        first = ...
        return first

    assert verdict(half_written, last)[0] == "not attempted"


def test_a_difference_too_small_for_four_digits_is_shown():
    one = Code(lambda: 1.23457, lambda: [()], "", tolerance=1e-6)
    assert "yours is 1.23456, expected 1.23457" in verdict(lambda: 1.23456, one)[1]


def test_what_must_teach_is_asked_for_its_gradient():
    run = with_gradients("loss", w=0)
    taught = Code(lambda w, x: (w * x).sum(), lambda: [(torch.ones(2), torch.ones(2))], "", run=run)
    assert verdict(lambda w, x: w @ x, taught)[0] == "right"
    for cut in (lambda w, x: (w @ x).detach(), lambda w, x: (w @ x).item()):
        assert "dloss/dw: at [0] yours is 0, expected 1" in verdict(cut, taught)[1]
    assert "loss: yours is 4, expected 2" in verdict(lambda w, x: 2 * w @ x, taught)[1]
    assert "Only the sign is wrong" in verdict(lambda w, x: -w @ x, taught)[1]
    assert "changes its input" in verdict(lambda w, x: w.mul_(2).sum() / 2, taught)[1]
    assert verdict(lambda w, x: None, taught)[0] == "not attempted"


def test_an_error_names_the_readers_own_line():
    def clumsy(x0, eps, alpha, sigma):
        scaled = alpha * x0
        return scaled + sigma * eps.reshape(5)

    status, message = verdict(clumsy)
    assert status == "wrong" and "your line `return scaled + sigma * eps.reshape(5)`" in message
    assert "\n" not in message and "course_lib" not in message


def test_random_answers_are_refused_and_leave_the_random_state_alone():
    state = torch.get_rng_state()
    for seed in range(3):
        noise = torch.Generator().manual_seed(seed)
        assert verdict(lambda x0, *_, g=noise: torch.randn(x0.shape, generator=g))[0] == "wrong"
    assert torch.equal(state, torch.get_rng_state())


def test_answers_that_draw_are_judged_under_the_reference_s_seed():
    drawn = Code(lambda x: x + torch.randn_like(x), lambda: [(torch.zeros(4),)], "")
    assert verdict(lambda x: torch.randn(4), drawn)[0] == "right"
    assert verdict(lambda x: torch.rand(4), drawn)[0] == "wrong"


def test_choices_and_numbers():
    letter = Choice("b", {"a": "No.", "b": "Yes.", "c": "No."})
    assert verdict(..., letter)[0] == verdict(None, letter)[0] == "not attempted"
    assert verdict(" B) ", letter) == ("right", ". Yes.")
    assert letter.examine("a").misconception == "a"
    assert "expected one of 'a', 'b', 'c', got 'z'" in verdict("z", letter)[1]

    number = Number(64.0, "Yes.", misconceptions={"one_side_only": (8.0, "A square has two.")})
    assert verdict(..., number)[0] == "not attempted"
    assert verdict(63, number)[0] == verdict(torch.tensor(64.0), number)[0] == "right"
    assert number.examine(8).misconception == "one_side_only"
    assert "100 is too large" in verdict(100, number)[1]
    assert "expected a number" in verdict("many", number)[1]


@pytest.mark.parametrize("strange", [float("nan"), 10**400, "many"])
def test_a_prediction_that_is_no_number(strange):
    assert "expected a number" in Number(2.0, "").examine(strange).message


def test_unknown_exercises_are_told_not_raised(capsys):
    for name in ("97.1", "x", 9):
        check(name, 1)
    assert capsys.readouterr().out.count("✗ ") == 3
    with pytest.raises(ValueError, match=r"no chapter has an exercise '97\.1'"):
        examine("97.1", 1)


def test_several_values_are_asked_for_by_number():
    two = Code(lambda x: (x + 1, 2 * x), lambda: [(torch.ones(3),)], "")
    assert verdict(lambda x: [x + 1, 2 * x], two)[0] == "right"
    for wrong in (lambda x: x + 1, lambda x: torch.stack([x + 1, 2 * x])):
        assert "return 2 values, separated by commas" in verdict(wrong, two)[1]


def test_ranges_and_generators_count_as_lists_and_floats_not_as_labels():
    countdown = Code(lambda n: [2, 1, 0], lambda: [(2,)], "")
    for right in (
        lambda n: range(n, -1, -1),
        lambda n: (n - k for k in range(3)),
        lambda n: (2, 1, 0),
    ):
        assert verdict(right, countdown)[0] == "right"
    labels = Code(lambda x: x + 1, lambda: [(torch.tensor([1, 2]),)], "")
    assert "expected whole numbers" in verdict(lambda x: x + 1.0, labels)[1]


def test_a_hint_holds_for_all_cases_and_zero_has_no_minus():
    pairs = Code(
        lambda x: -x, lambda: [(torch.tensor([1.0, 0.5]),), (torch.tensor([2.0, 7.0]),)], ""
    )
    assert "same amount" not in verdict(lambda x: torch.stack([x[0] - 2, x[1] - 1]), pairs)[1]
    assert "expected 0" in verdict(lambda x: x + 1, Code(lambda x: -x, lambda: [(0.0,)], ""))[1]


def test_two_changes_that_cancel_are_no_untouched_code():
    def cancelled(x0, eps, alpha, sigma):
        return -(-alpha * x0 - sigma**2 * eps)

    assert "cancel each other" in verdict(cancelled)[1] and verdict(cancelled)[0] == "wrong"
