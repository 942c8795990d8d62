"""A segment of an archive: sealed records, in a chain that only the key's owner makes.

    segment    = header || XChaCha20-Poly1305(segment key, nonce, records)
    header     = "TLXA" version(1) n(4) archive(16) check(8) previous(32) nonce(24)
    segment key = HKDF(archive key, "telex segment 1" || archive || n)
    check      = HKDF(archive key, "telex archive check 1" || account), 8 bytes
    previous   = BLAKE2b-256 of the segment before; zeros before the first

The header and the account are authenticated with the records, so a segment opens only
at its place, in its archive, for its account: nothing can be cut out, swapped or put
in. `check` tells a wrong key from damage; it says nothing about the key.

Records are not compressed: the size of compressed text tells something about it to
whoever can put own text beside it. Sizes are rounded up (Padmé, at most 12 %).

What it does not protect: who keeps the segments can withhold the newest ones. Only
somebody who remembers a later `Head` finds that out.
"""

import hmac
import struct
from dataclasses import dataclass
from hashlib import blake2b

from client.errors import ArchiveRefused
from e2ee.crypto import XChaCha20Poly1305
from e2ee.errors import E2eeError
from protocol.limits import SEGMENT_MAX

__all__ = [
    "EMPTY",
    "Head",
    "Place",
    "open_segment",
    "previous_of",
    "seal_segment",
    "segment_hash",
]

MAGIC, VERSION = b"TLXA", 1
_HEADER = struct.Struct(">4sBI16s8s32s24s")
TAG = 16
PLAIN_MAX = SEGMENT_MAX - _HEADER.size - TAG
"""Bytes of records with their padding."""

_AEAD = XChaCha20Poly1305()


@dataclass(frozen=True, slots=True)
class Head:
    """Where an archive ends: how many segments, and the hash of the last."""

    count: int
    hash: bytes


EMPTY = Head(0, bytes(32))
"""Of an archive without segments."""


@dataclass(frozen=True, slots=True)
class Place:
    """Whose archive it is, and behind what its next segment stands."""

    account: str
    archive: bytes
    """16 bytes."""
    head: Head


def seal_segment(
    key: bytes, place: Place, records: bytes, nonce: bytes
) -> tuple[bytes, Head]:
    """Seal the next segment of an archive.

    Args:
        key: the archive's, 32 bytes.
        place: where it goes.
        records: what is in it, at most `PLAIN_MAX` bytes with padding.
        nonce: 24 random bytes.

    Returns:
        The segment, and the archive's head with it.
    """
    n = place.head.count + 1
    header = _HEADER.pack(
        MAGIC, VERSION, n, place.archive, _check(key, place), place.head.hash, nonce
    )
    padded = _pad(records)
    if len(padded) > PLAIN_MAX:
        raise ValueError("a segment is too large")
    sealed = _AEAD.seal(
        _segment_key(key, place.archive, n), nonce, _bound(header, place), padded
    )
    data = header + sealed
    return data, Head(n, segment_hash(data))


def open_segment(key: bytes, place: Place, data: bytes) -> tuple[bytes, Head]:
    """Open the segment that stands at a place.

    Returns:
        Its records, and the archive's head with it.

    Raises:
        ArchiveRefused: it is not that segment, whole; `code` says why.
    """
    if len(data) > SEGMENT_MAX or len(data) < _HEADER.size + TAG:
        raise ArchiveRefused("archive_malformed")
    magic, version, n, archive, check, previous, nonce = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ArchiveRefused("archive_malformed")
    if version != VERSION:
        raise ArchiveRefused("archive_version")
    if not hmac.compare_digest(check, _check(key, place)):
        raise ArchiveRefused("archive_key")
    if (n, archive, previous) != (
        place.head.count + 1,
        place.archive,
        place.head.hash,
    ):
        raise ArchiveRefused("archive_order")
    header = data[: _HEADER.size]
    try:
        padded = _AEAD.open(
            _segment_key(key, archive, n),
            nonce,
            _bound(header, place),
            data[_HEADER.size :],
        )
    except E2eeError:
        raise ArchiveRefused("archive_damaged") from None
    records = padded.rstrip(b"\0")
    if not records.endswith(b"\x80"):
        raise ArchiveRefused("archive_malformed")
    return records[:-1], Head(n, segment_hash(data))


def previous_of(data: bytes) -> bytes:
    """The hash that a segment says the one before it has; not checked yet.

    Raises:
        ArchiveRefused: it is no segment.
    """
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        raise ArchiveRefused("archive_malformed")
    previous: bytes = _HEADER.unpack_from(data)[5]
    return previous


def _bound(header: bytes, place: Place) -> bytes:
    return b"telex segment 1\0" + place.account.encode() + b"\0" + header


def _segment_key(key: bytes, archive: bytes, n: int) -> bytes:
    return _expand(key, b"telex segment 1" + archive + n.to_bytes(4, "big"))


def _check(key: bytes, place: Place) -> bytes:
    return _expand(key, b"telex archive check 1" + place.account.encode())[:8]


def _expand(key: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) of a key that is random already: one block."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def segment_hash(data: bytes) -> bytes:
    """What the next segment, and a `Head`, call a segment by."""
    return blake2b(data, digest_size=32, person=b"telex archive 1").digest()


def _pad(records: bytes) -> bytes:
    """Round up to a Padmé size (Nikitin et al., PURBs, 2019), at least 4 KiB."""
    size = max(len(records) + 1, 4096)
    exponent = size.bit_length() - 1
    free = exponent - exponent.bit_length()
    mask = (1 << free) - 1
    return (records + b"\x80").ljust((size + mask) & ~mask, b"\0")
