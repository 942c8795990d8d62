"""Vaults of a fake node: what is stored, and ways to lie about it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from aiohttp import web

from protocol.codec import MSGPACK, encode
from protocol.errors import QuotaExceeded, Refused, UnknownVault, VaultConflict
from protocol.wire import Empty, Vault, Vaults

__all__ = ["FakeVaults"]


@dataclass
class FakeVaults:
    """Segments by account and vault."""

    segments: dict[str, dict[str, list[bytes]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    kinds: dict[str, str] = field(default_factory=dict)
    quota: int = 1 << 30
    refuse: Refused | None = None
    """Answer the next segment with this."""
    writes: int = 0
    """Requests that changed something, or tried to."""

    def of(self, account: str) -> dict[str, list[bytes]]:
        """An account's vaults."""
        return self.segments[account]

    def routes(self, v1: str) -> list[web.RouteDef]:
        """What they answer."""
        return [
            web.get(f"{v1}/vaults", self.all),
            web.delete(f"{v1}/vaults/{{vault}}", self.drop),
            web.put(f"{v1}/vaults/{{vault}}/{{n}}", self.put),
            web.get(f"{v1}/vaults/{{vault}}/{{n}}", self.get),
        ]

    async def all(self, request: web.Request) -> web.Response:
        listed = [
            Vault(
                vault,
                "transfer" if self.kinds.get(vault) == "transfer" else "backup",
                len(segments),
                sum(map(len, segments)),
                1_700_000_000,
            )
            for vault, segments in self._mine(request).items()
        ]
        return _answer(Vaults(listed, sum(v.size for v in listed), self.quota))

    async def put(self, request: web.Request) -> web.Response:
        self.writes += 1
        if self.refuse is not None:
            refuse, self.refuse = self.refuse, None
            raise refuse
        vaults = self._mine(request)
        vault, n = request.match_info["vault"], int(request.match_info["n"])
        segments, data = vaults.get(vault, []), await request.read()
        if n <= len(segments):
            if segments[n - 1] != data:
                raise VaultConflict
            return _answer(Empty())
        if n != len(segments) + 1:
            raise VaultConflict
        used = sum(len(s) for segments in vaults.values() for s in segments)
        if used + len(data) > self.quota:
            raise QuotaExceeded
        vaults.setdefault(vault, []).append(data)
        self.kinds[vault] = request.query["kind"]
        return _answer(Empty())

    async def get(self, request: web.Request) -> web.Response:
        segments = self._mine(request).get(request.match_info["vault"], [])
        n = int(request.match_info["n"])
        if not 0 < n <= len(segments):
            raise UnknownVault
        return web.Response(body=segments[n - 1])

    async def drop(self, request: web.Request) -> web.Response:
        self.writes += 1
        self._mine(request).pop(request.match_info["vault"], None)
        return _answer(Empty())

    def _mine(self, request: web.Request) -> dict[str, list[bytes]]:
        keyid = request.headers["Signature-Input"].partition('keyid="')[2]
        return self.segments[keyid.partition('"')[0].partition("/")[0]]


def _answer(value: object) -> web.Response:
    return web.Response(body=encode(value), content_type=MSGPACK)
