"""Rooms and messages as rows, and as the values that applications see.

All queries about what people look at live here. A message's place in its room is
`seq * 4096 + n` (one entry can make several lines) once the hub gave it a seq, and
behind everything else until then.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from client.event import Event
from client.model import (
    Alarm,
    Message,
    MessageChanged,
    MessageId,
    Position,
    Quote,
    Room,
    RoomChanged,
    State,
    Trust,
)
from client.storage.store import Tx
from client.text import visible, visible_line
from protocol.log import LogId

__all__ = [
    "LINES",
    "LOST_NOTE",
    "PENDING",
    "Purpose",
    "Status",
    "add_message",
    "add_notice",
    "bound_activity",
    "events_of",
    "get_message",
    "get_room",
    "is_removed",
    "list_messages",
    "list_rooms",
    "message_id",
    "set_note",
    "set_status",
]

PENDING = 1 << 62
"""Positions from here on belong to messages that have no seq yet."""

LINES = 4096
"""Lines that one entry may make; a commit of 1,000 proposals makes 1,000."""

PAGE_MAX = 500
"""Messages in one answer: more than any screen shows."""

NAMED_MAX = 256
"""Characters of a name in a notice: a device's address has at most 340, ours 100."""

QUOTE_MAX = 200
"""Characters of a message that are shown where it is quoted."""


LOST_NOTE = (
    "This device has no keys for this room and joins it again by itself; what you "
    "write is sent then."
)


class Status(StrEnum):
    """How this device stands to a room."""

    CREATING = "creating"
    """Its first entry is on the way to the hub."""
    ACTIVE = "active"
    ASKED = "asked"
    """We have no keys, and asked the others to let this device in."""
    LEFT = "left"
    REMOVED = "removed"
    BROKEN = "broken"
    """Its log was rewritten: nothing of it is believed any more."""


class Purpose(StrEnum):
    """What a room is for."""

    TALK = ""
    SELF = "self"
    """To bind an account's own devices (`account.self_group`); it is never shown."""
    UNSURE = "?"
    """It may be our self group: shown once this device is in and knows."""


def is_removed(tx: Tx, id: MessageId) -> bool:
    """Whether a message was deleted here, so that nothing brings it back."""
    return tx.one("SELECT 1 FROM removal WHERE message = ?", id) is not None


def message_id(room: LogId, device: str, txn: bytes) -> MessageId:
    """The id of a message, which every member computes alike."""
    data = f"{room}\n{device}\n".encode() + txn
    return MessageId(
        blake2b(data, digest_size=16, person=b"telex message 1").hexdigest()
    )


# --- writing ------------------------------------------------------------------


def add_message(
    tx: Tx,
    id: MessageId,
    room: LogId,
    *,
    position: int,
    seq: int | None,
    device: str,
    time: int,
    text: str,
    reply_to: str | None,
    state: State,
    own: bool,
) -> None:
    """Add a text to a timeline, or replace the notice that stood for it."""
    tx.execute(
        "INSERT OR REPLACE INTO message (id, room, position, seq, kind, sender, device,"
        " time, text, reply_to, state, own) VALUES (?,?,?,?,'text',?,?,?,?,?,?,?)",
        id,
        room,
        position,
        seq,
        device.partition("/")[0],
        device,
        time,
        text,
        reply_to,
        int(state),
        own,
    )
    tx.messages[id] = None
    _touch(tx, room, time)


def add_notice(
    tx: Tx,
    room: LogId,
    *,
    seq: int,
    line: int,
    device: str,
    time: int,
    code: str,
    text: str,
    id: MessageId | None = None,
) -> None:
    """Add a line that the program says.

    Args:
        line: which of its entry's lines it is, from 0.
        device: whom it is about: a device or an account.
        id: of the message that it stands for, if that may still become readable.
    """
    if id is None:
        id = message_id(room, "", f"notice {seq} {line}".encode())
    device = device[:NAMED_MAX]  # the hub's word; nobody has signed it
    tx.execute(
        "INSERT OR REPLACE INTO message (id, room, position, seq, kind, sender, device,"
        " time, text, state, own, code) VALUES (?,?,?,?,'notice',?,?,?,?,?,0,?)",
        id,
        room,
        place(seq, line),
        seq,
        device.partition("/")[0],
        device,
        time,
        text,
        int(State.RECEIVED),
        code,
    )
    tx.messages[id] = None
    _touch(tx, room, time)


def place(seq: int, line: int = 0) -> int:
    """The position of a line of an entry."""
    return seq * LINES + min(line, LINES - 1)


def set_status(tx: Tx, room: LogId, status: Status, note: str = "") -> None:
    """Change how this device stands to a room, and what is said about it."""
    tx.execute("UPDATE room SET status = ?, note = ? WHERE id = ?", status, note, room)
    tx.rooms.add(room)


def set_note(tx: Tx, room: LogId, note: str) -> None:
    """Say something about a room; empty: nothing."""
    if tx.execute(
        "UPDATE room SET note = ? WHERE id = ? AND note != ?", note, room, note
    ):
        tx.rooms.add(room)


def bound_activity(tx: Tx, room: LogId, now: int) -> None:
    """Let nothing have happened in a room later than now, milliseconds since 1970."""
    tx.execute(
        "UPDATE room SET activity = ? WHERE id = ? AND activity > ?", now, room, now
    )


def _touch(tx: Tx, room: LogId, time: int) -> None:
    tx.execute("UPDATE room SET activity = max(activity, ?) WHERE id = ?", time, room)
    tx.rooms.add(room)


# --- reading ------------------------------------------------------------------

_MESSAGE = (
    "SELECT m.id, m.room, m.position, m.seq, m.kind, m.sender, m.device, m.time,"
    " m.text, m.state, m.own, m.code, m.error, m.reply_to, q.sender, q.text,"
    " r.members,"
    " (SELECT count(*) FROM receipt c WHERE m.own AND c.room = m.room"
    "   AND c.account != m.sender AND c.delivered >= m.seq),"
    " (SELECT count(*) FROM receipt c WHERE m.own AND c.room = m.room"
    "   AND c.account != m.sender AND c.read >= m.seq),"
    " (SELECT s.why FROM suspect s WHERE m.kind = 'text' AND s.device = m.device"
    "   AND (s.why != 'revoked' OR m.time >= s.since))"
    " FROM message m JOIN room r ON r.id = m.room AND r.purpose = ''"
    " LEFT JOIN message q ON q.id = m.reply_to AND q.room = m.room"
)

TWIN_NOTE = "You both began this chat at the same moment; it goes on in the other one."
"""Said of the room that two people stop using."""

# Two people who begin a chat at once get two rooms. Both know both ids: they go on in
# the room with the smaller one, for as long as both of them are in it.
_IS_TWIN = (
    " (r.direct AND EXISTS (SELECT 1 FROM room o WHERE o.direct AND o.title = r.title"
    "   AND o.id < r.id AND o.members > 1 AND o.status IN ('active', 'asked')))"
)

_ROOM = (
    "SELECT r.id, r.title, r.direct, r.members, r.status, r.note, r.hub, r.activity,"
    f"{_IS_TWIN},"
    " (SELECT count(*) FROM message m WHERE m.room = r.id AND m.own = 0"
    "   AND m.kind = 'text' AND m.seq > r.read)"
    " + (SELECT count(*) FROM message m WHERE m.room = r.id"
    "   AND m.code = 'call_missed' AND m.seq > r.read),"
    " (SELECT m.id FROM message m WHERE m.room = r.id ORDER BY m.position DESC LIMIT 1"
    " ), (SELECT o.value FROM own_register o WHERE o.register = 'draft'"
    "   AND o.key = r.id),"
    " (SELECT o.time FROM own_register o WHERE o.register = 'draft'"
    "   AND o.key = r.id),"
    " EXISTS (SELECT 1 FROM own_register o WHERE o.register = 'mute'"
    "   AND o.key = r.id AND o.value != x''),"
    " r.hold, r.refuse_unverified, r.disappearing,"
    # The least trusted of the others.
    " (SELECT CASE WHEN max(c.other_root IS NOT NULL) THEN 'changed'"
    "   WHEN min(coalesce(c.verified_root = c.root, 0)) THEN 'verified' END"
    "   FROM contact c WHERE c.account IN (SELECT account FROM member"
    "     WHERE room = r.id UNION SELECT r.title WHERE r.direct)"
    "   AND c.account != (SELECT substr(value, 1, instr(value, '/') - 1)"
    "     FROM (SELECT CAST(value AS TEXT) AS value FROM meta WHERE key = 'device')))"
    " FROM room r"
)

_WARNINGS = {
    "unlisted": "Sent from a device that is not in its owner's list: do not trust it.",
    "revoked": "Sent from a device that its owner has revoked: do not trust it.",
}
"""By the reason in the table `suspect`."""


def get_message(tx: Tx, id: MessageId) -> Message | None:
    """One message."""
    row = tx.one(f"{_MESSAGE} WHERE m.id = ?", id)
    return None if row is None else _message(row)


def list_messages(tx: Tx, room: LogId, before: int | None, limit: int) -> list[Message]:
    """The last messages before a position, oldest first."""
    rows = tx.all(
        f"{_MESSAGE} WHERE m.room = ? AND m.position < ?"
        " ORDER BY m.position DESC LIMIT ?",
        room,
        (1 << 63) - 1 if before is None else before,
        max(0, min(limit, PAGE_MAX)),
    )
    return [_message(row) for row in reversed(rows)]


def get_room(tx: Tx, room: LogId) -> Room | None:
    """One room."""
    row = tx.one(f"{_ROOM} WHERE r.id = ? AND r.purpose = ''", room)
    return None if row is None else _room(tx, row)


def is_twin(tx: Tx, room: LogId) -> bool:
    """Whether a direct chat goes on in another room, and not in this one."""
    row = tx.one(f"SELECT 1 FROM room r WHERE r.id = ? AND {_IS_TWIN}", room)
    return row is not None


def list_rooms(tx: Tx) -> list[Room]:
    """All rooms, the one with the newest line first."""
    rows = tx.all(f"{_ROOM} WHERE r.purpose = '' ORDER BY r.activity DESC, r.id")
    return [_room(tx, row) for row in rows]


def events_of(tx: Tx) -> Sequence[Event]:
    """What a transaction changed, as events; asked before it is committed."""
    events: list[Event] = []
    for id in tx.messages:
        message = get_message(tx, id)
        if message is not None:
            events.append(MessageChanged(message))
            tx.rooms.add(message.room)
    for room_id in sorted(_with_twins(tx)):
        room = get_room(tx, room_id)
        if room is not None:
            events.append(RoomChanged(room))
    for event in tx.events:
        if isinstance(event, Alarm):
            event = replace(event, text=visible_line(event.text))
        events.append(event)
    return events


def _with_twins(tx: Tx) -> set[LogId]:
    """The rooms that changed, and those that look different because of it."""
    rooms = set(tx.rooms)
    for room in tx.rooms:
        rooms |= {
            LogId(row[0])
            for row in tx.all(
                "SELECT o.id FROM room r JOIN room o ON o.title = r.title"
                " AND o.direct AND o.id > r.id WHERE r.id = ? AND r.direct",
                room,
            )
        }
    return rooms


def _message(row: tuple[Any, ...]) -> Message:
    (id, room, position, seq, kind, sender, device, time, text, state, own, code) = row[
        :12
    ]
    error, reply_to, quoted, quote, members, delivered_to, read_by, why = row[12:]
    state = State(state)
    if state is State.SENT and members > 1:
        if read_by >= members - 1:
            state = State.READ
        elif delivered_to >= members - 1:
            state = State.DELIVERED
    return Message(
        id=id,
        room=room,
        position=Position(position),
        sender=visible_line(sender),
        device=visible_line(device),
        time=time,
        kind=kind,
        text=visible(text),
        state=state,
        own=bool(own),
        reply_to=None
        if reply_to is None
        else Quote(
            MessageId(reply_to),
            visible_line(quoted or ""),
            visible_line((quote or "")[:QUOTE_MAX]),
        ),
        seq=seq,
        error=visible_line(error),
        code=code,
        delivered_to=delivered_to,
        read_by=read_by,
        warning=_WARNINGS.get(why, ""),
    )


def _room(tx: Tx, row: tuple[Any, ...]) -> Room:
    id, title, direct, members, status, note, hub, activity, twin = row[:9]
    unread, last, draft, drafted, muted = row[9:14]
    hold, refuse_unverified, disappearing, trust = row[14:]
    return Room(
        id=id,
        title=visible_line(title) or f"A room at {visible_line(hub)}",
        direct=bool(direct),
        unread=unread,
        last=None if last is None else get_message(tx, last),
        members=members,
        active=status == Status.ACTIVE and not twin,
        note=visible_line(hold or note) or (TWIN_NOTE if twin else ""),
        hub=visible_line(hub),
        order=activity,
        draft=visible(bytes(draft or b"").decode("utf-8", "replace")),
        draft_time=drafted or 0,
        muted=bool(muted),
        trust=Trust(trust or "unverified"),
        refuse_unverified=bool(refuse_unverified),
        disappearing=disappearing,
    )
