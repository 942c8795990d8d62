"""Taking revoked devices out of rooms, as durable wishes that the workers bring about.

What the account log says counts for every room: the other devices of the account take
a revoked one out, in the order of their ranks, and give their own leaves new keys; a
room's admins do it where none of those is there. Members without that right wait.
"""

from collections.abc import Callable, Collection
from functools import partial

from client.account.linker import Linker
from client.account.me import Me
from client.account.self_group import SelfGroup
from client.clock import Clock
from client.model import DevicesChanged
from client.rooms import ranking
from client.rooms.changes import Want, want
from client.rooms.groups import Groups, accounts_of, policy_of
from client.storage.store import Tx
from client.storage.timeline import Status
from e2ee import Group
from protocol.account_log import AccountState
from protocol.log import LogId
from protocol.policy import Role, account_of, device_of

__all__ = ["Eviction"]

OTHERS_WAIT = 30_000
"""Milliseconds in which a person's other devices take out the one that was revoked,
before an admin of the room does."""


class Eviction:
    """Wants what account logs say of who is in rooms no more."""

    def __init__(
        self,
        groups: Groups,
        own: SelfGroup,
        linker: Linker,
        me: Me,
        clock: Clock,
        poke: Callable[[LogId], None],
    ) -> None:
        self._groups = groups
        self._own = own
        self._linker = linker
        self._account = str(me.account)
        self._device = str(me.device)
        self._clock = clock
        self._poke = poke

    def settle(self, tx: Tx, state: AccountState, *, at_once: bool) -> list[LogId]:
        """Want what our own log says: of all rooms, and of the self group."""
        tx.events.append(DevicesChanged())
        for short in state.revoked:
            self._linker.drop(tx, f"{self._account}/{short}")
        rooms = _active(tx)
        for room in rooms:
            group = self._groups.get(tx, room)
            if group is not None and group.active:
                self.check(tx, room, group, state, at_once=at_once)
        tx.after.append(lambda: [self._poke(room) for room in rooms])
        return rooms

    def check(
        self,
        tx: Tx,
        room: LogId,
        group: Group,
        state: AccountState | None,
        *,
        at_once: bool,
    ) -> None:
        """Want what our own log says of one room that this device is in.

        Args:
            state: our account log; None if it cannot be read.
            at_once: whether this device is the one to do it.
        """
        if state is None:
            return
        now = self._clock.now_ms()
        leaves = {device_of(m.identity): m.leaf for m in group.members()}
        revoked = {f"{self._account}/{short}" for short in state.revoked}
        gone = revoked & set(leaves)
        others = {
            leaf
            for device, leaf in leaves.items()
            if device.partition("/")[0] != self._account or device in gone
        }
        delay = 0 if at_once else int(ranking.delay_for(group, without=others) * 1000)
        for device in gone:
            want(tx, room, Want.REMOVE_DEVICE, device, due=now + delay)
        if room == self._own.room(tx):
            for address in state.addresses():
                if str(address) not in leaves:
                    due = now + delay
                    want(tx, room, Want.ADD_DEVICE, str(address), due=due)

    def committed(
        self,
        tx: Tx,
        room: LogId,
        sender: str,
        added: Collection[str],
        removed: Collection[str],
    ) -> None:
        """A device of ours went out of a room: it may know keys of our leaf's path."""
        ours = {d for d in removed if d.partition("/")[0] == self._account}
        # Our leaf is new already if it is our commit that took the device out.
        if not ours - set(added) or sender == self._device:
            return
        due = self._clock.now_ms() + int(ranking.STEP * 1000)
        want(tx, room, Want.UPDATE, due=due)
        tx.after.append(partial(self._poke, room))

    def settle_others(self, tx: Tx, state: AccountState) -> None:
        """Somebody revoked a device: admins see that it goes, if nobody else does."""
        account = str(state.account)
        revoked = {f"{account}/{short}" for short in state.revoked}
        if not revoked:
            return
        for room in _active(tx):
            group = self._groups.get(tx, room)
            if group is None or not group.active:
                continue
            members = group.members()
            gone = revoked & {device_of(m.identity) for m in members}
            policy = policy_of(group)
            role = policy.role(self._account)
            if not gone or policy.direct or account not in accounts_of(members):
                continue
            if role < Role.ADMIN or role <= policy.role(account):
                continue
            idle = {
                m.leaf
                for m in members
                if policy.role(account_of(m.identity)) < Role.ADMIN
            }
            wait = OTHERS_WAIT + int(ranking.delay_for(group, without=idle) * 1000)
            due = self._clock.now_ms() + wait
            for device in gone:
                want(tx, room, Want.REMOVE_DEVICE, device, due=due)
            tx.after.append(partial(self._poke, room))


def _active(tx: Tx) -> list[LogId]:
    rows = tx.all("SELECT id FROM room WHERE status = ? ORDER BY id", Status.ACTIVE)
    return [LogId(row[0]) for row in rows]
