"""Counts how often the tests see bad input refused, for tests/REFUSALS.md.

python -m pytest tests --refusals    # after all tests, writes tests/REFUSALS.md
"""

import os
from collections import Counter
from pathlib import Path

PAGE = Path(__file__).with_name("REFUSALS.md")
SEEN: Counter[tuple[str, str]] = Counter()  # (file of tests, error) -> how often


def counting(raises):
    """`pytest.raises` that counts each time a test expects an error."""

    def counted(expected, *args, **kwargs):
        file = os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]
        SEEN[file, expected.__name__ if isinstance(expected, type) else "one of several"] += 1
        return raises(expected, *args, **kwargs)

    return counted


def page() -> str:
    """The table: one row for each test file, one column for each error."""
    total = Counter()
    for (_, error), count in SEEN.items():
        total[error] += count
    errors = [error for error, _ in total.most_common()]
    lines = [
        "# Refusals: bad input that the tests see refused",
        "",
        "Each is a call with a wrong shape, range, dtype, name, file or setting, and one error",
        "whose words the test checks. Made by `make refusals`. Not counted: errors of the command",
        "line, which print one line, and random damage (`tests/test_refusals.py`).",
        "",
        f"| tests | {' | '.join(errors)} |",
        f"|---|{'---|' * len(errors)}",
    ]
    for file in sorted({file for file, _ in SEEN}):
        counts = " | ".join(str(SEEN[file, error] or "") for error in errors)
        lines.append(f"| {file.removeprefix('tests/')} | {counts} |")
    sums = " | ".join(str(total[error]) for error in errors)
    lines.append(f"| **all {total.total()}** | {sums} |")
    return "\n".join([*lines, ""])
