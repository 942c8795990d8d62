"""Sending what waits, in order, and noting what became of it.

For each room one thing is under way at a time, so what is written stays in order.
An answer that says "later" leaves everything as it is; one that says "no" fails that
one thing, with the reason, and the next goes on.
"""

import logging
from functools import partial

from client.account.me import Me
from client.errors import NodeUnreachable
from client.model import MessageId
from client.network.reading import Reading, Uplink
from client.network.refusals import refusal_of, says_later
from client.rooms.groups import Groups
from client.rooms.letters import Letters, Stage
from client.rooms.settler import has_epoch, note_receipt
from client.storage.store import Store, Tx
from client.storage.timeline import Status, set_note, set_status
from client.verification.rules import SAS_WORD, held_by, note_hold
from e2ee.errors import E2eeError
from protocol.errors import Refused, StaleEpoch, TelexError
from protocol.log import Kind, LogId
from protocol.wire import Receipt

__all__ = ["Posting"]

TRIES = 10
"""Times that a message is encrypted anew because the room moved on meanwhile, before
its room rests a little."""

logger = logging.getLogger(__name__)


class Posting:
    """Sends the outbox of a room; one call at a time for each room."""

    def __init__(
        self,
        store: Store,
        uplink: Uplink,
        reading: Reading,
        letters: Letters,
        groups: Groups,
        me: Me,
    ) -> None:
        self._me = str(me.account)
        self._store = store
        self._uplink = uplink
        self._reading = reading
        self._letters = letters
        self._groups = groups

    async def send(self, room: LogId) -> None:
        """Send what can be sent now.

        Raises:
            Refused, ClientError: not now; nothing is lost.
        """
        while True:
            n = await self._store.run(lambda tx: self._next(tx, room))
            if n is None:
                return
            await self._send_one(room, n)

    async def outcome(self, log: LogId, receipt: Receipt) -> None:
        """The hub's late answer to something that our node had taken.

        A refusal is only noted: the room's worker sends the same bytes again, gets
        the same answer, and has the time to read what it missed.
        """

        def note(tx: Tx) -> int | None:
            row = tx.one(
                "SELECT n FROM outbox WHERE event_id = ? AND room = ?",
                receipt.event_id,
                log,
            )
            if row is not None and receipt.state == "rejected":
                tx.execute(
                    "UPDATE outbox SET state = ? WHERE n = ?", Stage.READY, row[0]
                )
                return None
            return None if row is None else int(row[0])

        n = await self._store.run(note)
        if n is not None:
            await self._settle(log, n, receipt)

    async def _send_one(self, room: LogId, n: int) -> None:
        try:
            data = await self._store.run(lambda tx: self._letters.encrypt(tx, n))
        except (E2eeError, TelexError) as error:
            why = f"This could not be encrypted ({type(error).__name__}); try again."
            await self._store.run(lambda tx: self._letters.fail(tx, n, why))
            return
        if data is None:
            return
        try:
            receipt = await self._uplink.submit(room, data)
        except Refused as error:
            if says_later(error):
                raise
            await self._refused(room, n, error)
            return
        await self._settle(room, n, receipt)

    async def _settle(self, room: LogId, n: int, receipt: Receipt) -> None:
        if receipt.state == "rejected":
            error = (
                Refused() if receipt.problem is None else refusal_of(receipt.problem)
            )
            await self._refused(room, n, error)
            return
        created = await self._store.run(lambda tx: self._note(tx, room, n, receipt))
        if created:
            await self._uplink.ack({room: 0})

    def _note(self, tx: Tx, room: LogId, n: int, receipt: Receipt) -> bool:
        """Note an answer; whether it says that a room of ours stands now."""
        if not note_receipt(tx, room, receipt):
            return False
        row = tx.one("SELECT kind, message FROM outbox WHERE n = ?", n)
        if row is None:
            return False  # its entry came before the answer
        if receipt.state == "pending" or receipt.seq is None:
            tx.execute("UPDATE outbox SET state = ? WHERE n = ?", Stage.ACCEPTED, n)
            return False
        tx.execute("UPDATE outbox SET state = ? WHERE n = ?", Stage.COMMITTED, n)
        if row[0] == Kind.CREATE:
            status = tx.one("SELECT status FROM room WHERE id = ?", room)
            if status is not None and status[0] == Status.CREATING:
                set_status(tx, room, Status.ACTIVE)
            return True
        if row[0] == Kind.MESSAGE and row[1]:
            self._letters.sent(tx, MessageId(row[1]), receipt.seq, None)
        return False

    async def _refused(self, room: LogId, n: int, error: Refused) -> None:
        if says_later(error):
            # A hub that gave "later" as its last word: other bytes, another word.
            await self._store.run(lambda tx: _anew(tx, n))
            raise error
        if not isinstance(error, StaleEpoch):
            logger.info("something for %s was refused: %s", room, error.code)
            await self._store.run(lambda tx: self._drop(tx, room, n, str(error)))
            return
        # The room's keys moved on while this was on its way. Read what happened,
        # and encrypt the same thing again under the same txn.
        await self._reading.wait_for(
            room, partial(has_epoch, self._groups, room, error.epoch or 0)
        )
        if await self._store.run(lambda tx: _again(tx, n)) % TRIES == 0:
            raise NodeUnreachable("This room changes too fast to be written to.")

    def _drop(self, tx: Tx, room: LogId, n: int, why: str) -> None:
        row = tx.one("SELECT kind FROM outbox WHERE n = ?", n)
        if row is not None and row[0] == Kind.CREATE:
            set_status(tx, room, Status.LEFT, f"This room could not be made: {why}")
            tx.execute("DELETE FROM intent WHERE room = ?", room)
        elif row is not None and row[0] == Kind.JOIN_REQUEST:
            set_note(tx, room, f"This device could not ask to be let in: {why}")
        self._letters.fail(tx, n, why)

    def _next(self, tx: Tx, room: LogId) -> int | None:
        """The next thing to send: the oldest, as far as it may go now."""
        rows = tx.all(
            "SELECT n, kind, state, message FROM outbox"
            " WHERE room = ? AND state IN (?, ?)"
            " ORDER BY n",
            room,
            Stage.WAITING,
            Stage.READY,
        )
        may: dict[tuple[bool, bool], bool] = {}
        for n, kind, state, word in rows:
            # Messages wait for the room; a request to be let in does not, nor what
            # people verify each other by.
            sort = state == Stage.READY, (word or "").startswith(SAS_WORD)
            if kind != Kind.MESSAGE:
                return int(n)
            if sort not in may:
                may[sort] = self._may_write(tx, room, encrypted=sort[0], sas=sort[1])
            if may[sort]:
                return int(n)
        return None

    def _may_write(self, tx: Tx, room: LogId, *, encrypted: bool, sas: bool) -> bool:
        row = tx.one("SELECT status, members, rewound FROM room WHERE id = ?", room)
        if row is None or row[0] != Status.ACTIVE or row[2]:
            return False
        if encrypted:
            return True  # whatever became of it before, the same bytes go again
        group = self._groups.get(tx, room)
        if group is None or not group.active:
            return False
        if row[1] == 1 and tx.one(
            "SELECT 1 FROM intent WHERE room = ? AND kind = 'add'", room
        ):
            return False  # those it is meant for could never read it
        if any(p.sender.leaf != group.own_leaf for p in group.pending_proposals):
            return False  # RFC 9420 section 12.4: commit them first
        reason, verifiable = held_by(tx, self._me, group)
        note_hold(tx, room, reason)
        return not reason or (sas and verifiable)


def _again(tx: Tx, n: int) -> int:
    """The room's epoch is a newer one: make other bytes; how often that was."""
    row = tx.one("SELECT kind, tries FROM outbox WHERE n = ?", n)
    if row is None:
        return 1
    if row[0] != Kind.MESSAGE:
        # A proposal of an epoch that is over: a commit overtook it, and leaving is
        # proposed again when that is read.
        tx.execute("DELETE FROM outbox WHERE n = ?", n)
        return 1
    _anew(tx, n)
    return int(row[1]) + 1


def _anew(tx: Tx, n: int) -> None:
    """Let a message be encrypted again; the bytes of other things stay."""
    tx.execute(
        "UPDATE outbox SET submission = NULL, event_id = NULL, state = ?,"
        " tries = tries + 1 WHERE n = ? AND kind = ?",
        Stage.WAITING,
        n,
        Kind.MESSAGE,
    )
