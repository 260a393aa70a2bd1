"""For tests and notebooks alike: imported before torch, the package makes threads wait briefly."""

import course_lib  # noqa: F401
