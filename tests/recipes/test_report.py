"""What the report counts: shares of what captions say, and not of what they leave open."""

from types import SimpleNamespace

import pytest
import torch

from course_lib.recipes import report

VERDICTS = [
    {"all": True, "first shape": True, "second shape": True, "place": True},
    {"all": False, "first shape": True, "second shape": False},
    {"all": False, "first shape": True, "second shape": True, "place": False},
    {"all": True, "first shape": True, "second shape": True},
]


def test_a_share_is_of_the_pictures_whose_captions_say_it(monkeypatch):
    oracle = SimpleNamespace(judge=lambda images, captions: VERDICTS)
    monkeypatch.setattr(report, "PromptOracle", lambda: oracle)
    right, shares = report.faithful(torch.zeros(4, 3, 8, 8), [""] * 4)
    assert right == pytest.approx(0.5)
    assert shares == pytest.approx({"shape": 0.75, "place": 0.5})  # of 4, and of the 2 that say it
