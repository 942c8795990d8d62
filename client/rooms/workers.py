"""Work in rooms: one worker for each, woken when there is something to do.

A worker comes back into its room if it lost its keys, commits what is wanted, tells
what was read and sends what was written, in this order, and is alone in its room:
nothing of this needs a lock elsewhere. When the node says "later" it comes back later;
when the node is gone it is woken by the next session.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection

from client.account.me import Me
from client.clock import Clock
from client.errors import ChangeFailed, ClientError
from client.rooms.changes import next_due
from client.rooms.posting import Posting
from client.rooms.rejoin import Rejoin
from client.rooms.resending import Resending
from client.rooms.settler import Settler
from client.rooms.talk import Talk
from client.storage.store import Store, Tx
from protocol.errors import Refused
from protocol.log import LogId

__all__ = ["Workers"]

AT_ONCE = 8
"""Rooms in which work is done at the same time."""

FIRST_RETRY = 2.0
"""Seconds until a room is tried again after "later"; then twice that."""

LAST_RETRY = 300.0
"""Seconds between tries of a room whose hub stays away."""

logger = logging.getLogger(__name__)


class Workers:
    """Wakes the rooms' workers; `run` is where they live."""

    def __init__(self, store: Store, talk: Talk, me: Me, clock: Clock) -> None:
        self._store = store
        self._talk = talk
        self._me = me
        self._clock = clock
        self._locks: dict[LogId, asyncio.Lock] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._again: set[LogId] = set()
        self._busy: set[LogId] = set()
        self._behind: set[LogId] = set()
        self._timers: dict[LogId, asyncio.TimerHandle] = {}
        self._failures: dict[LogId, int] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._online = False

    def wire(
        self,
        rejoin: Rejoin,
        resending: Resending,
        settler: Settler,
        posting: Posting,
        prepare: Callable[[Tx, LogId], None] = lambda tx, room: None,
    ) -> None:
        """Give the workers their tools (which need `poke` themselves).

        Args:
            prepare: queues what a room is to be told, before its outbox is sent.
        """
        self._rejoin = rejoin
        self._resending = resending
        self._settler = settler
        self._posting = posting
        self._tell = prepare

    def lock(self, room: LogId) -> asyncio.Lock:
        """Held by whoever changes a room: its worker, or a call of the application."""
        return self._locks.setdefault(room, asyncio.Lock())

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Run workers as tasks of this group from now on."""
        self._tasks = tasks

    def stop(self) -> None:
        """Start no worker any more."""
        self._tasks = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def resume(self, behind: Collection[LogId] = ()) -> None:
        """The node is there: wake all rooms in which something waits.

        Args:
            behind: rooms that are still being read; `reached` wakes them.
        """
        self._online = True
        self._behind = set(behind)
        self._failures.clear()
        for room in await self._store.run(_with_work):
            self.poke(room)

    def reached(self, room: LogId) -> None:
        """A room was read as far as it was when the session began."""
        if room in self._behind:
            self._behind.discard(room)
            self.poke(room)

    def pause(self) -> None:
        """The node is gone: `resume` wakes everything again."""
        self._online = False

    def poke(self, room: LogId, delay: float = 0.0) -> None:
        """There is something to do in a room, now or in so many seconds."""
        if self._tasks is None:
            return
        if delay > 0:
            loop = asyncio.get_running_loop()
            timer = self._timers.get(room)
            if timer is not None and not timer.cancelled():
                if timer.when() <= loop.time() + delay:
                    return
                timer.cancel()
            self._timers[room] = loop.call_later(delay, self._fire, room)
            return
        if room in self._busy:
            self._again.add(room)
        elif self._online and room not in self._behind:
            self._busy.add(room)
            self._tasks.create_task(self._work(room), name=f"room {room[:8]}")

    def _fire(self, room: LogId) -> None:
        self._timers.pop(room, None)
        self.poke(room)

    async def _work(self, room: LogId) -> None:
        try:
            while True:
                self._again.discard(room)
                async with self._slots, self.lock(room):
                    await self._once(room)
                if room not in self._again:
                    break
        finally:
            self._busy.discard(room)

    async def _once(self, room: LogId) -> None:
        try:
            wait = await self._rejoin.rejoin(room)
            try:
                await self._settler.settle(room)
            except ChangeFailed as error:
                logger.info("a change of %s was given up: %s", room, error)
            await self._store.run(lambda tx: self._prepare(tx, room))
            await self._posting.send(room)
            self._failures.pop(room, None)
        except (Refused, ClientError) as error:
            self._retry(room, error)
            return
        except Exception as error:
            # One room's trouble (or a full disk) is not every room's.
            logger.error("work in %s failed: %s", room, type(error).__name__)
            self._retry(room, error)
            return
        due = await self._store.run(lambda tx: self._next_due(tx, room))
        if due is not None:
            wait = min(wait or due, max(50, due - self._clock.now_ms()))
        if wait:
            self.poke(room, wait / 1000)

    def _next_due(self, tx: Tx, room: LogId) -> int | None:
        dues = (
            next_due(tx, room),
            self._resending.next_due(tx, room),
            self._talk.next_due(room),
        )
        return min((due for due in dues if due is not None), default=None)

    def _prepare(self, tx: Tx, room: LogId) -> None:
        """Queue what is to be written in a room."""
        self._resending.prepare(tx, room)
        self._talk.acknowledge(tx, room)
        self._tell(tx, room)

    def _retry(self, room: LogId, error: Exception) -> None:
        logger.info("%s: later (%s)", room, type(error).__name__)
        count = self._failures[room] = self._failures.get(room, 0) + 1
        delay = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(count - 1, 10))
        asked = error.retry_after if isinstance(error, Refused) else None
        wanted = min(asked or 0, LAST_RETRY)  # a node cannot silence a room for good
        self.poke(room, max(wanted, delay * random.uniform(0.5, 1)))


def _with_work(tx: Tx) -> list[LogId]:
    rows = tx.all(
        "SELECT room FROM outbox WHERE state IN ('waiting', 'ready')"
        " UNION SELECT room FROM staged_join UNION SELECT room FROM ailment"
        " UNION SELECT room FROM answer WHERE due > 0"
        " UNION SELECT id FROM room WHERE status = 'active' AND NOT EXISTS"
        "  (SELECT 1 FROM mls_epoch JOIN mls_ratchet USING (room) WHERE room = id)"
        " UNION SELECT room FROM intent UNION SELECT room FROM staged"
        " UNION SELECT id FROM room WHERE status = 'asked' OR rewound"
        " OR (status = 'active' AND (delivered > delivered_told OR read > read_told))"
        " OR (status = 'active' AND purpose = 'self'"
        "   AND EXISTS (SELECT 1 FROM own_register WHERE dirty))"
    )
    return [LogId(row[0]) for row in rows]
