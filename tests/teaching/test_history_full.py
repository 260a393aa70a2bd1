"""Chapter 17's timeline: in order, sourced, legible; chapter 00's short one is part of it."""

from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.teaching import style
from course_lib.teaching.history import EVENTS, LANES
from course_lib.teaching.history_full import (
    CIFAR,
    FULL,
    IMAGENET,
    RESULTS,
    full_sources,
    full_timeline_figure,
    results_figure,
    where_free,
)


def test_it_goes_from_gans_to_stable_diffusion_3_in_order():
    years = [event.year for event in FULL]
    assert years == sorted(years)
    dates = {event.name: event.date for event in FULL}
    assert dates["GAN"] == (2014, 6) and dates["Stable Diffusion 3"] == (2024, 3)
    assert len(dates) == len(FULL) and {event.lane for event in FULL} == set(LANES)
    assert all(event in FULL for event in EVENTS)


def test_each_number_has_a_source_and_an_event():
    assert {result.data for result in RESULTS} == {CIFAR, IMAGENET}
    for result in RESULTS:
        assert result.event and result.source and float(result.fid) > 0
        assert any(word in result.source for word in ("table", "abstract"))


def test_chapter_00_tells_the_same_numbers():
    told = {result.name: result.fid for result in RESULTS if result.data == CIFAR}
    assert {event.name: event.fid for event in EVENTS if event.fid}.items() <= told.items()


def test_a_gan_takes_one_evaluation_and_a_guided_step_two():
    for result in RESULTS:
        if result.event.lane == "adversarial":
            assert result.evaluations == 1
        if "guided steps" in result.source:
            steps = int(result.source.split()[-3])
            assert result.evaluations == 2 * steps


def test_the_table_has_all_events_and_numbers():
    table = full_sources()
    assert table.count("arxiv.org/abs/") == len(FULL)
    assert "CIFAR-10: 2.51 at 1 evaluation (abstract)" in table
    assert "ImageNet 256: 2.27 at 500 evaluations (DiT-XL/2-G, table 2, 250 guided steps)" in table
    assert "CIFAR-10: 3.17 at 1,000 evaluations (abstract)" in table
    assert table.count("(") > len(RESULTS)


def test_no_two_names_overlap():
    for figure in (full_timeline_figure(), results_figure()):
        assert len(style.png(figure)) <= style.PNG_LIMIT
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        for axes in figure.axes:
            boxes = [text.get_window_extent(renderer) for text in axes.texts]
            for i, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[:i]), axes.texts[i]


def test_names_take_the_first_height_that_is_free():
    near = [event for event in FULL if event.name in ("R1", "SN-GAN", "GigaGAN")]
    assert where_free(near) == [0.16, -0.16, 0.16]
