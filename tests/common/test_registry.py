"""Names and words: which are near, and what the message says about unknown ones."""

import pytest

from course_lib.common.registry import near, unknown_words

WORDS = ["at", "an", "black", "blue", "in", "pluses", "purple", "red", "ring", "small", "square"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("purpel", "purple"),  # swapped
        ("purplee", "purple"),  # a letter too many
        ("purle", "purple"),  # one missing
        ("purpla", "purple"),  # one wrong
        ("xpurple", "purple"),
        ("urple", "purple"),
        ("blu", "blue"),
        ("rde", "red"),
    ],
)
def test_one_typing_error_is_near(typed, meant):
    assert near(typed, WORDS) == [meant]


@pytest.mark.parametrize(
    "typed", ["cat", "pink", "star", "ball", "please", "and", "rad", "pruplee", "p", ""]
)
def test_two_errors_and_other_short_words_are_not(typed):
    """The first six were once mistaken for at, in, square, small, pluses and an."""
    assert near(typed, WORDS) == []


def test_a_word_is_not_near_itself_and_near_is_mutual():
    for word in WORDS:
        assert word not in near(word, WORDS)
    for one, other in [("ring", "rings"), ("two", "tow"), ("four", "for"), ("abcd", "abdc")]:
        assert near(one, [other]) == [other] and near(other, [one]) == [one]


def test_the_first_eight_unknown_words_are_named_and_a_long_one_is_cut():
    line = unknown_words(["blu", "x" * 100, *"abcdefgh"], {"blu": "blue"})
    assert line.startswith("unknown words: 'blu' (did you mean 'blue'?), 'xxx")
    assert line.endswith("'a', 'b', 'c', 'd', 'e', 'f' and 2 more") and len(line) < 200
