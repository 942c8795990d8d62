"""The drill: restoring the backup as if every device were lost, and saying what lacks.

The backups are fetched from the node into a scratch database with a key of its own,
read as a restore reads them, compared with what this device has, and thrown away. The
node is only read from.

What it cannot find out: segments that the node keeps back and no device remembers.
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import localtime, strftime
from typing import TYPE_CHECKING

from client.account.me import Me
from client.archive.job import Kind, load_kind
from client.archive.reader import Restored
from client.archive.restore import Outcome, restore
from client.archive.segment import Head
from client.archive.vault import VaultShelf
from client.archive.writer import LIFE_MIN
from client.model import DrillReport
from client.storage.keyfile import STRENGTH
from client.storage.store import Store, Tx
from protocol.wire import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Checked", "advice", "drill", "report"]

SCRATCH = "drill"

STEP = 1000
"""Messages compared in one transaction of each database."""


@dataclass(slots=True)
class Checked:
    """What came back into the scratch database."""

    outcome: Outcome
    known: bool
    """Whether heads were remembered to hold the vaults against."""
    rooms: int = 0
    messages: int = 0
    contacts: int = 0
    newest: int = 0
    lacking: list[str] = field(default_factory=list)
    """Ids of messages that this device has and the backup has not."""
    rooms_lacking: int = 0
    contacts_lacking: int = 0

    @property
    def everything(self) -> bool:
        """Whether all that this device has, and can have in a backup, came back."""
        return bool(self.restored) and not (
            self.outcome.faults
            or self.lacking
            or self.rooms_lacking
            or self.contacts_lacking
        )

    @property
    def restored(self) -> dict[str, Restored]:
        """What was read, by vault."""
        return self.outcome.read


async def drill(
    store: Store,
    me: Me,
    shelf: VaultShelf,
    vaults: list[Vault],
    key: bytes,
    heads: Mapping[str, Head],
    progress: Callable[[int, int], object],
) -> Checked:
    """Restore vaults into a scratch database and compare it with this device's.

    Raises:
        Refused, ClientError: the node is not there.
    """
    async with _scratch(store.directory / SCRATCH, me) as scratch:
        outcome = await restore(
            scratch, shelf, vaults, key, heads, _keep_registers, progress
        )
        checked = Checked(outcome, bool(heads))
        await scratch.run(partial(_count, checked=checked))
        await _compare(store, scratch, checked)
    return checked


@asynccontextmanager
async def _scratch(directory: Path, me: Me) -> "AsyncIterator[Store]":
    """An empty database that nobody can open again: its key is never written.

    It lies beside the real one, where there is room for it; what a kill leaves is
    overwritten by the next drill.
    """
    try:
        store, _ = await asyncio.to_thread(Store.create, directory, "", STRENGTH)
        try:
            await store.run(me.save)
            yield store
        finally:
            await store.destroy()
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _keep_registers(tx: Tx, entries: Sequence[object]) -> None:
    """Registers hold nothing that a drill counts."""


def _count(tx: Tx, checked: Checked) -> None:
    row = tx.one(
        "SELECT (SELECT count(*) FROM room), (SELECT count(*) FROM contact),"
        " count(*), coalesce(max(time), 0) FROM message WHERE kind = 'text'"
    )
    if row is not None:
        checked.rooms, checked.contacts, checked.messages, checked.newest = row


async def _compare(store: Store, scratch: Store, checked: Checked) -> None:
    """Find what is here and did not come back."""
    checked.rooms_lacking = await _missing(
        store, scratch, "SELECT id FROM room WHERE purpose = ''", "room", "id"
    )
    checked.contacts_lacking = await _missing(
        store, scratch, "SELECT account FROM contact", "contact", "account"
    )
    behind = ""
    while True:
        rows = await store.run(partial(_ids, behind=behind))
        if not rows:
            return
        behind = rows[-1]
        found = await scratch.run(partial(_present, ids=rows))
        checked.lacking += [id for id in rows if id not in found]


def _ids(tx: Tx, behind: str) -> list[str]:
    rows = tx.all(
        "SELECT m.id FROM message m JOIN room r ON r.id = m.room AND r.purpose = ''"
        " LEFT JOIN expiry e ON e.message = m.id WHERE m.id > ? AND m.kind = 'text'"
        " AND m.seq IS NOT NULL AND coalesce(e.seconds, ?) >= ?"
        " ORDER BY m.id LIMIT ?",
        behind,
        LIFE_MIN,
        LIFE_MIN,
        STEP,
    )
    return [row[0] for row in rows]


def _present(tx: Tx, ids: Sequence[str]) -> set[str]:
    marks = ",".join("?" * len(ids))
    rows = tx.all(f"SELECT id FROM message WHERE id IN ({marks})", *ids)
    return {row[0] for row in rows}


async def _missing(
    store: Store, scratch: Store, query: str, table: str, column: str
) -> int:
    here = {row[0] for row in await store.run(lambda tx: tx.all(query))}
    back = await scratch.run(lambda tx: tx.all(f"SELECT {column} FROM {table}"))
    return len(here - {row[0] for row in back})


def report(tx: Tx, checked: Checked, facts: Sequence[str]) -> DrillReport:
    """Say what came back and what would not.

    Args:
        tx: of this device's database, for what is only here.
        facts: more sentences, behind the others.
    """
    lost = [str(fault) for fault in checked.outcome.faults.values()]
    if not checked.restored and not lost:
        lost.append(
            "There is no backup at the node: rooms can be joined again, but nothing "
            "that was said would come back. Turn backups on, or back up now."
        )
    new, unexplained = _new(tx, checked.lacking)
    if unexplained:
        lost.append(
            f"{_messages(unexplained)} should be in the backup and did not come back: "
            "turn backups off and on again, and tell the node's admin."
        )
    if new:
        newest = strftime("%Y-%m-%d %H:%M", localtime(checked.newest / 1000))
        lost.append(
            f"{_messages(new)} came since the last backup and would be lost"
            + (f"; the newest one in it is of {newest}." if checked.newest else ".")
        )
    if checked.rooms_lacking and checked.restored:
        lost.append(f"{checked.rooms_lacking} rooms are not in the backup yet.")
    if checked.contacts_lacking and checked.restored:
        lost.append(
            f"What you know of the keys of {checked.contacts_lacking} people is not "
            "in the backup yet."
        )
    lost += _only_here(tx)
    return DrillReport(
        ok=checked.everything,
        rooms=checked.rooms,
        messages=checked.messages,
        contacts=checked.contacts,
        newest=checked.newest,
        lost=[*lost, *facts],
    )


def advice(checked: Checked, *, alone: bool, on: bool) -> list[str]:
    """What is to be said beside what came back.

    Args:
        alone: whether the account has no other device.
        on: whether this device backs up.
    """
    found = []
    if checked.restored and not checked.known:
        found.append(
            "No device remembers how long the backup was: a node that shows an older "
            "one would not be noticed."
        )
    elif alone:
        found.append(
            "This is your only device: if it is lost, nobody remembers how long the "
            "backup was, and a node that shows an older one is not noticed. A second "
            "device helps."
        )
    if not on:
        found.append("Backups are turned off on this device: what is new stays here.")
    return found


def _new(tx: Tx, lacking: Sequence[str]) -> tuple[int, int]:
    """How many of some messages wait for the next backup, and how many do not."""
    jobs = load_kind(tx, Kind.BACKUP)
    if not jobs or not jobs[0].whole:
        return len(lacking), 0
    waiting = {
        row[0] for row in tx.all("SELECT id FROM archive_change WHERE kind = 'm'")
    }
    new = sum(id in waiting for id in lacking)
    return new, len(lacking) - new


def _only_here(tx: Tx) -> list[str]:
    """What is in no backup, by its nature."""
    found = []
    row = tx.one("SELECT count(*) FROM message WHERE seq IS NULL AND own")
    if row is not None and row[0]:
        found.append(f"{_messages(row[0])} of yours were not sent yet: only here.")
    row = tx.one(
        "SELECT count(*) FROM archive_change WHERE kind = 'o' AND id LIKE 'draft %'"
    )
    if row is not None and row[0]:
        found.append("Drafts that were written since the last backup would be lost.")
    row = tx.one("SELECT count(*) FROM expiry WHERE seconds < ?", LIFE_MIN)
    if row is not None and row[0]:
        found.append("Messages that vanish within a day are in no backup.")
    row = tx.one(
        "SELECT count(*) FROM room WHERE status = 'active' AND members <= 1"
        " AND purpose = ''"
    )
    if row is not None and row[0]:
        found.append(
            f"In {row[0]} rooms there is nobody but you: nobody else has what was "
            "said there, so it comes back from the backup or not at all."
        )
    return found


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
