"""Vaults: sealed segments that accounts keep here, as files with rows that name them.

A segment's bytes are a file that its row names (`node.storage.files`): whole on the
disk before the row is, and gone after it.
"""

import asyncio
import logging
import re
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Literal, cast

from sqlalchemy import Connection, delete, func, insert, select, update

from node.clock import Clock
from node.limit import Buckets
from node.storage.files import Files, new_token, write_new
from node.storage.store import Store, Transaction
from node.storage.tables import SegmentRow, VaultRow, core
from protocol.errors import (
    BadRequest,
    QuotaExceeded,
    StorageFailed,
    TooLarge,
    UnknownVault,
    VaultConflict,
)
from protocol.limits import SEGMENT_MAX, VAULTS_MAX
from protocol.wire import Vault, Vaults

__all__ = ["VaultKeeper", "parse_vault"]

log = logging.getLogger(__name__)

Kind = Literal["backup", "transfer"]

TRANSFER_KEPT = 7 * 24 * 3600
"""Seconds after its last segment that a transfer is kept: the new device was linked,
switched off, and taken along on a journey."""

SEGMENTS_MAX = 100_000
"""Segments of a vault: rows cost us 150 bytes each, however small the segments."""

THREADS = 2
"""Threads that write segments: a disk syncs one file at a time anyway."""

WAITING_MAX = 32
"""Segments that wait for one: 32 MiB of memory."""

PUTS_RATE, PUTS_BURST = 4.0, 600.0
"""Segments a second of one account, and at once: a whole quota in one go, and then
what a slow disk writes beside everything else."""

PRUNE_BATCH = 10
"""Vaults dropped in one write; a large one has thousands of rows."""

_VAULT = re.compile(r"[0-9a-f]{32}")

_vault = core(VaultRow)
_segment = core(SegmentRow)


def parse_vault(text: str) -> str:
    """Check the name of a vault.

    Raises:
        BadRequest: it is not 32 hex digits.
    """
    if not _VAULT.fullmatch(text):
        raise BadRequest("A vault's name is 32 hex digits in lower case.")
    return text


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A segment that came, and lies in its file already."""

    name: str
    vault: str
    n: int
    kind: Kind
    token: str
    size: int
    digest: bytes


class VaultKeeper:
    """The vaults of this node's accounts; `name` is an account's, without the node."""

    def __init__(self, store: Store, directory: Path, clock: Clock, quota: int) -> None:
        """`directory` is made when it is needed; `quota` is in bytes per account."""
        self._store = store
        self._files = Files(directory, threads=THREADS, waiting=WAITING_MAX)
        self._clock = clock
        self._quota = quota
        self._puts = Buckets(
            PUTS_RATE, PUTS_BURST, "This account stores too much at once."
        )

    def close(self) -> None:
        """End the threads."""
        self._files.close()

    # --- writing ------------------------------------------------------------------

    async def put(
        self, name: str, vault: str, n: int, kind: str | None, data: bytes
    ) -> Vault:
        """Store segment n; the same bytes again change nothing.

        Raises:
            BadRequest, TooLarge: it is no segment.
            VaultConflict: another one is due, or lies there already.
            QuotaExceeded: there is no room for it.
            StorageFull, StorageFailed, NodeBusy, TooMany: nothing was stored.
        """
        self._puts.take(name, self._clock())
        if kind not in ("backup", "transfer"):
            raise BadRequest("Say ?kind=backup or ?kind=transfer.")
        if not data:
            raise BadRequest("A segment is not empty.")
        if len(data) > SEGMENT_MAX:
            raise TooLarge(f"A segment has at most {SEGMENT_MAX} bytes.")
        arrival = _Arrival(
            name,
            parse_vault(vault),
            n,
            cast(Kind, kind),
            new_token(),
            len(data),
            blake2b(data, digest_size=32).digest(),
        )
        # Asked before the disk works, and again by the write that counts.
        known = await self._store.read(partial(self._judge, arrival))
        if known is not None:
            return known
        await self._files.work(
            partial(write_new, self._files.path(arrival.token), data)
        )
        stored = False
        try:
            found, stored = await self._store.write(partial(self._record, arrival))
        except asyncio.CancelledError:
            # It may yet be written, so the file stays; if not, it is swept one day.
            stored = True
            raise
        finally:
            if not stored:
                await self._files.unlink([arrival.token])
        return found

    def _judge(self, arrival: _Arrival, connection: Connection) -> Vault | None:
        """The vault, if this segment is in it; None: it is the next one.

        Raises:
            VaultConflict, QuotaExceeded, BadRequest.
        """
        found = _find(connection, arrival.name, arrival.vault)
        have = 0 if found is None else found.segments
        if found is not None and found.kind != arrival.kind:
            raise VaultConflict(f"It is a {found.kind}.")
        if 0 < arrival.n <= have:
            digest = connection.scalar(
                select(_segment.c.digest).where(
                    _segment.c.name == arrival.name,
                    _segment.c.vault == arrival.vault,
                    _segment.c.n == arrival.n,
                )
            )
            if digest != arrival.digest:
                raise VaultConflict(f"Its segment {arrival.n} holds other bytes.")
            return found
        if arrival.n != have + 1:
            raise VaultConflict(f"It has {have} segments; send {have + 1} next.")
        if arrival.n > SEGMENTS_MAX:
            raise QuotaExceeded(f"A vault has at most {SEGMENTS_MAX} segments.")
        count, used = _usage(connection, arrival.name)
        if found is None and count >= VAULTS_MAX:
            raise QuotaExceeded(f"An account has at most {VAULTS_MAX} vaults.")
        if used + arrival.size > self._quota:
            raise QuotaExceeded(f"{used} of {self._quota} bytes are in use.")
        return None

    def _record(
        self, arrival: _Arrival, transaction: Transaction
    ) -> tuple[Vault, bool]:
        """In the writer: name the file; whether it is one that was not there."""
        connection, now = transaction.connection, int(self._clock())
        known = self._judge(arrival, connection)
        if known is not None:
            return known, False
        if arrival.n == 1:
            connection.execute(
                insert(_vault).values(
                    name=arrival.name,
                    vault=arrival.vault,
                    kind=arrival.kind,
                    segments=0,
                    size=0,
                    created=now,
                    changed=now,
                )
            )
        connection.execute(
            insert(_segment).values(
                name=arrival.name,
                vault=arrival.vault,
                n=arrival.n,
                token=arrival.token,
                size=arrival.size,
                digest=arrival.digest,
            )
        )
        connection.execute(
            update(_vault)
            .where(_vault.c.name == arrival.name, _vault.c.vault == arrival.vault)
            .values(segments=arrival.n, size=_vault.c.size + arrival.size, changed=now)
        )
        found = _find(connection, arrival.name, arrival.vault)
        assert found is not None
        return found, True

    async def drop(self, name: str, vault: str) -> None:
        """End a vault; one that is not there is ended already."""
        parse_vault(vault)
        tokens = await self._store.write(lambda t: _drop(t.connection, [(name, vault)]))
        await self._files.unlink(tokens)

    # --- reading ------------------------------------------------------------------

    async def segment(self, name: str, vault: str, n: int) -> Path:
        """The file of a segment.

        Raises:
            UnknownVault: there is none.
            StorageFailed: its file is gone.
        """
        parse_vault(vault)
        token = await self._store.read(
            lambda c: c.scalar(
                select(_segment.c.token).where(
                    _segment.c.name == name,
                    _segment.c.vault == vault,
                    _segment.c.n == n,
                )
            )
        )
        if token is None:
            raise UnknownVault()
        path = self._files.path(token)
        if not await self._files.work(path.is_file):
            log.error("a segment's file is missing: %s", path.name)
            raise StorageFailed("A part of this backup was lost.")
        return path

    async def get(self, name: str, vault: str) -> Vault:
        """One vault.

        Raises:
            UnknownVault: there is none.
        """
        parse_vault(vault)
        found = await self._store.read(lambda c: _find(c, name, vault))
        if found is None:
            raise UnknownVault()
        return found

    async def list(self, name: str) -> Vaults:
        """All of an account's, the oldest first."""

        def read(connection: Connection) -> Vaults:
            rows = connection.execute(
                select(_vault)
                .where(_vault.c.name == name)
                .order_by(_vault.c.created, _vault.c.vault)
            )
            found = [_vault_of(row) for row in rows]
            return Vaults(found, sum(v.size for v in found), self._quota)

        return await self._store.read(read)

    # --- housekeeping ---------------------------------------------------------------

    async def prune(self) -> None:
        """Drop transfers that nobody has continued for a week.

        Raises:
            Refused: the database's trouble.
        """
        before = int(self._clock()) - TRANSFER_KEPT

        def write(transaction: Transaction) -> "list[str]":
            connection = transaction.connection
            old = connection.execute(
                select(_vault.c.name, _vault.c.vault)
                .where(_vault.c.kind == "transfer", _vault.c.changed < before)
                .limit(PRUNE_BATCH)
            )
            return _drop(connection, [(row[0], row[1]) for row in old])

        while tokens := await self._store.write(write):
            await self._files.unlink(tokens)

    async def sweep(self) -> int:
        """Delete files that no row names; how many. Call it before the node listens.

        Raises:
            Refused: the database's trouble.
        """
        return await self._files.sweep(
            lambda start: self._store.read(lambda c: _tokens(c, start))
        )


# --- rows -------------------------------------------------------------------------


def _vault_of(row: object) -> Vault:
    found = cast(VaultRow, row)
    return Vault(
        found.vault, cast(Kind, found.kind), found.segments, found.size, found.created
    )


def _find(connection: Connection, name: str, vault: str) -> Vault | None:
    row = connection.execute(
        select(_vault).where(_vault.c.name == name, _vault.c.vault == vault)
    ).first()
    return None if row is None else _vault_of(row)


def _usage(connection: Connection, name: str) -> tuple[int, int]:
    """How many vaults an account has, and their bytes."""
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(_vault.c.size), 0)).where(
            _vault.c.name == name
        )
    ).one()
    return int(row[0]), int(row[1])


def _tokens(connection: Connection, start: str) -> set[str]:
    """Of all files that rows name, those that start so."""
    token = _segment.c.token
    return set(
        connection.scalars(select(token).where(token.between(start, start + "g")))
    )


def _drop(connection: Connection, vaults: list[tuple[str, str]]) -> list[str]:
    """Forget vaults; the tokens of their files, to be deleted after the commit."""
    tokens: list[str] = []
    for name, vault in vaults:
        of_it = (_segment.c.name == name, _segment.c.vault == vault)
        tokens += connection.scalars(select(_segment.c.token).where(*of_it))
        connection.execute(delete(_segment).where(*of_it))
        connection.execute(
            delete(_vault).where(_vault.c.name == name, _vault.c.vault == vault)
        )
    return tokens
