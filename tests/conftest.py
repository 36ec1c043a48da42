"""Settings of all tests."""

from hypothesis import settings

# The machines are shared: a slow example is no bug, and the same commit gives the same result.
settings.register_profile("nefgpt", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("nefgpt")
