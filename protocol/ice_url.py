"""Addresses of STUN and TURN servers: RFC 7064 and RFC 7065, read strictly."""

import ipaddress
import re
from dataclasses import dataclass

__all__ = ["PORT", "TLS_PORT", "IceUrl", "parse_ice_url"]

PORT, TLS_PORT = 3478, 5349
"""By RFC 8489, section 18.6."""

URL_MAX = 300
"""Characters: a host name has at most 253."""

LABEL_MAX = 63
"""Characters between two dots (RFC 1035); resolvers fail in odd ways beyond it."""

_URL = re.compile(
    r"(?P<scheme>stun|turn|turns):"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?"
)


@dataclass(frozen=True, slots=True)
class IceUrl:
    """A server and how it is spoken to."""

    scheme: str
    """`stun`, `turn` or `turns` (over TLS)."""
    host: str
    """A name or an address, IPv6 without brackets."""
    port: int
    transport: str
    """`udp` or `tcp`."""


def parse_ice_url(text: str) -> IceUrl:
    """Read the address of a server.

    Raises:
        ValueError: it is none, or one that clients cannot use (TURN over DTLS).
    """
    match = _URL.fullmatch(text) if len(text) <= URL_MAX else None
    if match is None:
        raise ValueError("no address of a STUN or TURN server")
    scheme, host = match["scheme"], match["host"]
    if host.startswith("["):
        host = host[1:-1]
        ipaddress.IPv6Address(host)
    elif not all(0 < len(label) <= LABEL_MAX for label in host.split(".")):
        raise ValueError("no name of a host")
    secure = scheme == "turns"
    port = int(match["port"] or (TLS_PORT if secure else PORT))
    transport = match["transport"] or ("tcp" if secure else "udp")
    if not 0 < port < 65536 or (secure and transport == "udp"):
        raise ValueError("no port, or TURN over DTLS")
    if scheme == "stun" and match["transport"] is not None:
        raise ValueError("STUN addresses name no transport")
    return IceUrl(scheme, host, port, transport)
