"""How long a fuzz test runs: some seconds in `make test`, long in `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

LONG = bool(os.environ.get("TELEX_FUZZ"))

fuzzing = settings(
    max_examples=20_000 if LONG else 150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
