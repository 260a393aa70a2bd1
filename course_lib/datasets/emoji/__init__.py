"""Emoji: the same concepts drawn by several studios, each picture with captions."""

from course_lib.datasets.emoji.concepts import COMMON, SPLITS, STUDIOS, Concept, concepts, split_of
from course_lib.datasets.emoji.dataset import Emoji, picture

__all__ = ["COMMON", "SPLITS", "STUDIOS", "Concept", "Emoji", "concepts", "picture", "split_of"]
