"""Chapter 11's pictures and lessons: who has seen what, and what is measured."""

import pytest
import torch

from course_lib.datasets.emoji import COMMON, Emoji, concepts, picture, split_of
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.recipes import load_pipeline
from course_lib.teaching import fine_tuning
from course_lib.teaching.results import by_variant, load_results


def test_blobs_are_nested_and_held_out_ones_are_others():
    few, more, unseen = (
        fine_tuning.blobs(20),
        fine_tuning.blobs(100),
        fine_tuning.blobs(split="new pairs"),
    )
    assert few.examples == more.examples[:20] and not set(more.examples) & set(unseen.examples)
    assert all(split_of(concepts()[n], by) == "new pairs" for n, by in unseen.examples)
    assert all("Blob" in few.caption(place) for place in range(60))


def test_no_training_of_the_model_showed_an_owl_or_blob():
    trained = Emoji()
    shown = {concepts()[n].name for n, _ in trained.examples}
    assert "owl" not in shown and trained.studios == list(COMMON)
    said = " ".join(trained.caption(place).lower() for place in range(len(trained)))
    assert "blob" not in said and " owl" not in said


def test_every_pose_is_the_same_owl():
    owls = fine_tuning.owls()
    assert torch.equal(owls, fine_tuning.owls())
    seen = EmojiJudge("emoji-judge-all").read(owls)
    assert all(each.concepts[0] == "owl" for each in seen)
    assert fine_tuning.distance_to(owls, owls[1:])[0] > 0.05


def test_lessons_pair_each_latent_with_its_own_caption():
    model, data = load_pipeline("emoji-latent"), fine_tuning.blobs(5)
    (pair,) = fine_tuning.lessons(model, data, steps=1, batch=5)
    z, context = pair
    for place in range(5):
        concept, studio = data.example(place)
        image = picture(concept.name, studio)[None]
        with torch.no_grad():
            assert torch.allclose(z[place], model.vae.encode(image)[0], atol=1e-4)
            expected = model.clip.context([data.caption(place)])[0]
        assert torch.allclose(context[place], expected, atol=1e-5)
    assert not z.requires_grad and not context.requires_grad


def test_real_drawings_have_the_shares_that_the_judges_allow():
    data = fine_tuning.blobs(split="new pairs")
    found = fine_tuning.shares(data.batch(range(40))[0], data)
    assert found["top5"] == 1.0 and 0.7 < found["studio"] < 0.95
    other = fine_tuning.shares(Emoji(split="new pairs").batch(range(40))[0], data)
    assert other["top5"] < 0.1


def test_the_loss_of_the_same_network_is_the_same_number():
    model, data = load_pipeline("emoji-latent"), fine_tuning.blobs(split="new pairs")
    first = fine_tuning.held_out_loss(model, data, count=8, repeat=1)
    assert first == fine_tuning.held_out_loss(model, data, count=8, repeat=1)
    (before,) = by_variant(load_results("fine_tuning"))["before"]
    whole = fine_tuning.held_out_loss(model, data)
    assert whole == pytest.approx(before.metrics["held-out loss"], rel=0.01)
