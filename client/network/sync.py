"""The connection to the node: one session after the other, for as long as we run.

Connect, say what is on our disk, take in what comes, and start over when it breaks
(`pace` says when). Nothing is lost in between: the node keeps a cursor for this device,
and so does the database.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial

from client.account.contacts import Contacts
from client.account.devices import Devices
from client.account.me import Me
from client.account.packages import refill, run_low
from client.account.renewal import Renewal
from client.account.self_group import SelfGroup
from client.clock import Clock
from client.errors import ClientError
from client.model import Connection
from client.network.pace import Pace
from client.network.reading import Reading, Uplink
from client.network.ways import AnySession
from client.presence.presence import Presences
from client.rooms.changes import doubt_keys, expect_room
from client.rooms.letters import Stage
from client.rooms.posting import Posting
from client.rooms.workers import Workers
from client.storage.heads import has_gap, have, start_log
from client.storage.store import Store, Tx
from client.storage.timeline import Status
from protocol.errors import Refused
from protocol.log import LogId
from protocol.presence import People, Typist
from protocol.wire import Entries, OutcomeFrame, Rooms, RoomState

__all__ = ["Sync"]

STABLE = 30.0
"""Seconds after which a session counts as good, and the waiting starts anew."""

SYNC_TIMEOUT = 30.0
"""Seconds for reading what came while away, before we call ourselves online."""

JOIN_GRACE = 2.0
"""Seconds for a Welcome to come before a room that we are in without keys is asked."""

PROGRESS_FROM = 400
"""Entries to be read from which on it is said how far it is: two seconds' work."""

ACKED_LOGS = 500
"""Logs in one ack; a node takes a thousand."""

logger = logging.getLogger(__name__)


class Sync:
    """Keeps a session open and feeds it to the reading."""

    def __init__(
        self,
        store: Store,
        uplink: Uplink,
        reading: Reading,
        posting: Posting,
        workers: Workers,
        me: Me,
        clock: Clock,
        changed: Callable[[Connection, str], None],
        own: SelfGroup,
        devices: Devices,
        contacts: Contacts,
        presence: Presences,
    ) -> None:
        self._store = store
        self._uplink = uplink
        self._reading = reading
        self._posting = posting
        self._workers = workers
        self._me = me
        self._clock = clock
        self._changed = changed
        self._own = own
        self._devices = devices
        self._presence = presence
        self._pace = Pace()
        self._renewal = Renewal(store, uplink.transport, contacts, me, clock)
        self._targets: dict[LogId, int] = {}
        self._left: dict[LogId, int] = {}
        self._total = 0
        self._online = False
        self._synced = asyncio.Event()

    def hurry(self) -> None:
        """Connect soon, if we are not connected: somebody waits for it."""
        if self._uplink.session is None:
            self._pace.hurry()

    async def run(self) -> None:
        """Connect again and again, until cancelled."""
        while True:
            self._changed(Connection.CONNECTING, "")
            began = time.monotonic()
            self._pace.attempt()
            retry_after = 0
            try:
                await self._session()
            except (ClientError, Refused) as error:
                why = str(error)
                if isinstance(error, Refused):
                    retry_after = error.retry_after or 0
                logger.info("the session ended: %s", type(error).__name__)
            except Exception as error:
                # The disk is full, or a mistake of ours: say so and go on trying.
                # Nothing was acked that is not stored.
                logger.error("the session failed: %s", type(error).__name__)
                why = (
                    "What came could not be stored here "
                    f"({type(error).__name__}); check the disk. Telex keeps trying."
                )
            else:
                why = "The node closed the connection."
            self._uplink.transport.forget_address()
            if time.monotonic() - began > STABLE:
                self._pace.stood()
            self._pace.failed(retry_after)
            self._changed(Connection.OFFLINE, why)
            await self._pace.wait()

    async def _session(self) -> None:
        session = await self._uplink.ways.open()
        self._clock.learn(session.ready.time)
        self._changed(Connection.SYNCING, "")
        self._uplink.session = session
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._start(session), name="start")
                tasks.create_task(self._mail(), name="mail")
                await self._receive(session)
        except BaseExceptionGroup as group:
            # The first of them is why the session ended; the rest followed.
            raise _first(group) from None
        finally:
            self._uplink.session = None
            self._online = False
            self._workers.pause()
            await session.close()

    async def _receive(self, session: AnySession) -> None:
        async for frame in session.frames():
            match frame:
                case Entries(log, after, entries):
                    applied = await self._reading.take(log, after, entries)
                    if applied.gap:
                        await self._reading.catch_up(log)
                    await self._reached(log)
                case People() | Typist():
                    self._presence.receive(frame)
                case OutcomeFrame(log, receipt):
                    await self._posting.outcome(log, receipt)
                    self._workers.poke(log)

    async def _start(self, session: AnySession) -> None:
        """What is done at the beginning of each session."""
        await self._store.run(self._prepare)
        answer = await self._uplink.transport.get("/rooms", Rooms)
        strangers, behind = await self._store.run(
            lambda tx: self._compare(tx, answer.rooms)
        )
        for start in range(0, len(behind), ACKED_LOGS):
            await session.ack(dict(behind[start : start + ACKED_LOGS]))
        for log in list(self._targets):
            await self._reached(log)
        try:
            await self._renewal.renew()
        except Refused as error:
            logger.warning("our keys could not be renewed: %s", error.code)
        await self._refill()
        await self._devices.check()
        # Rooms that were read need not wait for one that takes long.
        waiting = await self._store.run(_without_keys)
        await self._workers.resume({*self._targets, *waiting})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SYNC_TIMEOUT):
                await self._synced.wait()
        await self._store.run(
            lambda tx: self._own.ensure(tx, strangers=bool(strangers))
        )
        self._pace.worked()
        self._online = True
        self._changed(Connection.ONLINE, "")
        self._reading.mail.set()
        await self._workers.resume()
        if strangers:
            await asyncio.sleep(JOIN_GRACE)
            await self._ask(strangers)

    async def _refill(self) -> None:
        """Leave new key packages at the node, if they run low."""
        try:
            await refill(self._store, self._uplink.transport, self._me, self._clock)
        except Refused as error:
            logger.warning("no key packages could be left: %s", error.code)

    async def _mail(self) -> None:
        """Use Welcomes as they come."""
        while True:
            await self._reading.mail.wait()
            later = await self._reading.use_mail()
            if await self._store.run(run_low):
                await self._refill()
            if later is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(later):
                        await self._reading.mail.wait()
                self._reading.mail.set()

    async def _reached(self, log: LogId) -> None:
        """Note how far a log was read; all of them far enough: we are in sync."""
        target = self._targets.get(log)
        if target is not None:
            seq = await self._store.run(lambda tx: have(tx, log))
            self._left[log] = 0 if seq is None else max(0, target - seq)
            self._show_progress()
            if (
                seq is None
                or seq >= target
                or await self._store.run(lambda tx: has_gap(tx, log))
            ):
                self._targets.pop(log, None)
                self._workers.reached(log)
                if not self._targets:
                    self._synced.set()

    def _show_progress(self) -> None:
        left = sum(self._left.values())
        done = self._total - left
        if self._total >= PROGRESS_FROM and left:
            text = f"Read {done:,} of {self._total:,} entries that came while away."
            state = Connection.ONLINE if self._online else Connection.SYNCING
            self._changed(state, text)
        elif self._total >= PROGRESS_FROM:
            self._total = 0
            if self._online:
                self._changed(Connection.ONLINE, "")

    def _prepare(self, tx: Tx) -> None:
        if tx.one("SELECT 1 FROM log WHERE id = ?", self._me.mailbox) is None:
            start_log(tx, self._me.mailbox)
        # What our node had taken may have been refused while we were away: the same
        # bytes again are answered with what became of them.
        tx.execute(
            "UPDATE outbox SET state = ? WHERE state = ?", Stage.READY, Stage.ACCEPTED
        )

    def _compare(
        self, tx: Tx, rooms: list[RoomState]
    ) -> tuple[list[RoomState], list[tuple[LogId, int]]]:
        """What the node has of our rooms, against what is here.

        Returns:
            The rooms that are not known here, and the cursors that the node should
            have and has not (an ack was lost, or reading is to begin).
        """
        self._targets.clear()
        self._synced.clear()
        self._left.clear()
        strangers: list[RoomState] = []
        behind: list[tuple[LogId, int]] = []
        for state in rooms:
            seq = have(tx, state.room)
            if seq is not None:
                self._targets[state.room] = state.head
                self._left[state.room] = max(0, state.head - seq)
                if (state.cursor or 0) > seq:
                    # Our data is an old copy: its keys may have been used since.
                    doubt_keys(tx, state.room)
                if (state.cursor is None or state.cursor < seq) and seq <= state.head:
                    behind.append((state.room, seq))
            elif tx.one("SELECT 1 FROM log WHERE id = ?", state.room) is None:
                strangers.append(state)
        self._total = sum(self._left.values())
        if not self._targets:
            self._synced.set()
        return strangers, behind

    async def _ask(self, rooms: list[RoomState]) -> None:
        """Join rooms of our account that this device has no keys for."""
        for state in rooms:
            ask = partial(
                expect_room,
                clock=self._clock,
                room=state.room,
                hub=state.hub,
            )
            # Known or not: its history may be here before its keys (an archive).
            await self._store.run(ask)
            self._workers.poke(state.room)


def _without_keys(tx: Tx) -> list[LogId]:
    """Rooms whose Welcome may be on its way: they wait a little with joining."""
    rows = tx.all("SELECT id FROM room WHERE status = ?", Status.ASKED)
    return [LogId(row[0]) for row in rows]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
