"""Asking for messages that cannot be read, and sending them again to who asks.

The asker: every message that could not be read is asked for by itself, in the room,
once the room has keys: soon, then after an hour, at most `ASKS` times. What comes is
believed if it is from the account that wrote the message (as the log's entry says) or
from another device of ours; it then takes its old place, as if it had been read at
once. From anybody else it is shown as their copy, and says so.

The answerer: a device answers for what it has in clear, to accounts that were in the
room when it was said. The author's devices act first, then the asker's own others,
then anybody; who sees that it was done does nothing. Each asker gets an answer that is
sealed for it: whoever comes in before it leaves cannot read it.
"""

import logging

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from client.account.me import Me
from client.clock import Clock
from client.content import (
    Again,
    Body,
    Redaction,
    Reply,
    Resend,
    ResendRequest,
    RoomName,
    Text,
    Timer,
    Unknown,
    read_body,
)
from client.content.repair import DEVICES_MAX, IDS_MAX
from client.doctor.ailment import Illness, Stage, can_be_asked_for, find, heal
from client.model import MessageId, MessageRemoved
from client.rooms.changes import doubt_keys, may_join_after
from client.rooms.groups import Groups
from client.rooms.letters import Arrival, Letters
from client.rooms.notices import Lines
from client.rooms.presence import was_inside
from client.rooms.ranking import delay_for
from client.storage.store import Tx
from client.storage.timeline import Status
from client.text import visible
from protocol.codec import decode, encode
from protocol.errors import Malformed, TelexError
from protocol.log import Entry, Kind, LogId, Submission

__all__ = ["ASK_DELAY", "Resending"]

ASK_DELAY = 1000
"""Milliseconds in which messages that cannot be read are gathered."""

ASK_AGAIN = 3600 * 1000
"""Milliseconds until a message is asked for once more; then twice that."""

ASKS = 8
"""Times that a message is asked for: over ten days, and then by hand."""

OUTSTANDING = 1000
"""Messages of a room that are asked for at one time, the newest; then the next."""

ANSWERS = 10
"""Times that a device sends one message again, for one key, in `ANSWERS_KEPT`."""

ANSWERS_KEPT = 24 * 3600 * 1000
"""Milliseconds for which it is remembered what was answered."""

ANSWERS_AT_ONCE = 100
"""Answers that are queued in one go, so that what people write comes in between."""

ANSWERS_PER_HOUR = 2000
"""Answers of this device in one room: twice the outstanding; more is mischief."""

KIN_DELAY = 2000
COPY_DELAY = 10_000
"""Milliseconds that other devices of the asker, and then all others, leave to the
author's: what the author sends is better than what anybody says of it."""

KEY_SECONDS = 30 * 24 * 3600
"""Seconds for which the private key of a request is kept."""

SILENT_KEPT = 5000
"""Entries of a room over which contents that are no lines are remembered."""

AGAIN: tuple[type[Body], ...] = (Text, Reply, RoomName, Redaction, Timer)
"""What is sent again; everything else means nothing when it comes late."""

_DOUBTFUL = frozenset(("generation_used", "decryption_failed"))
"""Causes that say that the sender's keys do not fit the room's."""

logger = logging.getLogger(__name__)


class Resending:
    """Asks and answers; all state is in the database."""

    def __init__(self, me: Me, groups: Groups, letters: Letters, clock: Clock) -> None:
        self._account = str(me.account)
        self._device = str(me.device)
        self._groups = groups
        self._letters = letters
        self._clock = clock
        letters.on(ResendRequest, self._asked)
        letters.on(Resend, self._came)
        letters.heard.append(self._remember)

    # --- asking ---------------------------------------------------------------

    def prepare(self, tx: Tx, room: LogId) -> None:
        """Queue the requests and answers of a room that are due."""
        now = self._clock.now_ms()
        _forget_old(tx, now)
        # Nobody is asked so late: that was planned while our clock was ahead.
        late = now + ASK_AGAIN * 2**ASKS
        tx.execute(
            "UPDATE ailment SET due = ? WHERE room = ? AND due > ?", now, room, late
        )
        self._answer(tx, room)
        waiting = tx.one(
            "SELECT count(*) FROM ailment WHERE room = ? AND state = ? AND due > ?",
            room,
            Stage.REPAIRING,
            now,
        )
        free = OUTSTANDING - (0 if waiting is None else int(waiting[0]))
        rows = tx.all(
            "SELECT id FROM ailment WHERE room = ? AND kind = ? AND state != ?"
            " AND due <= ? AND tries < ? ORDER BY seq DESC LIMIT ?",
            room,
            Kind.MESSAGE.value,
            Stage.COPIED,
            now,
            ASKS,
            max(0, free),
        )
        found = [find(tx, row[0]) for row in rows]
        ill = [i for i in found if i is not None and can_be_asked_for(i)]
        if ill and self._can_write(tx, room):
            for start in range(0, len(ill), IDS_MAX):
                self._ask(tx, room, ill[start : start + IDS_MAX])

    def _can_write(self, tx: Tx, room: LogId) -> bool:
        row = tx.one("SELECT status, rewound FROM room WHERE id = ?", room)
        if row is None or row[0] != Status.ACTIVE or row[1]:
            return False
        group = self._groups.get(tx, room)
        return group is not None and group.active

    def ask_now(self, tx: Tx, room: LogId, id: str | None = None) -> None:
        """Ask for all or one in a room once more: somebody pressed the key."""
        tx.execute(
            "UPDATE ailment SET due = 0, tries = min(tries, ?) WHERE room = ?"
            " AND kind = ? AND state != ? AND (? IS NULL OR id = ?)",
            ASKS - 1,
            room,
            Kind.MESSAGE.value,
            Stage.COPIED,
            id,
            id,
        )

    def next_due(self, tx: Tx, room: LogId) -> int | None:
        """When something is to be asked or answered next."""
        row = tx.one(
            "SELECT min(due) FROM (SELECT due FROM answer WHERE room = ? AND due > 0"
            " UNION ALL SELECT due FROM ailment WHERE room = ? AND kind = ?"
            "  AND state != ? AND tries < ? AND due > ?)",
            room,
            room,
            Kind.MESSAGE.value,
            Stage.COPIED,
            ASKS,
            self._clock.now_ms(),
        )
        return None if row is None or row[0] is None else int(row[0])

    def _ask(self, tx: Tx, room: LogId, ill: list[Illness]) -> None:
        now = self._clock.now_ms()
        key = PrivateKey.generate()
        tx.execute(
            "INSERT INTO resend_key VALUES (?, ?, ?)",
            bytes(key.public_key),
            bytes(key),
            now,
        )
        doubted = {i.device for i in ill if i.code in _DOUBTFUL}
        body = ResendRequest(
            [bytes.fromhex(i.id) for i in ill],
            bytes(key.public_key),
            sorted(doubted)[:DEVICES_MAX],
        )
        self._letters.queue(tx, room, body)
        for i in ill:
            text = f"Waiting for {i.account} to send a message again ({i.code})."
            tx.execute(
                "UPDATE message SET text = ? WHERE id = ? AND kind = 'notice'",
                text,
                i.id,
            )
            tx.messages[i.id] = None
            tx.execute(
                "UPDATE ailment SET state = ?, tries = tries + 1, due = ? WHERE id = ?",
                Stage.REPAIRING,
                now + ASK_AGAIN * 2**i.tries,
                i.id,
            )

    # --- answering ------------------------------------------------------------

    def _asked(self, tx: Tx, body: ResendRequest, arrival: Arrival) -> None:
        room, now = arrival.room, self._clock.now_ms()
        if self._device in body.doubted and not may_join_after(tx, self._clock, room):
            # At most once an hour: nobody can keep us from writing by doubting.
            doubt_keys(tx, room)
            arrival.due[room] = 0.0
        _forget_old(tx, now)
        group = self._groups.get(tx, room)
        row = tx.one(
            "SELECT count(*) FROM answer WHERE room = ? AND time > ?",
            room,
            now - 3600 * 1000,
        )
        if group is None or row is None or row[0] >= ANSWERS_PER_HOUR:
            return
        rank = int(delay_for(group) * 1000)
        for id in dict.fromkeys(raw.hex() for raw in body.ids):
            found = self._have(tx, room, id)
            if found is None:
                continue
            device, seq = found
            if not was_inside(tx, room, arrival.account, seq):
                continue
            delay = self._delay(device, arrival.account, rank)
            tx.execute(
                "INSERT INTO answer (room, id, key, due, time) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (room, id, key) DO UPDATE SET time = excluded.time,"
                " due = CASE WHEN due > 0 THEN due"
                "  WHEN sent < ? THEN excluded.due ELSE 0 END",
                room,
                id,
                body.key,
                now + delay,
                now,
                ANSWERS,
            )
            later = delay / 1000
            arrival.due[room] = min(later, arrival.due.get(room, later))

    def _delay(self, device: str, asker: str, rank: int) -> int:
        """Milliseconds that are left to those who should rather answer; from 1."""
        if device == self._device:
            return 1
        if device.partition("/")[0] == self._account:
            return KIN_DELAY + rank
        if asker == self._account:
            return 2 * KIN_DELAY + rank
        return COPY_DELAY + rank

    def _have(self, tx: Tx, room: LogId, id: str) -> tuple[str, int] | None:
        """The device that wrote something and its seq, if it is here in clear."""
        row = tx.one(
            "SELECT device, seq FROM message WHERE id = ? AND room = ?"
            " AND kind = 'text' AND seq IS NOT NULL AND text != ''",
            id,
            room,
        ) or tx.one(
            "SELECT device, seq FROM silent WHERE id = ? AND room = ?", id, room
        )
        return None if row is None else (str(row[0]), int(row[1]))

    def _answer(self, tx: Tx, room: LogId) -> None:
        rows = tx.all(
            "SELECT id, key FROM answer WHERE room = ? AND due > 0 AND due <= ?"
            " ORDER BY due LIMIT ?",
            room,
            self._clock.now_ms(),
            ANSWERS_AT_ONCE,
        )
        for id, key in rows:
            try:
                self._send(tx, room, id, bytes(key))
            except (CryptoError, TelexError, ValueError) as error:
                # Not this one, then: the others, and the room, go on.
                logger.warning("an answer cannot be made: %s", type(error).__name__)
            tx.execute(
                "UPDATE answer SET due = 0, sent = sent + 1"
                " WHERE room = ? AND id = ? AND key = ?",
                room,
                id,
                key,
            )

    def _send(self, tx: Tx, room: LogId, id: str, key: bytes) -> None:
        again = _content(tx, room, id)
        if again is not None:
            data = SealedBox(PublicKey(key)).encrypt(encode(again))
            self._letters.queue(tx, room, Resend(bytes.fromhex(id), data, key))

    def _remember(
        self, tx: Tx, room: LogId, entry: Entry, id: MessageId, device: str, body: Body
    ) -> None:
        """A content was read, or ours has its place: keep that it was no line."""
        if isinstance(body, Text | Reply):
            return
        kept = device == self._device and isinstance(body, AGAIN)
        tx.execute(
            "INSERT OR REPLACE INTO silent VALUES (?, ?, ?, ?, ?, ?)",
            room,
            id,
            entry.seq,
            device,
            body.kind if kept else "",
            encode(body) if kept else b"",
        )
        tx.execute(
            "DELETE FROM silent WHERE room = ? AND seq < ?",
            room,
            entry.seq - SILENT_KEPT,
        )

    # --- what comes -----------------------------------------------------------

    def _came(self, tx: Tx, body: Resend, arrival: Arrival) -> None:
        room, id = arrival.room, MessageId(body.id.hex())
        found = self._have(tx, room, id)
        if found is not None:
            author = found[0].partition("/")[0]
            if arrival.account == author or author != self._account:
                tx.execute(
                    "UPDATE answer SET due = 0 WHERE room = ? AND id = ? AND key = ?",
                    room,
                    id,
                    body.key,
                )
        illness = find(tx, id)
        if illness is None or illness.room != room:
            return
        again = _open(tx, body)
        if again is None:
            return
        trusted = arrival.account in (illness.account, self._account)
        # What others say counts once it was asked for: the question stays in the log,
        # and whoever wrote it answers that when it can.
        asked = illness.state == Stage.REPAIRING
        if not again.kind:
            if trusted:
                _remove_line(tx, room, id)
                heal(tx, id)
            elif illness.account == self._account and asked:
                _show_claim(
                    tx,
                    illness,
                    "said_empty",
                    f"{arrival.account} says that this, from a device of yours, was "
                    "nothing to be read, such as a receipt.",
                )
            return
        content = read_body(again.kind, again.body)
        if isinstance(content, Unknown) or not isinstance(content, AGAIN):
            return
        if trusted:
            self._take(tx, illness, content, arrival)
        elif isinstance(content, Text | Reply) and (
            asked or _is_said_empty(tx, illness)
        ):
            _show_claim(
                tx,
                illness,
                "copied",
                f"{illness.account} wrote, as {arrival.account} has it: "
                f"{visible(content.text)}",
            )
        arrival.due[room] = 0.0

    def _take(self, tx: Tx, illness: Illness, body: Body, arrival: Arrival) -> None:
        """Read a content in the place of the entry that could not be read."""
        room = illness.room
        entry = Entry(illness.seq, 1, illness.time, b"")
        submission = Submission(1, room, illness.device, illness.txn, Kind.MESSAGE, b"")
        if not isinstance(body, Text | Reply):
            _remove_line(tx, room, illness.id)
        heal(tx, illness.id)
        lines = Lines(tx, room, entry, first=1)
        old = Arrival(room, entry, submission, lines, arrival.due)
        self._letters.deliver(tx, body, old)


def _forget_old(tx: Tx, now: int) -> None:
    """Keep nothing longer; nor what is from when our clock was as far ahead."""
    tx.execute("DELETE FROM answer WHERE abs(time - ?) > ?", now, ANSWERS_KEPT)
    keys = KEY_SECONDS * 1000
    tx.execute("DELETE FROM resend_key WHERE abs(time - ?) > ?", now, keys)


def _content(tx: Tx, room: LogId, id: str) -> Again | None:
    row = tx.one(
        "SELECT text, reply_to FROM message WHERE id = ? AND room = ?"
        " AND kind = 'text' AND text != ''",
        id,
        room,
    )
    if row is not None:
        body: Body = (
            Text(row[0]) if row[1] is None else Reply(row[0], bytes.fromhex(row[1]))
        )
        return Again(body.kind, encode(body))
    row = tx.one("SELECT kind, body FROM silent WHERE id = ? AND room = ?", id, room)
    return None if row is None else Again(row[0], bytes(row[1]))


def _open(tx: Tx, body: Resend) -> Again | None:
    data = body.data
    if body.key:
        row = tx.one("SELECT private FROM resend_key WHERE public = ?", body.key)
        if row is None:
            return None  # for somebody else
        try:
            data = SealedBox(PrivateKey(bytes(row[0]))).decrypt(data)
        except CryptoError as error:
            raise Malformed("What was sent again does not open.") from error
    return decode(data, Again)


def _remove_line(tx: Tx, room: LogId, id: MessageId) -> None:
    if tx.execute("DELETE FROM message WHERE id = ? AND kind = 'notice'", id):
        tx.rooms.add(room)
        tx.events.append(MessageRemoved(room, id))


def _show_claim(tx: Tx, illness: Illness, code: str, text: str) -> None:
    """Show what somebody else says of it, in its place; nobody is asked any more."""
    tx.execute(
        "UPDATE message SET text = ?, code = ? WHERE id = ? AND kind = 'notice'",
        text,
        code,
        illness.id,
    )
    tx.execute("UPDATE ailment SET state = ? WHERE id = ?", Stage.COPIED, illness.id)
    tx.messages[illness.id] = None
    tx.rooms.add(illness.room)


def _is_said_empty(tx: Tx, illness: Illness) -> bool:
    row = tx.one("SELECT code FROM message WHERE id = ?", illness.id)
    return row is not None and row[0] == "said_empty"
