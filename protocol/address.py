"""Names of accounts, devices and nodes, with strict parsing.

    alice@example.org              an account on the node example.org
    alice@localhost:7401           the same on a node at another port
    alice@example.org/7kq2...      one of its devices

An address is compared byte for byte, so there is one spelling of each: lower-case
ASCII, no trailing dot, no default port. Names from other scripts travel in their
IDNA form (`xn--...`) and look-alikes cannot exist: a name with control, bidi or
any other non-ASCII character is refused, never cleaned up.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from protocol.errors import AddressError

__all__ = [
    "AccountAddress",
    "DeviceAddress",
    "parse_account",
    "parse_device",
    "parse_node",
]

_LOCAL = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_DEVICE = re.compile(r"[a-z2-7]{16}", re.ASCII)
# RFC 1035 section 2.3.4: a domain name has at most 253 characters in text form.
KNOWN_MAX = 4096
"""Addresses of devices that were parsed and are remembered, in a megabyte."""

_DOMAIN_MAX = 253


@dataclass(frozen=True, slots=True, order=True)
class AccountAddress:
    """`local@node`; build it with `parse_account`."""

    local: str
    node: str

    def __str__(self) -> str:
        return f"{self.local}@{self.node}"


@dataclass(frozen=True, slots=True, order=True)
class DeviceAddress:
    """`local@node/device`; build it with `parse_device`."""

    account: AccountAddress
    device: str
    """16 characters of base32: a hash of the device's keys."""

    def __str__(self) -> str:
        return f"{self.account}/{self.device}"


def parse_node(text: str) -> str:
    """Check a node's name: `host` or `host:port`, as it stands after the @.

    Args:
        text: the name; a host of letters, digits, hyphens and dots, or an IPv4
            address, with an optional port other than 443.

    Returns:
        The same text: there is only one spelling.

    Raises:
        AddressError: it is not a node's name.
    """
    host, colon, port = text.partition(":")
    if colon and not (
        port.isascii() and port.isdigit() and port[0] != "0" and 0 < int(port) < 65536
    ):
        raise AddressError(f"{_shown(text)} has no valid port after the colon.")
    if port == "443":
        raise AddressError("Leave out the port 443; it is the default.")
    if not host or len(host) > _DOMAIN_MAX:
        raise AddressError(f"{_shown(text)} is not the name of a node.")
    if not all(_LABEL.fullmatch(label) for label in host.split(".")):
        hint = " Write it in lower case." if text.isascii() else ""
        raise AddressError(f"{_shown(text)} is not the name of a node.{hint}")
    return text


def parse_account(text: str) -> AccountAddress:
    """Parse `alice@example.org`.

    Raises:
        AddressError: with the rule that the text breaks.
    """
    local, at, node = text.partition("@")
    if not at:
        raise AddressError(
            f"{_shown(text)} is not an address: write it as name@node, "
            "for example alice@example.org."
        )
    if not _LOCAL.fullmatch(local):
        if _LOCAL.fullmatch(local.lower()) and local.isascii():
            raise AddressError(f"Write the name in lower case: {local.lower()}.")
        raise AddressError(
            f"{_shown(local)} cannot be a name: use 1 to 64 of a-z, 0-9, dot, "
            "hyphen and underscore, with a letter or digit at both ends."
        )
    return AccountAddress(local, parse_node(node))


@lru_cache(maxsize=KNOWN_MAX)
def parse_device(text: str) -> DeviceAddress:
    """Parse `alice@example.org/7kq2m3n4p5q6r7s2`.

    Raises:
        AddressError: with the rule that the text breaks.
    """
    account, slash, device = text.partition("/")
    if not slash or not _DEVICE.fullmatch(device):
        raise AddressError(f"{_shown(text)} is not the address of a device.")
    return DeviceAddress(parse_account(account), device)


def _shown(text: str) -> str:
    """The text as it may be printed: escaped, so that it cannot move the cursor."""
    return ascii(text if len(text) <= 80 else text[:79] + "~")
