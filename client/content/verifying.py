"""What two devices say to each other to compare short strings (protocol.fingerprint).

    ask ->      a commitment to the asker's ephemeral key
    <- accept   the other one's key
    reveal ->   the asker's key, held against the commitment
    agree <->   a person saw the same strings on both screens
    end         it is over, and why

All of it goes through the two people's direct room, so each step is signed, encrypted
and stands in one order for all of their devices.
"""

from typing import ClassVar

import msgspec

from protocol.errors import Malformed

__all__ = ["END_CODES", "SasAccept", "SasAgree", "SasAsk", "SasEnd", "SasReveal"]

END_CODES = frozenset(
    ("declined", "cancelled", "mismatch", "tampered", "timeout", "paused")
)
"""Why a comparison ends; what is not known here counts as `cancelled`."""

CODE_MAX = 16


class SasAsk(msgspec.Struct, frozen=True):
    """Somebody wants to compare."""

    kind: ClassVar[str] = "sas_ask"
    session: bytes
    """16 random bytes that name this comparison."""
    commitment: bytes
    """32 bytes: `fingerprint.sas_commitment`."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.session, self.commitment)


class SasAccept(msgspec.Struct, frozen=True):
    """One device of the person who was asked takes part."""

    kind: ClassVar[str] = "sas_accept"
    session: bytes
    key: bytes
    """X25519."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.session, self.key)


class SasReveal(msgspec.Struct, frozen=True):
    """The asker's key, which was committed to."""

    kind: ClassVar[str] = "sas_reveal"
    session: bytes
    key: bytes
    """X25519."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.session, self.key)


class SasAgree(msgspec.Struct, frozen=True):
    """The person at this device said that the strings are the same."""

    kind: ClassVar[str] = "sas_agree"
    session: bytes

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.session)


class SasEnd(msgspec.Struct, frozen=True):
    """This comparison is over."""

    kind: ClassVar[str] = "sas_end"
    session: bytes
    code: str
    """One of `END_CODES`, or a later version's."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.session)
        if not 0 < len(self.code) <= CODE_MAX or not self.code.isascii():
            raise Malformed("A comparison ends for a short reason.")


def _check(session: bytes, key: bytes | None = None) -> None:
    if len(session) != 16:
        raise Malformed("A comparison is named by 16 bytes.")
    if key is not None and len(key) != 32:
        raise Malformed("A comparison's keys have 32 bytes.")
