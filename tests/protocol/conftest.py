"""What several tests of rooms share."""

import pytest

from tests.protocol.rooms import MAX, MIA, OLGA


@pytest.fixture
def few_devices() -> None:
    """Each test begins with people that have no device yet."""
    for person in (OLGA, MIA, MAX):
        del person.log[1:]
