"""Benchmarks, run as modules, so that `course_lib` is imported first and sets its short waits."""

import course_lib  # noqa: F401
