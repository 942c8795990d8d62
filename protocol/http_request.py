"""An HTTP request as a signature sees it: the bytes on the wire, checked for shape.

Nothing is decoded or normalised, because both sides must see the same. The sizes of
everything that later steps walk through are bounded here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.errors import SignatureInvalid

__all__ = [
    "HEADERS_MAX",
    "HEADER_BYTES_MAX",
    "Request",
    "collect_fields",
    "request_line_fault",
]

HEADERS_MAX: Final = 128
"""Header lines of one request (aiohttp and nginx stop near here too)."""

HEADER_BYTES_MAX: Final = 32 * 1024
"""Characters of request line and header (nginx: 32 KiB, Apache: 8 KiB a line)."""

_METHOD = re.compile(r"[A-Z]{1,32}")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that a signature can cover, as they were on the wire."""

    method: str
    authority: str
    """The `Host` field (`:authority` in HTTP/2), unchanged by any proxy."""
    path: str
    """Raw and percent-encoded, never decoded or normalised."""
    query: str
    """Raw, without the question mark; empty when there is none."""
    headers: Sequence[tuple[str, str]]
    """Every header line, repeated ones repeated."""


def request_line_fault(request: Request) -> str | None:
    """What is wrong with method, authority, path or query, if anything."""
    if not _METHOD.fullmatch(request.method):
        return "Its method is not one word in capitals."
    if not _AUTHORITY.fullmatch(request.authority):
        return "Its Host is not a host with an optional port."
    if not _PATH.fullmatch(request.path):
        return "Its path is not an absolute, percent-encoded path."
    if not _QUERY.fullmatch(request.query):
        return "Its query is not percent-encoded."
    return None


def collect_fields(request: Request) -> dict[str, list[str]]:
    """The header's values by lower-case name, within the limits.

    Raises:
        SignatureInvalid: they are too many, too large or not ASCII.
    """
    if len(request.headers) > HEADERS_MAX:
        raise SignatureInvalid("It has too many header lines.")
    size = len(request.authority) + len(request.path) + len(request.query)
    fields: dict[str, list[str]] = {}
    for name, value in request.headers:
        size += len(name) + len(value)
        if size > HEADER_BYTES_MAX:
            raise SignatureInvalid("Its header is too large.")
        if not name.isascii():  # a Kelvin sign would become a "k"
            raise SignatureInvalid("A header name is not ASCII.")
        fields.setdefault(name.lower(), []).append(value.strip(" \t"))
    return fields
