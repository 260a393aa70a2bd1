"""Chapter 06's capstone: sound trainings reach the target in several styles, mistakes don't."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.exercises.ch06_capstone import EXERCISES, train_clip

EXERCISE = EXERCISES["6.6"]


def training(
    cosines=None,
    scale=lambda logit_scale: logit_scale.exp(),
    loss=None,
    batch=lambda count: (torch.randint(count, (128,)),) * 2,
    learned=lambda image, text, scale: [*image.parameters(), *text.parameters(), scale],
    zero=True,
    lr=2e-3,
):
    """A training in which one part can be replaced by a mistake."""
    cosines = cosines or (lambda u, v: F.normalize(u, dim=1) @ F.normalize(v, dim=1).T)
    loss = loss or (lambda s, own: (F.cross_entropy(s, own) + F.cross_entropy(s.T, own)) / 2)

    def train(image_tower, text_tower, logit_scale, images, ids, steps):
        optimizer = torch.optim.Adam(learned(image_tower, text_tower, logit_scale), lr=lr)
        for _ in range(steps):
            some, others = batch(len(images))
            logits = scale(logit_scale) * cosines(
                image_tower(images[some]), text_tower(ids[others])
            )
            if zero:
                optimizer.zero_grad()
            loss(logits, torch.arange(len(some))).backward()
            optimizer.step()

    return train


def written_out(image_tower, text_tower, logit_scale, images, ids, steps):
    """Another style: AdamW with groups, epochs of a shuffled order, the softmax by hand."""
    towers = [*image_tower.parameters(), *text_tower.parameters()]
    optimizer = torch.optim.AdamW([{"params": towers}, {"params": [logit_scale]}], lr=3e-3)
    order = torch.randperm(len(images))
    for step in range(steps):
        if step % 10 == 0:
            order = torch.randperm(len(images))
        part = order[step % 10 * 96 :][:96]
        u, v = image_tower(images[part]), text_tower(ids[part])
        s = torch.exp(logit_scale) * (u / u.norm(dim=-1, keepdim=True)).matmul(
            (v / v.norm(dim=-1, keepdim=True)).mT
        )
        right = s.diagonal()
        loss = (s.logsumexp(0) - right).mean() / 2 + (s.logsumexp(1) - right).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("answer", [train_clip, written_out])
def test_sound_trainings_reach_the_target(answer):
    verdict = EXERCISE.examine(answer)
    assert verdict.status == "right", verdict


def shuffled_labels(logits, own):
    own = own[torch.randperm(len(own))]
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def one_tower(image_tower, text_tower, logit_scale):
    return [*image_tower.parameters(), logit_scale]


def both_towers(image_tower, text_tower, logit_scale):
    return [*image_tower.parameters(), *text_tower.parameters()]


def torn(count):
    return torch.randint(count, (128,)), torch.randint(count, (128,))


MISTAKES = {
    "pairs_torn_apart": training(batch=torn),
    "towers_left_as_they_were": training(learned=one_tower),
    "gradients_pile_up": training(zero=False),
    "not_normalised": training(cosines=lambda u, v: u @ v.T),
    "one_direction_only": training(loss=F.cross_entropy),
    "temperature_forgotten": training(scale=lambda logit_scale: 1 + 0 * logit_scale),
    "logarithm_as_a_factor": training(scale=lambda logit_scale: logit_scale),
    "temperature_upside_down": training(scale=lambda logit_scale: 1 / logit_scale.exp()),
    "temperature_not_learned": training(learned=both_towers),
}
MORE = [
    ("not_normalised", training(cosines=lambda u, v: F.normalize(u, dim=1) @ v.T)),
    ("not_normalised", training(cosines=lambda u, v: F.normalize(u, dim=0) @ v.T)),
    ("one_direction_only", training(loss=lambda s, own: F.cross_entropy(s.T, own))),
    ("towers_left_as_they_were", lambda *inputs: inputs[0](inputs[3])),
    (None, training(loss=shuffled_labels)),
    (None, training(lr=1e-6)),
]


def test_every_named_mistake_is_tried():
    assert list(MISTAKES) == [mistake.__name__ for mistake in EXERCISE.misconceptions]


@pytest.mark.parametrize(("mistake", "answer"), [*MISTAKES.items(), *MORE])
def test_mistakes_are_named_or_miss_the_target(mistake, answer):
    verdict = EXERCISE.examine(answer)
    assert (verdict.status, verdict.misconception) == ("wrong", mistake), verdict
    assert "\n" not in verdict.message


@pytest.mark.parametrize("answer", [..., lambda *inputs: ...])
def test_a_stub_is_not_attempted(answer):
    assert EXERCISE.examine(answer).status == "not attempted"


@pytest.mark.parametrize("mistake", EXERCISE.misconceptions)
def test_a_sound_training_shows_no_mistake(mistake):
    for answer in (train_clip, written_out):
        torch.manual_seed(0)
        assert not mistake(answer)
