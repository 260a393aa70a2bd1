"""Captioned scenes: pictures of coloured shapes, each with a sentence that describes it."""

from course_lib.datasets.scenes.dataset import KINDS, SPLITS, Scenes, random_scene, render

__all__ = ["KINDS", "SPLITS", "Scenes", "random_scene", "render"]
