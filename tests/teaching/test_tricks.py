"""The tricks one by one: each variant differs from the recipe in one thing; records are sound."""

from itertools import product

import pytest

from course_lib.teaching import tricks
from course_lib.teaching.tricks import VARIANTS, Full


@pytest.fixture(scope="module")
def full():
    return Full()


def test_a_variant_differs_in_what_it_says(full):
    seen = {}
    for label, variant in VARIANTS.items():
        recipe = variant()
        learns = any(p.requires_grad for p in recipe.model().text.parameters())
        process = str(recipe.process.schedule), recipe.process.target
        facts = (learns, recipe.alignment, process, recipe.times, recipe.weighting, recipe.changes)
        seen[label] = str(facts)
    assert len(set(seen.values())) == len(VARIANTS)  # no two are the same
    assert seen["the recipe"] == str(
        (True, full.alignment, (str(full.process.schedule), "flow"), "logit_normal", "simple", {})
    )


def test_the_records_are_of_every_variant_and_seed_in_about_equal_minutes():
    runs = tricks.RUNS.records()
    assert [(r["variant"], r["seed"]) for r in runs] == list(product(VARIANTS, (0, 1)))
    for each in runs:
        # steps follow a timing of ten of them, beside other work: 0.87 to 1.08 of the budget came
        assert each["cpu_seconds"] == pytest.approx(tricks.BUDGET, rel=0.15)
        assert 0 <= each["right"] <= each["properties"] <= 1
        assert each["frechet distance"] > each["frechet floor"] > 0


def test_frozen_words_get_no_gradient():
    model = tricks.Frozen().model()
    assert not any(p.requires_grad for p in model.text.parameters())
    assert all(p.requires_grad for p in model.unet.parameters())


def test_a_budget_buys_steps(monkeypatch):
    class Clock:
        """A training whose every step takes half a second of CPU time."""

        def __init__(self, steps):
            self.steps, self.cpu_seconds = steps, 0.0

        def advance(self):
            self.cpu_seconds += 0.5

    recipe = Full()
    monkeypatch.setattr(recipe, "begin", lambda steps, **_: Clock(steps))
    assert tricks.begin(recipe, seed=0, budget=60).steps == 120
