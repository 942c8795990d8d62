"""What people do with rooms: begin a chat, make a group, bring in, take out, leave.

Each of these is a durable wish first and a commit after, so that a crash between the
two leaves nothing half done. What can be known to fail is refused before anything is
stored: an account that does not exist, a right that is lacking.
"""

import asyncio
from collections.abc import Callable, Sequence

from client.account.me import Me
from client.clock import Clock
from client.errors import (
    BadText,
    ChangeFailed,
    ClientError,
    RoomInactive,
    Unverified,
)
from client.model import Room, RoomMember, Trust
from client.rooms.changes import Rule, Want, want
from client.rooms.founding import found
from client.rooms.groups import Groups, accounts_of, policy_of
from client.rooms.letters import Letters
from client.rooms.posting import Posting
from client.rooms.reader import RoomReader
from client.rooms.settler import Settler
from client.rooms.talk import Talk
from client.rooms.workers import Workers
from client.storage.store import Store, Tx
from client.storage.timeline import Status, get_room, set_status
from client.text import check_name
from client.verification.rules import unverified_in
from client.verification.trust import trust_of
from e2ee import Group
from e2ee.errors import E2eeError
from protocol.address import parse_account
from protocol.errors import NotAllowed, Refused, UnknownRoom
from protocol.limits import MEMBERS_MAX
from protocol.log import LogId
from protocol.policy import Role, authorize

__all__ = ["Rooms"]

SETTLE_TIMEOUT = 120.0
"""Seconds that a call waits for its change; it goes on in the background after."""


class Rooms:
    """Makes and changes rooms on behalf of the application."""

    def __init__(
        self,
        store: Store,
        groups: Groups,
        letters: Letters,
        talk: Talk,
        reader: RoomReader,
        settler: Settler,
        posting: Posting,
        workers: Workers,
        me: Me,
        clock: Clock,
    ) -> None:
        self._store = store
        self._groups = groups
        self._letters = letters
        self._talk = talk
        self._reader = reader
        self._settler = settler
        self._posting = posting
        self._workers = workers
        self._me = me
        self._account = str(me.account)
        self._clock = clock
        self._making = asyncio.Lock()

    async def start_direct(self, account: str) -> Room:
        """The direct chat with somebody; makes it if there is none.

        Raises:
            AddressError, BadText: it is no address, or our own.
            Refused, ClientError: there is no such account, or nobody answers.
        """
        account = str(parse_account(account))
        if account == self._account:
            raise BadText("That is your own address; give somebody else's.")
        async with self._making:
            room = await self._store.run(lambda tx: _direct_with(tx, account))
            if room is None:
                room = await self._make([account], direct=True, title=account)
                # They may have begun one too: then both go on in the same.
                found = await self._store.run(lambda tx: _direct_with(tx, account))
                room = found or room
        return await self._get(room)

    async def create_group(self, name: str, accounts: Sequence[str]) -> Room:
        """Make a group; nothing is made if one of the accounts cannot be added.

        Raises:
            AddressError, BadText: an address or the name cannot be used.
            Refused, ClientError: somebody cannot be added, or nobody answers.
        """
        name = check_name(name)
        others = self._others(accounts)
        async with self._making:
            return await self._get(await self._make(others, direct=False, title=name))

    async def add(self, room: LogId, accounts: Sequence[str]) -> None:
        """Bring people into a group.

        Raises:
            RoomInactive, Refused, ClientError: it did not come through, and why.
        """
        others = self._others(accounts)
        await self._change(room, Want.ADD, others)

    async def remove(self, room: LogId, account: str) -> None:
        """Take somebody out of a group.

        Raises:
            RoomInactive, Refused, ClientError: it did not come through, and why.
        """
        account = str(parse_account(account))
        if account == self._account:
            raise BadText("To go yourself, leave the room.")
        await self._change(room, Want.REMOVE, [account])

    async def leave(self, room: LogId) -> None:
        """Leave a room: at once here, for the others when one of them confirms it.

        Raises:
            UnknownRoom: there is no such room here.
        """

        def leave(tx: Tx) -> None:
            row = tx.one("SELECT status FROM room WHERE id = ?", room)
            if row is None:
                raise UnknownRoom
            if row[0] not in (Status.ACTIVE, Status.ASKED, Status.CREATING):
                return
            tx.execute("DELETE FROM intent WHERE room = ?", room)
            set_status(tx, room, Status.LEFT, "You left this room.")
            self._letters.give_up(tx, room, "You left this room.")
            group = self._groups.get(tx, room)
            if group is None or not group.active:
                return
            if set(accounts_of(group.members())) == {self._account}:
                self._groups.drop(tx, room)
            else:
                self._reader.propose_leaving(tx, room, group)

        async with self._workers.lock(room):
            try:
                await self._store.run(leave)
            except E2eeError as error:
                raise ChangeFailed(f"You could not leave: {error}.") from error
        self._workers.poke(room)

    async def rename(self, room: LogId, name: str) -> None:
        """Give a group another name.

        Raises:
            BadText, RoomInactive: it cannot have this name.
        """
        name = check_name(name)

        def rename(tx: Tx) -> None:
            group = self._group(tx, room)
            if policy_of(group).direct:
                raise RoomInactive("A chat between two people has no name of its own.")
            tx.execute("UPDATE room SET title = ? WHERE id = ?", name, room)
            tx.rooms.add(room)
            self._talk.name(tx, room, name)

        await self._store.run(rename)
        self._workers.poke(room)

    async def set_refuse_unverified(self, room: LogId, on: bool) -> None:
        """Let a room wait with messages while somebody in it is not verified, or not.

        Raises:
            NotAllowed: only admins may, in a group.
            RoomInactive, Refused, ClientError: it did not come through, and why.
        """

        def keep(tx: Tx) -> None:
            policy = policy_of(self._group(tx, room))
            if not policy.direct and policy.role(self._account) < Role.ADMIN:
                raise NotAllowed("Only an admin of this room may change its rules.")
            tx.execute(
                "DELETE FROM intent WHERE room = ? AND kind = ?", room, Want.RULES
            )
            if policy.refuse_unverified != on:
                want(tx, room, Want.RULES, Rule.REFUSE if on else Rule.TAKE)

        await self._settle(room, keep)

    async def members(self, room: LogId) -> list[RoomMember]:
        """The accounts in a room, ourselves first; empty once we are out."""

        def read(tx: Tx) -> list[RoomMember]:
            group = self._groups.get(tx, room)
            if group is None or not group.active:
                return []
            policy = policy_of(group)
            found = [
                RoomMember(
                    account,
                    policy.role(account),
                    n,
                    account == self._account,
                    Trust.VERIFIED
                    if account == self._account
                    else trust_of(tx, account),
                    _suspects(tx, room, account),
                )
                for account, n in accounts_of(group.members()).items()
            ]
            return sorted(found, key=lambda m: (not m.own, -m.role, m.account))

        return await self._store.run(read)

    # --- how ------------------------------------------------------------------

    async def _make(self, accounts: list[str], *, direct: bool, title: str) -> LogId:
        await self._settler.claim(accounts)

        def create(tx: Tx) -> tuple[LogId, bool]:
            # While the packages were fetched theirs may have come.
            known = _direct_with(tx, title) if direct else None
            if known is not None:
                return known, False
            return self._create(tx, accounts, direct=direct, title=title), True

        room, new = await self._store.run(create)
        if not new:
            return room
        self._settler.adopt(accounts, room)
        async with self._workers.lock(room):
            try:
                async with asyncio.timeout(SETTLE_TIMEOUT):
                    await self._posting.send(room)
                    await self._settler.settle(room, hurry=True)
            except ChangeFailed as error:
                if direct:
                    # A chat with nobody: what is written there must not be sent.
                    why = str(error)
                    await self._store.run(
                        lambda tx: set_status(tx, room, Status.LEFT, why)
                    )
                    raise
            except (TimeoutError, ClientError, Refused):
                # It stands in the list, and goes on when the node is there again.
                if await self._store.run(lambda tx: _is_gone(tx, room)):
                    raise
        self._workers.poke(room)
        return room

    def _create(
        self, tx: Tx, accounts: list[str], *, direct: bool, title: str
    ) -> LogId:
        room = found(
            tx,
            self._groups,
            self._letters,
            self._me,
            self._clock,
            title=title,
            direct=direct,
        )
        for account in accounts:
            want(tx, room, Want.ADD, account)
        if not direct:
            self._talk.name(tx, room, title)
        return room

    async def _change(self, room: LogId, kind: Want, accounts: Sequence[str]) -> None:
        def check(tx: Tx) -> list[str]:
            group = self._group(tx, room)
            present = set(accounts_of(group.members()))
            there = kind is Want.REMOVE
            subjects = [a for a in accounts if (a in present) is there]
            authorize(
                policy_of(group),
                self._account,
                added=() if there else subjects,
                removed=subjects if there else (),
                present=present,
            )
            if kind is Want.ADD and policy_of(group).refuse_unverified:
                missing = unverified_in(tx, self._account, subjects)
                if missing:
                    raise Unverified(
                        "This room is for verified people: compare keys with "
                        f"{missing} first, then add them."
                    )
            return subjects

        subjects = await self._store.run(check)
        if not subjects:
            return
        if kind is Want.ADD:
            await self._settler.claim(subjects, room)

        def keep(tx: Tx) -> None:
            for account in subjects:
                want(tx, room, kind, account)

        await self._settle(room, keep)

    async def _settle(self, room: LogId, keep: Callable[[Tx], None]) -> None:
        """Keep what is wanted and bring it about."""
        try:
            async with self._workers.lock(room), asyncio.timeout(SETTLE_TIMEOUT):
                await self._store.run(keep)
                await self._settler.settle(room, hurry=True)
        except TimeoutError as error:
            raise ChangeFailed(
                "This takes longer than usual; it goes on in the background."
            ) from error
        finally:
            self._workers.poke(room)

    def _group(self, tx: Tx, room: LogId) -> Group:
        row = tx.one("SELECT status, note FROM room WHERE id = ?", room)
        if row is None:
            raise UnknownRoom
        group = self._groups.get(tx, room)
        if row[0] != Status.ACTIVE or group is None or not group.active:
            raise RoomInactive(row[1] or "This room cannot be changed right now.")
        return group

    def _others(self, accounts: Sequence[str]) -> list[str]:
        others = dict.fromkeys(str(parse_account(account)) for account in accounts)
        others.pop(self._account, None)
        if len(others) >= MEMBERS_MAX:
            raise BadText(f"A room has at most {MEMBERS_MAX} people; take fewer.")
        return list(others)

    async def _get(self, room: LogId) -> Room:
        found = await self._store.run(lambda tx: get_room(tx, room))
        if found is None:
            raise UnknownRoom
        return found


def _direct_with(tx: Tx, account: str) -> LogId | None:
    row = tx.one(
        "SELECT id FROM room WHERE direct AND title = ? AND status IN (?, ?, ?)"
        " AND (members > 1 OR status != 'active' OR EXISTS"
        "  (SELECT 1 FROM intent i WHERE i.room = room.id))"
        " ORDER BY members > 1 AND status != 'creating' DESC, id",
        account,
        Status.ACTIVE,
        Status.ASKED,
        Status.CREATING,
    )
    return None if row is None else LogId(row[0])


def _suspects(tx: Tx, room: LogId, account: str) -> int:
    row = tx.one(
        "SELECT count(*) FROM suspect s JOIN member m ON m.device = s.device"
        " WHERE m.room = ? AND m.account = ?",
        room,
        account,
    )
    return 0 if row is None else int(row[0])


def _is_gone(tx: Tx, room: LogId) -> bool:
    row = tx.one("SELECT status FROM room WHERE id = ?", room)
    return row is None or row[0] == Status.LEFT
