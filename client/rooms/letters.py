"""Encrypted messages, both ways: what we post, and what the others sent.

What is written is stored with its plain content; it is encrypted only when it is
about to leave, after the room's log was read. Then it is under the newest epoch (an
older one the hub would refuse), its generation is not spent on a text that is
discarded, and the head it names is the newest one. The encrypted bytes are saved with
the ratchet that they advanced, before they are sent, and the same bytes are sent
again until there is an answer: the hub knows a repeat for ever.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeVar

from client.account.me import Me
from client.content import Body, Receipt, Unknown, read_content, write_content
from client.doctor.ailment import heal, note
from client.errors import OwnLost
from client.model import MessageId, State
from client.rooms.groups import Groups
from client.rooms.notices import Lines
from client.storage.heads import accuse, check_head
from client.storage.store import Tx
from client.storage.timeline import add_notice, message_id, place
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

__all__ = ["Arrival", "Due", "Letters", "Stage", "is_latest"]

Due = dict[LogId, float]
"""Rooms in which something is to be done, and after how many seconds."""

B = TypeVar("B", bound=Body)

Heard = Callable[[Tx, LogId, Entry, MessageId, str, Body], None]
"""A room, an entry, the id and the sending device of its content, the content."""


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


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where and from whom a content came."""

    room: LogId
    entry: Entry
    submission: Submission
    lines: Lines
    """For what is to be said about it, below the place of its message."""
    due: Due

    @property
    def device(self) -> str:
        """The address of the device that wrote it, as MLS vouches."""
        return self.submission.sender

    @property
    def account(self) -> str:
        """The account of that device."""
        return self.submission.sender.partition("/")[0]


def is_latest(tx: Tx, room: LogId, what: Literal["named", "timed"], seq: int) -> bool:
    """Whether a change of a room's name or timer comes after the last one.

    What is sent again late has its old place: then it is over already. If it is not,
    it is the last one from here on.
    """
    return bool(
        tx.execute(
            f"UPDATE room SET {what} = ? WHERE id = ? AND {what} < ?", seq, room, seq
        )
    )


class Letters:
    """Messages of rooms; all state is in the database and the groups."""

    def __init__(self, me: Me, groups: Groups) -> None:
        self._device = str(me.device)
        self._groups = groups
        self._handlers: dict[type[Body], Callable[[Tx, Any, Arrival], None]] = {}
        self.heard: list[Heard] = []
        """Told of each content that has its place in a log, others' and ours."""
        self._own: dict[type[Body], Callable[[Tx, Any, LogId, Entry], None]] = {}
        self.cursors: Callable[[Tx, LogId], tuple[int, int]] = lambda tx, room: (0, 0)
        """How far this account has a room and has seen it, as it may be told now."""
        self.moved: Callable[[Tx, int, int, Arrival], None] = lambda *heard: None
        """Told how far the account of an arrival has the room, and has seen it."""

    def on(self, kind: type[B], handler: Callable[[Tx, B, Arrival], None]) -> None:
        """Let a function act on the contents of one kind that others wrote.

        It runs in the transaction that moves the room's cursor; if it raises, what
        it changed is taken back and the entry counts as unreadable.
        """
        self._handlers[kind] = handler

    def on_own(
        self, kind: type[B], handler: Callable[[Tx, B, LogId, Entry], None]
    ) -> None:
        """Let a function know when a content of ours got its place in the log."""
        self._own[kind] = handler

    # --- writing --------------------------------------------------------------

    def queue(
        self,
        tx: Tx,
        room: LogId,
        body: Body,
        message: str = "",
        *,
        txn: bytes | None = None,
    ) -> int:
        """Queue a content; it is encrypted when the room is caught up.

        Args:
            message: the timeline row that it is, or a word: of what waits
                unencrypted with the same word `supersede` leaves only the newest.
            txn: 16 random bytes, if the caller needs to know them.

        Returns:
            Its number in the outbox.
        """
        txn = txn or secrets.token_bytes(16)
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

    def supersede(self, tx: Tx, room: LogId, body: Body, word: str) -> None:
        """Queue a content in the place of those with this word that wait."""
        tx.execute(
            "DELETE FROM outbox WHERE room = ? AND state = ? AND message = ?",
            room,
            Stage.WAITING,
            word,
        )
        self.queue(tx, room, body, word)

    def waits(self, tx: Tx, room: LogId, word: str) -> bool:
        """Whether a content with this word is on its way: a newer one of ours."""
        row = tx.one("SELECT 1 FROM outbox WHERE room = ? AND message = ?", room, word)
        return row is not None

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
        if not row[2]:  # deleted since it was encrypted for an epoch that is over
            tx.execute("DELETE FROM outbox WHERE n = ?", n)
            return None
        body = read_content(bytes(row[2])).body
        if isinstance(body, Unknown):
            raise Malformed("This message was written by a newer Telex.")
        told = (0, 0) if isinstance(body, Receipt) else self.cursors(tx, room)
        content = write_content(txn, int(log[0]), bytes(log[1]), body, *told)
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

    # --- what became of it ----------------------------------------------------

    def arrived(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission
    ) -> bool:
        """One of our own entries came back in the room's log.

        Returns:
            Whether that is all there is to do about it.
        """
        # By its txn: the bytes may be others (an old copy of our data encrypted them,
        # or somebody damaged them), and who cannot read them asks us.
        row = tx.one(
            "SELECT n, content FROM outbox WHERE txn = ? AND room = ?",
            submission.txn,
            room,
        )
        id = message_id(room, self._device, submission.txn)
        if row is not None:
            tx.execute("DELETE FROM outbox WHERE n = ?", row[0])
            self._hear_own(tx, room, entry, id, bytes(row[1]))
        if submission.kind == Kind.MESSAGE:
            found = self.sent(tx, id, entry.seq, entry.time)
            if row is None and not found:
                raise OwnLost
            return True
        return row is not None

    def _hear_own(
        self, tx: Tx, room: LogId, entry: Entry, id: MessageId, content: bytes
    ) -> None:
        body = read_content(content).body if content else Unknown("")
        if isinstance(body, Unknown):
            return
        handler = self._own.get(type(body))
        if handler is not None:
            handler(tx, body, room, entry)
        for hear in self.heard:
            hear(tx, room, entry, id, self._device, body)

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
        # What it said of our reading, if it was encrypted, was not heard.
        tx.execute(
            "UPDATE room SET delivered_told = 0, read_told = 0 WHERE id ="
            " (SELECT room FROM outbox WHERE n = ? AND submission IS NOT NULL)",
            n,
        )
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
        arrival = Arrival(room, entry, submission, lines, due)
        if isinstance(content.body, Unknown):
            self._keep_unknown(tx, arrival, opened.content)
        else:
            self.deliver(tx, content.body, arrival)
        if content.delivered:
            self.moved(tx, content.delivered, content.read, arrival)
        if not check_head(tx, room, content, entry.seq):
            text = accuse(tx, room, content, arrival.device, entry.seq)
            lines.say(submission.sender, "fork", text)

    def _keep_unknown(self, tx: Tx, arrival: Arrival, content: bytes) -> None:
        """Keep a content that this version does not know, for one that does."""
        room, entry, submission = arrival.room, arrival.entry, arrival.submission
        id = message_id(room, arrival.device, submission.txn)
        note(tx, room, entry, submission, "unknown_content", id, 0, content)
        add_notice(
            tx,
            room,
            seq=entry.seq,
            line=0,
            device=arrival.device,
            time=entry.time,
            code="unknown_content",
            text=f"{arrival.account} sent something that this Telex is too old to "
            "show: update it.",
            id=id,
        )

    def deliver(self, tx: Tx, body: Body, arrival: Arrival) -> None:
        """Let the handler of its kind act on a content."""
        self._handlers[type(body)](tx, body, arrival)
        id = message_id(arrival.room, arrival.device, arrival.submission.txn)
        heal(tx, id)
        for hear in self.heard:
            hear(tx, arrival.room, arrival.entry, id, arrival.device, body)
