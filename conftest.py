"""Imports the package before any test or notebook imports torch, so that threads wait briefly."""

import course_lib  # noqa: F401
