"""What people say to each other in rooms: texts, receipts and the room's name."""

import random
import secrets
import time
from collections.abc import Callable

from client.account.me import Me
from client.clock import Clock
from client.content import Receipt, Reply, RoomName, Text
from client.model import MessageId, State
from client.rooms.letters import Arrival, Letters, is_latest
from client.storage.store import Tx
from client.storage.timeline import PENDING, add_message, is_removed, message_id, place
from client.text import visible_line
from protocol.log import Entry, LogId

__all__ = ["RECEIPT_DELAY", "RECEIPT_GAP", "RECEIPT_MEMBERS", "Talk"]

RECEIPT_DELAY = 1.5
"""Seconds in which receipts are gathered into one, before the first of them."""

RECEIPT_GAP = 5.0
"""Seconds between two receipts of one device in a room: somebody who reads along with
a stream of messages costs it no more."""

RECEIPT_SHARE = 0.5
"""Seconds by which the gap grows with each member: all of them together send two a
second at most."""

RECEIPT_MEMBERS = 50
"""Members up to which receipts are sent: each costs every member a message."""


class Talk:
    """Writes and reads these kinds; all state is in the database."""

    def __init__(self, me: Me, letters: Letters, clock: Clock) -> None:
        self._account = str(me.account)
        self._device = str(me.device)
        self._letters = letters
        self._clock = clock
        self._due: dict[LogId, float] = {}
        """When rooms are told how far we have read them; monotonic seconds."""
        self._told: dict[LogId, float] = {}
        """When they were told last."""
        self.shows_reading: Callable[[Tx, LogId], bool] = lambda tx, room: True
        """Whether a room may know what was read, besides what was delivered."""
        letters.cursors = self._cursors
        letters.moved = self._moved
        letters.on(Text, self._text)
        letters.on(Reply, self._text)
        letters.on(Receipt, self._receipt)
        letters.on(RoomName, self._named)
        letters.on_own(RoomName, self._own_named)

    # --- writing --------------------------------------------------------------

    def write(
        self, tx: Tx, room: LogId, text: str, reply_to: MessageId | None
    ) -> MessageId:
        """Store a text that is to be sent."""
        txn = secrets.token_bytes(16)
        id = message_id(room, self._device, txn)
        body = Text(text) if reply_to is None else Reply(text, bytes.fromhex(reply_to))
        n = self._letters.queue(tx, room, body, id, txn=txn)
        add_message(
            tx,
            id,
            room,
            position=PENDING + n,
            seq=None,
            device=self._device,
            time=self._clock.now_ms(),
            text=text,
            reply_to=reply_to,
            state=State.PENDING,
            own=True,
        )
        return id

    def name(self, tx: Tx, room: LogId, name: str) -> None:
        """Tell the room's members its name."""
        self._letters.supersede(tx, room, RoomName(name), "name")

    def repeat_name(self, tx: Tx, room: LogId) -> None:
        """Tell those who were just added what the room is called."""
        row = tx.one("SELECT title, direct FROM room WHERE id = ?", room)
        if row is not None and row[0] and not row[1]:
            self.name(tx, room, row[0])

    def acknowledge(self, tx: Tx, room: LogId) -> None:
        """Queue a receipt, if there is news for the others and it is time.

        One of them moves the cursor for everything before it. What we write carries
        the same (`Letters.cursors`), so who answers sends none.
        """
        told = self._news(tx, room)
        if told is None:
            self._due.pop(room, None)
            return
        if time.monotonic() < self._expect(tx, room, seen=True):
            return
        self._letters.supersede(tx, room, told, "receipt")
        self._told[room] = time.monotonic()
        self._note_told(tx, room, told.delivered)

    def seen(self, tx: Tx, room: LogId) -> None:
        """Our person has read on: the others are told soon."""
        self._expect(tx, room, seen=True)

    def next_due(self, room: LogId) -> int | None:
        """When `acknowledge` will have something to do; milliseconds since 1970."""
        due = self._due.get(room)
        if due is None:
            return None
        return self._clock.now_ms() + int(max(0.0, due - time.monotonic()) * 1000) + 1

    def _news(self, tx: Tx, room: LogId) -> Receipt | None:
        """What the others do not know, or are not to know now."""
        row = tx.one(
            "SELECT delivered, read, delivered_told, read_told, members, status"
            " FROM room WHERE id = ?",
            room,
        )
        if row is None or row[5] != "active" or not 1 < row[4] <= RECEIPT_MEMBERS:
            return None
        delivered, read = row[0], min(row[1], row[0])
        if delivered <= row[2] and read <= row[3]:
            return None
        if not self.shows_reading(tx, room):
            if delivered <= row[2]:
                return None
            read = 0
        return Receipt(delivered, read)

    def _expect(self, tx: Tx, room: LogId, *, seen: bool) -> float:
        """When a receipt is due, if none was expected yet."""
        due = self._due.get(room)
        if due is None:
            row = tx.one("SELECT members FROM room WHERE id = ?", room)
            members = 0 if row is None else int(row[0])
            # Another device of ours may say that it was delivered; what was read
            # is known here.
            spread = 1.0 if seen else random.uniform(1, 2)
            gap = max(RECEIPT_GAP, RECEIPT_SHARE * members)
            due = time.monotonic() + RECEIPT_DELAY * spread
            due = max(due, self._told.get(room, float("-inf")) + gap)
            self._due[room] = due
        return due

    def _note_told(self, tx: Tx, room: LogId, delivered: int) -> None:
        self._due.pop(room, None)
        tx.execute(
            "UPDATE room SET delivered_told = ?, read_told = min(read, delivered)"
            " WHERE id = ?",
            delivered,
            room,
        )

    def _cursors(self, tx: Tx, room: LogId) -> tuple[int, int]:
        """The receipt that goes with whatever we write now."""
        row = tx.one(
            "SELECT delivered, min(read, delivered), members, purpose FROM room"
            " WHERE id = ?",
            room,
        )
        if row is None or not 1 < row[2] <= RECEIPT_MEMBERS or row[3]:
            return 0, 0
        read = row[1] if self.shows_reading(tx, room) else 0
        self._note_told(tx, room, row[0])
        return row[0], read

    # --- reading --------------------------------------------------------------

    def _text(self, tx: Tx, body: Text | Reply, arrival: Arrival) -> None:
        room, entry = arrival.room, arrival.entry
        id = message_id(room, arrival.device, arrival.submission.txn)
        known = tx.one("SELECT kind FROM message WHERE id = ?", id)
        if (known is not None and known[0] == "text") or is_removed(tx, id):
            return  # encrypted twice, because the first answer was lost; or deleted
        own = arrival.account == self._account
        add_message(
            tx,
            id,
            room,
            position=place(entry.seq),
            seq=entry.seq,
            device=arrival.device,
            time=entry.time,
            text=body.text,
            reply_to=body.to.hex() if isinstance(body, Reply) else None,
            state=State.SENT if own else State.RECEIVED,
            own=own,
        )
        if not own:
            tx.execute(
                "UPDATE room SET delivered = max(delivered, ?) WHERE id = ?",
                entry.seq,
                room,
            )
            self._expect(tx, room, seen=False)
            arrival.due[room] = min(RECEIPT_DELAY, arrival.due.get(room, RECEIPT_DELAY))

    def _receipt(self, tx: Tx, receipt: Receipt, arrival: Arrival) -> None:
        self._moved(tx, receipt.delivered, receipt.read, arrival)

    def _moved(self, tx: Tx, delivered: int, read: int, arrival: Arrival) -> None:
        """Somebody has the room up to one entry, and has seen it up to another."""
        room, seq = arrival.room, arrival.entry.seq
        delivered = min(delivered, seq - 1)
        read = min(read, delivered)
        if arrival.account == self._account:
            # Another device of ours: what was read there is read here, and what it
            # told the others they know.
            tx.execute(
                "UPDATE room SET delivered_told = max(delivered_told, ?) WHERE id = ?",
                delivered,
                room,
            )
            if tx.execute(
                "UPDATE room SET read = ?, read_told = max(read_told, ?)"
                " WHERE id = ? AND read < ?",
                read,
                read,
                room,
                read,
            ):
                tx.rooms.add(room)
            return
        row = tx.one(
            "SELECT delivered, read FROM receipt WHERE room = ? AND account = ?",
            room,
            arrival.account,
        )
        before = (0, 0) if row is None else (int(row[0]), int(row[1]))
        if delivered <= before[0] and read <= before[1]:
            return
        tx.execute(
            "INSERT INTO receipt VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " delivered = max(delivered, excluded.delivered),"
            " read = max(read, excluded.read)",
            room,
            arrival.account,
            delivered,
            read,
        )
        for (id,) in tx.all(
            "SELECT id FROM message WHERE room = ? AND own = 1 AND seq > ? AND seq <= ?"
            " ORDER BY seq DESC LIMIT 50",
            room,
            min(before),
            max(delivered, read),
        ):
            tx.messages[MessageId(id)] = None

    def _named(self, tx: Tx, body: RoomName, arrival: Arrival) -> None:
        room = arrival.room
        row = tx.one("SELECT title, direct FROM room WHERE id = ?", room)
        if row is None or row[1] or not is_latest(tx, room, "named", arrival.entry.seq):
            return
        if row[0] == body.name:
            return
        tx.execute("UPDATE room SET title = ? WHERE id = ?", body.name, room)
        tx.rooms.add(room)
        if row[0]:
            arrival.lines.say(
                arrival.account,
                "renamed",
                f"{arrival.account} named this room {visible_line(body.name)}.",
            )

    def _own_named(self, tx: Tx, body: RoomName, room: LogId, entry: Entry) -> None:
        """Ours has its place: it counts, whatever came in before it."""
        if is_latest(tx, room, "named", entry.seq) and not self._letters.waits(
            tx, room, "name"
        ):
            tx.execute(
                "UPDATE room SET title = ? WHERE id = ? AND NOT direct", body.name, room
            )
            tx.rooms.add(room)
