"""What federation remembers of other nodes, in the node's database."""

import msgspec
from sqlalchemy import Connection, delete, insert, select

from federation.ports import PeerRecord
from node.clock import Clock
from node.storage.store import Store, Transaction
from node.storage.tables import PeerRow, core

__all__ = ["Peers", "list_peers"]

_peer = core(PeerRow)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PeerRecord)


class Peers:
    """The port `federation.ports.PeerStore`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def get_peer(self, name: str) -> PeerRecord | None:
        """The record, or None for a node that was never met."""
        query = select(_peer.c.record).where(_peer.c.name == name)
        stored = await self._store.read(lambda c: c.scalar(query))
        return None if stored is None else _decoder.decode(stored)

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

        await self._store.write(write, size=len(encoded))

    async def list_peers(self) -> list[PeerRecord]:
        """Every record."""
        return await self._store.read(list_peers)


def list_peers(connection: Connection) -> list[PeerRecord]:
    """Every record, by name."""
    stored = connection.scalars(select(_peer.c.record).order_by(_peer.c.name))
    return [_decoder.decode(record) for record in stored]
