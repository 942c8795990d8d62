"""Trusting a peer anew: an admin's decision, after its keys changed unsigned.

Works on the database of a node that runs as well as of one that does not. What is
accepted is the very document that was shown to the admin, not a later one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from federation.pinning import PeerBook
from federation.policy import PeerPolicy
from federation.ports import PeerRecord, SystemClock
from federation.signer import NodeSigner
from federation.transport import Transport
from node.clock import system_clock
from node.config import Settings
from node.keys import fingerprint, load_keys
from node.peers.store import Peers
from node.storage.schema import check_schema
from node.storage.store import Store
from protocol.address import parse_node
from protocol.errors import IdentityError, PeerUnreachable
from protocol.node_identity import continues, read_node_log
from protocol.wire import NodeDocument

__all__ = ["Offer", "accept_offer", "fetch_offer"]


@dataclass(frozen=True, slots=True)
class Offer:
    """The keys that a peer shows, beside those that are pinned."""

    document: NodeDocument
    pinned: str
    """The fingerprint of the pinned key log; empty if there is none."""
    shown: str
    """The fingerprint of the one that it shows now."""
    settled: bool
    """There is nothing to decide: it is trusted, and shows what the node takes."""


async def fetch_offer(settings: Settings, peer: str) -> Offer:
    """Ask a peer for its keys, as it shows them now.

    Raises:
        AddressError: the name is none.
        PeerUnreachable: it shows no usable document.
        DatabaseProblem, KeyProblem: this node's own trouble.
    """
    parse_node(peer)
    key = load_keys(settings.data_dir, settings.name).key
    async with _book(settings) as book:
        record = await book.get(peer)
        signer = NodeSigner(settings.name, key)
        transport = Transport(
            signer, book, PeerPolicy(), SystemClock(), settings.ca_file
        )
        try:
            document = await transport.fetch_document(peer)
        finally:
            await transport.close()
        try:
            shown = fingerprint(read_node_log(peer, document.keys))
        except IdentityError as error:
            raise PeerUnreachable(str(error)) from error
        pinned = fingerprint(book.identity(record)) if record.keys else ""
    follows = bool(record.keys) and continues(list(record.keys), document.keys)
    return Offer(document, pinned, shown, follows and record.trusted == "ok")


async def accept_offer(settings: Settings, peer: str, offer: Offer) -> PeerRecord:
    """Pin what was shown in place of what was pinned; a running node notices.

    Raises:
        PeerUnreachable: the document is not usable.
    """
    async with _book(settings) as book:
        return await book.repin(peer, offer.document)


@asynccontextmanager
async def _book(settings: Settings) -> AsyncIterator[PeerBook]:
    check_schema(settings.database)
    store = Store(settings.database, on_events=lambda _: None)
    await store.start()
    try:
        yield PeerBook(Peers(store, system_clock), SystemClock())
    finally:
        await store.stop()
