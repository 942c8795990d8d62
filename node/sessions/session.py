"""One device's session: what it has been sent, what it acked, what comes next.

The reader side (frames that come in) is in `api.socket`; here is the one task that
writes. It sends answers first, then entries, log by log in turns, as long as fewer
than `WINDOW_BYTES` are on their way unacked. Nothing is queued for a slow device: its
place in each log is a number, and what it has not read lies in the log.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection, select

from node.accounts.device import Device
from node.rooms.member import Period, readable_upto
from node.rooms.page import device_periods
from node.sessions.tail import Tail
from node.storage.chain import get_log, list_entries
from node.storage.store import Store
from node.storage.tables import CursorRow, core
from protocol.errors import NodeFault, Refused
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES, WINDOW_BYTES
from protocol.log import LogId, mailbox_id
from protocol.wire import Entries, FromNode, ProblemFrame, Ready

__all__ = ["Line", "Session"]

log = logging.getLogger(__name__)

ANSWERS_MAX = 1024
"""Answers that wait to be sent. Each answers a frame of the device, and as many of
those are taken in at once as `api.socket` says, so a device that reads never comes
near."""

_cursor = core(CursorRow)


class Line(Protocol):
    """The way to the device; `send` waits until the socket has room."""

    def send(self, frame: FromNode) -> Awaitable[None]:
        """Send a frame.

        Raises:
            ConnectionError: the device is gone.
        """


@dataclass(slots=True)
class _Reading:
    """Where the device is in one log."""

    sent: int
    acked: int
    head: int
    periods: Sequence[Period]
    flight: deque[tuple[int, int]] = field(default_factory=deque)
    """(seq, bytes) of what was sent and not acked, by frame."""

    def upto(self) -> int:
        return readable_upto(self.periods, self.sent, self.head)


class Session:
    """A device that is connected. `run` sends until `close` or the line breaks."""

    def __init__(
        self, device: Device, line: Line, store: Store, tail: Tail, now: int
    ) -> None:
        self.device = device
        self._line = line
        self._store = store
        self._tail = tail
        self._wake = asyncio.Event()
        self._answers: deque[FromNode] = deque()
        self._answers.append(Ready(now, mailbox_id(str(device.account))))
        self._readings: dict[LogId, _Reading] = {}
        self._early: dict[LogId, int] = {}
        """Heads of logs whose reading is being loaded."""
        self._stale: OrderedDict[LogId, None] = OrderedDict()
        """Logs to load (again) before anything of them is sent."""
        self._turns: OrderedDict[LogId, None] = OrderedDict()
        """Logs that may have something to send, in turns."""
        self._unacked = 0
        self._end: Refused | None = None
        self._over = asyncio.Event()

    @property
    def ended(self) -> Refused | None:
        """Why nothing more is taken from the device; None: it goes on."""
        return self._end

    async def wait_end(self, grace: float) -> None:
        """Wait until it is closed, and `grace` seconds for the device to be told."""
        await self._over.wait()
        await asyncio.sleep(grace)

    # --- what others tell it ----------------------------------------------------

    def answer(self, frame: FromNode) -> None:
        """Send this before any entries."""
        if len(self._answers) >= ANSWERS_MAX:
            self.close(Refused("The device does not read its answers."))
            return
        self._answers.append(frame)
        self._wake.set()

    def close(self, problem: Refused) -> None:
        """Say why, and end."""
        if self._end is None:
            self._end = problem
        self._over.set()
        self._wake.set()

    def entries_appended(self, name: LogId, seq: int) -> None:
        """A log that it reads has a new head."""
        reading = self._readings.get(name)
        if reading is None:
            self._early[name] = seq
            return
        reading.head = max(reading.head, seq)
        self._turns[name] = None
        self._wake.set()

    def reload(self, name: LogId) -> None:
        """A cursor was made, or the members changed: look again."""
        self._stale[name] = None
        self._wake.set()

    def acked(self, name: LogId, seq: int) -> None:
        """The device has a log up to `seq` on its disk."""
        reading = self._readings.get(name)
        if reading is None:
            return
        reading.acked = max(reading.acked, seq)
        reading.sent = max(reading.sent, seq)
        while reading.flight and reading.flight[0][0] <= seq:
            self._unacked -= reading.flight.popleft()[1]
        self._turns[name] = None
        self._wake.set()

    # --- sending ----------------------------------------------------------------

    async def run(self, logs: Sequence[LogId]) -> None:
        """Send until the session is closed; returns then.

        Args:
            logs: those that the device has cursors in, subscribed already.

        Raises:
            ConnectionError: the device is gone.
        """
        for name in logs:
            self.reload(name)
        while True:
            await self._send_answers()
            if self._end is not None:
                await self._line.send(ProblemFrame(self._end.problem()))
                return
            if self._stale:
                await self._load_next()
                continue
            if await self._send_entries():
                continue
            await self._wake.wait()
            self._wake.clear()

    async def _send_answers(self) -> None:
        while self._answers:
            await self._line.send(self._answers.popleft())

    async def _load_next(self) -> None:
        name, _ = self._stale.popitem(last=False)
        try:
            loaded = await self._store.read(lambda c: _load(c, name, self.device))
        except Refused as error:
            log.warning("a session cannot read its logs: %s", error)
            self.close(NodeFault())
            return
        early = self._early.pop(name, 0)
        if loaded is None:
            self._readings.pop(name, None)
            return
        known = self._readings.get(name)
        if known is None:
            self._readings[name] = known = loaded
        known.periods = loaded.periods
        known.head = max(known.head, loaded.head, early)
        known.acked = max(known.acked, loaded.acked)
        known.sent = max(known.sent, loaded.sent)
        self._turns[name] = None

    async def _send_entries(self) -> bool:
        """Send one frame of the next log in turn; whether there was something."""
        for _ in range(len(self._turns)):
            name, _ = self._turns.popitem(last=False)
            reading = self._readings.get(name)
            if reading is None or name in self._stale or reading.sent >= reading.upto():
                continue
            room = WINDOW_BYTES - self._unacked
            if room <= 0:
                self._turns[name] = None
                return False
            if await self._send_run(name, reading, room):
                return True
        return False

    async def _send_run(self, name: LogId, reading: _Reading, room: int) -> bool:
        after, upto = reading.sent, reading.upto()
        entries = await self._read(name, after, upto, min(room, BATCH_BYTES))
        if reading.sent != after:  # an ack came meanwhile: begin behind it
            self._turns[name] = None
            return True
        size = sum(map(len, entries))
        if not entries:
            return False
        if size > room and self._unacked:
            # A single entry larger than what is left of the window: it waits for
            # the acks, and goes alone.
            self._turns[name] = None
            return False
        last = after + len(entries)
        reading.sent = last
        reading.flight.append((last, size))
        self._unacked += size
        if last < upto:
            self._turns[name] = None
        await self._line.send(Entries(name, after, entries, upto))
        return True

    async def _read(
        self, name: LogId, after: int, upto: int, max_bytes: int
    ) -> list[bytes]:
        found = self._tail.after(name, after, upto, BATCH_ENTRIES, max_bytes)
        if found is not None:
            return found

        def read(connection: Connection) -> list[bytes]:
            here = get_log(connection, name)
            if here is None:
                return []
            return list_entries(
                connection,
                here,
                after,
                upto=upto,
                limit=BATCH_ENTRIES,
                max_bytes=max_bytes,
            ).entries

        return await self._store.read(read)


def _load(connection: Connection, name: LogId, device: Device) -> _Reading | None:
    """Where the device is in a log; None: it does not read it."""
    found = get_log(connection, name)
    cursor: int | None = connection.scalar(
        select(_cursor.c.seq).where(
            _cursor.c.reader == device.address, _cursor.c.log == name
        )
    )
    periods = device_periods(connection, found, device)
    if found is None or cursor is None or not periods:
        return None
    return _Reading(cursor, cursor, found.head, periods)
