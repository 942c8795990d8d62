"""Changes of who is in a room: what is wanted, and the commit that brings it.

A want is durable and knows no epoch: add bob, take carol out, let a device back in.
A commit is built from all wants that are due and the proposals that wait, and saved
with its secrets before it is sent. If another commit wins the race, the next one is
built from the same wants; what somebody else brought about in the meantime is
dropped. (`settler` does the sending.)
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from client.account.me import Me
from client.account.packages import new_bundle
from client.clock import Clock
from client.rooms.groups import Groups, accounts_of, policy_of
from client.storage.store import Tx
from client.storage.timeline import Purpose, Status
from e2ee import Extension, Group, key_package_info
from protocol.codec import decode, encode
from protocol.credential import credential_root
from protocol.limits import CLAIM_ACCOUNTS
from protocol.log import Kind, LogId, event_id, make_submission
from protocol.policy import (
    TELEX_ROOM,
    account_of,
    device_of,
    set_refuse_unverified,
)
from protocol.wire import AddressedWelcome, Bundle

__all__ = [
    "ASK_INTERVAL",
    "QUIET",
    "Built",
    "Package",
    "Rule",
    "Want",
    "Wish",
    "accounts_to_add",
    "ask_soon",
    "build",
    "devices_to_add",
    "doubt_keys",
    "drop_wishes",
    "due_wishes",
    "expect_room",
    "forget_satisfied",
    "load_staged",
    "may_join_after",
    "next_due",
    "request_to_join",
    "want",
]

ASK_INTERVAL = 3600 * 1000
"""Milliseconds between two times that this device comes into a room again."""


ASK_AGAIN = 60 * 1000
"""Milliseconds that a Welcome which should be on its way is waited for."""


class Want(StrEnum):
    """What can be wanted."""

    ADD = "add"
    """An account, with all of its devices."""
    REMOVE = "remove"
    """An account, with all of its devices."""
    READD = "readd"
    """A device that asked for it."""
    ADD_DEVICE = "add_device"
    """One device of an account that is here."""
    REMOVE_DEVICE = "remove_device"
    """One device, because it was revoked."""
    UPDATE = "update"
    """New keys for our own leaf."""
    RULES = "rules"
    """That the room refuses unverified people, or takes them again; see `Rule`."""
    COMMIT = "commit"
    """That the proposals of others that wait become true."""


class Rule(StrEnum):
    """The subject of `Want.RULES`."""

    REFUSE = "refuse unverified"
    TAKE = "take unverified"


@dataclass(frozen=True, slots=True)
class Wish:
    """A want, as it is kept."""

    n: int
    want: Want
    subject: str
    package: bytes | None


@dataclass(frozen=True, slots=True)
class Package:
    """A key package that was claimed and checked."""

    device: str
    ref: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Built:
    """A commit, saved and ready to be sent (again)."""

    submission: bytes
    bundle: Bundle


def want(
    tx: Tx,
    room: LogId,
    kind: Want,
    subject: str = "",
    *,
    due: int = 0,
    package: bytes | None = None,
) -> None:
    """Keep a want; one that is there already becomes due at the earlier time."""
    tx.execute(
        "INSERT INTO intent (room, kind, subject, package, due) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (room, kind, subject) DO UPDATE SET"
        " due = min(due, excluded.due), package = excluded.package",
        room,
        kind,
        subject,
        package,
        due,
    )


QUIET = frozenset((Want.ADD_DEVICE, Want.REMOVE_DEVICE, Want.UPDATE))
"""What nobody waits for: it is put off when it fails, and never forced."""


DUE_MAX = 7 * 24 * 3600 * 1000
"""Milliseconds; nothing is put off for as long, but by a clock that was ahead."""


def due_wishes(tx: Tx, room: LogId, now: int, *, hurry: bool = False) -> list[Wish]:
    """What is wanted of a room and due, oldest first.

    Args:
        hurry: also what is not due, of what somebody waits for.
    """
    rows = tx.all(
        "SELECT n, kind, subject, package FROM intent WHERE room = ?"
        " AND (due <= ? OR due > ? OR (? AND kind NOT IN (?, ?, ?))) ORDER BY n",
        room,
        now,
        now + DUE_MAX,
        hurry,
        *QUIET,
    )
    return [Wish(n, Want(kind), subject, package) for n, kind, subject, package in rows]


def next_due(tx: Tx, room: LogId) -> int | None:
    """When the next want of a room is due, in milliseconds since 1970."""
    row = tx.one("SELECT min(due) FROM intent WHERE room = ?", room)
    return None if row is None or row[0] is None else int(row[0])


def drop_wishes(tx: Tx, wishes: Sequence[Wish]) -> None:
    """Give some wants up."""
    for wish in wishes:
        tx.execute("DELETE FROM intent WHERE n = ?", wish.n)


def forget_satisfied(
    tx: Tx, room: LogId, group: Group, added: set[str], *, own: bool
) -> None:
    """Drop what a commit brought about, and the commit of ours that it overtook.

    Args:
        group: after the commit.
        added: the devices that it added.
        own: whether it is ours, and so gave our leaf new keys.
    """
    accounts = accounts_of(group.members())
    devices = {device_of(member.identity) for member in group.members()}
    tx.execute("DELETE FROM staged WHERE room = ?", room)
    for wish in due_wishes(tx, room, 1 << 62):
        done = {
            Want.ADD: wish.subject in accounts,
            Want.REMOVE: wish.subject not in accounts,
            Want.READD: wish.subject in added
            or wish.subject.partition("/")[0] not in accounts,
            Want.ADD_DEVICE: wish.subject in devices
            or wish.subject.partition("/")[0] not in accounts,
            Want.REMOVE_DEVICE: wish.subject not in devices,
            Want.UPDATE: own,
            Want.RULES: wish.subject == _rule(group),
            Want.COMMIT: not group.pending_proposals,
        }
        if done[wish.want]:
            drop_wishes(tx, [wish])


def build(
    tx: Tx,
    groups: Groups,
    me: Me,
    clock: Clock,
    room: LogId,
    wishes: Sequence[Wish],
    packages: Mapping[str, Sequence[Package]],
) -> Built | None:
    """Make a commit from what is wanted and what was proposed, and save it.

    Args:
        wishes: what is due.
        packages: for each account to be added, those of its devices.

    Returns:
        What to send; None if there is nothing to do.

    Raises:
        E2eeError, NotAllowed: the commit cannot be made.
    """
    group = groups.get(tx, room)
    if group is None or not group.active:
        return None
    add, remove = _select(tx, group, room, wishes, packages)
    others = [p for p in group.pending_proposals if p.sender.leaf != group.own_leaf]
    update = any(wish.want is Want.UPDATE for wish in wishes)
    rules = _rules(tx, group, room, wishes)
    if not add and not remove and not others and not update and rules is None:
        return None
    staged = group.commit(
        add=[package.data for package in add.values()],
        remove=sorted(remove),
        extensions=rules,
        identity=_renewed(group, me),
        now=clock.now(),
    )
    devices = {package.ref: package.device for package in add.values()}
    built = Built(
        make_submission(
            room, str(me.device), secrets.token_bytes(16), Kind.COMMIT, staged.commit
        ),
        Bundle(
            staged.group_info,
            [
                AddressedWelcome(devices[ref], ref, welcome)
                for ref, welcome in staged.welcomes
            ],
        ),
    )
    tx.execute(
        "INSERT OR REPLACE INTO staged VALUES (?, ?, ?, ?, ?)",
        room,
        staged.hash,
        built.submission,
        encode(built.bundle),
        staged.encode(),
    )
    return built


def _of_former_roots(tx: Tx, group: Group, device: str) -> set[int]:
    """Leaves of a person under a root key in whose place a newer one was accepted."""
    account = device.partition("/")[0]
    rows = tx.all("SELECT root FROM former_root WHERE account = ?", account)
    former = {bytes(row[0]) for row in rows}
    return {
        member.leaf
        for member in group.members()
        if account_of(member.identity) == account
        and credential_root(member.identity) in former
    }


def _rule(group: Group) -> Rule:
    return Rule.REFUSE if policy_of(group).refuse_unverified else Rule.TAKE


def _rules(
    tx: Tx, group: Group, room: LogId, wishes: Sequence[Wish]
) -> list[Extension] | None:
    """The group's extensions with the rule that is wanted; None if it stands."""
    for wish in wishes:
        if (
            wish.want is Want.RULES
            and wish.subject != _rule(group)
            and tx.one("SELECT 1 FROM intent WHERE n = ?", wish.n) is not None
        ):
            on = wish.subject == Rule.REFUSE
            return [
                Extension(e.type, set_refuse_unverified(e.data, on))
                if e.type == TELEX_ROOM
                else e
                for e in group.context.extensions
            ]
    return None


def _renewed(group: Group, me: Me) -> bytes | None:
    """Our credential, if the group shows the one before it was renewed."""
    for member in group.members():
        if member.leaf == group.own_leaf and member.identity != me.credential:
            return me.credential
    return None


def _select(
    tx: Tx,
    group: Group,
    room: LogId,
    wishes: Sequence[Wish],
    packages: Mapping[str, Sequence[Package]],
) -> tuple[dict[str, Package], set[int]]:
    """The devices to add and the leaves to remove, for what is still wanted."""
    # Since they were looked at somebody else may have brought some of them about.
    still = {row[0] for row in tx.all("SELECT n FROM intent WHERE room = ?", room)}
    leaves = {device_of(m.identity): m.leaf for m in group.members()}
    add: dict[str, Package] = {}
    remove: set[int] = set()
    for wish in wishes:
        if wish.n not in still:
            continue
        match wish.want:
            case Want.ADD:
                for package in packages.get(wish.subject, ()):
                    if package.device not in leaves:
                        add[package.device] = package
            case Want.ADD_DEVICE if wish.subject not in leaves:
                for package in packages.get(wish.subject, ()):
                    add[package.device] = package
            case Want.REMOVE_DEVICE if leaves.get(wish.subject) != group.own_leaf:
                remove |= {leaf for d, leaf in leaves.items() if d == wish.subject}
            case Want.REMOVE:
                remove |= {
                    leaf
                    for device, leaf in leaves.items()
                    if device.partition("/")[0] == wish.subject
                }
            case Want.READD if wish.package is not None:
                if wish.subject in leaves:
                    remove.add(leaves[wish.subject])
                add[wish.subject] = _package(wish.package)
                remove |= _of_former_roots(tx, group, wish.subject)
    return add, remove


def load_staged(tx: Tx, room: LogId) -> Built | None:
    """A commit that was sent, or was about to be, and is not in the log yet."""
    row = tx.one("SELECT submission, bundle FROM staged WHERE room = ?", room)
    if row is None:
        return None
    return Built(bytes(row[0]), decode(bytes(row[1]), Bundle))


def may_join_after(tx: Tx, clock: Clock, room: LogId) -> int:
    """Milliseconds until this device may come into a room again; at most an hour."""
    row = tx.one("SELECT asked FROM room WHERE id = ?", room)
    now = clock.now_ms()
    if row is None or not 0 <= now - int(row[0]) < ASK_INTERVAL:
        return 0
    return int(row[0]) + ASK_INTERVAL - now


def doubt_keys(tx: Tx, room: LogId) -> None:
    """Our keys may be older than what was sent with them: join before writing."""
    tx.execute(
        "UPDATE room SET rewound = 1 WHERE id = ? AND status = ?", room, Status.ACTIVE
    )


def request_to_join(tx: Tx, me: Me, clock: Clock, room: LogId) -> None:
    """Ask a room's members to let this device in, where it cannot by itself."""
    now = clock.now_ms()
    bundle = new_bundle(me, clock)
    tx.execute(
        "INSERT INTO key_package (ref, bundle, last_resort, created)"
        " VALUES (?, ?, 0, ?)",
        bundle.ref,
        bundle.encode(),
        now,
    )
    txn = secrets.token_bytes(16)
    submission = make_submission(
        room, str(me.device), txn, Kind.JOIN_REQUEST, bundle.key_package
    )
    tx.execute(
        "INSERT INTO outbox (room, txn, kind, content, submission, event_id, state)"
        " VALUES (?, ?, ?, x'', ?, ?, 'ready')",
        room,
        txn,
        Kind.JOIN_REQUEST,
        submission,
        event_id(submission),
    )
    tx.execute("UPDATE room SET asked = ? WHERE id = ?", now, room)


def ask_soon(tx: Tx, room: LogId, now: int) -> None:
    """Come in by ourselves in a minute: a Welcome should be on its way."""
    tx.execute(
        "UPDATE room SET asked = ? WHERE id = ?", now - ASK_INTERVAL + ASK_AGAIN, room
    )


def expect_room(tx: Tx, clock: Clock, room: LogId, hub: str) -> bool:
    """Note a room of our account that this device knows nothing of: it joins it.

    Returns:
        False if there is no need: a Welcome is here, or the room is known.
    """
    if tx.one("SELECT 1 FROM welcome WHERE room = ?", room) is not None:
        return False
    if tx.one("SELECT 1 FROM room WHERE id = ?", room) is not None:
        return False
    tx.execute(
        "INSERT INTO room (id, hub, direct, title, status, note, activity, purpose)"
        " VALUES (?, ?, 0, '', ?, ?, ?, CASE WHEN EXISTS"
        "  (SELECT 1 FROM room WHERE purpose = ?) THEN '' ELSE ? END)",
        room,
        hub,
        Status.ASKED,
        "This device joins the room.",
        clock.now_ms(),
        Purpose.SELF,
        Purpose.UNSURE,
    )
    tx.rooms.add(room)
    return True


def devices_to_add(wishes: Sequence[Wish]) -> list[str]:
    """The devices whose key packages are needed."""
    return [w.subject for w in wishes if w.want is Want.ADD_DEVICE]


def accounts_to_add(wishes: Sequence[Wish]) -> list[str]:
    """The accounts whose key packages are needed, as many as go into one commit."""
    return [w.subject for w in wishes if w.want is Want.ADD][:CLAIM_ACCOUNTS]


def _package(data: bytes) -> Package:
    info = key_package_info(data)
    return Package(device_of(info.identity), info.ref, data)
