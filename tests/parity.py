"""Measures the agreement with independent implementations, for tests/PARITY.md.

python -m pytest tests --parity      # after all tests, writes tests/PARITY.md
"""

import os
from pathlib import Path

import torch
from torch import Tensor

PAGE = Path(__file__).with_name("PARITY.md")
ROWS: dict[str, tuple[float, float]] = {}  # test and configuration -> (largest difference, bound)


def agree(ours: Tensor, theirs: Tensor, bound: float) -> None:
    """Asserts that the largest difference, relative to their largest value, is at most `bound`.

    The measured difference goes into the table, under the name of the current test.
    """
    assert ours.shape == theirs.shape
    ours, theirs = ours.detach().double(), theirs.detach().double()
    scale = theirs.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    difference = float((ours - theirs).abs().max() / scale)
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    ROWS[test] = max(difference, ROWS.get(test, (0.0, bound))[0]), bound
    assert difference <= bound, f"differs by {difference:.2g}, allowed {bound:.2g}"


def page(title: str) -> str:
    """The table: what was compared, in which configuration, and the largest difference."""
    lines = [
        "# Parity: the course's code against independent implementations",
        "",
        title,
        "",
        "The largest difference between the course's numbers and theirs, relative to their largest",
        "number, with random weights. Made by `make parity`. If more than 1e-5 is allowed, the",
        "test says why next to the bound.",
        "",
        "| what | configuration | largest difference | allowed |",
        "|---|---|---|---|",
    ]
    for test, (difference, bound) in ROWS.items():
        name, _, configuration = test.rpartition("::")[2].partition("[")
        what = name.removeprefix("test_").replace("_", " ")
        configuration = configuration.removesuffix("]")
        lines.append(f"| {what} | {configuration} | {difference:.1e} | {bound:.0e} |")
    return "\n".join([*lines, ""])
