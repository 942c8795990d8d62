"""Federation as the node uses it: one object to start, wake, ask and stop.

federation = Federation(name, key, peer_store=..., log_store=..., services=...)
app.add_routes(federation.routes())
await federation.start()        # once the node listens: peers call back
federation.wake("example.org")  # after appending something for that node
await federation.stop()
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import aiohttp
from aiohttp import web

from federation.checkpoint import check_stream
from federation.gate import Gate
from federation.inbox import Inbox
from federation.pinning import PeerBook
from federation.policy import PeerPolicy
from federation.ports import (
    Clock,
    LogStore,
    PeerRecord,
    PeerStore,
    Services,
    SystemClock,
)
from federation.puller import Puller, page_stream
from federation.refusal import for_local_user
from federation.sender import Sender
from federation.server import PREFIX, Server
from federation.signer import NodeSigner
from federation.transport import Call, Transport
from protocol.address import parse_account, parse_node
from protocol.blob import parse_blob_id, read_content_range
from protocol.errors import (
    IdentityError,
    Malformed,
    PeerRefused,
    PeerUntrusted,
    Refused,
)
from protocol.key import KeyPair
from protocol.log import LogId, parse_log_id
from protocol.presence import PeerPresence, PeerPresenceAnswer
from protocol.wire import (
    AccountLog,
    Claim,
    Claimed,
    GroupState,
    Page,
    Receipt,
    Roster,
    Submit,
    Tree,
)

__all__ = ["BlobStream", "Federation"]

_log = logging.getLogger(__name__)

CLAIMED_MAX = 16 * 1024 * 1024
"""Bytes of claimed key packages: 100 accounts, 32 devices each, 4 KiB a package."""

TREE_MAX = 8 * 1024 * 1024
"""Bytes of a ratchet tree: 4,000 leaves with a credential of 1 KiB each."""

SUBMIT_TIMEOUT = 30.0
"""Seconds for a commit at its hub, which checks a large tree before it answers."""

PRESENCE_TIMEOUT = 10.0
"""Seconds for what is stale after as many."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BlobStream:
    """A blob of another node, on its way."""

    size: int
    """Bytes of the whole, as that node says."""
    pieces: AsyncIterator[bytes]


class Federation:
    """A node's side of federation.

    Args:
        name: the node's name, as it stands after the @.
        key: the node key in force; its log is served by the node itself.
        peer_store, log_store, services: the node's ports.
        policy: whom we talk to; everybody by default.
        ca_file: certificates trusted besides the system's.
        clock: tests bring their own.
        jitter: 0 to 1, random.
    """

    def __init__(
        self,
        name: str,
        key: KeyPair,
        *,
        peer_store: PeerStore,
        log_store: LogStore,
        services: Services,
        policy: PeerPolicy | None = None,
        ca_file: Path | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = parse_node(name)
        clock = self._clock = clock or SystemClock()
        policy = policy or PeerPolicy()
        self._signer = NodeSigner(name, key)
        self._book = PeerBook(peer_store, clock, jitter)
        self._transport = Transport(self._signer, self._book, policy, clock, ca_file)
        self._puller = Puller(self._get_page)
        self._inbox = Inbox(name, self._book, log_store, clock, self._want)
        self._sender = Sender(self._transport, log_store, jitter)
        self._server = Server(
            gate=Gate(name, self._transport.directory, policy, clock),
            inbox=self._inbox,
            services=services,
            sender=self._sender,
            book=self._book,
            signer=self._signer,
            clock=clock,
        )
        self._running: asyncio.Task[None] | None = None

    # --- life ----------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        """The endpoints for peers, for `Application.add_routes`."""
        return self._server.routes()

    async def start(self) -> None:
        """Begin to push, and say hello to all known peers.

        Call it once the node listens: a peer that does not know us asks back.
        """
        if self._running is None:
            self._running = asyncio.create_task(self._sender.run())
            self._running.add_done_callback(_note_end)

    async def stop(self) -> None:
        """Stop pushing and pulling, close all connections. What was not acked is
        sent after the next start."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None
        await self._puller.stop()
        await self._transport.close()

    def wake(self, peer: str) -> None:
        """A log that this peer reads has grown. Cheap; call it after each append."""
        if peer != self.name:
            self._sender.wake(peer)

    def look_again(self) -> None:
        """The records of peers may have been changed by another process, such as an
        admin's command that accepts keys: what waits for a peer looks again."""
        self._sender.reconsider_all()

    def rotate(self, key: KeyPair) -> None:
        """Sign with the next node key; its revision must already be published."""
        self._signer.use(key)

    async def accept_keys(self, peer: str) -> PeerRecord:
        """Pin the keys that a peer shows now, whatever was pinned: the decision of
        an admin who asked the other admin.

        Raises:
            PeerUnreachable: it shows no usable document.
        """
        document = await self._transport.directory.look(parse_node(peer))
        record = await self._book.repin(peer, document)
        self._sender.recall(peer)
        return record

    # --- asking peers --------------------------------------------------------

    async def claim(self, peer: str, claim: Claim) -> Claimed:
        """Claim key packages of accounts of another node.

        Raises:
            Refused: as every method here: `PeerUnreachable`, `PeerUntrusted`,
                `PeerBlocked`, `PeerRefused`, or what the peer says of the request.
        """
        path = f"{PREFIX}/key-packages/claim"
        call = Call("POST", path, body=claim, answer_max=CLAIMED_MAX)
        return await self._ask(peer, call, Claimed)

    async def account_log(self, address: str, after: int = 0) -> AccountLog:
        """The log of an account of another node; the caller verifies it."""
        account = parse_account(address)
        path = f"{PREFIX}/accounts/{account}/log"
        call = Call("GET", path, query=f"after={after}")
        return await self._ask(account.node, call, AccountLog)

    async def submit(self, node: str, log: LogId, submit: Submit) -> Receipt:
        """Append to a log at its hub now, and wait for the answer."""
        path = f"{PREFIX}/logs/{parse_log_id(log)}/entries"
        call = Call("POST", path, body=submit, timeout=SUBMIT_TIMEOUT)
        return await self._ask(node, call, Receipt)

    async def tree(self, node: str, log: LogId, tree_hash: str) -> Tree:
        """A ratchet tree from a room's hub; the caller checks its hash."""
        if not tree_hash.isalnum():
            raise ValueError("a tree's hash has 64 hex digits")
        path = f"{PREFIX}/logs/{parse_log_id(log)}/tree/{tree_hash}"
        return await self._ask(node, Call("GET", path, answer_max=TREE_MAX), Tree)

    async def group(self, node: str, log: LogId) -> GroupState:
        """What a device joins a room by, from its hub; the device verifies it."""
        path = f"{PREFIX}/logs/{parse_log_id(log)}/group"
        return await self._ask(node, Call("GET", path), GroupState)

    async def roster(self, node: str, log: LogId) -> Roster:
        """To which devices a room's hub lets its entries go."""
        path = f"{PREFIX}/logs/{parse_log_id(log)}/roster"
        return await self._ask(node, Call("GET", path), Roster)

    @asynccontextmanager
    async def blob(
        self, node: str, blob: str, offset: int
    ) -> AsyncIterator[BlobStream]:
        """The bytes of a blob from an offset on; the caller checks their hash.

        Raises:
            Refused: as every method here, also while the bytes are read.
        """
        path = f"{PREFIX}/blobs/{parse_blob_id(blob)}"
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if node == self.name:
            raise ValueError("a node does not ask itself over the network")
        try:
            async with self._transport.stream(node, path, headers) as response:
                size = _size_from(response, node, offset)
                yield BlobStream(size, response.content.iter_any())
        except Refused as error:
            shown = for_local_user(node, error)
            raise shown from (None if shown is error else error)

    async def knows(self, node: str) -> bool:
        """Whether a node was met, is trusted and is not being waited for: whether
        something that is not worth an attempt of its own may be said to it."""
        record = await self._book.get(node)
        return record.trusted == "ok" and record.next_try <= self._clock.time()

    async def presence(self, node: str, body: PeerPresence) -> PeerPresenceAnswer:
        """Tell a node who of our people is there; tried once."""
        path = f"{PREFIX}/presence"
        call = Call("POST", path, body=body, timeout=PRESENCE_TIMEOUT)
        return await self._ask(node, call, PeerPresenceAnswer)

    async def page(self, node: str, log: LogId, after: int, limit: int) -> Page:
        """A page of a log from its hub; chain and checkpoint are verified here.

        Raises:
            Refused: also `BadCheckpoint`, if the hub does not vouch for the page.
        """
        page = await self._get_page(node, log, after, limit)
        stream = page_stream(page)
        if stream is None and page.entries:
            raise PeerRefused(f"{node} sent a page without a checkpoint.")
        if (page.log, page.after) != (log, after):
            raise PeerRefused(f"{node} sent another page than was asked for.")
        if stream is not None:
            record = await self._book.get(node)
            try:
                check_stream(stream, self._book.identity(record))
            except IdentityError as error:
                raise PeerUntrusted(node) from error
        return page

    async def _ask(self, peer: str, call: Call, answer: type[T]) -> T:
        if peer == self.name:
            raise ValueError("a node does not ask itself over the network")
        try:
            value = await self._transport.call(peer, call, answer)
        except Refused as error:
            shown = for_local_user(peer, error)
            raise shown from (None if shown is error else error)
        await self._book.succeeded(peer)
        self._sender.reconsider(peer)
        return value

    async def _get_page(self, node: str, log: LogId, after: int, limit: int) -> Page:
        path = f"{PREFIX}/logs/{parse_log_id(log)}/entries"
        call = Call("GET", path, query=f"after={after}&limit={limit}")
        return await self._ask(node, call, Page)

    def _want(self, peer: str, log: LogId, have: int, upto: int) -> None:
        self._puller.want(peer, log, have, upto, self._inbox.take)


def _size_from(response: aiohttp.ClientResponse, node: str, offset: int) -> int:
    """The size of the whole whose bytes from `offset` on an answer holds."""
    try:
        if response.status == 206:
            field = response.headers.get("Content-Range", "")
            first, end, size = read_content_range(field)
            if (first, end) == (offset, size):
                return size
        elif offset == 0 and response.content_length is not None:
            return response.content_length
    except Malformed as error:
        raise PeerRefused(f"{node} sent no part of a file.") from error
    raise PeerRefused(f"{node} sent another part of the file than was asked for.")


def _note_end(task: asyncio.Task[None]) -> None:
    """A sender that ends by itself is a fault that nobody must overlook."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("federation has stopped", exc_info=task.exception())
