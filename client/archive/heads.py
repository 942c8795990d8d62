"""What devices remember of the account's backups: where they end, and whose they are.

Each device tells the others in the self group (register `backup`) where its vault
ended when it was complete last. A node that shows less than that is caught by any of
them. With one device there is only what that device remembers, which is gone with it.
"""

import logging
import secrets
import time

from client.account.contacts import known_log
from client.account.logs import read_log
from client.account.me import Me
from client.account.self_group import SelfGroup
from client.archive.job import Job, Kind, begin, forget, load_job, load_kind
from client.archive.restore import BackupHead
from client.archive.segment import Head
from client.storage.store import Tx
from protocol.codec import decode, encode
from protocol.errors import Malformed
from protocol.wire import Vault

__all__ = ["LOST_AFTER", "REGISTER", "SILENT", "Heads", "current"]

REGISTER = "backup"

SILENT = 3 * 24 * 3600 * 1000
"""Milliseconds without a backup by the device that does it, until another one does."""

LOST_AFTER = 30 * 24 * 3600 * 1000
"""Milliseconds after which a device that backs up no more counts as gone."""

logger = logging.getLogger(__name__)


def current(tx: Tx) -> Job | None:
    """The vault that this device writes."""
    found = load_kind(tx, Kind.BACKUP)
    return found[0] if found else None


class Heads:
    """Reads and writes the register; all state is in the database."""

    def __init__(self, me: Me, self_group: SelfGroup) -> None:
        self._me = me
        self._self_group = self_group

    def told(self, tx: Tx) -> dict[str, BackupHead]:
        """What our devices said of their backups, by vault."""
        found = {}
        for vault, value in self._self_group.items(tx, REGISTER).items():
            try:
                found[vault] = decode(value, BackupHead)
            except Malformed:
                logger.warning("a device told nonsense about its backup")
        return found

    def known(self, tx: Tx) -> dict[str, Head]:
        """The newest heads that are known, by vault."""
        heads = {vault: head.head for vault, head in self.told(tx).items()}
        for job in load_kind(tx, Kind.BACKUP):
            stored = job.head.count - (job.segment is not None)
            if stored and job.segment is None:
                heads[job.id] = job.head
        for job in load_kind(tx, Kind.OLD):
            heads.pop(job.id, None)
        return heads

    def keeper(self, tx: Tx) -> BackupHead | None:
        """The head of the device that backs up for this one, if another one does.

        Who has begun goes on: only its own database is known to be all in its vault.
        """
        if current(tx) is not None:
            return None
        valid = self.devices(tx)
        for head in self.told(tx).values():
            if (
                head.device != str(self._me.device)
                and head.device in valid
                and abs(head.whole - _now()) < SILENT  # nor by a clock far ahead
            ):
                return head
        return None

    def tell(self, tx: Tx, archive: str) -> None:
        """Tell our other devices where the backup ends now."""
        job = load_job(tx, archive)
        if job is not None:
            self._self_group.set(tx, REGISTER, job.id, encode(self.own(job)))

    def devices(self, tx: Tx) -> set[str]:
        """The addresses of the account's valid devices, as far as known here."""
        entries = known_log(tx, str(self._me.account))
        state = read_log(self._me.account, entries)
        return {str(address) for address in state.addresses()}

    def is_orphan(self, tx: Tx, vault: Vault) -> bool:
        job, head = load_job(tx, vault.vault), self.told(tx).get(vault.vault)
        if job is not None and job.kind is not Kind.RESTORE:
            return False
        owner = job.where.key if job is not None else ""
        owner = owner or (head.device if head is not None else "")
        whole = max(job.whole if job else 0, head.whole if head else 0)
        if not owner:
            return False
        return (
            owner not in self.devices(tx)
            or owner == str(self._me.device)
            or 0 < whole < _now() - LOST_AFTER
        )

    def forget(self, tx: Tx, vault: str) -> None:
        forget(tx, vault)
        self._self_group.set(tx, REGISTER, vault, b"")

    def begin_anew(self, tx: Tx, key: bytes) -> Job:
        """Begin a vault; the one before goes when it is complete.

        Nobody expects the old one from here on: what is written next says so.
        """
        for old in load_kind(tx, Kind.BACKUP):
            self.retract(tx, old.id)
        tx.execute(
            "UPDATE archive SET kind = ?, segment = NULL WHERE kind = ?",
            Kind.OLD,
            Kind.BACKUP,
        )
        archive = secrets.token_hex(16)
        begin(tx, archive, Kind.BACKUP, key)
        job = load_job(tx, archive)
        assert job is not None
        return job

    def retract(self, tx: Tx, vault: str) -> bool:
        """Let nobody expect a vault any more; whether somebody did."""
        known = vault in self.told(tx)
        self._self_group.set(tx, REGISTER, vault, b"")
        return known

    def own(self, job: Job) -> BackupHead:
        """The head of a vault of this device."""
        return BackupHead(
            str(self._me.device),
            job.head.count,
            job.head.hash,
            job.whole,
            job.messages,
            job.size,
        )


def _now() -> int:
    return int(time.time() * 1000)
