"""A chain that was verified once is not verified again; its dates always are."""

from __future__ import annotations

import pytest

from protocol.credential import (
    DEVICE_LIFETIME,
    credential_device,
    read_credential,
)
from protocol.errors import IdentityError
from tests.helpers.people import NOW, Person


def test_dates_are_judged_each_time() -> None:
    credential = Person("alice@example.org").device().credential
    expires = NOW + DEVICE_LIFETIME
    for _ in range(2):
        assert read_credential(credential, NOW).expires == expires
        assert read_credential(credential, None).expires == expires
        for wrong in (expires + 1, NOW - 2 * 24 * 3600):
            with pytest.raises(IdentityError, match="expired"):
                read_credential(credential, wrong)


def test_a_forged_chain_is_refused_each_time() -> None:
    credential = Person("alice@example.org").device().credential
    read_credential(credential, NOW)
    for at in range(0, len(credential), 7):
        forged = bytearray(credential)
        forged[at] ^= 1
        # The head of the account log is a hint that nobody signed.
        if credential_log_begins(credential) <= at:
            continue
        for _ in range(2):
            with pytest.raises(IdentityError):
                read_credential(bytes(forged), NOW)


def credential_log_begins(credential: bytes) -> int:
    """Where the sequence number and hash of the account log stand: at the end."""
    return len(credential) - 1 - 2 - 32


def test_an_unreadable_one_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(IdentityError):
            credential_device(b"\xff")
        with pytest.raises(IdentityError):
            read_credential(bytes(2000), NOW)
