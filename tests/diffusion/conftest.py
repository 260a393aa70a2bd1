"""Property tests without a deadline (the machine may be busy) and with fixed examples."""

from hypothesis import settings

settings.register_profile("course", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("course")
