"""The shipped molecules and their tokens: there and back, and what has no place is named."""

import pytest
import torch

from course_lib.datasets.molecules import (
    FILE,
    LENGTH,
    MASK,
    TOKENS,
    decode,
    encode,
    molecules,
    pieces,
)


def test_the_splits_share_nothing_and_make_the_whole():
    (train, train_numbers), (test, test_numbers), (everything, _) = map(
        molecules, ("train", "test", None)
    )
    assert (len(train), len(test)) == (36_000, 4_000)
    assert set(train).isdisjoint(test) and set(train) | set(test) == set(everything)
    assert len(set(everything)) == len(everything) == 40_000
    assert train_numbers.shape == (36_000, 3) and test_numbers.isfinite().all()
    assert FILE.stat().st_size < 1_000_000


def test_every_shipped_molecule_survives_its_tokens():
    everything, _ = molecules()
    ids = encode(everything)
    assert ids.shape == (40_000, LENGTH) and decode(ids) == everything
    assert (ids[:, -1] == 0).all()  # room for an end
    assert len(TOKENS) == len(set(TOKENS)) == MASK == 129


def test_the_properties_are_those_of_small_drug_like_molecules():
    _, numbers = molecules()
    logp, qed, weight = numbers.T
    assert (weight >= 140).all() and (weight <= 360).all() and (qed > 0).all() and (qed < 1).all()
    assert -1 < logp.mean() < 4


def test_tokens_are_the_longest_that_fit_and_never_half_an_atom():
    assert pieces("BrC(Cl)c1cn[nH]c1") == ["Br", "C(", "Cl)", "c1cn", "[nH]", "c1"]
    assert pieces("c(Cl)") == ["c(", "Cl)"]  # "c(C" is a token too, but would cut Cl in half
    assert "".join(pieces("[C@H](Br)")) == "[C@H](Br)"


def test_masks_are_shown_and_an_end_ends():
    ids = torch.tensor([[TOKENS.index("C"), MASK, TOKENS.index("O"), 0, TOKENS.index("C")]])
    assert decode(ids) == ["C?O"]
    assert decode(torch.zeros(1, 4).long()) == [""]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: encode(["F" * 21]), "at most 20 tokens, got 21"),
        (lambda: encode(["C[Si]C"]), "got ['[', 'i', ']']"),
        (lambda: decode(torch.tensor([0, 1])), "token ids (N, L)"),
        (lambda: decode(torch.tensor([[MASK + 1]])), f"from 0 to {MASK}"),
        (lambda: molecules("valid"), "unknown split 'valid'"),
    ],
)
def test_what_has_no_place_is_named(call, told):
    with pytest.raises(ValueError) as refused:
        call()
    assert told in str(refused.value) and "\n" not in str(refused.value)
