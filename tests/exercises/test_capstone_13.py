"""Exercise 13.6: strict loaders in several styles pass, and each known leniency is named."""

import pytest
import torch

from course_lib.exercises.ch13_capstone import (
    EXERCISES,
    damaged,
    handled,
    intact,
    load_strictly,
    outcome,
    same,
    share_handled,
    sound,
)

CAPSTONE = EXERCISES["13.6"]


def by_state_dict(network, weights, rename):
    """PyTorch's own strict loading, plus the checks that it lacks."""
    names = {rename(name): name for name, _ in network.named_parameters()}
    for name in names:
        if name not in weights:
            raise ValueError(f"no {name}")
    state = {}
    for name, weight in weights.items():
        if name not in names:
            raise ValueError(f"unknown {name}")
        expected = network.get_parameter(names[name]).shape
        if weight.dim() == 4 and len(expected) == 2 and weight.shape[2:] == (1, 1):
            weight = weight.squeeze((2, 3))
        if weight.shape != expected or bool((~torch.isfinite(weight)).any()):
            raise ValueError(f"{name} has another shape, or is not finite")
        state[names[name]] = weight
    network.load_state_dict(state)


def in_loops(network, weights, rename):
    """Plain lists, and `data` at the end."""
    left, ready = list(weights), []
    for name, parameter in network.named_parameters():
        theirs = rename(name)
        if theirs not in left:
            raise ValueError("missing: " + theirs)
        left.remove(theirs)
        weight = weights[theirs]
        shape = list(weight.shape)
        if shape != list(parameter.shape) and shape != [*parameter.shape, 1, 1]:
            raise ValueError(theirs + " has the wrong shape")
        if torch.isnan(weight).any() or torch.isinf(weight).any():
            raise ValueError(theirs + " holds NaN or infinity")
        ready.append((parameter, weight.view(parameter.shape)))
    if left:
        raise ValueError(f"left over: {left}")
    for parameter, weight in ready:
        parameter.data = weight.to(parameter.dtype)


@pytest.mark.parametrize("answer", [load_strictly, by_state_dict, in_loops])
def test_strict_loaders_of_any_style_are_right(answer):
    assert CAPSTONE.examine(answer).status == "right"


def test_an_attempt_is_told_from_none():
    assert CAPSTONE.examine(...).status == "not attempted"
    assert CAPSTONE.examine(lambda *inputs: ...).status == "not attempted"


def copied(network, weights, rename, names=None, checked=True):
    """Loads the weights with these names, with or without checking shapes."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if rename(name) in (weights if names is None else names):
                weight = weights[rename(name)]
                fits = weight.shape in (parameter.shape, (*parameter.shape, 1, 1))
                if checked and not (fits and weight.isfinite().all()):
                    raise ValueError(rename(name))
                same_count = weight.numel() == parameter.numel()
                parameter.copy_(weight.reshape(parameter.shape) if same_count else weight)


def no_look_at_what_is_missing(network, weights, rename):
    ours = {rename(name) for name, _ in network.named_parameters()}
    if unknown := weights.keys() - ours:
        raise ValueError(str(unknown))
    copied(network, weights, rename)


def no_look_at_what_is_left(network, weights, rename):
    for name, _ in network.named_parameters():
        if rename(name) not in weights:
            raise ValueError(rename(name))
    copied(network, weights, rename)


def names_only(network, weights, rename):
    if wrong := {rename(name) for name, _ in network.named_parameters()} ^ weights.keys():
        raise ValueError(str(wrong))
    copied(network, weights, rename, checked=False)


def never_nan(network, weights, rename):
    load_strictly(network, {n: w.nan_to_num(0, 0, 0) for n, w in weights.items()}, rename)


def no_convolutions(network, weights, rename):
    for name, parameter in network.named_parameters():
        weight = weights.get(rename(name), parameter)
        if weight.dim() == 4 and parameter.dim() == 2:
            raise ValueError(rename(name))
    load_strictly(network, weights, rename)


def as_key_error(network, weights, rename):
    try:
        load_strictly(network, weights, rename)
    except ValueError as error:
        raise KeyError(str(error)) from None


def without_a_name(network, weights, rename):
    try:
        load_strictly(network, weights, rename)
    except ValueError:
        raise ValueError("the file is damaged") from None


def one_by_one(network, weights, rename):
    ours = {rename(name) for name, _ in network.named_parameters()}
    if wrong := ours ^ weights.keys():
        raise ValueError(str(wrong))
    copied(network, weights, rename)


MISTAKES = {
    "missing_weights_accepted": no_look_at_what_is_missing,
    "leftovers_accepted": no_look_at_what_is_left,
    "shapes_forced": names_only,
    "what_is_not_finite_accepted": never_nan,
    "convolutions_refused": no_convolutions,
    "another_kind_of_error": as_key_error,
    "weight_not_named": without_a_name,
    "changed_before_refusing": one_by_one,
}


def test_every_misconception_has_its_mistake():
    assert [mistake.__name__ for mistake in CAPSTONE.misconceptions] == list(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_named(name):
    verdict = CAPSTONE.examine(MISTAKES[name])
    assert (verdict.status, verdict.misconception) == ("wrong", name), verdict
    assert "\n" not in verdict.message
    assert share_handled(handled(MISTAKES[name])) < 1


def test_the_readers_own_line_is_shown_where_the_code_fails():
    def slip(network, weights, rename):
        return weights.no_such_method()

    assert "your line `" in CAPSTONE.examine(slip).message


def test_the_checkpoints_are_what_they_are_called():
    """The sound ones contain the same numbers, and each damaged one differs from them."""
    for name, weights in sound().items():
        error, after = outcome(load_strictly, weights)
        assert error is None and same(after, weights), name
    for kind, (name, weights) in damaged().items():
        assert weights.keys() != intact().keys() or not torch.equal(weights[name], intact()[name])
        with pytest.raises(ValueError, match=name):
            raise outcome(load_strictly, weights)[0]
        assert kind
