"""What people say to each other in rooms: texts, receipts and the room's name."""

import secrets

from client.account.me import Me
from client.clock import Clock
from client.content import Receipt, Reply, RoomName, Text
from client.model import MessageId, State
from client.rooms.letters import Arrival, Letters, is_latest
from client.storage.store import Tx
from client.storage.timeline import PENDING, add_message, is_removed, message_id, place
from client.text import visible_line
from protocol.log import Entry, LogId

__all__ = ["RECEIPT_DELAY", "RECEIPT_MEMBERS", "Talk"]

RECEIPT_DELAY = 1.5
"""Seconds in which receipts are gathered into one."""

RECEIPT_MEMBERS = 50
"""Members up to which receipts are sent: each costs every member a message."""


class Talk:
    """Writes and reads these kinds; all state is in the database."""

    def __init__(self, me: Me, letters: Letters, clock: Clock) -> None:
        self._account = str(me.account)
        self._device = str(me.device)
        self._letters = letters
        self._clock = clock
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
        """Queue a receipt, if there is something that the others do not know."""
        row = tx.one(
            "SELECT delivered, read, delivered_told, read_told, members, status"
            " FROM room WHERE id = ?",
            room,
        )
        if row is None or row[5] != "active" or not 1 < row[4] <= RECEIPT_MEMBERS:
            return
        delivered, read, delivered_told, read_told = row[:4]
        if delivered <= delivered_told and min(read, delivered) <= read_told:
            return
        told = min(read, delivered)
        self._letters.supersede(tx, room, Receipt(delivered, told), "receipt")
        tx.execute(
            "UPDATE room SET delivered_told = ?, read_told = ? WHERE id = ?",
            delivered,
            told,
            room,
        )

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
            arrival.due[room] = min(RECEIPT_DELAY, arrival.due.get(room, RECEIPT_DELAY))

    def _receipt(self, tx: Tx, receipt: Receipt, arrival: Arrival) -> None:
        room, seq = arrival.room, arrival.entry.seq
        delivered = min(receipt.delivered, seq - 1)
        read = min(receipt.read, delivered)
        if arrival.account == self._account:
            # Another device of ours: what was read there is read here.
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
