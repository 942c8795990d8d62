"""Shared by the tests of the screens."""

from collections.abc import Iterator

import pytest

from tui import text


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """Each test begins in English and leaves no other language behind."""
    text.use("en")
    yield
    text.use("en")


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own profile is not part of a test."""
    for name in ("TELEX_PASSWORD", "TELEX_PROFILE", "TELEX_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
