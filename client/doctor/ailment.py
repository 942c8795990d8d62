"""What could not be read, as rows: kept until it is, or needs nothing any more.

The id of an ailment is that of the line that stands in the timeline for it.
"""

from dataclasses import dataclass
from typing import Any

from client.doctor.cause import cause_of
from client.model import MessageId
from client.storage.store import Tx
from protocol.log import Entry, Kind, LogId, Submission

__all__ = [
    "KEPT",
    "Illness",
    "Stage",
    "can_be_asked_for",
    "find",
    "heal",
    "heal_handshakes",
    "list_open",
    "note",
]

KEPT = 20_000
"""Ailments that are kept of a room: what lies further back is history by now."""


class Stage:
    """How far the repair of an ailment is."""

    OPEN = "open"
    REPAIRING = "repairing"
    COPIED = "copied"
    """Somebody else than its author has sent it; the author still may."""


@dataclass(frozen=True, slots=True)
class Illness:
    """An entry that could not be read."""

    id: MessageId
    room: LogId
    seq: int
    time: int
    kind: str
    device: str
    txn: bytes
    code: str
    state: str
    tries: int

    @property
    def account(self) -> str:
        """Whose entry it is."""
        return self.device.partition("/")[0]


_COLUMNS = "id, room, seq, time, kind, device, txn, code, state, tries"


def note(
    tx: Tx,
    room: LogId,
    entry: Entry,
    submission: Submission,
    code: str,
    id: MessageId,
    due: int,
    content: bytes = b"",
) -> None:
    """An entry could not be read.

    Args:
        id: of the line that says so.
        due: when it is asked for, milliseconds since 1970.
        content: what was decrypted, for a newer version to read.
    """
    tx.execute(
        f"INSERT OR REPLACE INTO ailment ({_COLUMNS}, due, content)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
        id,
        room,
        entry.seq,
        entry.time,
        submission.kind,
        submission.sender,
        submission.txn,
        code,
        Stage.OPEN,
        due,
        content,
    )
    tx.execute("DELETE FROM ailment WHERE room = ? AND seq < ?", room, entry.seq - KEPT)


def find(tx: Tx, id: str) -> Illness | None:
    """The ailment that a line stands for, if it still is one."""
    row = tx.one(f"SELECT {_COLUMNS} FROM ailment WHERE id = ?", id)
    return None if row is None else _read(row)


def list_open(tx: Tx, room: LogId | None = None) -> list[Illness]:
    """All that is not repaired, oldest first."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM ailment WHERE state != ? AND (? IS NULL OR room = ?)"
        " ORDER BY room, seq",
        Stage.COPIED,
        room,
        room,
    )
    return [_read(row) for row in rows]


def heal(tx: Tx, id: str) -> None:
    """It was read after all (and by this version), or needs nothing any more."""
    tx.execute("DELETE FROM ailment WHERE id = ? AND content = x''", id)


def heal_handshakes(tx: Tx, room: LogId) -> None:
    """New keys: changes that did not fit the old ones matter no more."""
    tx.execute(
        "DELETE FROM ailment WHERE room = ? AND kind IN (?, ?, ?)",
        room,
        Kind.COMMIT.value,
        Kind.PROPOSAL.value,
        Kind.JOIN_REQUEST.value,
    )


def _read(row: tuple[Any, ...]) -> Illness:
    id, room, seq, time, kind, device, txn, code, state, tries = row
    return Illness(id, room, seq, time, kind, device, bytes(txn), code, state, tries)


def can_be_asked_for(illness: Illness) -> bool:
    """Whether the others can help with it."""
    return cause_of(illness.code, illness.kind).repair == "ask_resend"
