"""Captioned scenes: pictures of coloured shapes, each with a sentence that describes it."""

from course_lib.datasets.scenes.dataset import (
    KINDS,
    SPLITS,
    Scenes,
    draw_layout,
    random_scene,
    render,
)

__all__ = ["KINDS", "SPLITS", "Scenes", "draw_layout", "random_scene", "render"]
