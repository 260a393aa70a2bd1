"""Explorables: figures with sliders; on a page without a kernel, the figure alone."""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from course_lib.common.registry import choose
from course_lib.teaching.plots import as_image
from course_lib.teaching.style import PNG_LIMIT


def explorable(
    draw: Callable[..., Figure], alt: str = "", start: dict | None = None, **choices: Sequence
) -> None:
    """Show `draw(name=value, ...)` below one control for each name; moving one redraws.

    choices: the values of each argument of `draw`: a slider for numbers, a menu for strings.
    start: the initial values (default: the first of each). alt: the figure in words.
    draw should take under 100 ms, so compute slow things beforehand; every figure is cached.

        explorable(lambda steps: strip_figure(paths[steps], "Path"), steps=[5, 10, 20])
    """
    for name in start or {}:
        choose("control", name, choices)  # refuses an unknown name
    start = {name: values[0] for name, values in choices.items()} | (start or {})
    controls = {name: _control(name, choices[name], start[name]) for name in choices}
    cache: dict[tuple, Any] = {}

    def picture(limit: int | None = None) -> Any:
        values = {name: control.value for name, control in controls.items()}
        key = tuple(values.values())
        if key not in cache:
            cache[key] = as_image(draw(**values), alt, limit)
        return cache[key]

    draw(**{name: values[-1] for name, values in choices.items()})  # fail here, not in a callback
    display(ipywidgets.VBox(list(controls.values())))
    shown = display(picture(PNG_LIMIT), display_id=True)  # saved in the notebook
    for control in controls.values():
        control.observe(lambda change: shown.update(picture()), names="value")


def _control(name: str, values: Sequence, value: Any) -> ipywidgets.Widget:
    label = name.replace("_", " ")
    kind = ipywidgets.Dropdown if isinstance(value, str) else ipywidgets.SelectionSlider
    return kind(
        options=list(values),
        value=value,
        description=label,
        layout=ipywidgets.Layout(width="500px"),
        style={"description_width": "150px"},
    )
