"""What a log brings: entries, strictly one after the other, into the database.

One function, `apply`, runs in one transaction: it checks that each entry continues
the chain, lets a reader for its kind act on it, and moves the cursor. A log that is
rewritten is believed no further: an alarm, and nothing of it is read again. An entry
that cannot be read is never a crash and never silent: it leaves a notice with a
stable code in the timeline, and if it was a change of keys this device asks to be
let in again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from client.account.me import Me
from client.rooms.reader import RoomReader
from client.rooms.welcomes import Welcomes
from client.storage.heads import agrees, check_link, fail_log, link_at
from client.storage.store import Tx
from protocol.errors import Malformed
from protocol.log import Entry, LogId, Submission, chain, read_entry, read_submission

__all__ = ["Applied", "Inbound"]


@dataclass(slots=True)
class Applied:
    """What came of some entries."""

    seq: int | None
    """What is on disk now, to be acked; None: the log is not known or broken."""
    gap: bool = False
    """There are entries missing before these: ask for a page."""
    fresh: int = 0
    """How many were new."""
    due: dict[LogId, float] = field(default_factory=dict)
    """Rooms in which something is to be done, and after how many seconds."""
    welcomes: bool = False
    """There are Welcomes whose trees must be fetched."""


class Inbound:
    """Applies entries; owns no state but what the database holds."""

    def __init__(self, me: Me, rooms: RoomReader, welcomes: Welcomes) -> None:
        self._me = me
        self._rooms = rooms
        self._welcomes = welcomes

    def apply(
        self,
        tx: Tx,
        log: LogId,
        after: int,
        entries: Sequence[bytes],
        *,
        previous: bytes | None = None,
    ) -> Applied:
        """Take in entries of a log.

        Args:
            log: a room or our mailbox.
            after: the seq before the first entry.
            entries: as the log's owner stored them.
            previous: the chain's hash at `after`, if the node said it.
        """
        row = tx.one("SELECT seq, hash, term, broken FROM log WHERE id = ?", log)
        if row is None or row[3]:
            return Applied(None)
        seq, head, term = int(row[0]), bytes(row[1]), int(row[2])
        result = Applied(seq)
        if after > seq:
            result.gap = True
            return result
        if previous is not None and not agrees(tx, log, after, previous):
            what = f"the hash at {after} is another one now"
            return self._fail(tx, log, what, link_at(tx, log, after), previous)
        for number, data in enumerate(entries, after + 1):
            try:
                entry = read_entry(data)
                submission = read_submission(entry.submission)
            except Malformed:
                return self._fail(tx, log, f"entry {number} cannot be read")
            if entry.seq != number or submission.log != log or entry.term < term:
                return self._fail(tx, log, f"entry {number} does not belong there")
            if number <= seq:
                before, ours = link_at(tx, log, number - 1), link_at(tx, log, number)
                if before is not None and (theirs := chain(before, data)) != ours:
                    what = f"entry {number} is another one now"
                    return self._fail(tx, log, what, ours, theirs)
                continue
            head = chain(head, data)
            if not check_link(tx, log, number, head):
                what = f"entry {number} is not the one promised"
                return self._fail(tx, log, what, link_at(tx, log, number), head)
            seq, term = number, entry.term
            tx.execute(
                "UPDATE log SET seq = ?, hash = ?, term = ? WHERE id = ?",
                seq,
                head,
                term,
                log,
            )
            self._read(tx, log, entry, submission, data, result)
            result.seq, result.fresh = seq, result.fresh + 1
        return result

    def _read(
        self,
        tx: Tx,
        log: LogId,
        entry: Entry,
        submission: Submission,
        data: bytes,
        result: Applied,
    ) -> None:
        if log == self._me.mailbox:
            if self._welcomes.receive(tx, log, entry, submission, data):
                result.welcomes = True
        else:
            self._rooms.read(tx, log, entry, submission, data, result.due)

    def _fail(
        self,
        tx: Tx,
        log: LogId,
        what: str,
        ours: bytes | None = None,
        theirs: bytes | None = None,
    ) -> Applied:
        evidence = ""
        if ours is not None and theirs is not None:
            evidence = f"hash known: {ours.hex()}\nhash shown: {theirs.hex()}"
        fail_log(tx, log, what, evidence=evidence)
        return Applied(None)
