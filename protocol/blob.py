"""Blobs: encrypted files that nodes keep, named by the hash of their bytes.

A blob's id is BLAKE2b-256 of its bytes in hex. The bytes are ciphertext under a key
that only the messages hold, so an id cannot be guessed, and whoever knows one was
told it: knowing the id is the right to read. Also here: byte ranges of RFC 9110,
section 14, as the node answers them and as a peer's answer is read.
"""

import re
from hashlib import blake2b
from typing import NewType

import msgspec

from protocol.errors import BadRequest, Malformed, RangeUnsatisfiable
from protocol.whole import Whole

__all__ = [
    "Blob",
    "BlobId",
    "BlobUpload",
    "Blobs",
    "NewBlob",
    "blob_hash",
    "parse_blob_id",
    "read_content_range",
    "read_range",
]

BlobId = NewType("BlobId", str)
"""64 hex digits in lower case."""

_ID = re.compile(r"[0-9a-f]{64}")

_RANGE = re.compile(r"(\d{1,16})-(\d{1,16})?|-(\d{1,16})", re.ASCII)
"""One of RFC 9110's range-specs for bytes: first-last, first-, or -suffix."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16})", re.ASCII)


class NewBlob(msgspec.Struct):
    """`POST /telex/v1/blobs`: begins an upload, or finds the one that was begun.

    Answers `BlobUpload`. The parts follow: `PATCH /telex/v1/blobs/{blob}?offset=N`
    with `application/octet-stream` of at most `limits.BLOB_PART_MAX` bytes.
    """

    blob: str
    size: Whole
    """Bytes, at least one."""


class BlobUpload(msgspec.Struct):
    """How far an upload is; `GET /telex/v1/blobs/{blob}/upload` asks for it."""

    blob: str
    size: Whole
    offset: Whole
    """Bytes that the node has on disk: the next part begins here."""
    done: bool
    """Whole, checked, and counted as this account's."""


class Blob(msgspec.Struct):
    """A blob that an account keeps at its node."""

    blob: str
    size: Whole
    created: Whole
    """Unix seconds, when this account uploaded it."""


class Blobs(msgspec.Struct):
    """`GET /telex/v1/blobs?after=ID`: what an account keeps, by id."""

    blobs: list[Blob]
    more: bool
    """Ask again after the last one here."""
    used: Whole
    """Bytes of all of them, and of uploads under way."""
    quota: Whole
    largest: Whole
    """Bytes of one blob at most."""


def parse_blob_id(text: str) -> BlobId:
    """Check a blob's id.

    Raises:
        BadRequest: it is not 64 hex digits.
    """
    if not _ID.fullmatch(text):
        raise BadRequest("A blob's id is 64 hex digits in lower case.")
    return BlobId(text)


def blob_hash() -> "blake2b":
    """The hash whose `hexdigest` over a blob's bytes is its id."""
    return blake2b(digest_size=32)


def read_range(header: str, size: int) -> tuple[int, int] | None:
    """What a `Range` header asks for.

    Args:
        header: its value.
        size: of the whole, at least 1.

    Returns:
        (first, end): bytes first to end - 1; None: the header is to be passed by,
        because it is in another unit, malformed, or of several ranges, and the
        answer is the whole (RFC 9110, 14.2 lets a server do so).

    Raises:
        RangeUnsatisfiable: no byte of it exists.
    """
    unit, equals, spec = header.partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        return None
    found = _RANGE.fullmatch(spec.strip(" \t"))
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        if int(suffix) == 0:
            raise RangeUnsatisfiable(f"It has {size} bytes.")
        return max(0, size - int(suffix)), size
    start = int(first)
    if last is not None and int(last) < start:
        return None
    if start >= size:
        raise RangeUnsatisfiable(f"It has {size} bytes.")
    return start, size if last is None else min(int(last) + 1, size)


def read_content_range(header: str) -> tuple[int, int, int]:
    """The `Content-Range` of an answer: (first, end, size of the whole).

    Raises:
        Malformed: it is none of bytes, or contradicts itself.
    """
    found = _CONTENT_RANGE.fullmatch(header)
    if found is None:
        raise Malformed("A Content-Range cannot be read.")
    first, last, size = (int(text) for text in found.groups())
    if not first <= last < size:
        raise Malformed("A Content-Range contradicts itself.")
    return first, last + 1, size
