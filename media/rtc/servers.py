"""STUN and TURN servers of a leg: which, in what order, and what they refuse."""

import logging
from dataclasses import dataclass, field

from aioice import stun

from media.port import Ice
from protocol.ice_url import IceUrl, parse_ice_url

__all__ = ["Way", "refusal", "sort_servers"]

log = logging.getLogger(__name__)

SERVERS_MAX = 8
"""Addresses of each kind that are asked."""


@dataclass(frozen=True, slots=True)
class Way:
    """A TURN server over one transport."""

    url: IceUrl
    username: str
    credential: str = field(repr=False)

    @property
    def rank(self) -> int:
        """0: udp, 1: tcp, 2: tls."""
        if self.url.scheme == "turns":
            return 2
        return 0 if self.url.transport == "udp" else 1


def sort_servers(ice: Ice) -> tuple[list[IceUrl], list[Way]]:
    """STUN servers, and TURN servers with the best transport first."""
    stuns: list[IceUrl] = []
    ways: list[Way] = []
    for server in ice.servers:
        for text in server.urls:
            try:
                url = parse_ice_url(text)
            except ValueError:
                log.warning("not the address of a STUN or TURN server: %.80r", text)
                continue
            if url.scheme == "stun":
                stuns.append(url)
            else:
                ways.append(Way(url, server.username, server.credential))
    return stuns[:SERVERS_MAX], sorted(ways, key=lambda w: w.rank)[:SERVERS_MAX]


def refusal(url: IceUrl, error: Exception) -> str:
    """One sentence about a TURN server that gave no relay."""
    code = None
    if isinstance(error, stun.TransactionFailed):
        code = error.response.error_code
    match code:
        case None:
            return f"The TURN server {url.host} does not answer over {_over(url)}."
        case 401 | 441:
            return (
                f"The TURN server {url.host} refuses the credentials of your node; its "
                "admin should see `telex-node turn`."
            )
        case 486 | 508:
            return f"The TURN server {url.host} relays too much already; try later."
        case _:
            return f"The TURN server {url.host} refuses to relay (error {code})."


def _over(url: IceUrl) -> str:
    return "tls" if url.scheme == "turns" else url.transport
