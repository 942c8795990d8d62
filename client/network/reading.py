"""Getting entries from the node into the database: stream, pages, trees, acks.

The shell around `Inbound`: it asks for a page where the stream has a gap, fetches the
trees that Welcomes name, and acks what is on disk, never before.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from client.errors import ClientError, NodeNonsense, NodeUnreachable
from client.network.refusals import says_later
from client.network.transport import Transport
from client.network.ways import AnySession, Ways
from client.rooms.inbound import Applied, Inbound
from client.rooms.letters import Due
from client.rooms.reader import RoomReader
from client.rooms.welcomes import Welcomes
from client.storage.alarms import raise_alarm
from client.storage.heads import have
from client.storage.store import Store, Tx
from client.storage.timeline import Status, set_note
from protocol.errors import Refused, UnknownRoom
from protocol.limits import BATCH_ENTRIES
from protocol.log import LogId
from protocol.wire import Bundle, Page, Receipt, Submit, Tree, WelcomeMail

__all__ = ["Reading", "Uplink"]

TREE_RETRY = 0.25
TREE_RETRY_MAX = 30.0
"""Seconds between attempts to fetch the tree of a Welcome, doubling."""

TREE_TRIES = 12
"""How often a room may be unknown to our node before its Welcome is given up: the
invitation can overtake the room on the way from the hub, by minutes if the line
between the nodes breaks in between."""

FOLLOW_TIMEOUT = 20.0
"""Seconds in which a follower has what its hub has, unless the two are apart."""

FOLLOW_PAUSE = 1.0
"""Seconds between looks, when the stream brings nothing."""

logger = logging.getLogger(__name__)


class Uplink:
    """The way to the node: the session while there is one, requests otherwise."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.ways = Ways(transport)
        self.session: AnySession | None = None

    async def submit(
        self, log: LogId, submission: bytes, bundle: Bundle | None = None
    ) -> Receipt:
        """Hand over a submission; the same bytes may be handed over again.

        Raises:
            Refused, ClientError: as the node or the network has it.
        """
        if bundle is None and self.session is not None:
            return await self.session.submit(submission)
        return await self.transport.post(
            f"/logs/{log}/entries", Submit(submission, bundle), Receipt
        )

    async def ack(self, cursors: Mapping[LogId, int]) -> None:
        """Tell the node what is on disk, if it listens; else at the next session."""
        if self.session is not None and cursors:
            try:
                await self.session.ack(cursors)
            except ClientError:
                logger.debug("an ack was not sent; the next session repeats it")


class Reading:
    """Reads logs; `poke` is called for rooms in which something is to be done."""

    def __init__(
        self,
        store: Store,
        uplink: Uplink,
        inbound: Inbound,
        rooms: RoomReader,
        welcomes: Welcomes,
        poke: Callable[[LogId, float], None],
    ) -> None:
        self._store = store
        self._uplink = uplink
        self._inbound = inbound
        self._rooms = rooms
        self._welcomes = welcomes
        self._poke = poke
        self._pages: dict[LogId, asyncio.Lock] = {}
        self._joining = asyncio.Lock()
        self._tries = 0
        self._moved = asyncio.Event()
        self.mail = asyncio.Event()
        """Set when there are Welcomes to be used."""

    async def take(
        self,
        log: LogId,
        after: int,
        entries: Sequence[bytes],
        previous: bytes | None = None,
    ) -> Applied:
        """Put entries on disk, ack them, and start what they ask for."""
        applied = await self._store.run(
            lambda tx: self._inbound.apply(tx, log, after, entries, previous=previous)
        )
        if applied.seq is not None and not applied.gap:
            await self._uplink.ack({log: applied.seq})
        for room, delay in applied.due.items():
            self._poke(room, delay)
        if applied.welcomes:
            self.mail.set()
        if applied.fresh:
            self._moved.set()
            self._moved = asyncio.Event()
        return applied

    async def catch_up(self, log: LogId) -> None:
        """Read a log by pages up to its head.

        Raises:
            Refused, ClientError: the node does not give it.
        """
        async with self._pages.setdefault(log, asyncio.Lock()):
            while True:
                seq = await self._store.run(lambda tx: have(tx, log))
                if seq is None:
                    return
                page = await self._uplink.transport.get(
                    f"/logs/{log}/entries?after={seq}&limit={BATCH_ENTRIES}", Page
                )
                if page.log != log or page.after < seq:
                    raise NodeNonsense("The node sent a page that was not asked for.")
                if page.after > seq:
                    await self._store.run(
                        partial(_missing, log=log, seq=seq, after=page.after)
                    )
                    return
                applied = await self.take(log, seq, page.entries, page.previous)
                if not applied.fresh or applied.seq is None or applied.seq >= page.head:
                    return

    async def wait_for(self, log: LogId, seen: Callable[[Tx], bool]) -> None:
        """Read a log until something that the hub has is here.

        Our node may be a follower of the room, and a little behind its hub.

        Raises:
            NodeUnreachable: it did not come in time; it still may.
            Refused, ClientError: the node does not give the log.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FOLLOW_TIMEOUT):
                while True:
                    moved = self._moved
                    await self.catch_up(log)
                    if await self._store.run(seen):
                        return
                    if moved is self._moved:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(FOLLOW_PAUSE):
                                await moved.wait()
        raise NodeUnreachable(
            "The room's hub has taken this, but your node does not have it yet; it "
            "comes when the two reach each other."
        )

    async def use_mail(self) -> float | None:
        """Fetch the trees of Welcomes and join their rooms.

        Returns:
            Seconds after which to try again, if some could not be used yet.
        """
        async with self._joining:
            self.mail.clear()
            later = False
            for mail in await self._store.run(self._welcomes.without_tree):
                later |= not await self._fetch_tree(mail)
            for mail in await self._store.run(self._welcomes.ready):
                await self._use(mail)
            if not later:
                self._tries = 0
                return None
            self._tries += 1
            return min(TREE_RETRY_MAX, TREE_RETRY * 2.0**self._tries)

    async def _fetch_tree(self, mail: WelcomeMail) -> bool:
        path = f"/logs/{mail.room}/tree/{mail.tree_hash.hex()}"
        try:
            tree = await self._uplink.transport.get(path, Tree)
        except ClientError:
            return False
        except Refused as error:
            early = isinstance(error, UnknownRoom) and self._tries < TREE_TRIES
            if early or says_later(error):
                return False
            why = f"An invitation could not be used: {error}"
            await self._store.run(lambda tx: self._welcomes.discard(tx, mail, why))
            self._poke(mail.room, 0.0)
            return True
        await self._store.run(
            lambda tx: self._welcomes.put_tree(tx, mail, tree.ratchet_tree)
        )
        return True

    async def _use(self, mail: WelcomeMail) -> None:
        reached = await self._store.run(lambda tx: _reached(tx, mail))
        if not reached:
            # What came before the Welcome is read with the keys from before.
            try:
                await self.catch_up(mail.room)
            except (ClientError, Refused) as error:
                logger.info("going on from the Welcome: %s", type(error).__name__)

        def join(tx: Tx) -> tuple[Due, int | None]:
            due: Due = {}
            if self._welcomes.at(tx, mail.room, mail.seq) is not None:
                self._rooms.join(tx, mail, due)
            return due, have(tx, mail.room)

        due, seq = await self._store.run(join)
        if seq is not None:
            await self._uplink.ack({mail.room: seq})
        for room, delay in due.items():
            self._poke(room, delay)


def _missing(tx: Tx, log: LogId, seq: int, after: int) -> None:
    """The node leaves out entries, in its pages too.

    That is right where we were not a member for a while: then a Welcome says where
    to go on. Everywhere else entries are kept from us, and nothing behind them is
    believed.
    """
    row = tx.one("SELECT status FROM room WHERE id = ?", log)
    if row is not None and row[0] in (Status.REMOVED, Status.LEFT):
        return
    text = (
        f"The node leaves out what came here between {seq} and {after}: nothing after "
        "it is shown. Tell its admin."
    )
    set_note(tx, log, text)
    tx.execute("UPDATE log SET gap = ? WHERE id = ?", after, log)
    room = None if row is None else log
    raise_alarm(tx, "entries_withheld", f"{log} {seq}", room, text)


def _reached(tx: Tx, mail: WelcomeMail) -> bool:
    """Whether a room's log was read up to a Welcome, or cannot be."""
    row = tx.one("SELECT status FROM room WHERE id = ?", mail.room)
    if row is None or row[0] in (Status.REMOVED, Status.LEFT):
        return True
    seq = have(tx, mail.room)
    return seq is None or seq >= mail.seq
