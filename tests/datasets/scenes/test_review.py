"""What a user types: usual captions pass, unknown words are refused, unusual ones are explained."""

import re

import numpy as np
import pytest

from course_lib.common.checkpoints import read_card
from course_lib.datasets.scenes import SPLITS, Scenes
from course_lib.datasets.scenes.captions import parse, write
from course_lib.datasets.scenes.grammar import COLOURS, KINDS, SHAPES, SIZES, Object, Scene
from course_lib.datasets.scenes.review import VOCABULARY, WORDS, review


def refusal(caption: str) -> str:
    with pytest.raises(ValueError) as refused:
        review(caption)
    return str(refused.value)


def suggested(caption: str) -> list[str]:
    return re.findall(r"did you mean '(.+?)'", refusal(caption))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_caption_of_the_data_is_usual(split, kind):
    """Including held-out ones, on which the models were measured and do well."""
    data = Scenes(split=split, kind=kind, unsaid=0.3)
    for index in range(300):
        caption = data.caption(index)
        assert review(caption) is None, caption
        assert review(caption.upper() + "!?") is None


def test_the_words_are_those_that_the_shipped_text_encoder_learned():
    assert set(read_card("scenes-clip")["kwargs"]["tokenizer"]["words"]) == WORDS


def test_an_unknown_word_is_named_with_the_vocabulary_by_kind():
    line = refusal("a pink circle on a grey background.")
    first, *kinds = line.split("; ")
    assert first == "unknown words: 'pink', 'grey'" and "\n" not in line
    listed = dict(kind.split(": ") for kind in kinds)
    assert list(listed) == ["colours", "shapes", "sizes", "places", "relations", "counts"]
    assert listed["colours"] == ", ".join(COLOURS)
    assert listed["shapes"].startswith("circle/disc, square/box, triangle, cross/plus")
    assert listed["places"].startswith("at the top left, at the top, at the top right, on the left")
    said = [word for kind in listed.values() for word in re.findall(r"\w+", kind)]
    assert set(said) <= WORDS
    assert len(VOCABULARY["places"]) == 9 and len(VOCABULARY["counts"]) == 4


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a purpel circle", ["purple"]),
        ("purpel circle", ["purple"]),  # even without its article
        ("a blu cirlce on a wihte backround", ["blue", "circle", "white", "background"]),
        ("a ring in the center", ["centre"]),
        ("tow red circles", ["two"]),
        ("a red circle abov a blue sqare", ["above", "square"]),
        ("a purpel cat", ["purple"]),
    ],
)
def test_a_typing_error_is_understood(caption, words):
    assert suggested(caption) == words


@pytest.mark.parametrize(
    "caption",
    [
        *("a cat", "a pink circle", "a red star", "a red ball", "please a red circle"),
        *("a red circle and a blue square", "a gray box", "five red rings", "a tiny ring"),
        "a green tree",  # one letter from "three", which can't stand there
        "there is a ring",
        "an abode of rings",
    ],
)
def test_nothing_is_suggested_that_is_far_or_does_not_fit(caption):
    assert suggested(caption) == []


def test_with_what_is_suggested_the_caption_can_be_read():
    rng, data, right = np.random.default_rng(0), Scenes(), 0
    for index in range(300):
        words = re.findall(r"\w+|,", data.caption(index))
        n = int(rng.choice([n for n, word in enumerate(words) if len(word) > 3]))
        at = int(rng.integers(len(words[n])))
        typed = [*words[:n], words[n][:at] + "z" + words[n][at + 1 :], *words[n + 1 :]]
        found = suggested(" ".join(typed))
        if found:
            parse(" ".join([*words[:n], *found, *words[n + 1 :]]))
            right += found == [words[n]]
    assert right == 300  # no word contains "z", so no other word is as near


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a red circle, a blue square", "two objects need a relation between them"),
        ("a red circle above a blue ring above a green cross", "it names 3 objects"),
        ("two circle on white", "the number and the shape don't agree"),
        ("a red circles", "the number and the shape don't agree"),
        ("a ring left of two circle", "the number and the shape don't agree"),
        ("two rings above a cross", "'above' can only join two single objects"),
        ("a cross under two rings", "'under' can only join two single objects"),
        ("two rings at the top", "only a single object has a place"),
        ("a ring above a cross on the left", "only a single object has a place"),
        ("on on on", "captions read like 'a large red circle"),
        ("red circle", "captions read like 'a large red circle"),
        ("a red circle on blue on white", "captions read like 'a large red circle"),
        ("a large red circle on a red background.", "the colour of its background"),
        ("a small red ring above a large blue ring on blue", "the colour of its background"),
        ("two red rings on red", "the colour of its background"),
        ("a large red ring above a large red ring", "its two objects are equal"),
    ],
)
def test_what_training_never_showed_is_named(caption, reason):
    assert reason in review(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "",
        " ",
        "a ring",
        "a ring above a ring",  # what is left unsaid may differ
        "a red ring above a red ring",
        "A Purple Circle!",  # held out, and drawn well
        "a circle on red",
    ],
)
def test_what_is_usual_is_not(caption):
    assert review(caption) is None


def test_the_unusual_is_what_no_draw_of_the_data_holds():
    """Over all pairs of objects and backgrounds, the usual ones are those `random_scene` makes."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        first, second = (
            Object(rng.choice(list(SIZES)), rng.choice(["red", "blue"]), rng.choice(SHAPES[:2]))
            for _ in range(2)
        )
        scene = Scene("pair", (first, second), "blue", relation="above", count=2)
        possible = first != second and "blue" not in (first.colour, second.colour)
        assert (review(write(scene, rng)) is None) == possible
