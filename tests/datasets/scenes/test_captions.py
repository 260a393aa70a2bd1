"""Captions: parse inverts write for any wording; hard negatives are false; nonsense is refused."""

import numpy as np
import pytest

from course_lib.datasets.scenes import captions
from course_lib.datasets.scenes.captions import hard_negative, parse, write
from course_lib.datasets.scenes.dataset import Scenes, omit, random_scene
from course_lib.datasets.scenes.grammar import COLOURS, KINDS, Object, Scene

TABLES = ("SIZE_OF", "PLACE_OF", "RELATION_OF", "COUNT_OF", "SHAPE_OF")
PHRASES = [*COLOURS, "on", "against", "background"]
PHRASES += [phrase for table in TABLES for phrase in getattr(captions, table)]
WORDS = {word for phrase in PHRASES for word in phrase.split()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unsaid", [0.0, 0.4])
def test_parse_undoes_write(kind, unsaid):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        scene = omit(random_scene(rng, kind), rng, unsaid)
        caption = write(scene, rng)
        assert parse(caption) == scene, caption
        assert set(caption.replace(",", "").split()) <= WORDS


def test_the_same_scene_is_said_in_many_ways():
    scene = random_scene(np.random.default_rng(1), "pair")
    rng = np.random.default_rng(2)
    assert len({write(scene, rng) for _ in range(200)}) > 50


def test_reads_what_a_person_types():
    red = Object("large", "red", "circle")
    assert parse("a large red circle on a blue background") == Scene("single", (red,), "blue")
    assert parse("On blue, one big red disc near the top.") == Scene(
        "single", (red,), "blue", place="top"
    )
    assert parse("a ring") == Scene("single", (Object(None, None, "ring"),), None)
    assert parse("an orange box left of a hoop") == Scene(
        "pair",
        (Object(None, "orange", "square"), Object(None, None, "ring")),
        None,
        relation="left of",
        count=2,
    )


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "circle",
        "a red",
        "a red circle a blue square",
        "two red circle",
        "a red circles",
        "three circles left of a ring",
        "a circle left of three rings",
        "two rings at the top",
        "a red circle on a loud background",
        "a red circle on blue on red",
    ],
)
def test_what_is_not_of_the_grammar_is_refused_by_name(nonsense):
    with pytest.raises(ValueError, match="cannot read the caption"):
        parse(nonsense)


def test_a_contradiction_says_something_else_of_the_same_kind():
    rng = np.random.default_rng(0)
    data = Scenes(unsaid=0.3)
    for index in range(1000):
        caption = data.caption(index)
        truth, negative = parse(caption), parse(hard_negative(caption, rng))
        assert negative != truth and negative.kind == truth.kind


def test_many_contradictions_of_pairs_keep_their_words():
    """Otherwise a bag of words could distinguish them from the truth (Yuksekgonul et al. 2023)."""
    rng = np.random.default_rng(0)
    caption = "a large red circle above a small blue ring on white"
    truth = parse(caption)
    swapped = {
        Scene("pair", truth.objects[::-1], "white", relation="above", count=2),
        Scene(
            "pair",
            (Object("large", "blue", "circle"), Object("small", "red", "ring")),
            "white",
            relation="above",
            count=2,
        ),
    }
    negatives = [parse(hard_negative(caption, rng)) for _ in range(300)]
    assert swapped <= set(negatives)
    assert (
        sum(negative in swapped for negative in negatives) > 60
    )  # 3 of 7 kinds of negative: 129 ± 9 expected


def test_an_exchange_that_may_be_true_is_no_lie():
    """A box and a large box: no property that both captions mention distinguishes them."""
    rng = np.random.default_rng(0)
    told = {hard_negative("one large box right of one box", rng) for _ in range(200)}
    scenes = [parse(negative) for negative in told]
    assert not [s for s in scenes if s.relation == "right of" and s.objects[0].size is None]
    negatives = {hard_negative("a red circle on a red background", rng) for _ in range(100)}
    truth = parse("a red circle on a red background")
    assert all(parse(negative) != truth for negative in negatives)
