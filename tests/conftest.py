"""For all tests: how long an example takes says nothing, on a busy machine."""

from hypothesis import settings

settings.register_profile("telex", deadline=None)
settings.load_profile("telex")
