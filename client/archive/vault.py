"""Vaults at the account's node, where segments lie; raises as `Transport` does."""

from client.network.transport import Transport
from protocol.errors import UnknownVault
from protocol.wire import Empty, Vaults

__all__ = ["VaultShelf"]


class VaultShelf:
    """Requests about vaults; `vault` is 32 hex digits."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> Vaults:
        """All vaults of the account, the oldest first, and what room is left."""
        return await self._transport.get("/vaults", Vaults)

    async def put(self, vault: str, kind: str, n: int, data: bytes) -> None:
        """Store segment n; the same bytes again change nothing.

        Raises:
            VaultConflict: another one is due, or lies there already.
            QuotaExceeded: there is no room for it.
        """
        await self._transport.upload(f"/vaults/{vault}/{n}?kind={kind}", data)

    async def get(self, vault: str, n: int) -> bytes | None:
        """Segment n; None if there is none (yet)."""
        try:
            return await self._transport.download(f"/vaults/{vault}/{n}")
        except UnknownVault:
            return None

    async def drop(self, vault: str) -> None:
        """End a vault; one that is gone already is fine."""
        try:
            await self._transport.request("DELETE", f"/vaults/{vault}", Empty)
        except UnknownVault:
            return
