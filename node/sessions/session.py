"""One device's session: what it has been sent, what it acked, what comes next.

A session has no task of its own. Whatever happens to it (an answer is ready, a log
has grown, an ack came, the line has room) touches it, and soon afterwards `pump`
writes what may go: answers first, then entries, log by log in turns, as long as fewer
than `WINDOW_BYTES` are on their way unacked. Nothing is queued for a slow device: its
place in each log is a number, and what it has not read lies in the log.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from node.accounts.device import Device
from node.rooms.member import readable_upto
from node.sessions.line import Line, SharedEntries
from node.sessions.reading import Reading, load_reading
from node.sessions.tail import Tail
from node.storage.chain import get_log, list_entries
from node.storage.store import Store
from protocol.errors import Refused, StorageDamaged
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES, WINDOW_BYTES
from protocol.log import LogId, mailbox_id
from protocol.wire import Entries, FromNode, ProblemFrame, Ready

__all__ = ["Session"]

log = logging.getLogger(__name__)

WHISPERS_MAX = 64
"""Frames that wait to be sent, beyond which those that nobody misses are dropped."""


class Session:
    """A device that is connected, until `close`."""

    __slots__ = (
        "_answers",
        "_end",
        "_fetched",
        "_line",
        "_loading",
        "_readings",
        "_soon",
        "_stale",
        "_store",
        "_tail",
        "_task",
        "_turns",
        "_unacked",
        "account",
        "device",
        "touched",
    )

    def __init__(
        self,
        device: Device,
        line: Line,
        store: Store,
        tail: Tail,
        soon: Callable[["Session"], None],
        now: int,
    ) -> None:
        """`soon` has `pump` called, once for many touches."""
        self.device = device
        self.account = str(device.account)
        self.touched = False
        """Whether `pump` is going to be called."""
        self._line = line
        self._store = store
        self._tail = tail
        self._soon = soon
        self._answers: list[FromNode | SharedEntries] = []
        self._readings: dict[LogId, Reading] = {}
        self._turns: dict[LogId, None] = {}
        """Logs that may have something to send, in turns."""
        self._stale: dict[LogId, None] | None = None
        """Logs to load (again) before anything more of them is sent."""
        self._loading: dict[LogId, int] = {}
        """Logs that are being loaded, and heads that they got meanwhile."""
        self._fetched: SharedEntries | None = None
        """What was read from the database for the next turn of its log."""
        self._task: asyncio.Task[None] | None = None
        """Reads from the database, one thing at a time."""
        self._unacked = 0
        self._end: Refused | None = None
        self.answer(Ready(now, mailbox_id(self.account)))

    @property
    def ended(self) -> Refused | None:
        """Why nothing more is taken from the device; None: it goes on."""
        return self._end

    # --- what others tell it ----------------------------------------------------

    def touch(self) -> None:
        """Something may be sent."""
        if not self.touched:
            self.touched = True
            self._soon(self)

    def answer(self, frame: FromNode) -> None:
        """Send this before any entries."""
        self._answers.append(frame)
        self.touch()

    def whisper(self, frame: FromNode) -> bool:
        """Send what nobody misses; False if the line is busy."""
        if not self._line.ready or len(self._answers) >= WHISPERS_MAX:
            return False
        self.answer(frame)
        return True

    def close(self, problem: Refused) -> None:
        """Say why, and end."""
        if self._end is None:
            self._end = problem
            self.touch()

    def forget(self) -> None:
        """The line is gone: stop what is under way."""
        if self._task is not None:
            self._task.cancel()

    def start_reading(self, readings: Iterable[tuple[LogId, Reading]]) -> None:
        """Read these logs, each from where the device has it."""
        for name, reading in readings:
            if name in self._readings:  # it was acked while these were read
                continue
            self._readings[name] = reading
            if reading.sent < reading.head:
                self._turns[name] = None
        self.touch()

    def entries_appended(self, name: LogId, head: int) -> None:
        """A log that it reads has a new head."""
        reading = self._readings.get(name)
        if name in self._loading:
            self._loading[name] = head
        if reading is None:
            return
        if head > reading.head:
            reading.head = head
        self._turns[name] = None
        self.touch()

    def reload(self, name: LogId) -> None:
        """A cursor was made, or the members changed: look again."""
        if self._stale is None:
            self._stale = {}
        self._stale[name] = None
        self.touch()

    def acks(self, name: LogId, seq: int) -> bool | None:
        """Whether this is a step forward in a log that it reads; None: it is neither
        that nor an old one, and must be looked at."""
        reading = self._readings.get(name)
        if reading is None or not 0 <= seq <= reading.head:
            return None
        return seq > reading.acked

    def acked(self, name: LogId, seq: int) -> None:
        """The device has a log up to `seq` on its disk."""
        reading = self._readings.get(name)
        if reading is None:
            return
        reading.acked = max(reading.acked, seq)
        reading.sent = max(reading.sent, seq)
        flight = reading.flight
        while flight and flight[0][0] <= seq:
            self._unacked -= flight.pop(0)[1]
        if reading.sent < reading.head:
            self._turns[name] = None
        if self._turns:
            self.touch()

    # --- sending ----------------------------------------------------------------

    def pump(self) -> None:
        """Send what may go now."""
        self.touched = False
        frames, self._answers = self._answers, []
        if self._end is not None:
            frames.append(ProblemFrame(self._end.problem()))
            self._line.send(frames)
            self._line.end()
            return
        if self._stale:
            self._begin(self._load())
        if self._line.ready and self._turns:
            for _ in range(len(self._turns)):
                while (shared := self._next()) is not None:
                    frames.append(shared)
        if frames:
            self._line.send(frames)

    def _next(self) -> SharedEntries | None:
        """The next frame of the log whose turn it is; None: on to the next one."""
        if not self._turns:
            return None
        name = next(iter(self._turns))
        del self._turns[name]
        reading = self._readings.get(name)
        if reading is None or name in self._loading:
            return None  # the load puts it back, with what may be read then
        if self._stale and name in self._stale:
            return None
        after, upto = (
            reading.sent,
            readable_upto(reading.periods, reading.sent, reading.head),
        )
        if after >= upto:
            return None
        room = WINDOW_BYTES - self._unacked
        shared = self._find(name, after, upto, room) if room > 0 else None
        if shared is None or (shared.size > room and self._unacked):
            # It waits for acks, or for the database. A single entry larger than
            # what is left of the window goes alone.
            self._turns[name] = None
            return None
        if shared is self._fetched:
            self._fetched = None
        reading.sent = shared.last
        reading.flight.append((shared.last, shared.size))
        self._unacked += shared.size
        if shared.last < upto:
            self._turns[name] = None
        return shared

    def _find(
        self, name: LogId, after: int, upto: int, room: int
    ) -> SharedEntries | None:
        size = min(room, BATCH_BYTES)
        shared = self._tail.frame(name, after, upto, BATCH_ENTRIES, size)
        if shared is not None:
            return shared
        fetched = self._fetched
        if fetched is not None:
            if fetched.frame.log in self._turns:
                return None  # that log's turn comes first
            if fetched.frame.log == name and fetched.frame.after == after:
                return fetched  # kept until it goes: the window may be too small yet
            self._fetched = None
        self._begin(self._fetch(name, after, upto, size))
        return None

    # --- reading the database ---------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        if self._task is not None:
            work.close()  # when this one is done, it is asked for again
            return
        self._task = asyncio.get_running_loop().create_task(self._do(work))

    async def _do(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Refused as error:
            log.warning("a session cannot read its logs: %s", error)
            self.close(error)
        finally:
            self._task = None
        self.touch()

    async def _load(self) -> None:
        names, device = list(self._stale or ()), self.device
        self._stale = None
        self._loading = dict.fromkeys(names, 0)

        def read(connection: Connection) -> list[Reading | None]:
            return [load_reading(connection, name, device) for name in names]

        found = await self._store.read(read)
        heads, self._loading = self._loading, {}
        for name, loaded in zip(names, found, strict=True):
            known = self._readings.get(name)
            if loaded is None:
                self._stop_reading(name)
                continue
            if known is None:
                self._readings[name] = known = loaded
            known.follow(loaded)
            known.head = max(known.head, heads[name])
            self._turns[name] = None

    def _stop_reading(self, name: LogId) -> None:
        gone = self._readings.pop(name, None)
        if gone is not None:  # nobody will ack what was sent of it
            self._unacked -= sum(size for _, size in gone.flight)

    async def _fetch(self, name: LogId, after: int, upto: int, size: int) -> None:
        def read(connection: Connection) -> Sequence[bytes]:
            here = get_log(connection, name)
            if here is None:
                return ()
            run = list_entries(
                connection, here, after, upto=upto, limit=BATCH_ENTRIES, max_bytes=size
            )
            return run.entries

        try:
            entries = await self._store.read(read)
        except StorageDamaged as error:
            # This log cannot be read on; all others can.
            log.warning("a session passes by the log %s: %s", name, error)
            self._stop_reading(name)
            entries = ()
        if entries:
            frame = Entries(name, after, list(entries), upto)
            self._fetched = SharedEntries(frame)
        else:
            self._turns.pop(name, None)
