"""Archives that this device writes or reads, as rows: what a kill leaves to go on with.

A segment that was sealed is saved before it is given away, with the place of what
comes next, in one transaction: after a kill the same bytes are given away again, and
nothing is sealed twice for one place.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from client.account.me import get_meta
from client.archive.segment import EMPTY, Head, Place
from client.storage.store import Tx
from protocol.address import parse_device
from protocol.codec import decode, encode

__all__ = [
    "Job",
    "Kind",
    "Part",
    "Where",
    "begin",
    "forget",
    "load_job",
    "load_kind",
]


class Kind(StrEnum):
    """What this device does with an archive."""

    BACKUP = "backup"
    """Writes it, again and again: what changed goes behind the rest."""
    TRANSFER = "transfer"
    """Writes it once, for a device that is being linked."""
    RESTORE = "restore"
    """Reads it."""
    OLD = "old"
    """Wrote it; it goes once the one that replaces it is complete."""


class Part(StrEnum):
    """What an archive is written from, in this order."""

    ROOMS = "rooms"
    CONTACTS = "contacts"
    REGISTERS = "registers"
    REMOVALS = "removals"
    MESSAGES = "messages"
    CHANGES = "changes"
    """Of a backup: what was noted since it began."""
    END = "end"


class Where(msgspec.Struct, array_like=True, frozen=True):
    """The place, in the database, of what comes next."""

    part: Part = Part.ROOMS
    key: str = ""
    """Behind this id; of messages: in this room ..."""
    at: int = 0
    """... before this position; of changes: behind this number. 0: from the start."""


@dataclass(frozen=True, slots=True)
class Job:
    """An archive, as far as it was written or read."""

    id: str
    kind: Kind
    key: bytes = field(repr=False)
    account: str
    head: Head
    where: Where
    segment: bytes | None = field(repr=False)
    """Sealed, and perhaps not stored elsewhere yet."""
    whole: int
    messages: int
    size: int
    stale: int

    @property
    def place(self) -> Place:
        """Where its next segment goes."""
        return Place(self.account, bytes.fromhex(self.id), self.head)


def begin(tx: Tx, archive: str, kind: Kind, key: bytes) -> None:
    """Note an archive that is to be written or read; changes nothing if it is noted.

    Args:
        archive: its vault, 32 hex digits, random.
        key: 32 bytes.
    """
    if len(bytes.fromhex(archive)) != 16 or len(key) != 32:
        raise ValueError("an archive has an id of 16 bytes and a key of 32")
    if tx.one("SELECT 1 FROM archive WHERE id = ?", archive) is not None:
        return
    if kind is Kind.BACKUP:
        tx.execute("DELETE FROM archive_change")
    tx.execute(
        "INSERT INTO archive (id, kind, key, hash, place) VALUES (?, ?, ?, ?, ?)",
        archive,
        kind,
        key,
        EMPTY.hash,
        encode(Where()),
    )


def load_job(tx: Tx, archive: str) -> Job | None:
    """An archive that was noted."""
    row = tx.one(
        "SELECT id, kind, key, count, hash, place, segment, whole, messages, size,"
        " stale FROM archive WHERE id = ?",
        archive,
    )
    device = get_meta(tx, "device")
    if row is None or device is None:
        return None
    return Job(
        id=row[0],
        kind=Kind(row[1]),
        key=bytes(row[2]),
        account=str(parse_device(device.decode()).account),
        head=Head(int(row[3]), bytes(row[4])),
        where=decode(bytes(row[5]), Where),
        segment=None if row[6] is None else bytes(row[6]),
        whole=int(row[7]),
        messages=int(row[8]),
        size=int(row[9]),
        stale=int(row[10]),
    )


def load_kind(tx: Tx, kind: Kind) -> list[Job]:
    """The archives of a kind, the newest first."""
    rows = tx.all("SELECT id FROM archive WHERE kind = ? ORDER BY rowid DESC", kind)
    return [job for row in rows if (job := load_job(tx, row[0])) is not None]


def forget(tx: Tx, archive: str) -> None:
    """Forget an archive and its key."""
    tx.execute("DELETE FROM archive WHERE id = ?", archive)
