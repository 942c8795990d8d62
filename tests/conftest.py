"""For all tests: how long an example takes says nothing, on a busy machine."""

import pytest
from hypothesis import settings

settings.register_profile("telex", deadline=None)
settings.load_profile("telex")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few long tests first: at the end no worker waits for one of them."""
    items.sort(key=lambda item: "system" not in item.path.parts)
