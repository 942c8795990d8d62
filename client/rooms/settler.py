"""Commits: from what is wanted to an entry in the room's log.

Each try reads the log to its end, builds the commit from what is still wanted, saves
it with its secrets, and sends it once. The hub takes one commit for each epoch; who
lost the race reads what won and builds anew, at most five times with a little chance
in between. A commit whose answer was lost is found again by its hash in the log, or
sent again as the same bytes.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from functools import partial

from client.account.contacts import Contacts
from client.account.me import Me
from client.clock import Clock
from client.errors import (
    ChangeFailed,
    ClientError,
    KeyChanged,
    NodeNonsense,
    NodeUnreachable,
    NodeUntrusted,
)
from client.network.reading import Reading, Uplink
from client.network.refusals import refusal_of, says_later
from client.rooms.changes import (
    QUIET,
    Built,
    Package,
    Want,
    Wish,
    accounts_to_add,
    build,
    devices_to_add,
    drop_wishes,
    due_wishes,
    load_staged,
)
from client.rooms.claims import Claims
from client.rooms.groups import Groups
from client.rooms.upkeep import plan_update, postpone, put_off
from client.storage.heads import check_link, fail_log
from client.storage.store import Store, Tx
from client.storage.timeline import Status, set_note
from e2ee import key_package_info
from e2ee.errors import E2eeError
from protocol.credential import read_credential
from protocol.errors import (
    IdentityError,
    Refused,
    StaleEpoch,
    TelexError,
)
from protocol.log import LogId
from protocol.wire import Receipt

__all__ = ["Settler"]

TRIES = 12
"""Commits that may lose the race before we say so: ten members who act at once each
win before that."""

PAUSE = 0.15
"""Seconds that a loser waits at most before its first new try; then twice that."""

PAUSE_MAX = 3.0
"""Seconds that a loser waits at most, however often it lost."""


logger = logging.getLogger(__name__)


class Settler:
    """Brings about what is wanted of a room; one call at a time for each room."""

    def __init__(
        self,
        store: Store,
        uplink: Uplink,
        reading: Reading,
        contacts: Contacts,
        groups: Groups,
        me: Me,
        clock: Clock,
    ) -> None:
        self._store = store
        self._uplink = uplink
        self._reading = reading
        self._contacts = contacts
        self._groups = groups
        self._me = me
        self._clock = clock
        self._claims = Claims(uplink, contacts, clock)

    async def settle(self, room: LogId, *, hurry: bool = False) -> None:
        """Commit what is wanted of a room and due (`hurry`: also what is not).

        Raises:
            ChangeFailed: it was given up, and why.
            Refused, ClientError: not now; what is wanted is kept.
        """
        lost = 0
        while True:
            staged = await self._store.run(lambda tx: load_staged(tx, room))
            wishes: Sequence[Wish] = ()
            if staged is None:
                wishes, staged = await self._build(room, hurry)
                if staged is None:
                    return
            try:
                await self._send(room, staged)
                continue
            except StaleEpoch as error:
                lost += 1
                epoch = error.epoch or 0
            except Refused as error:
                if says_later(error):
                    raise
                await self._give_up(room, wishes, str(error))
                raise ChangeFailed(f"This change was refused: {error}") from error
            await self._store.run(lambda tx: _unstage(tx, room))
            await self._reading.wait_for(
                room, partial(has_epoch, self._groups, room, epoch)
            )
            if lost >= TRIES:
                why = "Others keep changing this room at the same time; try again."
                await self._give_up(room, wishes, why)
                raise ChangeFailed(why)
            await asyncio.sleep(random.uniform(0, min(PAUSE_MAX, PAUSE * 2**lost)))

    async def claim(
        self, accounts: Sequence[str], room: LogId | None = None
    ) -> dict[str, list[Package]]:
        """Key packages for all devices of some accounts, each one checked.

        Raises:
            Refused, ClientError: for one of them there is none, and why.
        """
        return await self._claims.of_accounts(accounts, room)

    def adopt(self, accounts: Sequence[str], room: LogId) -> None:
        """Packages that were claimed before the room existed are for this room."""
        self._claims.adopt(accounts, room)

    async def _build(
        self, room: LogId, hurry: bool
    ) -> tuple[Sequence[Wish], Built | None]:
        wishes = await self._store.run(
            lambda tx: _wishes(tx, room, self._clock.now_ms(), hurry=hurry)
        )
        wishes = await self._check_devices(room, wishes)
        if not wishes:
            return (), None
        accounts = accounts_to_add(wishes)
        packages: dict[str, list[Package]] = {}
        if accounts:
            try:
                packages = await self.claim(accounts, room)
            except ClientError:
                raise
            except TelexError as error:
                if isinstance(error, Refused) and says_later(error):
                    raise
                await self._give_up(room, wishes, str(error))
                raise ChangeFailed(str(error)) from error
        packages |= await self._claim_devices(room, wishes)
        adding = (Want.ADD, Want.ADD_DEVICE)
        chosen = [w for w in wishes if w.want not in adding or w.subject in packages]
        if not chosen:
            return (), None
        try:
            built = await self._store.run(
                lambda tx: build(
                    tx, self._groups, self._me, self._clock, room, chosen, packages
                )
            )
        except (E2eeError, TelexError) as error:
            await self._give_up(room, chosen, str(error))
            raise ChangeFailed(f"This change cannot be made: {error}") from error
        if built is None:
            await self._store.run(lambda tx: drop_wishes(tx, chosen))
        return chosen, built

    async def _claim_devices(
        self, room: LogId, wishes: Sequence[Wish]
    ) -> dict[str, list[Package]]:
        """Packages of single devices; who has none yet is tried again later."""
        found: dict[str, list[Package]] = {}
        for device in devices_to_add(wishes):
            mine = [w for w in wishes if w.subject == device]
            try:
                packages = await self._claims.of_device(device, room)
            except (NodeUnreachable, NodeUntrusted):
                raise
            except TelexError as error:
                if isinstance(error, Refused) and says_later(error):
                    raise
                logger.info("%s cannot be added yet: %s", device, type(error).__name__)
                await self._store.run(
                    partial(put_off, wishes=mine, now=self._clock.now_ms())
                )
                continue
            if packages is None:
                await self._store.run(partial(drop_wishes, wishes=mine))
            else:
                found[device] = packages
        return found

    async def _check_devices(
        self, room: LogId, wishes: Sequence[Wish]
    ) -> Sequence[Wish]:
        """Drop wishes of devices that are revoked, or not of whom they say."""
        good: list[Wish] = []
        for wish in wishes:
            if wish.want is Want.READD and wish.package is not None:
                try:
                    info = key_package_info(wish.package)
                    credential = read_credential(info.identity, self._clock.now())
                    await self._contacts.check_device(credential, room)
                except KeyChanged:
                    # Until a person decides whether the new key is theirs.
                    await self._store.run(
                        partial(postpone, wish=wish, now=self._clock.now_ms())
                    )
                    continue
                except (E2eeError, IdentityError, NodeNonsense):
                    await self._store.run(partial(drop_wishes, wishes=[wish]))
                    continue
            good.append(wish)
        return good

    async def _send(self, room: LogId, built: Built) -> None:
        receipt = await self._uplink.submit(room, built.submission, built.bundle)
        if receipt.state == "rejected" and receipt.problem is not None:
            raise refusal_of(receipt.problem)
        if receipt.state == "committed":
            await self._store.run(lambda tx: note_receipt(tx, room, receipt))
        await self._reading.wait_for(room, lambda tx: load_staged(tx, room) is None)
        self._claims.forget(room)

    async def _give_up(self, room: LogId, wishes: Sequence[Wish], why: str) -> None:
        def drop(tx: Tx) -> None:
            _unstage(tx, room)
            drop_wishes(tx, [w for w in wishes if w.want not in QUIET])
            # A lost device is to go, whatever else could not be done with it.
            put_off(tx, [w for w in wishes if w.want in QUIET], self._clock.now_ms())
            if any(w.want is not Want.UPDATE for w in wishes):
                set_note(tx, room, why)

        await self._store.run(drop)
        self._claims.forget(room)


def has_epoch(groups: Groups, room: LogId, epoch: int, tx: Tx) -> bool:
    """Whether a room was read up to an epoch (or is not read any more)."""
    group = groups.get(tx, room)
    return group is None or not group.active or group.epoch >= epoch


def note_receipt(tx: Tx, log: LogId, receipt: Receipt) -> bool:
    """Hold a receipt's place in the log against what was read, or will be."""
    if receipt.seq is None or receipt.hash is None:
        return True
    if check_link(tx, log, receipt.seq, receipt.hash, seen=False):
        return True
    fail_log(tx, log, f"a receipt shows entry {receipt.seq} otherwise")
    return False


def _wishes(tx: Tx, room: LogId, now: int, *, hurry: bool) -> Sequence[Wish]:
    row = tx.one("SELECT status FROM room WHERE id = ?", room)
    if row is None or row[0] != Status.ACTIVE:
        return ()
    plan_update(tx, room, now)
    return due_wishes(tx, room, now, hurry=hurry)


def _unstage(tx: Tx, room: LogId) -> None:
    tx.execute("DELETE FROM staged WHERE room = ?", room)
