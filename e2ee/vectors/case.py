"""What the checks of all kinds of vectors share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from e2ee.crypto import Aead, ChaCha20Poly1305
from e2ee.errors import PrimitiveMissing
from e2ee.hpke import DhkemX25519, Kem
from e2ee.suite import BUILT_IN, CipherSuite

Json = Any
"""One case, as `json` gives it; a wrong shape raises and counts as a failure."""


class Mismatch(AssertionError):
    """An output differs from the vector."""


@dataclass(frozen=True, slots=True)
class Primitives:
    """What cases may use, by the numbers of the registries.

    The defaults are what is built in; whoever runs vectors may bring more.
    """

    suites: Mapping[int, CipherSuite] = field(default_factory=lambda: BUILT_IN)
    """By the MLS suite."""
    kems: Mapping[int, Kem] = field(default_factory=lambda: {0x20: DhkemX25519()})
    """By the HPKE KEM."""
    aeads: Mapping[int, Aead] = field(default_factory=lambda: {3: ChaCha20Poly1305()})
    """By the HPKE AEAD."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case and the primitives that may be used for it."""

    data: Json
    primitives: Primitives = field(default_factory=Primitives)

    @property
    def suite(self) -> CipherSuite:
        """The case's suite; raises `PrimitiveMissing` if there is none."""
        number = self.data["cipher_suite"]
        suite = self.primitives.suites.get(number)
        if suite is None:
            raise PrimitiveMissing(f"cipher suite {number} is not built in")
        return suite

    def hex(self, name: str) -> bytes:
        """Give a binary field."""
        return bytes.fromhex(self.data[name])

    def part(self, data: Json) -> Case:
        """Take something inside of the case for a case."""
        return Case(data, self.primitives)


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
