"""The doctor: what does not work in the rooms of this device, and its repair.

Most of what is found here repairs itself in the background; the doctor says what is
under way and why, and does at once what otherwise waits for its hour.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from client.account.me import Me
from client.clock import Clock
from client.content import Unknown, read_content
from client.doctor.ailment import Illness, Stage, find, list_open
from client.doctor.cause import Fault, cause_of
from client.errors import ClientError, UnknownAilment
from client.model import Ailment, MessageId
from client.rooms.changes import doubt_keys
from client.rooms.groups import Groups
from client.rooms.letters import Arrival, Letters
from client.rooms.notices import Lines
from client.rooms.rejoin import Rejoin
from client.rooms.resending import Resending
from client.rooms.workers import Workers
from client.storage.heads import has_gap
from client.storage.store import Store, Tx
from client.storage.timeline import Status
from client.verification.rules import held_by
from protocol.errors import Refused, TelexError
from protocol.log import Entry, Kind, LogId, Submission

__all__ = ["Doctor"]

PATIENCE = 60 * 1000
"""Milliseconds after which something that was not sent is worth a word."""

_OUT = (Status.LEFT, Status.REMOVED, Status.BROKEN)
_OUT_TEXT = "You are not in this room any more, so nobody in it can be asked."

AT_ONCE = 4
"""Rooms that are joined again at the same time."""

logger = logging.getLogger(__name__)


class Doctor:
    """Examines rooms and repairs them; what it knows stands in the database."""

    def __init__(
        self,
        store: Store,
        groups: Groups,
        letters: Letters,
        rejoin: Rejoin,
        resending: Resending,
        workers: Workers,
        me: Me,
        clock: Clock,
        reconnect: Callable[[], None],
    ) -> None:
        self._store = store
        self._groups = groups
        self._letters = letters
        self._rejoin = rejoin
        self._resending = resending
        self._workers = workers
        self._account = str(me.account)
        self._device = str(me.device)
        self._clock = clock
        self._reconnect = reconnect

    async def examine(self, room: LogId | None = None) -> list[Ailment]:
        """All that does not work, in one room or everywhere."""
        rooms = [room] if room is not None else await self._store.run(_rooms)
        found: list[Ailment] = []
        for each in rooms:
            # A group is megabytes and takes its time to load: others come between.
            found += await self._store.run(partial(self._examine, room=each))
        return found

    async def repair(self, id: str) -> Ailment:
        """Repair one thing now, as far as this device can.

        Returns:
            The ailment as it is now: `repaired`, or `repairing` if others have to do
            their part. What has no repair comes back as it was.

        Raises:
            UnknownAilment: there is no such ailment (any more).
        """
        before = await self._find(id)
        if before is None:
            raise UnknownAilment
        match before.repair:
            case "rejoin":
                await self._come_back(before)
            case "ask_resend":
                await self._store.run(
                    lambda tx: self._resending.ask_now(tx, before.room, id)
                )
                self._workers.poke(before.room)
            case "wait":
                self._reconnect()
                self._workers.poke(before.room)
            case _:
                return before
        after = await self._find(id)
        return _with_state(before if after is None else after, after is None)

    async def repair_all(self) -> None:
        """Repair everything that this device can, everywhere."""
        self._reconnect()
        ailments = await self.examine()
        slots = asyncio.Semaphore(AT_ONCE)

        async def come_back(ailment: Ailment) -> None:
            async with slots:
                await self._come_back(ailment)

        await asyncio.gather(*(come_back(a) for a in ailments if a.repair == "rejoin"))
        rooms = {a.room for a in ailments}
        for room in rooms:
            await self._store.run(partial(self._resending.ask_now, room=room))
            self._workers.poke(room)

    def read_anew(self, tx: Tx) -> None:
        """Read what this version knows and an older one, which kept it, did not."""
        rows = tx.all("SELECT id, content FROM ailment WHERE content != x''")
        for id, content in rows:
            illness = find(tx, id)
            body = read_content(bytes(content)).body
            if illness is None or isinstance(body, Unknown):
                continue
            room = illness.room
            entry = Entry(illness.seq, 1, illness.time, b"")
            submission = Submission(
                1, room, illness.device, illness.txn, Kind.MESSAGE, b""
            )
            lines = Lines(tx, room, entry, first=1)
            try:
                with tx.attempt():
                    self._letters.deliver(
                        tx, body, Arrival(room, entry, submission, lines, {})
                    )
                    tx.execute("DELETE FROM ailment WHERE id = ?", id)
                    tx.execute(
                        "DELETE FROM message WHERE id = ? AND kind = 'notice'", id
                    )
            except TelexError as error:
                logger.warning("what was kept cannot be read: %s", error)

    # --- how ------------------------------------------------------------------

    async def _find(self, id: str) -> Ailment | None:
        return next((a for a in await self.examine() if a.id == id), None)

    async def _come_back(self, ailment: Ailment) -> None:
        room = ailment.room

        def prepare(tx: Tx) -> None:
            tx.execute("UPDATE room SET asked = 0 WHERE id = ?", room)
            if has_gap(tx, room):
                doubt_keys(tx, room)

        await self._store.run(prepare)
        try:
            async with self._workers.lock(room):
                await self._rejoin.rejoin(room)
        except (Refused, ClientError) as error:
            logger.info("%s is not joined yet: %s", room, type(error).__name__)
        self._workers.poke(room)

    def _examine(self, tx: Tx, room: LogId) -> list[Ailment]:
        found: list[Ailment] = []
        row = tx.one(
            "SELECT status, joined, rewound, title FROM room WHERE id = ?", room
        )
        gone = row is not None and row[0] in _OUT
        if row is not None:
            status, joined, rewound, title = row
            for code in self._codes(tx, room, status, joined, rewound):
                found.append(self._of_room(room, code, title))
            group = self._groups.get(tx, room) if status == Status.ACTIVE else None
            if group is not None and group.active:
                reason, _ = held_by(tx, self._account, group)
                if reason:
                    held = self._of_room(room, "key_changed", title)
                    found.append(replace(held, cause=reason))
        for illness in list_open(tx, room):
            ailment = self._of_entry(illness)
            if gone:
                ailment = replace(
                    ailment, repair="none", repair_text=_OUT_TEXT, state="open"
                )
            found.append(ailment)
        for id, device in tx.all(
            "SELECT id, device FROM message WHERE code = 'fork' AND room = ?", room
        ):
            found.append(self._make(id, room, MessageId(id), "fork", "", device))
        return found

    def _codes(
        self, tx: Tx, room: LogId, status: str, joined: int, rewound: int
    ) -> Iterable[str]:
        """What is wrong with a room itself."""
        log = tx.one("SELECT seq, broken, gap FROM log WHERE id = ?", room)
        if status == Status.BROKEN or (log is not None and log[1]):
            yield "log_broken"
            return
        if log is not None and log[2] > log[0]:
            yield "log_gap"
        if status == Status.ASKED:
            yield "lost_keys" if joined else "lost_welcome"
        elif status == Status.ACTIVE and rewound:
            yield "rewound"
        elif status == Status.ACTIVE and self._groups.get(tx, room) is None:
            yield "lost_keys"
        if tx.one("SELECT 1 FROM staged WHERE room = ?", room) is not None:
            yield "commit_waits"
        if tx.one(
            "SELECT 1 FROM outbox o JOIN message m ON m.id = o.message"
            " WHERE o.room = ? AND o.state != 'failed' AND m.time < ?",
            room,
            self._clock.now_ms() - PATIENCE,
        ):
            yield "outbox_waits"

    def _of_room(self, room: LogId, code: str, title: str) -> Ailment:
        return self._make(f"{code}:{room}", room, None, code, "", "", who=title)

    def _of_entry(self, illness: Illness) -> Ailment:
        state = "repairing" if illness.state == Stage.REPAIRING else "open"
        return self._make(
            illness.id,
            illness.room,
            illness.id,
            illness.code,
            illness.kind,
            illness.device,
            repairing=state == "repairing",
        )

    def _make(
        self,
        id: str,
        room: LogId,
        message: MessageId | None,
        code: str,
        kind: str,
        device: str,
        *,
        who: str = "",
        repairing: bool = False,
    ) -> Ailment:
        cause = cause_of(code, kind)
        account = who or device.partition("/")[0]
        fault = {Fault.SENDER: device, Fault.OWN: self._device}.get(cause.fault, "")
        return Ailment(
            id=id,
            room=room,
            message=message,
            code=code,
            cause=cause.text.format(who=account, code=code),
            device=fault,
            repair=cause.repair,
            repair_text=cause.repair_text.format(who=account, code=code),
            state="repairing" if repairing else "open",
        )


def _rooms(tx: Tx) -> list[LogId]:
    """All rooms, and those that are gone and have left something to repair."""
    rows = tx.all("SELECT id FROM room UNION SELECT room FROM ailment ORDER BY 1")
    return [LogId(row[0]) for row in rows]


def _with_state(ailment: Ailment, repaired: bool) -> Ailment:
    if repaired:
        return replace(ailment, state="repaired")
    return replace(ailment, state="repairing")
