"""The shipped digit models measured again, on 64 samples: what their cards say must still hold."""

import pytest

from course_lib.common.checkpoints import load_checkpoint, published
from course_lib.recipes import RECIPES

COUNT = 64
SHIPPED = [name for name in published() if name.startswith("digits-")]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_tells_the_truth(name):
    recipe = RECIPES[name]()
    model = load_checkpoint(type(recipe.model()), name)
    figures = dict(model.card["metrics"])
    figures.pop("count")
    measured = recipe.measure(model, COUNT)
    assert measured.keys() == figures.keys()
    for figure, said in figures.items():
        if "like" in figure or "right" in figure:  # shares: three standard errors of 64 draws
            room = 3 * (max(said * (1 - said), 0.01) / COUNT) ** 0.5
        else:  # losses and decibels of all test images: only the rounding of this CPU
            room = 0.02 * abs(said)
        assert abs(measured[figure] - said) <= room, f"{figure}: {measured[figure]}, card {said}"
