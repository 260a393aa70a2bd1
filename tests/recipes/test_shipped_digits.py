"""Measures the shipped digit models again, on 64 samples, to confirm their cards."""

import pytest

from course_lib.common.checkpoints import load_checkpoint, published
from course_lib.evaluation.metrics import from_card
from course_lib.recipes import RECIPES

COUNT = 64
SHIPPED = [name for name in published() if name.startswith("digits-")]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_tells_the_truth(name):
    recipe = RECIPES[name]()
    model = load_checkpoint(type(recipe.model()), name)
    said = {metric.label: metric.value for metric in from_card(model.card)}
    measured = {metric.label: metric.value for metric in recipe.measure(model, COUNT)}
    assert measured.keys() == said.keys()
    for label, value in said.items():
        if "like" in label or "right" in label:  # shares: three standard errors of 64 draws
            room = 3 * (max(value * (1 - value), 0.01) / COUNT) ** 0.5
        else:  # losses and decibels of all test images: only the rounding of this CPU
            room = 0.02 * abs(value)
        assert abs(measured[label] - value) <= room, f"{label}: {measured[label]}, card {value}"
