"""Encrypted messages, both ways: what we post, and what the others sent.

What is written is stored with its plain content; it is encrypted only when it is
about to leave, after the room's log was read. Then it is under the newest epoch (an
older one the hub would refuse), its generation is not spent on a text that is
discarded, and the head it names is the newest one. The encrypted bytes are saved with
the ratchet that they advanced, before they are sent, and the same bytes are sent
again until there is an answer: the hub knows a repeat for ever.
"""

import secrets
from enum import StrEnum

from client.account.me import Me
from client.clock import Clock
from client.content import (
    Body,
    Receipt,
    Reply,
    RoomName,
    Text,
    Unknown,
    read_content,
    write_content,
)
from client.model import Alarm, MessageId, State
from client.rooms.groups import Groups
from client.rooms.notices import Lines
from client.storage.heads import check_head
from client.storage.store import Tx
from client.storage.timeline import (
    PENDING,
    add_message,
    message_id,
    place,
)
from client.text import visible_line
from e2ee import Group
from e2ee.errors import InvalidMessage
from protocol.errors import Malformed
from protocol.log import (
    GENESIS,
    Entry,
    Kind,
    LogId,
    Submission,
    event_id,
    make_submission,
)
from protocol.policy import device_of

__all__ = ["RECEIPT_DELAY", "RECEIPT_MEMBERS", "Letters", "Stage"]

RECEIPT_DELAY = 1.5
"""Seconds in which receipts are gathered into one."""

RECEIPT_MEMBERS = 50
"""Members up to which receipts are sent: each costs every member a message."""

Due = dict[LogId, float]


class Stage(StrEnum):
    """How far something that we write has come."""

    WAITING = "waiting"
    """Stored, not encrypted."""
    READY = "ready"
    """Encrypted and saved; it may have been sent."""
    ACCEPTED = "accepted"
    """On our node's disk, on its way to the hub."""
    COMMITTED = "committed"
    """In the room's log; its entry has not come back yet."""
    FAILED = "failed"
    """Refused, or given up; kept for `retry`."""


class Letters:
    """Messages of rooms; all state is in the database and the groups."""

    def __init__(self, me: Me, groups: Groups, clock: Clock) -> None:
        self._me = me
        self._device = str(me.device)
        self._groups = groups
        self._clock = clock

    # --- writing --------------------------------------------------------------

    def write(
        self, tx: Tx, room: LogId, text: str, reply_to: MessageId | None
    ) -> MessageId:
        """Store a text that is to be sent."""
        txn = secrets.token_bytes(16)
        id = message_id(room, self._device, txn)
        body = Text(text) if reply_to is None else Reply(text, bytes.fromhex(reply_to))
        n = self._queue(tx, room, txn, body, id)
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
        tx.execute(
            "DELETE FROM outbox WHERE room = ? AND state = ? AND message = 'name'",
            room,
            Stage.WAITING,
        )
        self._queue(tx, room, secrets.token_bytes(16), RoomName(name), "name")

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
        tx.execute(
            "DELETE FROM outbox WHERE room = ? AND state = ? AND message = 'receipt'",
            room,
            Stage.WAITING,
        )
        body = Receipt(delivered, told)
        self._queue(tx, room, secrets.token_bytes(16), body, "receipt")
        tx.execute(
            "UPDATE room SET delivered_told = ?, read_told = ? WHERE id = ?",
            delivered,
            told,
            room,
        )

    def post(self, tx: Tx, room: LogId, kind: Kind, body: bytes) -> None:
        """Queue a submission that is not an encrypted message."""
        txn = secrets.token_bytes(16)
        submission = make_submission(room, self._device, txn, kind, body)
        tx.execute(
            "INSERT INTO outbox (room, txn, kind, content, submission, event_id, state)"
            " VALUES (?, ?, ?, x'', ?, ?, ?)",
            room,
            txn,
            kind,
            submission,
            event_id(submission),
            Stage.READY,
        )

    def encrypt(self, tx: Tx, n: int) -> bytes | None:
        """The bytes of a queued message to send: saved ones, or made now.

        Raises:
            E2eeError: it cannot be encrypted.
        """
        row = tx.one("SELECT room, txn, content, submission FROM outbox WHERE n = ?", n)
        if row is None:
            return None
        room, txn = LogId(row[0]), bytes(row[1])
        if row[3] is not None:
            return bytes(row[3])
        group = self._groups.get(tx, room)
        log = tx.one("SELECT seq, hash FROM log WHERE id = ?", room)
        if group is None or not group.active or log is None:
            return None
        body = read_content(bytes(row[2])).body
        if isinstance(body, Unknown):
            raise Malformed("This message was written by a newer Telex.")
        content = write_content(txn, int(log[0]), bytes(log[1]), body)
        submission = make_submission(
            room, self._device, txn, Kind.MESSAGE, group.encrypt(content)
        )
        self._groups.save_ratchets(tx, room, group)
        tx.execute(
            "UPDATE outbox SET submission = ?, event_id = ?, state = ? WHERE n = ?",
            submission,
            event_id(submission),
            Stage.READY,
            n,
        )
        return submission

    def _queue(
        self,
        tx: Tx,
        room: LogId,
        txn: bytes,
        body: Text | Reply | Receipt | RoomName,
        message: str,
    ) -> int:
        return tx.insert(
            "INSERT INTO outbox (room, txn, kind, content, message, state)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            room,
            txn,
            Kind.MESSAGE,
            write_content(txn, 0, GENESIS, body),
            message,
            Stage.WAITING,
        )

    # --- what became of it ----------------------------------------------------

    def arrived(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission
    ) -> bool:
        """One of our own entries came back in the room's log.

        Returns:
            Whether that is all there is to do about it.
        """
        row = tx.one(
            "SELECT n FROM outbox WHERE event_id = ? AND room = ?",
            event_id(entry.submission),
            room,
        )
        if row is not None:
            tx.execute("DELETE FROM outbox WHERE n = ?", row[0])
        id = message_id(room, self._device, submission.txn)
        if submission.kind == Kind.MESSAGE:
            found = self.sent(tx, id, entry.seq, entry.time)
            if row is None and not found:
                # Sent by this device before it lost its database, perhaps.
                raise InvalidMessage("we do not have what this device sent")
            return True
        return row is not None

    def sent(self, tx: Tx, id: MessageId, seq: int, time: int | None) -> bool:
        """A text of ours has its place in the log; whether it was found here."""
        found = tx.execute(
            "UPDATE message SET state = ?, error = '', seq = ?, position = ?,"
            " time = coalesce(?, time) WHERE id = ? AND (seq IS NULL OR seq = ?)",
            int(State.SENT),
            seq,
            place(seq),
            time,
            id,
            seq,
        )
        if found:
            tx.messages[id] = None
        return (
            bool(found) or tx.one("SELECT 1 FROM message WHERE id = ?", id) is not None
        )

    def fail(self, tx: Tx, n: int, why: str) -> None:
        """Something we wrote will not be sent."""
        row = tx.one("SELECT message, kind FROM outbox WHERE n = ?", n)
        if row is None:
            return
        id = MessageId(row[0] or "")
        if tx.execute(
            "UPDATE message SET state = ?, error = ? WHERE id = ? AND seq IS NULL",
            int(State.FAILED),
            why,
            id,
        ):
            tx.messages[id] = None
            tx.execute("UPDATE outbox SET state = ? WHERE n = ?", Stage.FAILED, n)
        else:
            tx.execute("DELETE FROM outbox WHERE n = ?", n)

    def give_up(self, tx: Tx, room: LogId, why: str) -> None:
        """Nothing that waits for this room can be sent any more."""
        rows = tx.all(
            "SELECT n FROM outbox WHERE room = ? AND kind = ? AND state IN (?, ?)",
            room,
            Kind.MESSAGE,
            Stage.WAITING,
            Stage.READY,
        )
        for row in rows:
            self.fail(tx, row[0], why)

    # --- reading --------------------------------------------------------------

    def read(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        submission: Submission,
        group: Group,
        due: Due,
    ) -> None:
        """Decrypt a message of somebody else and put it where it belongs.

        Raises:
            E2eeError, TelexError: it cannot be read; nothing has changed.
        """
        opened = group.decrypt(submission.body)
        if device_of(opened.sender.identity) != submission.sender:
            raise InvalidMessage("the message was encrypted by another device")
        content = read_content(opened.content)
        if content.id != submission.txn:
            raise InvalidMessage("the message belongs to another submission")
        self._groups.save_ratchets(tx, room, group)
        lines = Lines(tx, room, entry, first=1)
        self._show(tx, room, entry, submission, content.body, lines, due)
        if not check_head(tx, room, content, entry.seq):
            sender = submission.sender.partition("/")[0]
            text = (
                f"{sender} was shown another history of this room than this device: "
                "its hub may be lying. Compare with the others."
            )
            lines.say(submission.sender, "fork", text)
            tx.events.append(Alarm(room, text))

    def _show(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        submission: Submission,
        body: Body,
        lines: Lines,
        due: Due,
    ) -> None:
        device = submission.sender
        account = device.partition("/")[0]
        match body:
            case Text(text):
                self._text(tx, room, entry, submission, text, None, due)
            case Reply(text, to):
                self._text(tx, room, entry, submission, text, to.hex(), due)
            case Receipt():
                self._receipt(tx, room, entry, account, body)
            case RoomName(name):
                self._named(tx, room, account, name, lines)
            case Unknown():
                lines.say(
                    device,
                    "unknown_content",
                    f"{account} sent something that this Telex is too old to show: "
                    "update it.",
                )

    def _text(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        submission: Submission,
        text: str,
        reply_to: str | None,
        due: Due,
    ) -> None:
        id = message_id(room, submission.sender, submission.txn)
        known = tx.one("SELECT kind FROM message WHERE id = ?", id)
        if known is not None and known[0] == "text":
            return  # encrypted twice, because the first answer was lost
        own = submission.sender.partition("/")[0] == str(self._me.account)
        add_message(
            tx,
            id,
            room,
            position=place(entry.seq),
            seq=entry.seq,
            device=submission.sender,
            time=entry.time,
            text=text,
            reply_to=reply_to,
            state=State.SENT if own else State.RECEIVED,
            own=own,
        )
        if not own:
            tx.execute(
                "UPDATE room SET delivered = max(delivered, ?) WHERE id = ?",
                entry.seq,
                room,
            )
            due[room] = min(RECEIPT_DELAY, due.get(room, RECEIPT_DELAY))

    def _receipt(
        self, tx: Tx, room: LogId, entry: Entry, account: str, receipt: Receipt
    ) -> None:
        delivered = min(receipt.delivered, entry.seq - 1)
        read = min(receipt.read, delivered)
        if account == str(self._me.account):
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
            account,
        )
        before = (0, 0) if row is None else (int(row[0]), int(row[1]))
        tx.execute(
            "INSERT INTO receipt VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " delivered = max(delivered, excluded.delivered),"
            " read = max(read, excluded.read)",
            room,
            account,
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

    def _named(
        self, tx: Tx, room: LogId, account: str, name: str, lines: Lines
    ) -> None:
        row = tx.one("SELECT title, direct FROM room WHERE id = ?", room)
        if row is None or row[1] or row[0] == name:
            return
        tx.execute("UPDATE room SET title = ? WHERE id = ?", name, room)
        tx.rooms.add(room)
        if row[0]:
            lines.say(
                account, "renamed", f"{account} named this room {visible_line(name)}."
            )
