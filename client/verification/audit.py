"""Holding what the node shows against what MLS and people's own logs say.

Two things are looked up again and again, in the background and while online: the
account log of everybody a device was added of (a device that stands in a room has to
stand in its account's list, and its credential names a head of that list), and the
roster of each room (to whom the node hands its entries) after each change of members.
All of it at least once a day.

An alarm is proof, so what can be a race is none: a roster is held against the members
at the very entry that it names, or asked for again; a device that was revoked stays in
its rooms until somebody commits that, and has an hour for it.
"""

import asyncio
import contextlib
import logging
import random
from enum import StrEnum
from functools import partial

from client.account.contacts import (
    WITHHELD,
    Contacts,
    hash_at,
    known_log,
)
from client.account.me import Me, get_meta, set_meta
from client.account.vouching import OwnDevices, is_vouched, own_devices
from client.clock import Clock
from client.errors import ClientError, KeyChanged
from client.network.transport import Transport
from client.rooms.groups import Groups
from client.storage.alarms import raise_alarm
from client.storage.heads import have
from client.storage.store import Store, Tx
from client.storage.timeline import Status
from client.verification.suspicion import (
    FALSE,
    Suspicion,
    accuse,
    accuse_returned,
    clear,
    is_returned,
    suspect,
)
from client.verification.trust import known
from protocol.account_log import AccountState
from protocol.address import DeviceAddress
from protocol.codec import encode
from protocol.credential import Credential, read_credential
from protocol.errors import IdentityError, Refused
from protocol.log import LogId
from protocol.policy import account_of, device_of
from protocol.wire import Roster

__all__ = ["Audit", "Kind", "plan"]

DAILY = 24 * 3600 * 1000
"""Milliseconds until everything is looked at again."""

RETRY = 30 * 1000
RETRY_MAX = 3600 * 1000
"""Milliseconds until what could not be asked is asked again, doubling."""

REVOKED_GRACE = 3600 * 1000
"""Milliseconds in which a revoked device may still stand in a room: its owner's other
devices take it out, once they are online."""

VOUCH_GRACE = 600 * 1000
"""Milliseconds in which the device of ours that added another one tells us."""

SPREAD = 50
"""Milliseconds for each device of a room, over which its members ask for the roster
after a change: not all of a thousand in the same moment."""

LOOKS = 4
PAUSE = 0.25
"""Times that a roster is asked for until the room has been quiet for a moment, and
seconds in between: what the node named comes over the session meanwhile."""

TRIES_MAX = 20
"""Tries in a row, over more than half a day online, after which a roster that cannot
be compared is an alarm too: else a node need only never give a fitting one."""

IDLE = 3600.0
"""Seconds between looks at the table when nothing is due."""

logger = logging.getLogger(__name__)


class Kind(StrEnum):
    """What is looked at."""

    ACCOUNT = "account"
    ROSTER = "roster"


def plan(tx: Tx, kind: Kind, subject: str, due: int) -> None:
    """Look at something at a time, or earlier if that was planned."""
    tx.execute(
        "INSERT INTO audit (kind, subject, due) VALUES (?, ?, ?)"
        " ON CONFLICT (kind, subject) DO UPDATE SET due = min(due, excluded.due)",
        kind,
        subject,
        due,
    )


class Audit:
    """Looks at what is due, one after the other."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        contacts: Contacts,
        groups: Groups,
        me: Me,
        clock: Clock,
    ) -> None:
        self._store = store
        self._transport = transport
        self._contacts = contacts
        self._groups = groups
        self._me = str(me.account)
        self._clock = clock
        self._online = asyncio.Event()
        self._wake = asyncio.Event()

    def online(self, online: bool) -> None:
        """The node is there, or is not: nothing is asked meanwhile."""
        if online:
            self._online.set()
        else:
            self._online.clear()

    @property
    def is_online(self) -> bool:
        """Whether what happened while this device was away has been read."""
        return self._online.is_set()

    def wake(self) -> None:
        """Something new is due."""
        self._wake.set()

    def changed(self, tx: Tx, room: LogId, accounts: set[str], devices: int) -> None:
        """A room's members changed: look at it, and at whom a device was added of."""
        now = self._clock.now_ms()
        for account in accounts:
            plan(tx, Kind.ACCOUNT, account, now)
        plan(tx, Kind.ROSTER, room, now + random.randrange(1 + SPREAD * devices))
        tx.after.append(self.wake)

    async def run(self) -> None:
        """Look at what is due, until cancelled."""
        while True:
            await self._online.wait()
            self._wake.clear()
            job, wait = await self._store.run(self._next)
            if job is not None:
                await self._look(*job)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, IDLE)):
                    await self._wake.wait()

    async def settle(self) -> None:
        """Look at everything now, whatever is due (for tests and the doctor)."""
        rows = await self._store.run(
            lambda tx: tx.all("SELECT kind, subject FROM audit ORDER BY kind, subject")
        )
        for kind, subject in rows:
            await self._store.run(
                partial(
                    self._postpone,
                    kind=kind,
                    subject=subject,
                    due=self._clock.now_ms() + DAILY,
                )
            )
            await self._look(Kind(kind), subject)

    async def _look(self, kind: Kind, subject: str) -> None:
        try:
            if kind is Kind.ACCOUNT:
                await self._account(subject)
                wait = DAILY
            else:
                wait = await self._roster(LogId(subject))
        except KeyChanged:
            wait = DAILY  # an alarm was raised; a person decides
        except (ClientError, Refused) as error:
            logger.info("%s of %s: later (%s)", kind, subject, type(error).__name__)
            wait = -1
        except Exception as error:
            # A mistake of ours must not end the watch over everything else.
            logger.error("%s of %s: %s", kind, subject, type(error).__name__)
            wait = -1
        await self._store.run(lambda tx: self._again(tx, kind, subject, wait))

    # --- account logs -------------------------------------------------------------

    async def _account(self, account: str) -> None:
        state = await self._contacts.refresh(account)
        await self._store.run(lambda tx: self._judge(tx, state))

    def _judge(self, tx: Tx, state: AccountState) -> None:
        """Hold all leaves of an account against its log."""
        account = str(state.account)
        entries = known_log(tx, account)
        found = known(tx, account)
        if found is None or found.root != state.root or len(entries) < state.seq:
            # A person accepted another key while this was on its way.
            plan(tx, Kind.ACCOUNT, account, self._clock.now_ms())
            return
        good: set[str] = set()
        for room, credential in self._leaves(tx, account):
            device = str(credential.device)
            if credential.root != state.root:
                continue  # a matter of the root key, which has its own alarm
            withheld = self._hold_against_head(tx, room, credential, state, entries)
            listed = state.devices.get(credential.device.device)
            if listed is not None and (
                listed.certificate.mls_key == credential.mls_key
                and listed.certificate.auth_key == credential.auth_key
            ):
                good.add(device)
            elif credential.device.device in state.revoked:
                ended = 1000 * state.revoked[credential.device.device]
                self._revoked(tx, room, device, ended)
            else:
                suspect(tx, device, Suspicion.UNLISTED, self._clock.now_ms())
                if not withheld:
                    accuse(tx, room, device, state, own=account == self._me)
        for device in good:
            clear(tx, device)
        if account == self._me:
            self._own(tx, state)

    def _own(self, tx: Tx, state: AccountState) -> None:
        """Hold our own list against what this device knows of it.

        A device is right if it was there when this one came, was made with the 24
        words (they set a new account key, and `contacts` said so), was linked here,
        or is vouched for by another device of ours in the self group.
        """
        own = own_devices(tx)
        seen = set(own.seen)
        if own.ask_serial == 0:
            seen = set(state.devices)  # a profile from before this was noted
        now = self._clock.now_ms()
        for name in sorted(set(state.devices) - seen):
            device = str(DeviceAddress(state.account, name))
            if is_vouched(tx, state, name):
                seen.add(name)
                continue
            # It is marked for as long as somebody may still vouch for it.
            since = min(now, int(get_meta(tx, f"unvouched {name}") or now))
            set_meta(tx, f"unvouched {name}", str(since).encode())
            if since + VOUCH_GRACE > now:
                plan(tx, Kind.ACCOUNT, self._me, since + VOUCH_GRACE)
                continue
            seen.add(name)
            accuse(tx, None, device, state, own=True)
        noted = OwnDevices(state.ask_serial, seen, own.vouched)
        set_meta(tx, "own_devices", encode(noted))

    def _hold_against_head(
        self,
        tx: Tx,
        room: LogId,
        credential: Credential,
        state: AccountState,
        entries: list[bytes],
    ) -> bool:
        """Whether a device knows another account log than the node shows."""
        seq, head = credential.log_seq, credential.log_hash
        if 0 < seq <= state.seq and hash_at(entries, seq) == head:
            return False
        account = str(state.account)
        how = "a longer" if seq > state.seq else "another"
        raise_alarm(
            tx,
            WITHHELD,
            f"{credential.device} {seq} {head.hex()} {state.head.hex()}",
            room,
            f"The device {credential.device} knows {how} list of devices of {account} "
            f"than the node shows (entry {seq} of {state.seq}). One of the two lies: "
            f"the node may hide a device that was added or revoked. Ask {account} "
            "another way which devices are theirs, and tell the node's admin.",
            evidence=f"account: {account}\n"
            f"device: {credential.device}\n"
            f"in its credential: {seq} {head.hex()}\n"
            f"shown: {state.seq} {state.head.hex()}",
        )
        return True

    def _revoked(self, tx: Tx, room: LogId, device: str, ended: int) -> None:
        now = self._clock.now_ms()
        since = suspect(tx, device, Suspicion.REVOKED, now)
        if is_returned(tx, device):
            if due := accuse_returned(tx, room, device, ended, since, now):
                plan(tx, Kind.ACCOUNT, device.partition("/")[0], due)
            return
        if since + REVOKED_GRACE > now:
            plan(tx, Kind.ACCOUNT, device.partition("/")[0], since + REVOKED_GRACE)
            return
        account = device.partition("/")[0]
        raise_alarm(
            tx,
            FALSE,
            f"revoked {device} {room}",
            room,
            f"The device {device} was revoked by {account} more than an hour ago and "
            "still reads this room. Ask them to be online with another device, or "
            "remove them here.",
            evidence=f"device: {device}\nroom: {room}",
        )

    def _leaves(self, tx: Tx, account: str) -> list[tuple[LogId, Credential]]:
        rooms = tx.all(
            "SELECT DISTINCT m.room FROM member m JOIN room r ON r.id = m.room"
            " WHERE m.account = ? AND r.status = ?",
            account,
            Status.ACTIVE,
        )
        found = []
        for (room,) in rooms:
            group = self._groups.get(tx, LogId(room))
            for member in () if group is None else group.members():
                if account_of(member.identity) == account:
                    with contextlib.suppress(IdentityError):
                        credential = read_credential(member.identity, None)
                        found.append((LogId(room), credential))
        return found

    # --- rosters --------------------------------------------------------------------

    async def _roster(self, room: LogId) -> int:
        """Compare a room's roster; milliseconds until the next look."""
        for _ in range(LOOKS):
            before = await self._store.run(lambda tx: self._members(tx, room))
            if before is None:
                return 0
            roster = await self._transport.get(f"/logs/{room}/roster", Roster)
            after = await self._store.run(lambda tx: self._members(tx, room))
            if after is None:
                return 0
            # The same epoch before and after, and the roster's entry in between: then
            # these were the members at that entry.
            if before[1:] == after[1:] and before[0] <= roster.seq <= after[0]:
                devices = after[2]
                await self._store.run(
                    partial(self._compare, room=room, roster=roster, devices=devices)
                )
                return DAILY
            await asyncio.sleep(PAUSE)
        return -1

    def _members(self, tx: Tx, room: LogId) -> tuple[int, int, frozenset[str]] | None:
        """How far a room was read, its epoch and its devices; None: not ours now."""
        row = tx.one("SELECT status FROM room WHERE id = ?", room)
        group = self._groups.get(tx, room)
        seq = have(tx, room)
        if (
            row is None
            or row[0] != Status.ACTIVE
            or group is None
            or not group.active
            or seq is None
        ):
            return None
        devices = frozenset(device_of(m.identity) for m in group.members())
        return seq, group.epoch, devices

    def _compare(
        self, tx: Tx, room: LogId, roster: Roster, devices: frozenset[str]
    ) -> None:
        accounts = {device.partition("/")[0] for device in devices}
        ghosts = sorted(set(roster.devices) - devices)
        ghosts += sorted(
            account
            for account in set(roster.accounts) - accounts
            if not any(ghost.startswith(f"{account}/") for ghost in ghosts)
        )
        row = tx.one("SELECT hub FROM room WHERE id = ?", room)
        hub = "the hub" if row is None else row[0]
        for ghost in ghosts:
            raise_alarm(
                tx,
                "ghost_member",
                f"{room} {ghost}",
                room,
                f"{hub} hands what is written in this room to {ghost}, who is not in "
                "it: they cannot read it, but they see who writes and when. Tell the "
                "others, and the admin of that node.",
                evidence=f"room: {room}\nhub: {hub}\nat entry: {roster.seq}\n"
                f"not in the group: {ghost}\n"
                f"in the group: {' '.join(sorted(devices))}",
            )

    # --- the table ------------------------------------------------------------------

    def _next(self, tx: Tx) -> tuple[tuple[Kind, str] | None, float]:
        """What is due, if anything is; else the seconds until something is."""
        now = self._clock.now_ms()
        # Nothing is planned for so late: the node's time, which ours is, was ahead.
        tx.execute("UPDATE audit SET due = ? WHERE due > ?", now, now + 2 * DAILY)
        row = tx.one("SELECT kind, subject, due FROM audit ORDER BY due LIMIT 1")
        if row is None:
            return None, IDLE
        if row[2] > now:
            return None, (row[2] - now) / 1000
        # What is planned anew while it is looked at counts, and is looked at again.
        self._postpone(tx, row[0], row[1], now + DAILY)
        return (Kind(row[0]), str(row[1])), 0.0

    def _again(self, tx: Tx, kind: Kind, subject: str, wait: int) -> None:
        """Plan the next look: after so long; 0 none any more, -1 a retry."""
        now = self._clock.now_ms()
        where = "WHERE kind = ? AND subject = ?"
        row = tx.one(f"SELECT due, tries FROM audit {where}", kind, subject)
        if row is None:
            return
        if wait == 0 and row[0] > now:
            tx.execute(f"DELETE FROM audit {where}", kind, subject)
            return
        tries = int(row[1]) + 1 if wait < 0 else 0
        if wait < 0:
            wait = min(RETRY_MAX, RETRY * 2 ** min(tries - 1, 20))
        if tries == TRIES_MAX and kind is Kind.ROSTER:
            raise_alarm(
                tx,
                "ghost_member",
                f"{subject} never",
                LogId(subject),
                "The node never says in a way that can be checked to whom it hands "
                "what is written in this room. Ask its admin why.",
            )
        self._postpone(tx, kind, subject, min(row[0], now + wait))
        tx.execute(f"UPDATE audit SET tries = ? {where}", tries, kind, subject)

    def _postpone(self, tx: Tx, kind: str, subject: str, due: int) -> None:
        tx.execute(
            "UPDATE audit SET due = ? WHERE kind = ? AND subject = ?",
            due,
            kind,
            subject,
        )
