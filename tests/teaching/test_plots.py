"""Figures: valid images give a small opaque PNG, others a clear error."""

import io
import warnings

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from course_lib.teaching import lettering, plots, style
from course_lib.teaching.history import EVENTS, sources, timeline_figure


def opened(figure):
    return Image.open(io.BytesIO(style.png(figure)))


def test_pixels_maps_minus_one_to_black_and_clips_overshoot():
    images = torch.tensor([-3.0, -1.0, 0.0, 1.0]).reshape(4, 1, 1, 1)
    grey = plots.pixels(images)
    assert grey.shape == (4, 1, 1, 3)
    assert grey[:, 0, 0, 2].tolist() == [0, 0, 0.5, 1]


def test_grid_shows_each_picture_where_its_caption_says():
    black, white = -torch.ones(3, 8, 8), torch.ones(3, 8, 8)
    figure = plots.grid_figure(torch.stack([black, white, white]), ["b", "w", "w"], columns=3)
    picture = np.asarray(opened(figure).convert("L"))
    row = picture[picture.shape[0] // 3]
    thirds = [row[int(len(row) * place)] for place in (0.17, 0.5, 0.83)]
    assert thirds == [0, 255, 255]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["b", "w", "w"]


def test_figures_are_opaque_and_within_the_limit():
    noise = torch.rand(8, 3, 64, 64) * 2 - 1
    data = style.png(plots.grid_figure(noise, ["a long caption that needs two lines"] * 8))
    assert len(data) <= style.PNG_LIMIT
    assert Image.open(io.BytesIO(data)).mode in ("RGB", "P")  # no alpha: one look in both themes


def test_what_cannot_be_shrunk_is_refused():
    with pytest.raises(ValueError, match="at most 100 bytes"):
        style.png(plots.grid_figure(torch.zeros(1, 1, 4, 4)), limit=100)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.zeros(3, 8, 8), r"must be \(B, 1 or 3, H, W\), got \(3, 8, 8\)"),
        (torch.zeros(1, 4, 8, 8), r"got \(1, 4, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "got torch.uint8"),
    ],
)
def test_other_than_pictures_is_refused(images, told):
    with pytest.raises(ValueError, match=told):
        plots.grid_figure(images)


def test_too_few_captions_are_refused():
    with pytest.raises(ValueError, match="captions must hold 2 texts, got 1"):
        plots.grid_figure(torch.zeros(2, 1, 4, 4), ["one"])


def test_style_is_left_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.curves_figure({"a": ([0, 1], [1, 0])}, "t", "step", "loss")
    assert dict(matplotlib.rcParams) == before


def test_smoothed_curve_is_the_running_mean():
    figure = plots.curves_figure({"a": (range(9), range(9))}, "t", "step", "loss", smooth=3)
    xs, ys = figure.axes[0].lines[-1].get_data()
    assert xs.tolist() == list(range(1, 8)) == pytest.approx(ys)  # the mean of three in a row


def labels_of_y(lowest, highest):
    curves = {"a": ([0, 1], [lowest, highest])}
    figure = plots.curves_figure(curves, "t", "step", "loss", log_y=True)
    FigureCanvasAgg(figure).draw()
    low, high = figure.axes[0].get_ylim()
    ticks = zip(figure.axes[0].get_yticks(), figure.axes[0].get_yticklabels(), strict=True)
    return [label.get_text() for at, label in ticks if low <= at <= high]


def test_a_short_logarithmic_axis_has_plain_numbers_and_a_long_one_powers_of_ten():
    assert labels_of_y(1.2, 60) == ["1", "2", "5", "10", "20", "50"]
    assert all("10^" in label for label in labels_of_y(1e-4, 1))


def test_strip_takes_the_first_and_the_last_moment():
    path = [torch.full((2, 1, 4, 4), i / 20) for i in range(21)]
    figure = plots.strip_figure(path, "t", ["a", "b"], columns=5)
    shown = [image.get_array()[0, 0, 0] for image in figure.axes[0].images]
    assert len(shown) == 10
    assert shown[0] == shown[5] == pytest.approx(0.5) and shown[4] == pytest.approx(1)


def test_timeline_is_in_order_and_sourced():
    years = [event.year for event in EVENTS]
    assert years == sorted(years)
    assert all(event.source for event in EVENTS if event.fid)
    assert sources().count("arxiv.org/abs/") == len(EVENTS)
    assert len(style.png(timeline_figure())) <= style.PNG_LIMIT


TEXT_TO_IMAGE = {  # name -> (its paper, the year and month of its appearance)
    "latent diffusion": ("2112.10752", (2021, 12)),
    "DALL·E 2": ("2204.06125", (2022, 4)),
    "Imagen": ("2205.11487", (2022, 5)),
    "Stable Diffusion": ("2112.10752", (2022, 8)),
}


def test_the_text_to_image_models_of_2022_are_named_and_dated():
    found = {event.name: (event.arxiv, event.date) for event in EVENTS}
    assert {name: found.get(name) for name in TEXT_TO_IMAGE} == TEXT_TO_IMAGE
    assert "2022-08 | [Stable Diffusion](https://arxiv.org/abs/2112.10752)" in sources()


def test_no_two_names_of_the_timeline_overlap():
    figure = timeline_figure()
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) == len(EVENTS)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), EVENTS[i].name


# --- what someone typed -----------------------------------------------------------------------


@pytest.fixture
def shipped_fonts(monkeypatch):
    """Only those that come with matplotlib."""
    from matplotlib import font_manager, get_data_path

    kept = [f for f in font_manager.fontManager.ttflist if f.fname.startswith(get_data_path())]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", kept)
    lettering.font_for.cache_clear()
    yield
    lettering.font_for.cache_clear()


def drawn(*captions):
    """The captions on a grid, whose figure was drawn without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.grid_figure(torch.zeros(len(captions), 1, 4, 4), captions, cell=6)
        style.png(figure)
    return figure.axes[0].texts


def test_dollars_are_no_formula():
    for typed in ("from $5 to $10", r"a $\frac{ and a $"):
        (text,) = drawn(typed)
        assert text.get_text() == typed
        width = text.get_window_extent().width
        text.set(parse_math=True, text=typed.replace("$", r"\$"))  # matplotlib's way to write them
        assert text.get_window_extent().width == width


def test_dollars_are_no_formula_anywhere_on_a_grid():
    words = ["$x$"]
    figure = plots.grid_figure(
        torch.zeros(1, 1, 4, 4), words, "$x$", row_labels=words, column_labels=words
    )
    assert [text.get_parse_math() for text in figure.axes[0].texts] == [False] * 4


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("a 🐱 says →", "a 🐱 says →"),  # matplotlib's own font has these
        ("猫", "[no font for 1 character]"),
        ("a 猫が いる.", "a [no font for 4 characters]."),
        ("👩\u200d🚀 flies", "[no font for 2 characters] flies"),
        ("a \U000e0067flag", "a flag"),
        (
            "\ud800 torn, \x07 rung",
            "[no font for 1 character] torn, [no font for 1 character] rung",
        ),
    ],
)
def test_what_no_font_has_is_noted(shipped_fonts, typed, shown):
    (text,) = drawn(typed)
    assert text.get_text() == shown


def test_another_font_is_taken_where_it_has_the_letter(shipped_fonts):
    letter = "⌒"  # of the fonts that come with matplotlib one alone has it
    (text,) = drawn(f"a {letter}")
    assert text.get_text() == f"a {letter}"
    assert text.get_fontfamily()[-1] == lettering.font_for(letter) != ""


def test_a_glyph_without_outlines_is_not_counted():
    assert lettering.inks("DejaVu Sans", ord("a"))
    assert not lettering.inks("DejaVu Sans", ord(" "))


def test_wide_letters_fit_under_their_picture(monkeypatch):
    monkeypatch.setattr(lettering, "font_for", lambda letter: "")  # as if a font had them
    lines = plots._wrap("a " + "猫" * 25, 20).split("\n")
    assert [lettering.columns(line) for line in lines] == [20, 20, 12]
    assert "".join(lines).replace(" ", "") == "a" + "猫" * 25
