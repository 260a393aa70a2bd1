"""The command `course`."""

from course_lib.cli.app import main

__all__ = ["main"]
