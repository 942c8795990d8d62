"""Taking back: messages deleted here or for everyone, and messages that vanish.

What is deleted leaves no text behind in the database: not in the timeline, nor in what
waits to be sent, nor in what others asked for. A message deleted for everyone leaves a
line that says so; one that vanished leaves none. Nothing brings either back: not an
answer that comes late, nor a backup (`timeline.is_removed`).

Messages vanish a set time after they were read here, or sent by this account. The
sweep runs at the start, when the next one is due and every half minute; a clock that
was put back delays it by no more than that time once more.
"""

import asyncio
import contextlib

from client.account.me import Me
from client.account.self_group import SelfGroup
from client.clock import Clock
from client.content import Body, Redaction, Reply, Resend, Text, Timer, read_content
from client.content.removal import DISAPPEARING_MAX
from client.doctor.ailment import find
from client.errors import BadText, RoomInactive, UnknownMessage
from client.model import MessageId, MessageRemoved, State
from client.rooms.groups import Groups, policy_of
from client.rooms.letters import Arrival, Letters, Stage, is_latest
from client.rooms.notices import Lines
from client.rooms.ranking import delay_for
from client.storage.store import Store, Tx
from client.storage.timeline import Status
from protocol.errors import Malformed, NotAllowed, UnknownRoom
from protocol.log import Entry, LogId
from protocol.policy import Role

__all__ = ["Removing"]

SWEEP = 30.0
"""Seconds between two looks at what was read on other devices."""

BATCH = 500
"""Messages that vanish in one transaction."""

REMEMBERED = 400 * 24 * 3600 * 1000
"""Milliseconds for which it is known that a message was deleted: longer than any
message could be asked for, or lie in a backup before the next one."""

REGISTER = "removed"
REGISTER_KEPT = 30 * 24 * 3600 * 1000
"""Milliseconds in which our other devices learn what was deleted for us alone."""

_UNITS = ((7 * 86_400, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"))


class Removing:
    """Deletes messages; all state is in the database."""

    def __init__(
        self,
        store: Store,
        me: Me,
        groups: Groups,
        letters: Letters,
        own: SelfGroup,
        clock: Clock,
    ) -> None:
        self._store = store
        self._account = str(me.account)
        self._device = str(me.device)
        self._groups = groups
        self._letters = letters
        self._own = own
        self._clock = clock
        self._woken = asyncio.Event()
        letters.on(Redaction, self._redacted)
        letters.on(Timer, self._timed)
        letters.on_own(Timer, self._own_timed)
        letters.heard.append(self._heard)
        own.on(REGISTER, self._removed_elsewhere)

    # --- deleting -------------------------------------------------------------

    def delete(self, tx: Tx, id: MessageId, *, everyone: bool) -> LogId:
        """Delete a message; the room in which it was.

        Raises:
            UnknownMessage: there is none.
            NotAllowed, RoomInactive: not for everyone, and why.
        """
        row = tx.one(
            "SELECT room, sender, own, seq, kind FROM message WHERE id = ?", id
        )
        if row is None or (row[4] != "text" and find(tx, id) is None):
            raise UnknownMessage
        room = LogId(row[0])
        if row[2] and row[3] is None and self._take_back(tx, id):
            self._forget(tx, room, id)
            return room
        if not everyone:
            self._forget(tx, room, id)
            self._own.set(tx, REGISTER, f"{room} {id}", b"1")
            return room
        status = tx.one("SELECT status, note FROM room WHERE id = ?", room)
        if status is None or status[0] not in (Status.ACTIVE, Status.ASKED):
            raise RoomInactive("You are not in this room any more: delete it for you.")
        if not self._may_delete(tx, room, self._account, row[1]):
            raise NotAllowed(
                "You can delete messages of others for everyone only in a group in "
                "which your role is above theirs."
            )
        self._letters.queue(tx, room, Redaction(bytes.fromhex(id)))
        self._bury(tx, room, id, self._account)
        return room

    def _take_back(self, tx: Tx, id: MessageId) -> bool:
        """Drop a message of ours that never left; whether it is that."""
        return bool(
            tx.execute(
                "DELETE FROM outbox WHERE message = ? AND state IN (?, ?)",
                id,
                Stage.WAITING,
                Stage.FAILED,
            )
        )

    def _may_delete(self, tx: Tx, room: LogId, who: str, sender: str) -> bool:
        if who == sender:
            return True
        group = self._groups.get(tx, room)
        if group is None or not group.active:
            return False
        policy = policy_of(group)
        role = policy.role(who)
        return not policy.direct and Role.ADMIN <= role > policy.role(sender)

    def _bury(self, tx: Tx, room: LogId, id: MessageId, by: str) -> None:
        """Leave a line in the place of a message."""
        row = tx.one("SELECT sender FROM message WHERE id = ?", id)
        if row is None:
            return
        text = (
            "This message was deleted."
            if row[0] == by
            else f"{by} deleted this message."
        )
        self._wipe(tx, room, id)
        tx.execute(
            "UPDATE message SET kind = 'notice', code = 'deleted', text = ?,"
            " reply_to = NULL, error = '', state = ? WHERE id = ?",
            text,
            int(State.RECEIVED),
            id,
        )
        tx.messages[id] = None
        tx.rooms.add(room)

    def _forget(self, tx: Tx, room: LogId, id: MessageId) -> None:
        """Leave nothing of a message."""
        self._wipe(tx, room, id)
        if tx.execute("DELETE FROM message WHERE id = ? AND room = ?", id, room):
            tx.rooms.add(room)
            tx.events.append(MessageRemoved(room, id))

    def _wipe(self, tx: Tx, room: LogId, id: MessageId) -> None:
        """Delete every copy of a text but the line itself."""
        tx.execute(
            "INSERT OR REPLACE INTO removal VALUES (?, ?, ?)",
            id,
            room,
            self._clock.now_ms(),
        )
        tx.execute("DELETE FROM ailment WHERE id = ?", id)
        tx.execute("DELETE FROM answer WHERE room = ? AND id = ?", room, id)
        tx.execute("DELETE FROM expiry WHERE message = ?", id)
        # What is encrypted already is sent as it is; its clear text is not needed.
        tx.execute("UPDATE outbox SET content = x'' WHERE message = ?", id)
        raw = bytes.fromhex(id)
        for n, content in tx.all(
            "SELECT n, content FROM outbox WHERE room = ? AND instr(content, ?)",
            room,
            raw,
        ):
            with contextlib.suppress(Malformed):
                body = read_content(bytes(content)).body
                if isinstance(body, Resend) and body.id == raw:
                    tx.execute("UPDATE outbox SET content = x'' WHERE n = ?", n)
        tx.scrub = True

    def _redacted(self, tx: Tx, body: Redaction, arrival: Arrival) -> None:
        id, room = MessageId(body.id.hex()), arrival.room
        row = tx.one(
            "SELECT sender, kind FROM message WHERE id = ? AND room = ?", id, room
        )
        if row is None or (row[1] != "text" and find(tx, id) is None):
            return
        if self._may_delete(tx, room, arrival.account, row[0]):
            self._bury(tx, room, id, arrival.account)

    def _removed_elsewhere(self, tx: Tx, key: str, value: bytes) -> None:
        room, _, id = key.partition(" ")
        if value and tx.one(
            "SELECT 1 FROM message WHERE id = ? AND room = ?", id, room
        ):
            self._forget(tx, LogId(room), MessageId(id))

    # --- vanishing ------------------------------------------------------------

    def set_timer(self, tx: Tx, room: LogId, seconds: int) -> None:
        """Let what is written in a room from now on vanish; 0: no longer.

        Raises:
            BadText: longer than a year, or negative.
            UnknownRoom, RoomInactive, NotAllowed: not here.
        """
        if not 0 <= seconds <= DISAPPEARING_MAX:
            raise BadText("Messages can vanish after one second to one year.")
        row = tx.one("SELECT status, note, disappearing FROM room WHERE id = ?", room)
        if row is None:
            raise UnknownRoom
        group = self._groups.get(tx, room)
        if row[0] != Status.ACTIVE or group is None:
            raise RoomInactive(row[1] or "This room cannot be changed right now.")
        if not self._may_time(tx, room, self._account):
            raise NotAllowed("In a group only admins decide whether messages vanish.")
        if row[2] != seconds:
            tx.execute("UPDATE room SET disappearing = ? WHERE id = ?", seconds, room)
            tx.rooms.add(room)
            self._letters.supersede(tx, room, Timer(seconds), "timer")

    def written(self, tx: Tx, room: LogId, id: MessageId) -> None:
        """A message of ours is under the room's timer from when it is sent."""
        self._watch(tx, room, id)

    def committed(
        self, tx: Tx, room: LogId, sender: str, added: object, gone: object
    ) -> None:
        """Tell who just came in that messages vanish here."""
        row = tx.one("SELECT disappearing FROM room WHERE id = ?", room)
        group = self._groups.get(tx, room)
        if not added or row is None or not row[0] or group is None:
            return
        if sender == self._device or not delay_for(group):
            self._letters.supersede(tx, room, Timer(row[0]), "timer")

    def wake(self) -> None:
        """Something was read: look at once what has begun to vanish."""
        self._woken.set()

    async def run(self) -> None:
        """Let messages vanish, until cancelled."""
        while True:
            self._woken.clear()
            wait = await self._store.run(self.sweep)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    def sweep(self, tx: Tx) -> float:
        """Delete what is due; seconds until the next is."""
        now = self._clock.now_ms()
        tx.execute(
            "INSERT OR IGNORE INTO expiry SELECT a.id, a.room, r.disappearing, 0"
            " FROM ailment a JOIN room r ON r.id = a.room WHERE r.disappearing > 0"
            " AND a.kind = 'message'"
        )
        # Begun now: what was read. And no clock that was put back makes it longer.
        tx.execute(
            "UPDATE expiry SET due = ? + seconds * 1000 WHERE (due = 0 AND EXISTS"
            " (SELECT 1 FROM message m JOIN room r ON r.id = m.room"
            "   WHERE m.id = expiry.message AND m.own = 0 AND m.seq <= r.read))"
            " OR due > ? + seconds * 1000",
            now,
            now,
        )
        rows = tx.all(
            "SELECT message, room FROM expiry WHERE due > 0 AND due <= ? LIMIT ?",
            now,
            BATCH,
        )
        for id, room in rows:
            self._forget(tx, LogId(room), MessageId(id))
        tx.execute("DELETE FROM removal WHERE time < ?", now - REMEMBERED)
        tx.execute(
            "DELETE FROM own_register WHERE register = ? AND time < ?",
            REGISTER,
            now - REGISTER_KEPT,
        )
        row = tx.one("SELECT min(due) FROM expiry WHERE due > 0")
        if row is None or row[0] is None:
            return SWEEP
        return min(SWEEP, max(0.0, (int(row[0]) - now) / 1000))

    def _heard(
        self, tx: Tx, room: LogId, entry: Entry, id: MessageId, device: str, body: Body
    ) -> None:
        if not isinstance(body, Text | Reply):
            return
        if device != self._device:
            self._watch(tx, room, id)
        if device.partition("/")[0] == self._account:
            tx.execute(
                "UPDATE expiry SET due = ? + seconds * 1000 WHERE message = ?"
                " AND due = 0",
                self._clock.now_ms(),
                id,
            )

    def _watch(self, tx: Tx, room: LogId, id: MessageId) -> None:
        tx.execute(
            "INSERT OR IGNORE INTO expiry SELECT ?, id, disappearing, 0 FROM room"
            " WHERE id = ? AND disappearing > 0",
            id,
            room,
        )

    def _timed(self, tx: Tx, body: Timer, arrival: Arrival) -> None:
        room, seq = arrival.room, arrival.entry.seq
        if self._may_time(tx, room, arrival.account) and is_latest(
            tx, room, "timed", seq
        ):
            self._set(tx, body, room, arrival.account, arrival.lines)

    def _own_timed(self, tx: Tx, body: Timer, room: LogId, entry: Entry) -> None:
        if is_latest(tx, room, "timed", entry.seq) and not self._letters.waits(
            tx, room, "timer"
        ):
            # It counts, whatever came in before it.
            tx.execute(
                "UPDATE room SET disappearing = ? WHERE id = ?", body.seconds, room
            )
            tx.rooms.add(room)
        lines = Lines(tx, room, entry, first=1)
        row = tx.one(
            "SELECT text FROM message WHERE room = ? AND code = 'disappearing'"
            " ORDER BY position DESC LIMIT 1",
            room,
        )
        text = _sentence(self._account, body.seconds)
        if row is None or _told(row[0]) != _told(text):
            lines.say(self._device, "disappearing", text)

    def _set(
        self, tx: Tx, body: Timer, room: LogId, account: str, lines: Lines
    ) -> None:
        if tx.execute(
            "UPDATE room SET disappearing = ? WHERE id = ? AND disappearing != ?",
            body.seconds,
            room,
            body.seconds,
        ):
            tx.rooms.add(room)
            lines.say(account, "disappearing", _sentence(account, body.seconds))

    def _may_time(self, tx: Tx, room: LogId, account: str) -> bool:
        group = self._groups.get(tx, room)
        if group is None or not group.active:
            return False
        policy = policy_of(group)
        return policy.direct or policy.role(account) >= Role.ADMIN


def _sentence(account: str, seconds: int) -> str:
    if not seconds:
        return f"{account} lets messages stay from here on."
    return f"{account} lets messages vanish {_duration(seconds)} after they are read."


def _told(text: str) -> str:
    return text.partition(" ")[2]


def _duration(seconds: int) -> str:
    for unit, word in _UNITS:
        if seconds % unit == 0:
            count = seconds // unit
            return f"{count} {word}{'s' if count > 1 else ''}"
    return f"{seconds} second{'s' if seconds > 1 else ''}"
