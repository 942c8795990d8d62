"""The account's backup: this device's history in a vault at its node, kept current.

It grows by what changed, a few minutes after it changed and at most once an hour. What
was deleted or vanished is in no later segment; the vault is written anew, without it,
at the next backup after the deletion if it is small, else within `REWRITE_AFTER` (a
day; later only if this device is not connected).

Each device writes its own vault, so no two can get in each other's way. While one of
an account's devices does it no other begins, until it is silent for `heads.SILENT`.
A vault goes when its device is revoked or gone for `heads.LOST_AFTER`, and all that
was in it is in ours.

The node sees sizes and times. It can delete a backup or keep back its newest part: the
heads that devices remember (`heads`) show that.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from client.account.me import Me, get_meta, set_meta
from client.account.self_group import SelfGroup
from client.archive.drill import advice, drill, report
from client.archive.heads import Heads, current
from client.archive.job import Job, Kind, Part, load_job, load_kind
from client.archive.restore import Outcome, restore
from client.archive.vault import VaultShelf
from client.archive.writer import write_archive
from client.clock import Clock
from client.enrol.phrase import read_phrase
from client.enrol.recovery import prove
from client.errors import BackupFailed, ClientError, WrongPhrase
from client.model import BackupStatus, DrillReport, RestoreProgress
from client.network.transport import Transport
from client.storage.alarms import raise_alarm
from client.storage.store import Store, Tx
from protocol.errors import QuotaExceeded, Refused, VaultConflict
from protocol.key import backup_key, root_key
from protocol.wire import Rooms, Vault

__all__ = ["Backups"]

CHECK = 60.0
"""Seconds between looks at whether there is something to do."""

SOON = 0.5
"""Seconds between looks at whether we are online, while history is to come back."""

ATTEMPTS = 5
"""Times that a part which the node cannot give is asked for, until it is lost."""

SETTLE = 600.0
"""Seconds after a change: a conversation goes in one piece."""

INTERVAL = 3600 * 1000
"""Milliseconds between two backups."""

REWRITE_AFTER = 24 * 3600 * 1000
"""Milliseconds that a backup may hold what was deleted, while we are connected."""

SMALL = 4 * 1024 * 1024
"""Bytes of a vault that is written anew without waiting."""

WASTE = 2
"""A vault with so many times the messages that there are is written anew."""

NO_KEY = (
    "This device does not have the key of your backups: turn them on with your "
    "recovery phrase."
)

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], object]


class Backups:
    """Writes the backup, brings it back, and tries that out."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        me: Me,
        clock: Clock,
        self_group: SelfGroup,
        publish: Callable[[RestoreProgress], object],
    ) -> None:
        self._store = store
        self._transport = transport
        self._shelf = VaultShelf(transport)
        self._me = me
        self._clock = clock
        self._heads = Heads(me, self_group)
        self._adopt = self_group.adopt
        self._publish = publish
        self._lock = asyncio.Lock()
        self._error = ""
        self._attempts = 0

    # --- for applications ---------------------------------------------------------

    async def status(self) -> BackupStatus:
        """How the backup stands; asks the database only."""

        def read(tx: Tx) -> BackupStatus:
            job, other = current(tx), self._heads.keeper(tx)
            heads = [other] if other is not None else []
            if job is not None:
                heads.append(self._heads.own(job))
            newest = max(heads, key=lambda head: head.whole, default=None)
            return BackupStatus(
                enabled=bool(get_meta(tx, "backup")),
                last=0 if newest is None else newest.whole,
                messages=0 if newest is None else newest.messages,
                size=0 if newest is None else newest.size,
                quota=int.from_bytes(get_meta(tx, "backup_quota") or b""),
                error=self._error or ("" if get_meta(tx, "backup_key") else NO_KEY),
            )

        return await self._store.run(read)

    async def enable(self, *, phrase: str | None = None) -> None:
        """Back up from now on.

        Args:
            phrase: the 24 words; needed only on a device that was linked without
                history, or set up before there were backups.

        Raises:
            WrongPhrase: the words are not this account's.
            BackupFailed: this device has no key, and no phrase was given.
        """
        key = None
        if phrase is not None:
            entropy = read_phrase(phrase)
            await self._check_phrase(entropy)
            key = backup_key(entropy)

        def enable(tx: Tx) -> bool:
            if key is not None:
                set_meta(tx, "backup_key", key)
            if not get_meta(tx, "backup_key"):
                return False
            set_meta(tx, "backup", b"1")
            return True

        if not await self._store.run(enable):
            raise BackupFailed(NO_KEY)
        self._error = ""

    async def disable(self) -> None:
        """Back up no more, and delete what this device has at the node.

        At once, or as soon as the node is there.
        """

        def disable(tx: Tx) -> None:
            set_meta(tx, "backup", b"")
            tx.execute(
                "UPDATE archive SET kind = ? WHERE kind = ?", Kind.OLD, Kind.BACKUP
            )
            tx.execute("DELETE FROM archive_change")

        await self._store.run(disable)
        self._error = ""
        try:
            async with self._lock:
                await self._drop_old()
        except (Refused, ClientError) as error:
            logger.info("the old backup goes later: %s", type(error).__name__)

    async def now(self, progress: Progress = lambda done, total: None) -> BackupStatus:
        """Back up now.

        Args:
            progress: gets messages written and in all.

        Raises:
            BackupFailed: it is turned off, or history is still coming back.
            Refused, ClientError: the node has no room (`QuotaExceeded`), refused, or
                is not there. What was stored counts, and the next one goes on.
        """
        async with self._lock:
            try:
                await self._write(progress)
                self._error = ""
            except (Refused, ClientError) as error:
                self._error = str(error)
                raise
        return await self.status()

    async def drill(
        self,
        *,
        phrase: str | None = None,
        progress: Progress = lambda done, total: None,
    ) -> DrillReport:
        """Try out what would come back if every device were lost now.

        Fetches the backups from the node, restores them into a scratch database beside
        this one, compares, and throws it away. Nothing changes at the node.

        Args:
            phrase: the 24 words as they are on paper: tries these, and whether the
                node would let them in. Without it the key of this device is used.
            progress: gets segments restored and in all.

        Raises:
            WrongPhrase: the words are not this account's: with these nothing would
                come back.
            BackupFailed: this device has no key, and no phrase was given.
            Refused, ClientError: the node is not there.
        """
        if phrase is None:
            key = await self._store.run(lambda tx: get_meta(tx, "backup_key"))
            if not key:
                raise BackupFailed(
                    "This device does not have the key of your backups: give the "
                    "recovery phrase."
                )
        else:
            entropy = read_phrase(phrase)
            await self._check_phrase(entropy)
            root = root_key(entropy)
            await prove(self._transport, self._me.account, root, self._clock)
            key = backup_key(entropy)
        async with self._lock:  # a backup meanwhile would look like a lie
            vaults = await self._backups()
            heads = await self._store.run(self._heads.known)
            checked = await drill(
                self._store, self._me, self._shelf, vaults, key, heads, progress
            )

        def tell(tx: Tx) -> DrillReport:
            others = self._heads.devices(tx) - {str(self._me.device)}
            on = bool(get_meta(tx, "backup"))
            return report(tx, checked, advice(checked, alone=not others, on=on))

        return await self._store.run(tell)

    # --- in the background ----------------------------------------------------------

    async def run(self, online: Callable[[], bool]) -> None:
        """Fetch history if it is to come back, then keep the backup current."""
        changed, retry = 0.0, 0.0
        while True:
            if online():
                try:
                    await self._restore_wanted()
                    now = time.monotonic()
                    if not await self._store.run(self._due):
                        changed = 0.0
                    else:
                        changed = changed or now
                        if now >= changed + SETTLE and now >= retry:
                            retry = now + SETTLE
                            await self.now()
                            changed = retry = 0.0
                except (Refused, ClientError) as error:
                    logger.info("no backup: %s", type(error).__name__)
                    self._error = str(error)
                    self._attempts += 1
                    await asyncio.sleep(CHECK)
                    continue
                except Exception as error:
                    # A mistake of ours must not stop the rest of the client.
                    logger.error("the backup failed: %s", type(error).__name__)
                    self._error = (
                        f"The backup failed ({type(error).__name__}); Telex tries "
                        "again. If that goes on, report it."
                    )
                    await asyncio.sleep(CHECK)
                    continue
            # Who has just come back waits for the history, not for a minute.
            wanted = await self._store.run(lambda tx: get_meta(tx, "restore"))
            await asyncio.sleep(min(CHECK, SOON) if wanted else CHECK)

    def _due(self, tx: Tx) -> bool:
        """Whether there is something to back up, and it is time."""
        if not _is_on(tx):
            return tx.one("SELECT 1 FROM archive WHERE kind = ?", Kind.OLD) is not None
        job = current(tx)
        if self._heads.keeper(tx) is not None:
            return False
        if job is None:
            return tx.one("SELECT 1 FROM message WHERE seq IS NOT NULL") is not None
        if job.whole and abs(_now() - job.whole) < INTERVAL:
            return False
        return (
            not job.whole
            or job.segment is not None
            or _is_wasteful(tx, job)
            or tx.one("SELECT 1 FROM archive_change") is not None
        )

    async def _restore_wanted(self) -> None:
        wanted = await self._store.run(lambda tx: get_meta(tx, "restore"))
        key = await self._store.run(lambda tx: get_meta(tx, "backup_key"))
        if not wanted or not key:
            return
        self._publish(RestoreProgress("looking", 0, 0))
        vaults = await self._backups()
        outcome = await self._read(vaults, key, all_of_them=True)
        await self._store.run(lambda tx: set_meta(tx, "restore", b""))
        total = sum(vault.segments for vault in vaults)
        stage = "done" if outcome.read else "failed" if outcome.faults else "none"
        self._publish(RestoreProgress(stage, total, total))

    async def _read(
        self, vaults: list[Vault], key: bytes, *, all_of_them: bool = False
    ) -> Outcome:
        listed = {vault.vault for vault in vaults}
        heads = {
            vault: head
            for vault, head in (await self._store.run(self._heads.known)).items()
            if all_of_them or vault in listed
        }
        rooms = await self._transport.get("/rooms", Rooms)
        outcome = await restore(
            self._store,
            self._shelf,
            vaults,
            key,
            heads,
            self._adopt,
            lambda done, total: self._publish(RestoreProgress("reading", done, total)),
            present={room.room for room in rooms.rooms},
            patient=self._attempts < ATTEMPTS,
        )
        if all_of_them:
            # What came back remembers heads too: of what the node may keep back.
            outcome.compare(await self._store.run(self._heads.known))
        for vault, fault in outcome.faults.items():
            self._error = str(fault)
            await self._store.run(
                partial(self._alarm, vault=vault, code=fault.code, text=str(fault))
            )
        return outcome

    # --- writing --------------------------------------------------------------------

    async def _write(self, progress: Progress) -> None:
        await self._drop_old()
        key = await self._store.run(self._key)
        job = await self._store.run(current)
        if job is not None and not await self._still_there(job):
            job = None
        wasteful = job is not None and await self._store.run(
            partial(_is_wasteful, job=job)
        )
        if job is None or (wasteful and job.where.part is Part.END):
            job = await self._store.run(partial(self._heads.begin_anew, key=key))
        try:
            await self._fill(job, progress)
        except VaultConflict:
            # Somebody else writes there: a copy of this profile. Begin another one.
            await self._store.run(
                partial(self._alarm, vault=job.id, code="archive_foreign")
            )
            key = await self._store.run(self._key)
            job = await self._store.run(partial(self._heads.begin_anew, key=key))
            await self._fill(job, progress)
        await self._store.run(partial(self._heads.tell, archive=job.id))
        await self._drop_old()
        await self._drop_lost(job.id, key)

    async def _fill(self, job: Job, progress: Progress) -> None:
        put = partial(self._shelf.put, job.id, "backup")
        try:
            await write_archive(self._store, job.id, put, progress)
        except QuotaExceeded as error:
            if not await self._drop_old(job.id):
                raise QuotaExceeded(
                    "Revoke devices that you no longer have, or ask the node's admin "
                    "for more room; until then nothing new is backed up."
                ) from error
            # The one that it replaces took its room: better none for a minute.
            await write_archive(self._store, job.id, put, progress)

    async def _still_there(self, job: Job) -> bool:
        """Whether the node has what it took from us; else it begins anew."""
        shown = {vault.vault: vault for vault in await self._backups()}
        stored = job.head.count - (job.segment is not None)
        count = shown[job.id].segments if job.id in shown else 0
        if count in (stored, job.head.count):
            return True
        code = "archive_rolled_back" if count < stored else "archive_foreign"
        if not job.whole or job.id in await self._store.run(self._heads.told):
            await self._store.run(partial(self._alarm, vault=job.id, code=code))
        # Else another device took this one for lost, and its backup over.
        return False

    async def _backups(self) -> list[Vault]:
        listing = await self._shelf.list()
        quota = max(0, listing.quota).to_bytes(16)
        await self._store.run(lambda tx: set_meta(tx, "backup_quota", quota))
        return [vault for vault in listing.vaults if vault.kind == "backup"]

    async def _drop_old(self, but: str = "") -> bool:
        """Delete vaults that ours has replaced; whether there were any.

        Not while the one that replaces them is unfinished, unless that is `but`.
        """
        job = await self._store.run(current)
        if job is not None and not job.whole and job.id != but:
            return False
        old = await self._store.run(partial(load_kind, kind=Kind.OLD))
        for job in old:
            await self._shelf.drop(job.id)
            await self._store.run(partial(self._heads.forget, vault=job.id))
        return bool(old)

    async def _drop_lost(self, own: str, key: bytes) -> None:
        """Take over and delete the vaults of devices that are gone."""
        orphans = [
            vault
            for vault in await self._backups()
            if vault.vault != own
            and await self._store.run(partial(self._heads.is_orphan, vault=vault))
        ]
        fresh = [
            vault
            for vault in orphans
            if not await self._store.run(partial(_is_read, vault=vault))
        ]
        if fresh:
            # What was only there is ours now, and goes with the next backup.
            await self._read(fresh, key)
            return
        for vault in orphans:
            if await self._store.run(partial(self._heads.retract, vault=vault.vault)):
                continue  # told as gone by the next backup, and then it goes
            await self._shelf.drop(vault.vault)
            await self._store.run(partial(self._heads.forget, vault=vault.vault))

    # --- rows -----------------------------------------------------------------------

    def _key(self, tx: Tx) -> bytes:
        key = get_meta(tx, "backup_key")
        if not get_meta(tx, "backup") or not key:
            raise BackupFailed("Backups are turned off on this device: turn them on.")
        if get_meta(tx, "restore"):
            raise BackupFailed("History is still coming back; back up after that.")
        return key

    def _alarm(self, tx: Tx, vault: str, code: str, text: str = "") -> None:
        raise_alarm(
            tx,
            code,
            vault,
            None,
            f"The node {self._me.account.node} does not show a backup as it was kept "
            f"there ({code}). {text or 'A new one is written.'} Try it out with a "
            "drill, and tell the node's admin.",
        )

    async def _check_phrase(self, entropy: bytes) -> None:
        root = await self._store.run(
            lambda tx: tx.one(
                "SELECT root FROM contact WHERE account = ?", str(self._me.account)
            )
        )
        if root is not None and bytes(root[0]) != root_key(entropy).public:
            raise WrongPhrase(
                f"This is not the recovery phrase of {self._me.account}: with it "
                "nothing would come back."
            )


def _is_on(tx: Tx) -> bool:
    return bool(
        get_meta(tx, "backup")
        and get_meta(tx, "backup_key")
        and not get_meta(tx, "restore")
    )


def _is_wasteful(tx: Tx, job: Job) -> bool:
    """Whether a backup holds too much that should not be, or need not be, in it."""
    if not job.whole:
        return False
    if job.stale and (job.size <= SMALL or abs(_now() - job.stale) > REWRITE_AFTER):
        return True
    row = tx.one(
        "SELECT count(*) FROM (SELECT 1 FROM message LIMIT ?)", job.messages // WASTE
    )
    return row is not None and job.messages > 1000 and row[0] < job.messages // WASTE


def _is_read(tx: Tx, vault: Vault) -> bool:
    job = load_job(tx, vault.vault)
    return job is not None and job.head.count >= vault.segments


def _now() -> int:
    return int(time.time() * 1000)
