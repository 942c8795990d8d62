"""Certificates of a person's devices, and the MLS credential made of them.

    root key        from the 24-word phrase; *is* the person; on no device
      └─ certifies  account signing key (ASK), on devices that may manage devices
           └─ certifies  device: one key for requests, one for MLS leaves

A credential carries the two certificates of one device, so whoever knows the root
key can check a leaf without asking anybody.
"""

import hashlib
from base64 import b32encode
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from protocol.address import (
    AccountAddress,
    DeviceAddress,
    parse_account,
    parse_device,
)
from protocol.codec import decode
from protocol.errors import AddressError, IdentityError, Malformed
from protocol.key import Signed, verify
from protocol.whole import Whole

__all__ = [
    "DEVICE_LIFETIME",
    "AskCertificate",
    "Credential",
    "CredentialIdentity",
    "DeviceCertificate",
    "check_device",
    "credential_device",
    "credential_root",
    "device_id",
    "read_credential",
]

DEVICE_LIFETIME = 366 * 24 * 3600
"""Seconds that a device certificate holds: a year, renewed by the device."""

CLOCK_SLACK = 24 * 3600
"""Seconds by which a certificate may begin in our future: clocks are wrong."""

CREDENTIAL_MAX = 1024
"""Bytes of a credential; it stands in every leaf of a group's tree."""

REMEMBERED = 4096
"""Credentials whose chain held, and is not verified again: the leaves of the largest
group. The same bytes come in a KeyPackage, in a commit, in the tree and in the next
room, and each time two signatures would cost 0.1 ms."""


def device_id(auth_key: bytes, mls_key: bytes) -> str:
    """A device's id: 16 characters that follow from its two public keys."""
    digest = hashlib.blake2b(
        auth_key + mls_key, digest_size=10, person=b"telex device 1"
    ).digest()
    return b32encode(digest).decode().lower()


class AskCertificate(msgspec.Struct, array_like=True, frozen=True):
    """By the root (label `ask`): this key signs for the account."""

    account: str
    root: bytes
    ask: bytes
    serial: Whole
    """1 for the first, one more at each rotation; a lower one is void."""
    created: Whole
    """Unix seconds."""


class DeviceCertificate(msgspec.Struct, array_like=True, frozen=True):
    """By the ASK (label `device`): these two keys are a device of the account."""

    device: str
    """The device's address."""
    auth_key: bytes
    """Ed25519, signs requests (RFC 9421)."""
    mls_key: bytes
    """Ed25519, the signature key of the device's MLS leaves."""
    created: Whole
    expires: Whole
    """Unix seconds."""


class CredentialIdentity(msgspec.Struct, array_like=True, frozen=True):
    version: Whole
    ask: Signed
    device: Signed
    log_seq: Whole
    log_hash: bytes


@dataclass(frozen=True, slots=True)
class Credential:
    """A device's credential, checked up to the root key it names.

    The caller still compares `root` with the root key it knows for the account.
    """

    account: AccountAddress
    device: DeviceAddress
    root: bytes
    ask: bytes
    ask_serial: int
    auth_key: bytes
    mls_key: bytes
    expires: int
    log_seq: int
    """The head of the account log when the credential was made."""
    log_hash: bytes


def read_credential(identity: bytes, now: int | None) -> Credential:
    """Check an MLS credential identity: root → ASK → device, and its dates.

    Args:
        identity: the bytes in the leaf.
        now: unix seconds; None: its dates were judged when its leaf came in.

    Raises:
        IdentityError: says which link of the chain does not hold.
    """
    if len(identity) > CREDENTIAL_MAX:
        raise IdentityError("A credential is longer than 1 KiB.")
    created, credential = _read_chain(identity)
    if now is not None and not created - CLOCK_SLACK <= now <= credential.expires:
        raise IdentityError(f"The certificate of {credential.device} has expired.")
    return credential


@lru_cache(maxsize=REMEMBERED)
def _read_chain(identity: bytes) -> tuple[int, Credential]:
    """Check all but the dates; give when the certificate begins, and the rest."""
    try:
        parts = decode(identity, CredentialIdentity)
        certificate = decode(parts.device.payload, DeviceCertificate)
    except Malformed as error:
        raise IdentityError("A credential cannot be read.") from error
    if parts.version != 1:
        raise IdentityError("A credential is of a version that is not known here.")
    account, ask = _read_ask(parts.ask.payload, parts.ask.signature)
    device = check_device(parts.device, certificate, account, ask.ask)
    return certificate.created, Credential(
        account=account,
        device=device,
        root=ask.root,
        ask=ask.ask,
        ask_serial=ask.serial,
        auth_key=certificate.auth_key,
        mls_key=certificate.mls_key,
        expires=certificate.expires,
        log_seq=parts.log_seq,
        log_hash=parts.log_hash,
    )


@lru_cache(maxsize=REMEMBERED)
def _read_ask(
    payload: bytes, signature: bytes
) -> tuple[AccountAddress, AskCertificate]:
    """Check the link from the root, which all devices of an account share."""
    try:
        ask = decode(payload, AskCertificate)
        account = parse_account(ask.account)
    except (Malformed, AddressError) as error:
        raise IdentityError("A credential cannot be read.") from error
    verify("ask", ask.root, payload, signature)
    return account, ask


@lru_cache(maxsize=REMEMBERED)
def credential_device(identity: bytes) -> str:
    """The device address in a credential, read without any check.

    For leaves whose credential was checked when they came in: a certificate that
    expires later must not make a group unreadable.

    Raises:
        IdentityError: it cannot be read.
    """
    try:
        parts = decode(identity, CredentialIdentity)
        return decode(parts.device.payload, DeviceCertificate).device
    except Malformed as error:
        raise IdentityError("A credential cannot be read.") from error


def credential_root(identity: bytes) -> bytes:
    """The root key in a credential, read without any check, as `credential_device`.

    Raises:
        IdentityError: it cannot be read.
    """
    try:
        parts = decode(identity, CredentialIdentity)
        return decode(parts.ask.payload, AskCertificate).root
    except Malformed as error:
        raise IdentityError("A credential cannot be read.") from error


def check_device(
    signed: Signed,
    certificate: DeviceCertificate,
    account: AccountAddress,
    ask: bytes,
) -> DeviceAddress:
    """Check a device's certificate but for now; give its address.

    Raises:
        IdentityError: it is not signed by this ASK, or makes no sense.
    """
    verify("device", ask, signed.payload, signed.signature)
    try:
        device = parse_device(certificate.device)
    except AddressError as error:
        raise IdentityError("A certificate names no device.") from error
    if device.account != account:
        raise IdentityError("A certificate is for a device of another account.")
    if len(certificate.auth_key) != 32 or len(certificate.mls_key) != 32:
        raise IdentityError("A device's keys have 32 bytes each.")
    if device.device != device_id(certificate.auth_key, certificate.mls_key):
        raise IdentityError("A device's id does not follow from its keys.")
    if not 0 < certificate.expires - certificate.created <= 2 * DEVICE_LIFETIME:
        raise IdentityError("A device certificate's dates make no sense.")
    return device
