"""What federation remembers of other nodes, in the node's database."""

from collections import OrderedDict

import msgspec
from sqlalchemy import Connection, delete, insert, select

from federation.ports import PeerRecord
from node.clock import Clock
from node.storage.store import Store, Transaction
from node.storage.tables import PeerRow, core

__all__ = ["Peers", "list_peers"]

_peer = core(PeerRow)

KNOWN_MAX = 1000
"""Records kept in memory, in some megabytes; the one not asked for longest goes."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PeerRecord)


class Peers:
    """The port `federation.ports.PeerStore`.

    Records are kept in memory, because every request from and to a node asks; what is
    written, here or by another process, drops them.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, PeerRecord] = OrderedDict()
        self._version = 0
        self._met: set[str] = set()

    async def load(self) -> None:
        """Read whom this node has met, once at the start."""
        self._met = {peer.name for peer in await self.list_peers() if peer.keys}

    def met(self, name: str) -> bool:
        """Whether the keys of a node are known here."""
        return name in self._met

    def forget(self) -> None:
        """Something changed: ask the database again."""
        self._known.clear()
        self._version += 1

    async def get_peer(self, name: str) -> PeerRecord | None:
        """The record, or None for a node that was never met."""
        known = self._known.get(name)
        if known is not None:
            self._known.move_to_end(name)
            return known
        version = self._version
        query = select(_peer.c.record).where(_peer.c.name == name)
        stored = await self._store.read(lambda c: c.scalar(query))
        if stored is None:
            return None
        record = _decoder.decode(stored)
        if version == self._version:  # else it may be older than what was written
            self._known[name] = record
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return record

    async def store_peer(self, record: PeerRecord) -> None:
        """Insert or replace the record of `record.name`."""
        encoded, now = _encoder.encode(record), int(self._clock())

        def write(transaction: Transaction) -> None:
            connection = transaction.connection
            stored = connection.scalar(
                select(_peer.c.record).where(_peer.c.name == record.name)
            )
            # An admin's command accepted other keys since this record was read.
            if stored and _decoder.decode(stored).pinned_at > record.pinned_at:
                return
            connection.execute(delete(_peer).where(_peer.c.name == record.name))
            connection.execute(
                insert(_peer).values(name=record.name, record=encoded, changed=now)
            )

        try:
            await self._store.write(write, size=len(encoded))
        finally:
            self.forget()
        if record.keys:
            self._met.add(record.name)

    async def list_peers(self) -> list[PeerRecord]:
        """Every record."""
        return await self._store.read(list_peers)


def list_peers(connection: Connection) -> list[PeerRecord]:
    """Every record, by name."""
    stored = connection.scalars(select(_peer.c.record).order_by(_peer.c.name))
    return [_decoder.decode(record) for record in stored]
