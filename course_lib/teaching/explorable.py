"""Explorables that need no kernel: all states are drawn in advance and stored in the page.

The first state is an ordinary figure, displayed by `show`. Below it is a piece of HTML with one
control for each argument and a few lines of JavaScript (`explorable.js`). If scripts don't run,
there is only the figure. Each state is stored as its difference from the first, which is laid over
the figure.
"""

import base64
import html
import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from IPython.display import HTML, Image, display
from matplotlib.figure import Figure
from PIL import Image as Picture
from PIL import ImageFilter

from course_lib.common.registry import choose
from course_lib.teaching.style import png, shrink

LIMIT = 200_000  # bytes of HTML
LEVELS = (32, 16, 8)  # of red, green and blue each, finest first
SCRIPT = Path(__file__).with_suffix(".js")


def explorable(
    draw: Callable[..., Figure],
    alt: str | Callable[..., str] = "",
    start: dict | None = None,
    limit: int = LIMIT,
    **choices: Sequence,
) -> None:
    """Show `draw(name=value, ...)` above one control for each name; moving one changes the figure.

    choices: the values of each argument of `draw`: numbers get a slider, texts a menu.
    start: the first state (default: the first value of each). alt: the figure in words, or a
    function of the same arguments that describes each state. All combinations are drawn in advance,
    so offer a few dozen. ValueError if the states need more than `limit` bytes.
    """
    start = _starting(choices, start or {})
    states = [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]
    figures = [draw(**state) for state in states]
    frames = _same_size([Picture.open(io.BytesIO(png(figure, None))) for figure in figures])
    alts = [alt(**state) if callable(alt) else alt for state in states]
    first = states.index(start)

    width = round(figures[first].get_figwidth() * 90)
    buffer = io.BytesIO()
    frames[first].save(buffer, format="png")
    page = page_of(frames, alts, first, choices, limit)  # refuses before anything is shown
    display(Image(shrink(buffer.getvalue()), width=width, alt=alts[first] or None))
    display(HTML(page))


def _starting(choices: dict[str, Sequence], start: dict) -> dict:
    for name, value in start.items():
        values = choices[choose("control", name, {key: key for key in choices})]
        if value not in values:
            raise ValueError(f"{name} starts at one of {list(values)}, got {value!r}")
    return {name: values[0] for name, values in choices.items()} | start


def _same_size(pictures: list[Picture.Image]) -> list[Picture.Image]:
    """The pictures on white, each as wide and high as the largest."""
    size = max(p.width for p in pictures), max(p.height for p in pictures)
    frames = [Picture.new("RGB", size, "white") for _ in pictures]
    for frame, picture in zip(frames, pictures, strict=True):
        frame.paste(picture.convert("RGB"), (0, 0))
    return frames


def page_of(
    frames: Sequence[Picture.Image],
    alts: Sequence[str],
    first: int,
    choices: dict[str, Sequence],
    limit: int = LIMIT,
) -> str:
    """The controls, all states and the script as HTML, with as many colours as the limit allows."""
    numbers = np.unravel_index(first, [len(values) for values in choices.values()])
    controls = "".join(
        _control(name, values, int(i))
        for (name, values), i in zip(choices.items(), numbers, strict=True)
    )
    for levels in LEVELS:
        data = {"states": differences(frames, first, levels), "alts": []}
        if len(set(alts)) > 1:
            data["alts"] = list(alts)
        packed = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
        page = (
            '<div class="explorable" role="group" aria-label="controls of the figure above" hidden>'
            f'{controls}<script type="application/json">{packed}</script></div>'
            f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>"
        )
        size = len(page.encode())
        if size <= limit:
            return page
    raise ValueError(
        f"the {len(frames)} states need {size:,} bytes, limit {limit:,}: offer fewer values"
    )


def _control(name: str, values: Sequence, i: int) -> str:
    """One labelled control, set to the i-th value."""
    label, texts = html.escape(name.replace("_", " ")), [html.escape(str(v)) for v in values]
    if isinstance(values[0], str):
        options = "".join(
            f"<option{' selected' if k == i else ''}>{text}</option>"
            for k, text in enumerate(texts)
        )
        return f'<label><span>{label}</span><select aria-label="{label}">{options}</select></label>'
    listed = html.escape(json.dumps([str(v) for v in values], ensure_ascii=False))
    return (
        f'<label><span>{label}</span><input type="range" min="0" max="{len(values) - 1}" '
        f'step="1" value="{i}" aria-label="{label}" aria-valuetext="{texts[i]}" '
        f'data-values="{listed}"><output>{texts[i]}</output></label>'
    )


def differences(frames: Sequence[Picture.Image], first: int, levels: int) -> list[str]:
    """A WebP data URI with each frame's difference from the first; "" for the first itself.

    Red, green and blue are rounded to `levels` values each, which doesn't change white or black.
    Pixels that stay the same are transparent.
    """
    pixels = [np.asarray(frame) for frame in frames]  # (H, W, 3) in 0..255
    uris = []
    for rgb in pixels:
        changed = _widened((rgb != pixels[first]).any(axis=2))
        if not changed.any():
            uris.append("")
            continue
        steps = levels - 1
        rounded = np.round(np.round(rgb / 255 * steps) * 255 / steps).astype(np.uint8)
        rgba = np.dstack([rounded, np.full(changed.shape, 255, np.uint8)]) * changed[..., None]
        buffer = io.BytesIO()
        Picture.fromarray(rgba).save(buffer, format="webp", lossless=True, quality=75)
        uris.append("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode())
    return uris


def _widened(mask: np.ndarray) -> np.ndarray:
    """The mask, two pixels wider on each side, so that scaling doesn't show the first frame."""
    return np.asarray(Picture.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(5))) > 0
