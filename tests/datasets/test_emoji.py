"""Emoji: every picture where the list says, captions in known words, splits that keep families."""

import hashlib
import re
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_lib.common.paths import EMOJI
from course_lib.datasets.emoji import SPLITS, STUDIOS, Emoji, concepts, picture, split_of
from course_lib.datasets.emoji.captions import SAY_STYLE, review, split, words, write
from course_lib.datasets.emoji.concepts import COMMON, checksums, pictures, read

PAIRS = [(concept, studio) for concept in concepts() for studio in concept.studios]


# The files


def test_every_file_has_the_checksum_that_is_listed():
    listed = checksums()
    assert listed.keys() == {path.name for path in EMOJI.glob("*.*") if path.suffix != ".md"}
    for name, digest in listed.items():
        assert hashlib.sha256((EMOJI / name).read_bytes()).hexdigest() == digest


def test_the_data_set_is_as_large_as_its_statement_says():
    files = [path for path in EMOJI.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16_000_000
    statement = (EMOJI / "README.md").read_text("utf-8")
    counts = Counter(studio for _, studio in PAIRS)
    assert f"{len(PAIRS):,} pictures of {len(concepts()):,} concepts" in statement
    for studio in STUDIOS:
        row = re.search(rf"\| `{studio.lower()}.webp` \| {studio} \|.*", statement).group()
        assert f"{counts[studio]:,} pictures" in row
    genders = Counter(concept.gender for concept in concepts())
    assert f"{genders['man']} concepts are a man, {genders['woman']} a woman" in statement
    assert f"{genders['person']} a person" in statement


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("CC-BY-4.0", "Section 3 – License Conditions"),
        ("Apache-2.0", "END OF TERMS AND CONDITIONS"),
        ("MIT", "Copyright (c) Microsoft Corporation"),
        ("Unicode-3.0", "UNICODE LICENSE V3"),
    ],
)
def test_every_licence_is_there_in_full_and_named(name, phrase):
    assert phrase in (EMOJI / "licences" / f"{name}.txt").read_text("utf-8")
    assert f"(licences/{name}.txt)" in (EMOJI / "README.md").read_text("utf-8")


def test_a_missing_or_changed_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="bring data/emoji back"):
        read("noto.webp", tmp_path)
    (tmp_path / "SHA256SUMS").write_bytes((EMOJI / "SHA256SUMS").read_bytes())
    (tmp_path / "noto.webp").write_bytes((EMOJI / "noto.webp").read_bytes()[:-1])
    with pytest.raises(ValueError, match="does not match its checksum"):
        read("noto.webp", tmp_path)


def test_there_is_a_drawing_where_the_list_says_so_and_nowhere_else():
    for studio in STUDIOS:
        drawn = (pictures(studio) < 255).reshape(len(concepts()), -1).any(1)
        assert drawn.tolist() == [studio in concept.studios for concept in concepts()]


# Concepts and families


def test_names_are_unique_and_the_first_three_studios_have_drawn_all():
    assert len({concept.name for concept in concepts()}) == len(concepts())
    assert all(set(COMMON) <= set(concept.studios) for concept in concepts())


def test_families_hold_genders_directions_and_pictures_that_are_nearly_equal():
    family = {concept.name: concept.family for concept in concepts()}
    for alike in (
        ("firefighter", "man firefighter", "woman firefighter"),
        ("person walking", "woman walking facing right"),
        ("prince", "princess", "person with crown"),
        ("grinning cat", "cat face"),
    ):
        assert len({family[name] for name in alike}) == 1
    assert family["red apple"] != family["green apple"]
    assert family["red heart"] != family["blue heart"]
    gender = {concept.name: concept.gender for concept in concepts()}
    names = "man judge", "woman judge", "judge", "penguin"
    assert [gender[name] for name in names] == ["man", "woman", "person", None]


@pytest.mark.parametrize("studio", STUDIOS)
def test_no_two_splits_hold_one_picture(studio):
    """Bit for bit: what isn't near is only different."""
    seen = {}
    for number, concept in enumerate(concepts()):
        if studio in concept.studios:
            digest = hashlib.sha256(pictures(studio)[number].tobytes()).digest()
            assert seen.setdefault(digest, split_of(concept, studio)) == split_of(concept, studio)


# Splits


def test_a_family_is_on_one_side_and_held_out_by_one_studio_at_most():
    sides = {}
    for concept, studio in PAIRS:
        sides.setdefault((concept.family, studio), set()).add(split_of(concept, studio))
    assert all(len(splits) == 1 for splits in sides.values())
    for concept in concepts():
        splits = Counter(split_of(concept, studio) for studio in STUDIOS)
        assert splits["new concepts"] in (0, 4) and splits["new pairs"] <= 1


@pytest.mark.parametrize("studio", STUDIOS)
def test_a_tenth_of_the_pairs_and_a_twentieth_of_the_concepts_are_held_out(studio):
    drawn = [concept for concept, by in PAIRS if by == studio]
    shares = {s: len(Emoji(split=s, studios=[studio])) / len(drawn) for s in SPLITS}
    assert sum(shares.values()) == pytest.approx(1)
    assert 0.08 < shares["new pairs"] < 0.12 and 0.04 < shares["new concepts"] < 0.07


def test_no_training_caption_names_a_held_out_pair():
    """In any words: a concept's keywords alone may be another's as well."""
    data = Emoji()
    trained = {data.caption(i) for i in range(4 * len(data))}
    for held_out in (Emoji(split="new pairs"), Emoji(split="new concepts")):
        for number, studio in held_out.examples:
            concept = concepts()[number]
            names = concept.phrase, concept.name, f"an emoji of {concept.phrase}"
            said = {way.format(what=name, studio=studio) for way in SAY_STYLE for name in names}
            assert not said & trained
    some = {write(concepts()[n], studio) for n, studio in data.examples}
    assert len(some & trained) > 1000  # the test would have seen them


# Captions


def test_captions_are_made_of_the_words_listed_and_are_usual():
    data = Emoji(split=None, studios=STUDIOS)
    captions = [data.caption(i) for i in range(2 * len(data))]
    assert {word for caption in captions for word in split(caption)} <= words()
    assert not [caption for caption in captions[:300] if review(caption)]
    assert len(set(captions)) > 1.5 * len(data)  # another epoch has other words


def test_a_studio_is_left_unsaid_as_often_as_asked():
    usual, silent = Emoji(), Emoji(unsaid=1)
    assert 0.76 < np.mean([" style" in usual.caption(i) for i in range(1000)]) < 0.84
    assert not any(" style" in silent.caption(i) for i in range(100))


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("red apple", "a red apple, Noto style"),
        ("x-ray", "an x-ray, Noto style"),
        ("unicorn", "a unicorn, Noto style"),
        ("grapes", "grapes, Noto style"),
        ("man lifting weights", "a man lifting weights, Noto style"),
        ("bread", "bread, Noto style"),
        ("octopus", "an octopus, Noto style"),
    ],
)
def test_the_plain_caption(name, caption):
    concept = next(concept for concept in concepts() if concept.name == name)
    assert write(concept, "Noto") == caption


def test_what_a_user_types_is_reviewed():
    assert review("a penguin, Fluent style") is None and review("") is None
    assert review("a green penguin") == "no emoji has all of these words: green, penguin"
    with pytest.raises(ValueError, match=r"unknown words: 'pengiun' \(did you mean 'penguin'"):
        review("a pengiun in Noto style")


# Examples


def test_an_epoch_holds_every_picture_once():
    data = Emoji(split="new pairs")
    seen = [data.example(i) for i in range(len(data))]
    assert len(set(seen)) == len(data) == len(data.examples)
    assert {data.example(len(data) + i) for i in range(len(data))} == set(seen)


def test_an_example_depends_on_its_index_alone():
    data = Emoji()
    images, captions = data.batch([7, 3, 5000])
    again, text = Emoji().batch([5000])
    assert torch.equal(images[2:], again) and captions[2] == text[0] == data.caption(5000)
    concept, studio = data.example(7)
    assert torch.equal(images[0], picture(concept.name, studio))
    assert not torch.equal(Emoji(seed=1).batch(range(8))[0], data.batch(range(8))[0])


def test_pictures_are_floats_and_half_the_size_is_their_mean():
    images, _ = Emoji().batch(range(16))
    assert images.shape == (16, 3, 64, 64) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() == 1
    assert torch.allclose(Emoji(32).batch(range(16))[0], F.avg_pool2d(images, 2), atol=1e-6)


def test_a_kind_is_a_group():
    data = Emoji(kind="food & drink", studios=["Fluent"])
    assert {data.example(i)[0].group for i in range(len(data))} == {"food & drink"}


@pytest.mark.parametrize(
    ("told", "call"),
    [
        ("emoji are 32 or 64 pixels wide, not 48", lambda: Emoji(48)),
        ("unknown split 'test'", lambda: Emoji(split="test")),
        ("unknown studio 'noto'; did you mean 'Noto'", lambda: Emoji(studios=["noto"])),
        ("unknown kind of emoji 'food'", lambda: Emoji(kind="food")),
        ("unsaid is a probability", lambda: Emoji(unsaid=2)),
        ("seed", lambda: Emoji(seed=-1)),
        ("at least one index", lambda: Emoji().batch([])),
        ("a whole number from 0", lambda: Emoji().caption(-1)),
        ("unknown emoji 'pengiun'; did you mean 'penguin'", lambda: picture("pengiun", "Noto")),
        ("unknown studio 'Blob'", lambda: picture("sauropod", "Blob")),
    ],
)
def test_refusals(told, call):
    with pytest.raises(ValueError, match=told):
        call()
