"""Linking, after it was confirmed: at the device that did, and at the new one.

At the one that confirmed it is a job, as a row, until all is done: the answer lies at
the node, the new device is in every room (durable wants, which the rooms' workers
bring about), its history lies in a vault. The new one reads that vault, also while it
is still written. Both go on after a kill where they were.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection
from enum import StrEnum
from functools import partial

from client.account.link import Answer, Meeting, Offer, seal_answer
from client.account.me import Me, get_meta, set_meta
from client.account.self_group import SelfGroup
from client.archive import Kind, begin, forget, read_archive, write_archive
from client.archive.vault import VaultShelf
from client.clock import Clock
from client.errors import ArchiveRefused, ClientError, LinkUnknown
from client.model import DevicesChanged, LinkChanged, LinkProgress
from client.network.refusals import says_later
from client.network.transport import Transport
from client.rooms.changes import Want, want
from client.storage.store import Store, Tx
from client.storage.timeline import Purpose, Status
from protocol.account_log import AccountState
from protocol.address import DeviceAddress
from protocol.codec import decode
from protocol.credential import device_id
from protocol.errors import (
    LinkTaken,
    Malformed,
    Refused,
    UnknownLink,
)
from protocol.log import LogId
from protocol.wire import Empty, LinkSlot

__all__ = ["Linker", "Step"]

RETRY = 5.0
"""Seconds until what failed is tried again; then twice that, up to `RETRY_MAX`."""

RETRY_MAX = 300.0

POLL = 2.0
"""Seconds until the next part of a history is looked for, while it is written; twice
that each time that nothing came, up to `RETRY_MAX`."""

GIVE_UP = 7 * 24 * 3600 * 1000
"""Milliseconds after which no history comes any more: so long a vault is kept."""

NO_HISTORY = b"none"
"""In register `link`, by device: what was to come cannot come."""

logger = logging.getLogger(__name__)


class Step(StrEnum):
    """How far a link is."""

    ANSWER = "answer"
    """The answer may not be at the node yet."""
    ROOMS = "rooms"
    """The device is being added, and its history written."""


class Linker:
    """Does what a link leaves to be done; `run` is where it lives."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        own: SelfGroup,
        me: Me,
        clock: Clock,
        poke: Callable[[LogId], None],
    ) -> None:
        self._store = store
        self._transport = transport
        self._shelf = VaultShelf(transport)
        self._own = own
        self._me = me
        self._clock = clock
        self._poke = poke
        self._wake = asyncio.Event()
        self._parts, self._pause = 0, POLL
        self.abandon: Callable[[str], Awaitable[None]] = self.forget
        """Ends a device that was certified and never came."""
        own.on("link", self._told)

    def wake(self) -> None:
        """There is something to do, or the node is there again."""
        self._wake.set()

    async def run(self) -> None:
        """Do what is to be done, whenever woken; until cancelled."""
        delay = RETRY
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write_all()
                delay, wait = RETRY, await self._read()
            except (Refused, ClientError) as error:
                logger.info("linking goes on later: %s", type(error).__name__)
                wait, delay = delay, min(RETRY_MAX, 2 * delay)
            except Exception as error:
                # A mistake of ours, or a full disk, must not end the client.
                logger.error("linking failed: %s", type(error).__name__)
                wait, delay = delay, min(RETRY_MAX, 2 * delay)
            if wait is not None:
                asyncio.get_running_loop().call_later(wait, self._wake.set)

    # --- the device that confirms ---------------------------------------------------

    async def begin(
        self,
        meeting: Meeting,
        sealed: bytes,
        offer: Offer,
        state: AccountState,
        *,
        ask: bytes,
        history: bool,
    ) -> None:
        """Note a link whose device stands in the account log.

        Args:
            sealed: the offer, as it lay at the node.
            state: the account log with the device.
            ask: the seed that the device is to have; empty: none.
            history: whether to send it what was said before, and with it the key of
                the account's backups; without that it makes none until it is given
                the recovery phrase. A device keeps what it was given: revoked, it is
                refused by the node and gets nothing new, but who holds the node's
                disk and that device can still open the backups, later ones too, for
                the key follows from the phrase and changes with the account only.

        Raises:
            LinkRefused: it cannot be answered.
        """
        short = device_id(offer.auth_key, offer.mls_key)
        device = str(DeviceAddress(self._me.account, short))
        vault, key = ("", b"")
        if history:
            vault, key = secrets.token_hex(16), secrets.token_bytes(32)

        def answer(tx: Tx) -> Answer:
            return Answer(
                1,
                str(self._me.account),
                device,
                state.root,
                state.seq,
                state.head,
                len(_rooms(tx)),
                self._own.room(tx) or "",
                ask,
                # It opens every backup there is: history by another way.
                (get_meta(tx, "backup_key") or b"") if history else b"",
                vault,
                key,
                backup_on=history and bool(get_meta(tx, "backup")),
            )

        await self._store.run(
            lambda tx: self._note(tx, meeting, sealed, offer, answer(tx))
        )

    def _note(
        self, tx: Tx, meeting: Meeting, sealed: bytes, offer: Offer, answer: Answer
    ) -> None:
        """Write down a link that is to be answered, and what goes with it."""
        tx.execute(
            "INSERT OR REPLACE INTO link_job (device, name, stage, slot, answer,"
            " vault) VALUES (?, ?, ?, ?, ?, ?)",
            answer.device,
            offer.name,
            Step.ANSWER,
            meeting.slot,
            seal_answer(meeting, sealed, answer),
            answer.vault,
        )
        if answer.vault:
            begin(tx, answer.vault, Kind.TRANSFER, answer.vault_key)
        tx.events.append(DevicesChanged())
        if offer.name:
            self._own.set(tx, "device", answer.device, offer.name.encode()[:256])

    async def answer(self, device: str) -> None:
        """Leave the answer for a device, and want it in all rooms.

        Raises:
            LinkUnknown: nobody waits for it any more.
            Refused, ClientError: the node refused, or cannot be reached.
        """
        row = await self._store.run(
            lambda tx: tx.one(
                "SELECT slot, answer FROM link_job WHERE device = ? AND stage = ?",
                device,
                Step.ANSWER,
            )
        )
        if row is None:
            return
        try:
            path = f"/links/{row[0]}/answer"
            await self._transport.request("PUT", path, Empty, LinkSlot(bytes(row[1])))
        except UnknownLink as error:
            raise LinkUnknown(
                "The code is over: begin again on the new device."
            ) from error
        except LinkTaken as error:
            raise LinkUnknown(
                "That code was answered already: begin again on the new device."
            ) from error
        for room in await self._store.run(partial(self._want_everywhere, device)):
            self._poke(room)

    async def forget(self, device: str) -> None:
        """Give a link up."""
        await self._store.run(partial(self.drop, device=device))

    def drop(self, tx: Tx, device: str) -> None:
        """Want a device nowhere any more, and send it nothing."""
        _drop_vault(tx, device)
        tx.execute("DELETE FROM link_job WHERE device = ?", device)
        tx.execute(
            "DELETE FROM intent WHERE kind = ? AND subject = ?", Want.ADD_DEVICE, device
        )

    def committed(
        self,
        tx: Tx,
        room: LogId,
        sender: str,
        added: Collection[str],
        removed: Collection[str],
    ) -> None:
        """A commit changed a room: tell how far a link is."""
        for device in added:
            if tx.one("SELECT 1 FROM link_job WHERE device = ?", device):
                self._tell_rooms(tx, device)
                tx.after.append(self.wake)

    def entered(self, tx: Tx) -> None:
        """This device came into a room: if it was linked, tell how far that is."""
        try:
            _, total = decode(get_meta(tx, "linked") or b"", tuple[int, int])
        except Malformed:
            return
        done = len(_rooms(tx))
        if done <= total:
            tx.events.append(LinkChanged(LinkProgress("joining", done, total, "")))
            if done == total and get_meta(tx, "link_vault") is None:
                note = (get_meta(tx, "link_note") or b"").decode()
                tx.events.append(_done(note))

    def _want_everywhere(self, device: str, tx: Tx) -> list[LogId]:
        rooms = [
            LogId(row[0])
            for row in tx.all(
                "SELECT id FROM room WHERE status IN (?, ?, ?)",
                Status.ACTIVE,
                Status.ASKED,
                Status.CREATING,
            )
        ]
        for room in rooms:
            want(tx, room, Want.ADD_DEVICE, device, due=self._clock.now_ms())
        tx.execute(
            "UPDATE link_job SET stage = ?, rooms = ? WHERE device = ?",
            Step.ROOMS,
            len(rooms),
            device,
        )
        self._tell_rooms(tx, device)
        return rooms

    def _tell_rooms(self, tx: Tx, device: str) -> None:
        row = tx.one(
            "SELECT rooms, (SELECT count(*) FROM intent WHERE kind = ? AND subject = ?)"
            " FROM link_job WHERE device = ?",
            Want.ADD_DEVICE,
            device,
            device,
        )
        if row is not None:
            done = max(0, int(row[0]) - int(row[1]))
            progress = LinkProgress("joining", done, int(row[0]), "")
            tx.events.append(LinkChanged(progress))

    async def _write_all(self) -> None:
        """Do what links leave to be done."""
        rows = await self._store.run(
            lambda tx: tx.all("SELECT device, stage, vault FROM link_job")
        )
        for device, stage, vault in rows:
            if stage == Step.ANSWER:
                try:
                    await self.answer(device)
                except LinkUnknown:
                    logger.warning("a link was over before it was answered")
                    await self.abandon(device)
                    continue
            if vault:
                await self._write(device, vault)
            await self._store.run(partial(self._finish, device))

    async def _write(self, device: str, vault: str) -> None:
        async def sink(n: int, data: bytes) -> None:
            await self._shelf.put(vault, Kind.TRANSFER, n, data)

        def progress(done: int, total: int) -> None:
            self._publish(LinkProgress("history", done, total, ""))

        try:
            await write_archive(self._store, vault, sink, progress)
        except KeyError:
            pass
        except Refused as error:
            if says_later(error):
                raise
            why = f"Its history cannot be sent: {error}"
            await self._store.run(partial(self._no_history, device=device, why=why))
        await self._store.run(partial(_drop_vault, device=device))

    def _no_history(self, tx: Tx, device: str, why: str) -> None:
        self._own.set(tx, "link", device, NO_HISTORY)
        tx.execute("UPDATE link_job SET note = ? WHERE device = ?", why, device)

    def _finish(self, device: str, tx: Tx) -> None:
        if tx.one(
            "SELECT 1 FROM intent WHERE kind = ? AND subject = ?",
            Want.ADD_DEVICE,
            device,
        ) or tx.one("SELECT 1 FROM link_job WHERE device = ? AND vault != ''", device):
            return
        row = tx.one(
            "SELECT note FROM link_job WHERE device = ? AND stage = ?",
            device,
            Step.ROOMS,
        )
        if row is not None:
            tx.execute("DELETE FROM link_job WHERE device = ?", device)
            tx.events.append(_done(row[0]))

    # --- the new device -------------------------------------------------------------

    async def _read(self) -> float | None:
        """Read the history that is meant for this device, as far as it is there.

        Returns:
            Seconds after which to look for more; None: no more comes.
        """
        vault, began = await self._store.run(self._vault)
        if not vault:
            return None

        async def source(n: int) -> bytes | None:
            return await self._shelf.get(vault, n)

        def progress(segments: int, messages: int, left: int) -> None:
            self._publish(LinkProgress("history", messages, messages + left, ""))

        try:
            restored = await read_archive(
                self._store, vault, source, adopt=self._own.adopt, progress=progress
            )
        except ArchiveRefused as error:
            await self._end(vault, f"The history that came is not used: {error}")
            return None
        if restored.complete:
            await self._end(vault, "")
            return None
        if self._clock.now_ms() - began > GIVE_UP:
            await self._end(vault, "The rest of the history did not come in a week.")
            return None
        if restored.head.count > self._parts:
            self._parts, self._pause = restored.head.count, POLL
        else:
            self._pause = min(RETRY_MAX, 2 * self._pause)
        return self._pause

    def _vault(self, tx: Tx) -> tuple[str, int]:
        data = get_meta(tx, "link_vault")
        if not data:
            return "", 0
        try:
            vault, key = decode(data, tuple[str, bytes])
            began, _ = decode(get_meta(tx, "linked") or b"", tuple[int, int])
            begin(tx, vault, Kind.RESTORE, key)
        except (Malformed, ValueError):
            tx.execute("DELETE FROM meta WHERE key = 'link_vault'")
            return "", 0
        return vault, began

    async def _end(self, vault: str, why: str) -> None:
        """No more comes: forget the key, and let the node forget the rest."""

        def end(tx: Tx) -> None:
            self._close(tx, vault, why)

        await self._store.run(end)
        try:
            await self._shelf.drop(vault)
        except (Refused, ClientError) as error:
            # The node drops it by itself after a week.
            logger.info("a vault was left behind: %s", type(error).__name__)

    def _told(self, tx: Tx, key: str, value: bytes) -> None:
        if key == str(self._me.device) and value == NO_HISTORY:
            vault, _ = self._vault(tx)
            if vault:
                why = "No history came: your other device could not send it."
                self._close(tx, vault, why)

    def _close(self, tx: Tx, vault: str, why: str) -> None:
        tx.execute("DELETE FROM meta WHERE key = 'link_vault'")
        set_meta(tx, "link_note", why.encode())
        forget(tx, vault)
        tx.events.append(_done(why))

    def _publish(self, progress: LinkProgress) -> None:
        self._store.publish([LinkChanged(progress)])


def _done(note: str) -> LinkChanged:
    """All is done; `note`: what is not."""
    return LinkChanged(LinkProgress("done", 0, 0, note))


def _rooms(tx: Tx) -> list[LogId]:
    """The rooms to talk in that this device is in."""
    rows = tx.all(
        "SELECT id FROM room WHERE status = ? AND purpose = ?",
        Status.ACTIVE,
        Purpose.TALK,
    )
    return [LogId(row[0]) for row in rows]


def _drop_vault(tx: Tx, device: str) -> None:
    row = tx.one("SELECT vault FROM link_job WHERE device = ?", device)
    if row is not None and row[0]:
        forget(tx, row[0])
        tx.execute("UPDATE link_job SET vault = '' WHERE device = ?", device)
