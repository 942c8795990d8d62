"""What the checks of all kinds of vectors share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2ee.errors import PrimitiveMissing
from e2ee.suite import CipherSuite

Json = Any
"""One case, as `json` gives it; a wrong shape raises and counts as a failure."""


class Mismatch(AssertionError):
    """An output differs from the vector."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case and the suites that may be used for it."""

    data: Json
    suites: Mapping[int, CipherSuite]

    @property
    def suite(self) -> CipherSuite:
        """The case's suite; raises `PrimitiveMissing` if there is none."""
        number = self.data["cipher_suite"]
        suite = self.suites.get(number)
        if suite is None:
            raise PrimitiveMissing(f"cipher suite {number} is not built in")
        return suite

    def hex(self, name: str) -> bytes:
        """Give a binary field."""
        return bytes.fromhex(self.data[name])


def same(what: str, got: object, expected: object) -> None:
    """Raise `Mismatch` unless both are equal."""
    if got != expected:
        raise Mismatch(f"{what} differs")


def refused(what: str, error: type[Exception], call: Any, *arguments: Any) -> None:
    """Raise `Mismatch` unless the call raises the error."""
    try:
        call(*arguments)
    except error:
        return
    raise Mismatch(f"{what} was not refused")
