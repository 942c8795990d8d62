"""Verification of people, as applications see it: `client.verification`.

Three ways lead to "verified": sixty digits or emoji that two people read to each other,
a code that one shows and the other scans or pastes, and a comparison of short strings
between two devices (`sas`). What comes of it belongs to a person's root key and is
shared with this account's other devices.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache

from client.account import vouching
from client.account.contacts import Contacts, known_log
from client.account.logs import read_log
from client.account.me import Me
from client.account.self_group import SelfGroup
from client.clock import Clock
from client.errors import BadText, KeyChanged, Mismatch, SasRefused
from client.model import (
    Fingerprint,
    KeyChange,
    MemberDevice,
    Room,
    Sas,
    Trust,
)
from client.rooms.groups import Groups
from client.rooms.letters import Letters
from client.storage.store import Store, Tx
from client.verification import trust
from client.verification.audit import Audit, Kind, plan
from client.verification.membership import Membership, rooms_of
from client.verification.sas import Comparisons
from client.verification.trust import Known, known, trust_of
from protocol.address import parse_account
from protocol.errors import IdentityError, Malformed
from protocol.fingerprint import (
    Party,
    fingerprint_digits,
    fingerprint_emoji,
    fingerprint_uri,
    read_fingerprint_uri,
)
from protocol.log import LogId

__all__ = ["Verification"]

SWEEP = 60.0
"""Seconds between looks for comparisons that took too long."""


class Verification:
    """Who is who: fingerprints, comparisons, changed keys, devices."""

    def __init__(
        self,
        store: Store,
        contacts: Contacts,
        groups: Groups,
        letters: Letters,
        self_group: SelfGroup,
        audit: Audit,
        me: Me,
        clock: Clock,
        poke: Callable[[LogId, float], None],
        direct: Callable[[str], Awaitable[Room]],
    ) -> None:
        """`direct` finds or makes the direct chat with somebody."""
        self._store = store
        self._direct = direct
        self._contacts = contacts
        self._own = self_group
        self._audit = audit
        self._me = str(me.account)
        self._clock = clock
        self._comparisons = Comparisons(
            me,
            groups,
            letters,
            clock,
            lambda room: poke(room, 0.0),
            self._trust_changed,
        )
        self._membership = Membership(groups, audit, me, clock, poke)
        self_group.on(trust.REGISTER, self._heard)

    # --- fingerprints -------------------------------------------------------------

    async def fingerprint(self, account: str) -> Fingerprint:
        """What the two people compare: the same on both sides, whoever asks.

        Raises:
            AddressError, BadText: it is no address, or our own.
            Refused, ClientError: nothing is known of them, and nobody answers.
        """
        account = await self._known(account)
        me, other = await self._store.run(
            lambda tx: (_party(tx, self._me), _party(tx, account))
        )
        return await asyncio.to_thread(_fingerprint, me, other)

    async def check_uri(self, account: str, text: str) -> bool:
        """Hold a code that the other person shows against the keys known here.

        It changes nothing: call `confirm` if it is right.

        Returns:
            True; whatever is not right is raised.

        Raises:
            BadText: it is no such code, or for other people than these two.
            Mismatch: it holds other keys: somebody may stand between the two.
        """
        account = await self._known(account)
        try:
            parties = read_fingerprint_uri(text)
        except Malformed as error:
            raise BadText(str(error)) from error
        if {party.account for party in parties} != {self._me, account}:
            names = " and ".join(party.account for party in parties)
            raise BadText(f"This code is for {names}; ask {account} for yours.")
        expected = await self._store.run(
            lambda tx: {_party(tx, self._me), _party(tx, account)}
        )
        if set(parties) != expected:
            wrong = sorted(party.account for party in set(parties) - expected)
            raise Mismatch(
                f"The code does not fit: it holds another key of {' and '.join(wrong)} "
                "than this device knows. Somebody may stand between you: say nothing "
                "here that they must not know."
            )
        return True

    async def confirm(self, account: str) -> None:
        """The fingerprints were compared and are the same: verified from now on.

        Raises:
            KeyChanged: their keys changed, and it is not decided what counts.
            Refused, ClientError: nothing is known of them, and nobody answers.
        """
        account = await self._known(account)

        def confirm(tx: Tx) -> None:
            if trust_of(tx, account) is Trust.CHANGED:
                raise KeyChanged(
                    f"The keys of {account} changed: accept the new key or keep the "
                    "old one first, then compare."
                )
            trust.set_verified(tx, account, True)
            self._trust_changed(tx, account)

        await self._store.run(confirm)

    async def withdraw(self, account: str) -> None:
        """Take back that somebody is verified."""
        account = str(parse_account(account))

        def withdraw(tx: Tx) -> None:
            trust.set_verified(tx, account, False)
            self._trust_changed(tx, account)

        await self._store.run(withdraw)

    # --- comparing short strings ----------------------------------------------------

    async def start_sas(self, account: str) -> str:
        """Ask somebody to compare, in your direct chat.

        Returns:
            The comparison's id; events `SasChanged` tell how it goes on. If they have
            asked already this takes part in theirs.

        Raises:
            AddressError, BadText: it is no address, or our own.
            KeyChanged: their keys changed, and it is not decided what counts.
            SasRefused: not now, and why.
            Refused, ClientError: there is no chat yet, and none can be made.
        """
        account = await self._known(account)
        room = await self._direct(account)
        if not room.active:
            raise SasRefused(room.note or f"You cannot write to {account} right now.")
        sas = await self._store.run(
            lambda tx: self._comparisons.start(tx, account, room.id)
        )
        return sas.id

    async def accept(self, id: str) -> None:
        """Take part in a comparison that somebody asked for.

        Raises:
            SasRefused: it is over.
        """
        await self._store.run(lambda tx: self._comparisons.accept(tx, id))

    async def agree(self, id: str) -> None:
        """Both screens show the same; verified once the other one says so too.

        Raises:
            SasRefused: there is nothing to agree on.
        """
        await self._store.run(lambda tx: self._comparisons.agree(tx, id))

    async def refuse(self, id: str) -> None:
        """Not now; or, where strings are shown: they are different.

        Raises:
            SasRefused: it is over.
        """
        await self._store.run(lambda tx: self._comparisons.refuse(tx, id))

    async def sas(self, id: str) -> Sas | None:
        """A comparison of the last day by its id."""
        return await self._store.run(lambda tx: self._comparisons.get(tx, id))

    async def comparisons(self) -> list[Sas]:
        """Those that are going on, also from before a restart."""
        return await self._store.run(self._comparisons.live)

    # --- changed keys -----------------------------------------------------------------

    async def changed(self) -> list[KeyChange]:
        """The people whose root key is another one than before."""

        def read(tx: Tx) -> list[tuple[Known, str, Sequence[LogId]]]:
            of = "SELECT account FROM contact WHERE other_root IS NOT NULL"
            rows = tx.all(f"{of} ORDER BY account")
            found = [(known(tx, str(row[0])), str(row[0])) for row in rows]
            return [(k, who, rooms_of(tx, who)) for k, who in found if k is not None]

        people = await self._store.run(read)
        if not people:
            return []
        me = await self._store.run(lambda tx: _party(tx, self._me))
        # Thousands of hashes for each: not on the store's thread, nor the loop's.
        return await asyncio.to_thread(
            lambda: [_change(me, who, known, rooms) for known, who, rooms in people]
        )

    async def accept_new_key(self, account: str) -> None:
        """Believe that the new key is theirs: what waits goes out, to it alone.

        Rooms with a device under the old key wait until it is out. They are unverified
        then. On all devices of this account.
        """

        def accept(tx: Tx) -> None:
            trust.accept(tx, account)
            plan(tx, Kind.ACCOUNT, account, self._clock.now_ms())
            tx.after.append(self._audit.wake)
            self._membership.part_with(tx, account)
            self._trust_changed(tx, account)

        await self._store.run(accept)

    async def keep_old_key(self, account: str) -> None:
        """Believe the key of before alone: rooms where the new one shows stay shut.

        On all devices of this account. There one goes on by removing them, or by
        `accept_new_key` after all.
        """

        def keep(tx: Tx) -> None:
            trust.keep(tx, account)
            self._trust_changed(tx, account)

        await self._store.run(keep)

    # --- devices ----------------------------------------------------------------------

    async def device_list(self, account: str) -> list[MemberDevice]:
        """The devices of somebody: those their account lists, and those in our rooms.

        `Trust.CHANGED` marks one that stands in a room and not in the list (any more).

        Raises:
            Refused, ClientError: nothing is known of them, and nobody answers.
        """
        account = await self._known(account)
        await self._look_up(account)

        def read(tx: Tx) -> list[MemberDevice]:
            general = trust_of(tx, account)
            found: dict[str, MemberDevice] = {}
            entries = known_log(tx, account)
            if entries:
                with contextlib.suppress(IdentityError):
                    state = read_log(parse_account(account), entries)
                    for name, device in state.devices.items():
                        address = f"{account}/{name}"
                        created = device.certificate.created
                        found[address] = MemberDevice(address, created, general)
            suspects = tx.all(
                "SELECT DISTINCT s.device FROM suspect s JOIN member m"
                " ON m.device = s.device WHERE m.account = ?",
                account,
            )
            for (address,) in suspects:
                created = found[address].created if address in found else 0
                found[address] = MemberDevice(address, created, Trust.CHANGED)
            return sorted(found.values(), key=lambda d: (d.created, d.device))

        return await self._store.run(read)

    # --- for the engine ---------------------------------------------------------------

    async def run(self) -> None:
        """Watch over time-outs and over what the node shows, until cancelled."""
        await self._store.run(self._begin)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._audit.run(), name="audit")
            while True:
                wait = await self._store.run(self._comparisons.expire)
                await self._store.run(self.share)
                await asyncio.sleep(min(SWEEP, SWEEP if wait is None else wait / 1000))

    def share(self, tx: Tx) -> None:
        """Give our other devices what they do not know yet."""
        for account, value in trust.untold(tx):
            self._own.set(tx, trust.REGISTER, account, value)
        for device, vouch in vouching.vouches(tx, self._me).items():
            self._own.set(tx, vouching.REGISTER, device, vouch)

    def _begin(self, tx: Tx) -> None:
        plan(tx, Kind.ACCOUNT, self._me, self._clock.now_ms())
        self._membership.begin(tx)

    def _heard(self, tx: Tx, key: str, value: bytes) -> None:
        """Another device of ours knows something of somebody."""
        trust.receive(tx, key, value)
        self._membership.trusted(tx, key)

    def _trust_changed(self, tx: Tx, account: str) -> None:
        self.share(tx)
        self._membership.trusted(tx, account)

    # --- how --------------------------------------------------------------------------

    async def _known(self, account: str) -> str:
        account = str(parse_account(account))
        if account == self._me:
            raise BadText("That is your own address; give somebody else's.")
        if await self._store.run(lambda tx: known(tx, account)) is None:
            await self._contacts.refresh(account)
        return account

    async def _look_up(self, account: str) -> None:
        """Read their list anew if it was never read; else the last one will do."""
        if not await self._store.run(lambda tx: known_log(tx, account)):
            await self._contacts.refresh(account)


@lru_cache(maxsize=1024)
def _fingerprint(me: Party, other: Party) -> Fingerprint:
    return Fingerprint(
        other.account,
        fingerprint_digits(me, other),
        fingerprint_emoji(me, other),
        fingerprint_uri(me, other),
    )


def _change(me: Party, account: str, found: Known, rooms: Sequence[LogId]) -> KeyChange:
    assert found.other is not None
    return KeyChange(
        account,
        _fingerprint(me, Party(account, found.root)),
        _fingerprint(me, Party(account, found.other)),
        tuple(rooms),
        found.kept,
    )


def _party(tx: Tx, account: str) -> Party:
    found = known(tx, account)
    if found is None:
        raise BadText(f"Nothing is known of the keys of {account}.")
    return Party(account, found.root)
