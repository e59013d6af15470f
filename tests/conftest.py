"""Settings of hypothesis: the first call of an operation is slow, and a run has to be like the last."""

from hypothesis import settings

settings.register_profile("kompakt", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("kompakt")
