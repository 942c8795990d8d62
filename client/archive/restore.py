"""Taking in the backups of an account that lie at its node, whoever wrote them.

Each device writes a vault of its own, so all of them together are the history. What is
remembered of their heads (by this device, or by the others in the self group) is held
against what the node shows: a node that withholds the newest segments, or shows an
older vault, is named. With nothing to remember (one device, and it is lost) nobody can
know of segments that the node keeps back; those it shows are still whole, in order and
our own.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec

from client.archive.job import Kind, begin
from client.archive.reader import Adopt, Restored, read_archive
from client.archive.segment import Head, segment_hash
from client.archive.vault import VaultShelf
from client.errors import ArchiveRefused
from client.storage.store import Store
from protocol.errors import StorageFailed
from protocol.whole import Whole
from protocol.wire import Vault

__all__ = ["BackupHead", "Outcome", "restore"]


class BackupHead(msgspec.Struct, array_like=True, frozen=True):
    """What a device tells the others about its backup (register `backup`, by vault)."""

    device: str
    count: Whole
    hash: bytes
    whole: Whole
    """When it was complete last, in milliseconds since 1970."""
    messages: Whole
    size: Whole

    @property
    def head(self) -> Head:
        """Where it ended then."""
        return Head(self.count, self.hash)


@dataclass(slots=True)
class Outcome:
    """What came of reading some vaults."""

    read: dict[str, Restored] = field(default_factory=dict)
    faults: dict[str, ArchiveRefused] = field(default_factory=dict)
    """What could not be read or is not what it was before, by vault."""

    def compare(self, heads: Mapping[str, Head]) -> None:
        """Hold what was read against heads: what is missing is a fault."""
        for vault, head in heads.items():
            restored = self.read.get(vault)
            if vault in self.faults:
                continue
            if restored is None:
                self.faults[vault] = ArchiveRefused(
                    "archive_rolled_back", "A backup is gone."
                )
            elif restored.head.count < head.count:
                self.faults[vault] = ArchiveRefused(
                    "archive_rolled_back",
                    f"It has {restored.head.count} parts and had {head.count}: tell "
                    "the node's admin.",
                )


async def restore(
    store: Store,
    shelf: VaultShelf,
    vaults: list[Vault],
    key: bytes,
    heads: Mapping[str, Head],
    adopt: Adopt,
    progress: Callable[[int, int], object],
    *,
    present: Collection[str] | None = None,
    patient: bool = False,
) -> Outcome:
    """Read vaults into a database, from where it stands to their ends.

    Args:
        vaults: as the node lists them.
        heads: what is remembered, by vault; one that is not listed is a fault too.
        adopt: takes registers (`reader.read_archive`).
        progress: gets segments done, and in all.
        present: rooms that the account is in (`reader.read_archive`).
        patient: whether a segment that the node refuses to give may come later; if
            not it counts as lost.

    Raises:
        NodeUnreachable, NodeUntrusted, Refused: the node is not there, or busy.
            Calling it again goes on.
    """
    outcome = Outcome()
    total = sum(vault.segments for vault in vaults)
    before = 0
    for vault in vaults:
        await store.run(partial(begin, archive=vault.vault, kind=Kind.RESTORE, key=key))
        watch = _Watch(shelf, vault.vault, heads.get(vault.vault), patient)
        salvage = partial(outcome.faults.__setitem__, vault.vault)
        done = before

        def show(segments: int, messages: int, left: int, done: int = done) -> None:
            progress(min(done + segments, total), total)

        try:
            outcome.read[vault.vault] = await read_archive(
                store,
                vault.vault,
                watch.get,
                adopt=adopt,
                present=present,
                progress=show,
                salvage=salvage,
            )
        except ArchiveRefused as error:
            outcome.faults[vault.vault] = error
        before += vault.segments
        progress(min(before, total), total)
    outcome.compare(heads)
    return outcome


class _Watch:
    """Gives the segments of a vault, and holds them against a head."""

    def __init__(
        self, shelf: VaultShelf, vault: str, head: Head | None, patient: bool
    ) -> None:
        self._shelf = shelf
        self._vault = vault
        self._head = head
        self._patient = patient

    async def get(self, n: int) -> bytes | None:
        """Segment n, for `read_archive`."""
        try:
            data = await self._shelf.get(self._vault, n)
        except StorageFailed:
            if self._patient:
                raise
            raise ArchiveRefused(
                "archive_damaged", f"The node has lost part {n}."
            ) from None
        if (
            self._head is not None
            and data is not None
            and n == self._head.count
            and segment_hash(data) != self._head.hash
        ):
            raise ArchiveRefused("archive_foreign", f"It is part {n}.")
        return data
