"""Benchmarks, run as modules: the package comes first, for its short waits (`course_lib`)."""

import course_lib  # noqa: F401
