"""Chapter 06's questions and contradictions, compared with their scenes."""

from collections import Counter

import pytest
import torch

from course_lib.datasets.scenes import Scenes
from course_lib.datasets.scenes.captions import parse, write
from course_lib.datasets.scenes.grammar import COLOURS
from course_lib.teaching.caption_tests import (
    CONTRADICTIONS,
    OPPOSITE,
    QUESTIONS,
    SAME_WORDS,
    side_by_side,
)

PAIRS = [Scenes(64, "train", "pair", unsaid=0.0).scene(i)[0] for i in range(60)]
SINGLES = [Scenes(64, "train", "single", unsaid=0.0).scene(i)[0] for i in range(60)]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_true_class_is_one_of_the_classes_and_every_template_has_one_gap(name):
    question = QUESTIONS[name]
    assert {question.truth(scene) for scene in SINGLES} <= set(question.classes)
    for templates in question.templates.values():
        assert all(template.count("{}") == 1 for template in templates)
        assert len(set(templates)) == len(templates)


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_changes_the_scene_and_what_is_left_can_be_said(name):
    for i, scene in enumerate(PAIRS):
        changed = CONTRADICTIONS[name](scene, i)
        assert parse(write(changed)) == changed
        a, b = scene.objects
        if name != "the two exchange colours" or a.colour != b.colour:
            assert changed != scene


@pytest.mark.parametrize("name", [name for name in SAME_WORDS if name != "the relation reversed"])
def test_these_use_the_same_words(name):
    for i, scene in enumerate(PAIRS):
        words, others = (
            Counter(write(each).replace("an ", "a ").split())
            for each in (scene, CONTRADICTIONS[name](scene, i))
        )
        assert words == others


def test_a_reversed_relation_is_reversed_twice():
    assert all(OPPOSITE[OPPOSITE[relation]] == relation for relation in OPPOSITE)


def test_side_by_side_names_the_colours_that_the_captions_say_and_the_pictures_show():
    images, captions, first, left = side_by_side(20)
    colours = list(COLOURS)
    for image, caption, one, other in zip(images, captions, first, left, strict=True):
        scene = parse(caption)
        assert colours[one] == scene.objects[0].colour
        on_left = scene.objects[0 if scene.relation == "left of" else 1].colour
        assert colours[other] == on_left
        paint = 2 * torch.tensor(COLOURS[on_left])[:, None, None] - 1
        columns = ((image - paint).abs().amax(0) < 1e-3).nonzero()[:, 1].float()
        beside = next(thing.colour for thing in scene.objects if thing.colour != on_left)
        paint = 2 * torch.tensor(COLOURS[beside])[:, None, None] - 1
        others = ((image - paint).abs().amax(0) < 1e-3).nonzero()[:, 1].float()
        assert columns.mean() < others.mean()
