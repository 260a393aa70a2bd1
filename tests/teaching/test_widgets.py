"""Explorables: the plain first figure, and that moving a control redraws it."""

import pytest
import torch

from course_lib.teaching import widgets
from course_lib.teaching.plots import grid_figure


class Page:
    """Stands for the notebook's page: keeps what was displayed and what replaced it."""

    def __init__(self):
        self.shown, self.updates = [], []

    def display(self, thing, display_id=False):
        self.shown.append(thing)
        return self

    def update(self, thing):
        self.updates.append(thing)


@pytest.fixture
def page(monkeypatch):
    page = Page()
    monkeypatch.setattr(widgets, "display", page.display)
    return page


def draw_calls(calls):
    def draw(level, word):
        calls.append((level, word))
        return grid_figure(torch.full((1, 1, 4, 4), level), [word])

    return draw


def test_first_figure_is_plain_and_a_control_redraws_it(page):
    calls = []
    choices = dict(level=[-1.0, 0.0, 1.0], word=["a", "b"])
    widgets.explorable(draw_calls(calls), "a grey square", start={"level": 0.0}, **choices)
    box, image = page.shown
    assert image.data.startswith(b"\x89PNG") and image.alt == "a grey square"
    assert calls == [(1.0, "b"), (0.0, "a")]  # the last state is tried, the first is shown

    slider, menu = box.children
    assert slider.description == "level" and menu.options == ("a", "b")
    slider.value = 1.0
    menu.value = "b"
    assert len(page.updates) == 2 and page.updates[0].data != image.data

    drawn = len(calls)
    slider.value, slider.value = 0.0, 1.0
    assert len(calls) == drawn + 1  # (0, b) is new, (1, b) was kept


def test_a_mistake_in_another_state_shows_at_once(page):
    def draw(level):
        return grid_figure([torch.zeros(1, 1, 4, 4), None][level])

    with pytest.raises(ValueError, match="images must be a tensor"):
        widgets.explorable(draw, level=[0, 1])
