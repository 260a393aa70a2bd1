"""Settings for property tests: no deadline (the machine may be busy), and fixed examples."""

from hypothesis import settings

settings.register_profile("course", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("course")
