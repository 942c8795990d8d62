"""Who stands in rooms, and what follows from whose keys are believed.

Each epoch is noted as rows (`member`), whoever came is looked at, and a room says why
nothing is sent there. A device that has no place in a room any more is put out of it,
where this account may do that.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from client.account.contacts import known_log
from client.account.logs import read_log
from client.account.me import Me
from client.clock import Clock
from client.rooms.changes import Want, want
from client.rooms.groups import Groups, policy_of
from client.rooms.upkeep import hasten
from client.storage.store import Tx
from client.verification.audit import Audit, Kind
from client.verification.rules import held_by, note_hold, stale_leaves
from client.verification.suspicion import Suspicion, accuse_returned, suspect
from client.verification.trust import known
from e2ee import Group
from protocol.address import parse_account
from protocol.errors import IdentityError
from protocol.log import LogId
from protocol.policy import Role, device_of

__all__ = ["Membership", "rooms_of"]

PLACE_KEPT = 60 * 1000
"""Milliseconds that a device under a key which was given up still has its place: the
new one that asks to come in takes it."""

MET_AT_ONCE = 16
"""Accounts whose logs are read again in one transaction when devices come in."""


class Membership:
    """Keeps the table of members; each method is part of a transaction."""

    def __init__(
        self,
        groups: Groups,
        audit: Audit,
        me: Me,
        clock: Clock,
        poke: Callable[[LogId, float], None],
    ) -> None:
        self._groups = groups
        self._audit = audit
        self._me = str(me.account)
        self._clock = clock
        self._poke = poke
        groups.on_epoch = self.changed

    def begin(self, tx: Tx) -> None:
        """Take in rooms from before there was a table of members."""
        for (room,) in tx.all(
            "SELECT id FROM room WHERE status = 'active'"
            " AND id NOT IN (SELECT room FROM member)"
        ):
            group = self._groups.get(tx, LogId(room))
            if group is not None:
                self.changed(tx, LogId(room), group)

    def changed(self, tx: Tx, room: LogId, group: Group) -> None:
        """An epoch is new: note who is in the room, and look at who came."""
        if not group.active:
            return
        policy = policy_of(group)
        tx.execute(
            "UPDATE room SET refuse_unverified = ? WHERE id = ?"
            " AND refuse_unverified != ?",
            policy.refuse_unverified,
            room,
            policy.refuse_unverified,
        )
        devices = {device_of(member.identity) for member in group.members()}
        rows = tx.all("SELECT device FROM member WHERE room = ?", room)
        before = {str(row[0]) for row in rows}
        for device in before - devices:
            tx.execute("DELETE FROM member WHERE room = ? AND device = ?", room, device)
        came = devices - before
        for device in came:
            account = device.partition("/")[0]
            tx.execute("INSERT INTO member VALUES (?, ?, ?)", room, device, account)
        self._meet(tx, room, group, came)
        seen = "SELECT 1 FROM audit WHERE kind = ? AND subject = ?"
        if devices != before or tx.one(seen, Kind.ROSTER, room) is None:
            accounts = {device.partition("/")[0] for device in came}
            self._audit.changed(tx, room, accounts, len(devices))
        note_hold(tx, room, held_by(tx, self._me, group)[0])

    def trusted(self, tx: Tx, account: str) -> None:
        """Let messages that waited for somebody's keys go, or hold them."""
        found = known(tx, account)
        if found is not None and found.other is None:
            hasten(tx, account)
        for room in rooms_of(tx, account):
            group = self._groups.get(tx, room)
            if group is not None and group.active:
                note_hold(tx, room, held_by(tx, self._me, group)[0])
            tx.after.append(partial(self._poke, room, 0.0))

    def part_with(self, tx: Tx, account: str) -> None:
        """Take leaves under a key that was given up out, where this account may.

        Their new device, if it asks to come in, takes their place before that.
        """
        for room in rooms_of(tx, account):
            group = self._groups.get(tx, room)
            if group is None or not group.active:
                continue
            for device in stale_leaves(tx, group, account):
                self._evict(tx, room, group, device, PLACE_KEPT)

    def _evict(
        self, tx: Tx, room: LogId, group: Group, device: str, delay: int
    ) -> None:
        """Want a device out of a room in so many milliseconds, if that is allowed."""
        account = device.partition("/")[0]
        policy = policy_of(group)
        role = policy.role(self._me)
        above = not policy.direct and role >= Role.ADMIN and role > policy.role(account)
        if account == self._me or above:
            due = self._clock.now_ms() + delay
            want(tx, room, Want.REMOVE_DEVICE, device, due=due)
            tx.after.append(partial(self._poke, room, delay / 1000))

    def _meet(self, tx: Tx, room: LogId, group: Group, came: set[str]) -> None:
        """Look whether who came into a room was revoked, by the logs that are here."""
        names: dict[str, set[str]] = {}
        for device in came:
            account, _, name = device.partition("/")
            names.setdefault(account, set()).add(name)
        # More come at once only where this device is new itself; the audit follows.
        for account in sorted(names)[:MET_AT_ONCE]:
            entries = known_log(tx, account)
            if not entries:
                continue
            with contextlib.suppress(IdentityError):
                state = read_log(parse_account(account), entries)
                for name in sorted(names[account] & set(state.revoked)):
                    device = f"{account}/{name}"
                    now, ended = self._clock.now_ms(), 1000 * state.revoked[name]
                    since = suspect(tx, device, Suspicion.RETURNED, now)
                    if self._audit.is_online:
                        accuse_returned(tx, room, device, ended, since, now)
                    # Else the room is being read to its end, where it may be out
                    # again; the audit, which is next, finds it if it is not.
                    self._evict(tx, room, group, device, 0)


def rooms_of(tx: Tx, account: str) -> Sequence[LogId]:
    """The rooms that somebody is in with us, and that are shown."""
    rows = tx.all(
        "SELECT DISTINCT m.room FROM member m JOIN room r ON r.id = m.room"
        " WHERE m.account = ? AND r.status IN ('active', 'asked') AND r.purpose = ''"
        " ORDER BY m.room",
        account,
    )
    return [LogId(row[0]) for row in rows]
