"""The class at a glance: the results of each exercise, and the most frequent misconceptions."""

from collections import Counter
from collections.abc import Sequence

from matplotlib.figure import Figure

from course_lib.authoring.grade import Row
from course_lib.authoring.lecturer import in_words
from course_lib.teaching.style import BLUE, ORANGE

MOST = 15  # misconceptions shown


def class_picture(rows: Sequence[Row]) -> Figure:
    """Left: verdicts by exercise. Right: the most frequent misconceptions."""
    rows = [row for row in rows if row.exercise]
    numbers = list(dict.fromkeys((row.chapter, row.exercise) for row in rows))
    mistakes = Counter((r.exercise, r.misconception) for r in rows if r.misconception)
    common = mistakes.most_common(MOST)[::-1]
    height = 1.6 + 0.32 * max(len(numbers), len(common), 3)
    figure = Figure(figsize=(11, height), layout="constrained")
    left, right = figure.subplots(1, 2)

    names = [exercise for _, exercise in numbers][::-1]
    start = [0] * len(names)
    groups = {
        "right": ["right"],
        "wrong": ["wrong", "stopped"],
        "no answer": ["not attempted", "missing"],
    }
    for (label, statuses), colour in zip(groups.items(), (BLUE, ORANGE, "0.8"), strict=True):
        count = [sum(r.exercise == n and r.verdict in statuses for r in rows) for n in names]
        left.barh(names, count, left=start, color=colour, label=label)
        start = [a + b for a, b in zip(start, count, strict=True)]
    left.set(title="Verdicts", xlabel="students", ylabel="exercise")
    figure.legend(loc="outside lower left", ncols=3, frameon=False)

    labels = [f"{exercise}  {called(name)}" for (exercise, name), _ in common]
    right.barh(labels, [count for _, count in common], color=ORANGE)
    right.set(title="Most frequent misconceptions", xlabel="students")
    if not common:
        right.set_axis_off()
        right.set_title("No known misconception was found")
    for axes in (left, right):
        axes.margins(y=0.01)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def called(misconception: str) -> str:
    """A misconception in words, at most 44 letters; of a choice it is the letter.

    >>> called("zero_to_one"), called("b")
    ('zero to one', 'answer (b)')
    """
    return in_words(misconception)[:44] if len(misconception) > 1 else f"answer ({misconception})"
