"""Delivery: tells sessions and peers that a log has grown, and keeps devices' cursors.

Everything here is a hint over what is on disk. A session that was told nothing would
find the same entries at its next look; nothing is ever lost with this process.
"""

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import bindparam, insert, update

from node.accounts.device import Device, Devices, list_refused
from node.clock import Clock
from node.event import (
    AccountChanged,
    EntriesAppended,
    Event,
    MembersChanged,
    OutcomeStored,
    ReadingStarted,
)
from node.rooms.member import first_readable, get_cursor
from node.rooms.page import device_periods
from node.sessions.cursor import Cursors
from node.sessions.line import Line
from node.sessions.reading import load_readings
from node.sessions.session import Session
from node.sessions.tail import Tail
from node.storage.chain import get_log
from node.storage.store import Store, Transaction
from node.storage.tables import CursorRow, core
from protocol.errors import (
    BadRequest,
    DeviceRevoked,
    NodeBusy,
    Refused,
    SessionReplaced,
    TooMany,
    UnknownRoom,
)
from protocol.log import LogId
from protocol.wire import FromNode, OutcomeFrame

__all__ = ["Delivery"]

log = logging.getLogger(__name__)

ACKED_LOGS = 1000
"""Logs in one ack: all the rooms of a busy person at once."""

_cursor = core(CursorRow)

_INSERT_CURSOR = insert(_cursor)
_MOVE_CURSOR = (
    update(_cursor)
    .where(_cursor.c.reader == bindparam("who"), _cursor.c.log == bindparam("which"))
    .values(seq=bindparam("to"))
)


class Delivery:
    """The sessions of this process, and what reaches them."""

    def __init__(
        self,
        store: Callable[[], Store],
        devices: Callable[[], Devices],
        clock: Clock,
        node: str,
        *,
        wake_peers: Callable[[EntriesAppended | MembersChanged], None],
        sessions_max: int,
        per_address: int,
    ) -> None:
        """The store tells us its events and we read from the store: hence callables.

        Args:
            store: the database.
            devices: whose devices may come in.
            clock: for `ready`.
            node: this node's name.
            wake_peers: told about every log that grew.
            sessions_max: sessions in all.
            per_address: sessions from one network address; 0 for any number.
        """
        self._store = store
        self._devices = devices
        self._clock = clock
        self._node = node
        self._wake_peers = wake_peers
        self._sessions_max = sessions_max
        self._per_address = per_address
        self._tail = Tail()
        self._cursors = Cursors()
        self._sessions: dict[str, Session] = {}
        self._accounts: dict[str, list[Session]] = {}
        self._readers: dict[LogId, list[Session]] = {}
        self._subscribed: dict[Session, set[LogId]] = {}
        self._touched: list[Session] = []
        self._loading = 0
        self._meanwhile: dict[LogId, int] = {}
        """Heads that logs got while sessions were loading."""
        self._moved: set[LogId] = set()
        """Logs whose members changed meanwhile."""
        self.opened: list[Callable[[Device], None]] = []
        """Called when a device has come."""
        self.ended: list[Callable[[Device], None]] = []
        """Called when a device's session is over."""
        self._addresses: dict[str, int] = {}
        self._admitted = 0
        self._recheck = asyncio.Event()
        self._stopping = False

    @property
    def sessions(self) -> int:
        """How many devices are connected."""
        return len(self._sessions)

    # --- sessions ---------------------------------------------------------------

    def admit(self, remote: str) -> None:
        """Count a connection from an address in; `release` counts it out.

        Raises:
            TooMany, NodeBusy: there is no room for it.
        """
        if self._stopping:
            raise NodeBusy("It is stopping.", retry_after=5)
        here = self._addresses.get(remote, 0)
        if self._per_address and here >= self._per_address:
            raise TooMany("Too many sessions from your address.", retry_after=30)
        if self._admitted >= self._sessions_max:
            raise NodeBusy("It has as many sessions as it may.", retry_after=30)
        self._addresses[remote] = here + 1
        self._admitted += 1

    def release(self, remote: str) -> None:
        """A connection that was admitted is gone."""
        self._admitted -= 1
        here = self._addresses.get(remote, 0) - 1
        if here > 0:
            self._addresses[remote] = here
        else:
            self._addresses.pop(remote, None)

    def open(self, device: Device, line: Line) -> Session:
        """A session for a device; the one that it had ends. `load` starts it."""
        now = int(self._clock())
        session = Session(device, line, self._store(), self._tail, self._touch, now)
        before = self._sessions.get(device.address)
        if before is not None:
            before.close(SessionReplaced())
        self._sessions[device.address] = session
        self._accounts.setdefault(session.account, []).append(session)
        self._subscribed[session] = set()
        if self._stopping:
            session.close(NodeBusy("It is stopping.", retry_after=5))
        for callback in self.opened:
            callback(device)
        return session

    async def load(self, session: Session) -> None:
        """Find out what a session has to read, and begin.

        Raises:
            Refused: the database failed.
        """
        device = session.device
        self._loading += 1
        try:
            found = await self._store().read(lambda c: load_readings(c, device))
            if session not in self._subscribed:
                return  # it ended meanwhile
            for name, reading in found:
                self._subscribe(session, name)
                acked = self._cursors.newest(device.address, name, reading.acked)
                reading.acked = reading.sent = acked
                # What was appended since the database was read.
                reading.head = max(reading.head, self._meanwhile.get(name, 0))
            session.start_reading(found)
            for name in self._moved & dict(found).keys():
                session.reload(name)
        finally:
            self._loading -= 1
            if not self._loading:
                self._meanwhile.clear()
                self._moved.clear()

    def end(self, session: Session) -> None:
        """Forget a session whose line is gone."""
        for name in self._subscribed.pop(session, ()):
            readers = self._readers[name]
            readers.remove(session)
            if not readers:
                del self._readers[name]
        here = self._accounts.get(session.account)
        if here is not None and session in here:
            here.remove(session)
            if not here:
                del self._accounts[session.account]
        session.forget()
        if self._sessions.get(session.device.address) is session:
            del self._sessions[session.device.address]
            for callback in self.ended:
                callback(session.device)

    def stop(self) -> None:
        """Tell every session that the node stops; take no new ones."""
        self._stopping = True
        for session in self._sessions.values():
            session.close(NodeBusy("It is stopping.", retry_after=5))

    def flush(self) -> None:
        """Write down how far devices are, before the database is closed."""
        self._cursors.flush(self._store())

    def _subscribe(self, session: Session, name: LogId) -> None:
        subscribed = self._subscribed.get(session)
        if subscribed is not None and name not in subscribed:
            subscribed.add(name)
            self._readers.setdefault(name, []).append(session)

    def _touch(self, session: Session) -> None:
        """Have a session send soon: once, whatever happens until then."""
        if not self._touched:
            asyncio.get_running_loop().call_soon(self._pump)
        self._touched.append(session)

    def _pump(self) -> None:
        touched, self._touched = self._touched, []
        for session in touched:
            session.pump()

    # --- frames for those who are there -----------------------------------------

    def send(self, device: str, frame: FromNode) -> bool:
        """Send a frame that nobody misses; False if the device is away or slow."""
        session = self._sessions.get(device)
        return session is not None and session.whisper(frame)

    def connected(self, device: str) -> bool:
        """Whether a device has a session."""
        return device in self._sessions

    # --- acks -------------------------------------------------------------------

    def ack(self, session: Session, cursors: dict[LogId, int]) -> dict[LogId, int]:
        """Note how far a device has the logs that it reads.

        Returns:
            What is left for `start`: logs that it does not read yet, and what is
            beyond a log. An old ack changes nothing.
        """
        rest: dict[LogId, int] = {}
        for name, seq in cursors.items():
            step = session.acks(name, seq)
            if step:
                session.acked(name, seq)
                self._cursors.move(self._store(), session.device.address, name, seq)
            elif step is None:
                rest[name] = seq
        return rest

    async def start(self, session: Session, cursors: dict[LogId, int]) -> None:
        """Store how far a device has logs, and begin to read them; all or none.

        Raises:
            BadRequest: a seq is none, or beyond the log's head.
            UnknownRoom: a log is not the device's to read.
        """
        await self._start(session.device, cursors)
        for name, seq in cursors.items():
            session.acked(name, seq)

    async def ack_alone(self, device: Device, cursors: dict[LogId, int]) -> None:
        """Take an ack that came by itself, whether the device has a session or not.

        Raises:
            BadRequest, UnknownRoom: as `start`.
        """
        session = self._sessions.get(device.address)
        if session is None:
            await self._start(device, cursors)
        elif rest := self.ack(session, cursors):
            await self.start(session, rest)

    async def _start(self, device: Device, cursors: dict[LogId, int]) -> None:
        if len(cursors) > ACKED_LOGS:
            raise BadRequest(f"An ack names at most {ACKED_LOGS} new logs.")

        def write(transaction: Transaction) -> None:
            for name, seq in cursors.items():
                _ack(transaction, self._node, device, name, seq)

        await self._store().write(write, size=64 * len(cursors) + 64)

    # --- events -----------------------------------------------------------------

    def on_events(self, events: list[Event]) -> None:
        """What a batch of writes did; called on the event loop."""
        for event in events:
            match event:
                case EntriesAppended():
                    head = event.after + len(event.entries)
                    self._tail.add(event.log, event.after, event.entries)
                    for session in self._readers.get(event.log, ()):
                        session.entries_appended(event.log, head)
                    if self._loading:
                        self._meanwhile[event.log] = head
                    self._wake_peers(event)
                case MembersChanged():
                    for session in self._readers.get(event.log, ()):
                        session.reload(event.log)
                    if self._loading:
                        self._moved.add(event.log)
                    self._wake_peers(event)
                case ReadingStarted():
                    started = self._sessions.get(event.device)
                    if started is not None:
                        self._subscribe(started, event.log)
                        started.reload(event.log)
                case OutcomeStored():
                    self._tell_outcome(event)
                case AccountChanged():
                    # Now, before whoever revoked them is told that it is done.
                    for address in event.revoked:
                        if (ended := self._sessions.get(address)) is not None:
                            ended.close(DeviceRevoked())
                    self.on_foreign_change()

    def _tell_outcome(self, event: OutcomeStored) -> None:
        account = event.device.rpartition("/")[0]
        for session in self._accounts.get(account, ()):
            session.answer(OutcomeFrame(event.log, event.receipt))

    def on_foreign_change(self) -> None:
        """Accounts or devices may have changed: trust nothing that was remembered."""
        self._devices().forget()
        self._recheck.set()

    async def watch(self) -> None:
        """End sessions of devices that may no longer come in; runs until cancelled."""
        while True:
            await self._recheck.wait()
            self._recheck.clear()
            try:
                refused = await self._store().read(list_refused)
            except Refused as error:
                log.warning("sessions could not be checked: %s", error)
                continue
            for address, problem in refused.items():
                session = self._sessions.get(address)
                if session is not None:
                    session.close(problem)


def _ack(
    transaction: Transaction, node: str, device: Device, name: LogId, seq: int
) -> None:
    connection = transaction.connection
    found = get_log(connection, name)
    periods = device_periods(connection, found, device)
    if found is None or not periods:
        raise UnknownRoom()
    # A copy may be behind the Welcome that a device has already followed.
    if seq < 0 or (seq > found.head and found.owner == node):
        raise BadRequest(f"The log has {found.head} entries; {seq} cannot be acked.")
    before = get_cursor(connection, device.address, name)
    if before is None:
        start = first_readable(periods, seq)
        connection.execute(
            _INSERT_CURSOR, {"reader": device.address, "log": name, "seq": start}
        )
        transaction.events.append(ReadingStarted(device.address, name, start))
    elif seq > before:
        connection.execute(
            _MOVE_CURSOR, {"who": device.address, "which": name, "to": seq}
        )
