"""The study of bias: what it counts, and that its records say what chapter 16 says of them."""

import numpy as np
import pytest
import torch

from course_lib.datasets.emoji import STUDIOS
from course_lib.evaluation.confusion import confusion, corrected
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.emoji_people import GENDERS, drawings, jobs, read_people
from course_lib.evaluation.metrics import share
from course_lib.experiments import bias
from course_lib.experiments.bias import EACH, VARIANTS, WORDINGS, run
from course_lib.teaching.results import by_variant, load_results


class Judge:
    """Says "man" of a picture whose first pixel is 0, and so on, and that Noto drew it."""

    def __init__(self, name):
        pass

    def logits(self, images):
        what = torch.zeros(len(images), 1510)
        for row, value in enumerate(images[:, 0, 0, 0].round().long().tolist()):
            for trio in jobs():
                what[row, trio[value]] = 1
        who = torch.zeros(len(images), len(STUDIOS))
        who[:, STUDIOS.index("Noto")] = 1
        return what, torch.zeros(len(images), 1), who


def test_pictures_are_counted_by_wording_verdict_and_job(monkeypatch):
    asked = []

    def draw(model, captions, seeds, **how):
        asked.append((list(captions), list(seeds)))
        kinds = [
            0 if c.startswith("a man") else 1 if c.startswith("a woman") else 2 for c in captions
        ]
        return torch.tensor(kinds).float()[:, None, None, None].expand(-1, 3, 64, 64)

    monkeypatch.setattr(bias, "EmojiJudge", Judge)
    monkeypatch.setattr(bias, "load_pipeline", lambda name: None)
    monkeypatch.setattr(bias, "text_to_image", draw)
    outcome = run("scale 5", 0)
    for wording, place in WORDINGS.items():
        for gender, name in enumerate(GENDERS):
            assert outcome.metrics[f"said {name}, {wording}"] == float(gender == place)
        assert outcome.metrics[f"studio, {wording}"] == pytest.approx(1 / 3)
        assert outcome.curve[f"{GENDERS[place]}, {wording}"] == [3 * EACH] * len(jobs())
    seeds = [seed for _, some in asked for seed in some]
    assert len(seeds) == 3 * outcome.settings["pictures"] and len({*seeds}) == len(seeds) / 3
    assert outcome.samples.shape == (3, 8, 3, 64, 64)
    assert [row[0].split(",")[0] for row in outcome.captions] == [
        "a health worker", "a man health worker", "a woman health worker",
    ]  # fmt: skip


# --- what is recorded ------------------------------------------------------------------------


RUNS = by_variant(load_results("bias"))


def mean(variant, metric):
    return np.mean([run.metrics[metric] for run in RUNS[variant]])


def test_every_setting_has_three_seeds_and_equal_counts():
    assert {name: len(runs) for name, runs in RUNS.items()} == dict.fromkeys(VARIANTS, 3)
    for each in load_results("bias"):
        for wording in WORDINGS:
            counts = sum(np.array(each.curve[f"{name}, {wording}"]) for name in GENDERS)
            assert counts.tolist() == [3 * EACH] * len(jobs())
            for name in GENDERS:
                said = each.metrics[f"said {name}, {wording}"]
                count = sum(each.curve[f"{name}, {wording}"])
                assert said == pytest.approx(count / each.settings["pictures"], abs=1e-4)


def test_without_a_word_the_model_seldom_draws_what_is_called_a_woman():
    for variant in ("scale 1", "scale 2.5", "scale 5", "scale 10"):
        men, women, persons = (mean(variant, f"said {name}, none") for name in GENDERS)
        assert men > 2 * women and persons > 2 * women


def test_with_a_word_it_draws_what_was_asked_for():
    for gender in ("man", "woman"):
        assert mean("scale 2.5", f"said {gender}, {gender}") > 0.7


def test_the_negative_prompt_draws_more_women_and_fewer_men_also_where_a_man_was_asked_for():
    assert mean("negative prompt", "said woman, none") > 2 * mean("scale 2.5", "said woman, none")
    for wording in ("none", "man"):
        ours = mean("negative prompt", f"said man, {wording}")
        assert ours < mean("scale 2.5", f"said man, {wording}") - 0.05


def test_amplification_depends_on_what_counts_as_the_data():
    """Chapter 16, equation 16.9: more persons than among all drawings, fewer than the captions."""
    images, of, truth = drawings("train", jobs())
    seen = read_people(EmojiJudge(), images, of)
    verdicts = torch.tensor([mean("scale 2.5", f"said {name}, none") for name in GENDERS])
    shares = corrected(verdicts, confusion(truth, seen.gender, 3))
    assert shares.min() > 0 and shares.sum() == pytest.approx(1, abs=1e-4)
    to_all, to_unsaid = (shares - torch.tensor(p) for p in ([1 / 3] * 3, [0.0, 0.0, 1.0]))
    assert to_all.sum().abs() < 1e-4 and to_unsaid.sum().abs() < 1e-4
    assert to_all[2] > 0.2 > 0 > to_all[1] and to_unsaid[0] > 0.1 > 0 > to_unsaid[2]


def test_errors_on_held_out_drawings_lead_to_impossible_shares():
    images, of, truth = drawings("new pairs")
    errors = confusion(truth, read_people(EmojiJudge(), images, of).gender, 3)
    verdicts = torch.tensor([mean("scale 2.5", f"said {name}, man") for name in GENDERS])
    assert corrected(verdicts, errors)[0] > 1.1


def test_the_studios_drawings_of_no_gender_look_like_men_as_often_as_the_models():
    images, of, truth = drawings("train", jobs())
    seen = read_people(EmojiJudge(), images, of).man_or_woman[truth == 2]
    (low, high) = share("man", seen == 0).interval
    assert low > 0.5 and low < mean("scale 2.5", "man or woman, none") < high
