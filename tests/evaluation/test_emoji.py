"""The emoji judges' verdicts, and the measurement of models that are known."""

import pytest
import torch

from course_lib.datasets.emoji import COMMON, STUDIOS, Emoji, concepts, picture, split_of
from course_lib.evaluation import emoji_prompts
from course_lib.evaluation.emoji import EmojiJudge, Reading, data_of_judges
from course_lib.evaluation.emoji_prompts import JUDGES, distances, emoji_metrics
from course_lib.models import ContentAndStyle

PENGUIN = [concept.name for concept in concepts()].index("penguin")


def judge(says: dict[int, float] | None = None) -> EmojiJudge:
    """An untrained one, which says the same of every picture where it is told what."""
    model = ContentAndStyle(len(concepts()) + 1, len(STUDIOS), channels=(8, 8), dim=8)
    if says is not None:
        logits = torch.zeros(len(concepts()) + 1 + len(STUDIOS))
        for logit, value in says.items():
            logits[logit] = value
        model.forward = lambda images: logits.expand(len(images), -1)
    return EmojiJudge(model=model)


def test_a_reading_is_the_most_probable_concepts_studio_and_whether_it_is_known():
    nothing, noto = len(concepts()), len(concepts()) + 1 + STUDIOS.index("Noto")
    says = {PENGUIN: 5.0, 7: 4.0, 3: 3.0, 11: 2.0, 2: 1.0, nothing: 4.5, noto: 1.0}
    images = torch.ones(1, 3, 64, 64)
    names = tuple(concepts()[n].name for n in (PENGUIN, 7, 3, 11, 2))
    assert judge(says).read(images) == [Reading(names, "Noto", True)]
    assert not judge(says | {nothing: 5.5}).read(images)[0].known


@pytest.mark.parametrize(
    ("name", "nothing", "verdict"),
    [
        ("penguin", 0.0, dict(top1=True, top5=True, known=True)),
        (concepts()[7].name, 0.0, dict(top1=False, top5=True, known=True)),
        ("red apple", 0.0, dict(top1=False, top5=False, known=True)),
        ("penguin", 9.0, dict(top1=False, top5=False, known=False)),
    ],
)
def test_verdicts(name, nothing, verdict):
    says = {PENGUIN: 5.0, 7: 4.0, 3: 3.0, 11: 2.0, 2: 1.0, len(concepts()): nothing}
    asked = torch.ones(2, 3, 64, 64), [name] * 2, ["Twemoji", "Noto"]
    first, second = judge(says).judge(*asked)
    assert first == verdict | {"studio": True} and second == verdict | {"studio": False}
    found = {metric.property: metric for metric in judge(says).metrics(*asked, split="train")}
    assert found["studio"].value == 0.5 and found["top1"].value == float(verdict["top1"])
    assert found["top5"].split == "train" and found["top5"].count == 2


def test_a_judge_of_another_list_of_concepts_is_refused():
    model = judge().model
    model.card = {"settings": {"data": data_of_judges()}}
    assert EmojiJudge(model=model).model is model
    model.card = {"settings": {"data": {"concepts": "0" * 64}}}
    with pytest.raises(ValueError, match="trained on another list of concepts"):
        EmojiJudge(model=model)


@pytest.mark.parametrize(
    ("told", "names", "studios"),
    [
        ("2 pictures, 1 names and 2 studios", ["penguin"], ["Noto", "Noto"]),
        ("unknown emoji 'pengiun'; did you mean 'penguin'", ["pengiun"] * 2, ["Noto"] * 2),
        ("unknown studio 'noto'", ["penguin"] * 2, ["noto"] * 2),
    ],
)
def test_refusals(told, names, studios):
    with pytest.raises(ValueError, match=told):
        judge().judge(torch.ones(2, 3, 64, 64), names, studios)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match="images"):
        judge().read(torch.ones(2, 3, 32, 32))


# A model is measured


class ByHeart:
    """A judge that knows every real drawing to the last bit, and nothing else."""

    def __init__(self, name):
        self.known = {picture(c.name, s).numpy().tobytes(): (c.name, s) for c, s in ASKED}

    def judge(self, images, names, studios):
        seen = [self.known.get(image.numpy().tobytes(), (None, None)) for image in images]
        return [
            {"top5": seen_name == name, "studio": seen_studio == studio}
            for (seen_name, seen_studio), name, studio in zip(seen, names, studios, strict=True)
        ]


COUNT = 12
HELD_OUT = [Emoji(split="new pairs").example(i) for i in range(COUNT)]
TRAINED = [Emoji().example(i) for i in range(COUNT)]
ASKED = [(concept, studio) for concept, _ in HELD_OUT + TRAINED for studio in COMMON]


@pytest.fixture(autouse=True)
def by_heart(monkeypatch):
    monkeypatch.setattr(emoji_prompts, "EmojiJudge", ByHeart)


def found(draw, count=COUNT):
    return {
        (metric.kind, metric.split, metric.property): metric.value
        for metric in emoji_metrics(draw, count)
    }


def drawn_by(choose_studio):
    """A "model" that looks the caption up, and shows a real drawing."""
    phrases = {concept.phrase: concept for concept in concepts()}

    def draw(captions, seeds):
        asked = [caption.removesuffix(" style").rpartition(", ") for caption in captions]
        pairs = [(phrases[phrase], studio) for phrase, _, studio in asked]
        return torch.stack([picture(c.name, choose_studio(c, studio)) for c, studio in pairs])

    return draw


def test_a_model_that_draws_as_asked_is_as_good_as_the_real_drawings():
    values = found(drawn_by(lambda concept, studio: studio))
    for name in JUDGES:
        for split in ("train", "new pairs"):
            for what in ("top5", "studio"):
                assert values[name, split, what] == values[name, split, f"{what} of real"] == 1
    for split in ("train", "new pairs"):
        assert values[None, split, "distance"] == values[None, split, "distance of real"] > 0


def test_a_model_that_copies_another_studios_drawing_is_found_out():
    def other(concept, studio):
        return next(s for s in COMMON if s != studio and split_of(concept, s) == "train")

    values = found(drawn_by(other))
    for name in JUDGES:
        assert values[name, "new pairs", "top5"] == 1 and values[name, "new pairs", "studio"] == 0


def test_pictures_come_with_a_seed_of_their_own_and_intervals_count_concepts():
    seeds = []
    metrics = emoji_metrics(lambda c, s: seeds.extend(s) or torch.ones(len(c), 3, 64, 64), 8)
    assert seeds == 2 * list(range(16))  # both splits, two of each pair
    counts = {metric.property: metric.count for metric in metrics}
    assert counts == {"top5": 16, "studio": 16, "top5 of real": 8, "studio of real": 8} | {
        "distance": 8,
        "distance of real": 8,
    }


def test_distance_is_to_the_nearest_other_training_picture():
    images, _ = Emoji().batch(range(4))
    assert (distances(images) > 0.01).all()  # not 0, the picture itself
    near = distances((images + 0.02).clamp(-1, 1))
    assert (near <= 0.02 + 1e-6).all() and (near > 0).all()
