"""What keeps messages of a room waiting: changed keys, and people who are not verified.

Nothing that waits is lost: it goes out when the reason is gone.
"""

import json
from functools import lru_cache

from client.rooms.groups import accounts_of, policy_of
from client.storage.store import Tx
from client.verification.suspicion import Suspicion
from client.verification.trust import known
from e2ee import Group, Member
from protocol.credential import credential_root
from protocol.log import LogId
from protocol.policy import account_of, device_of

__all__ = ["SAS_WORD", "held_by", "note_hold", "stale_leaves", "unverified_in"]

SAS_WORD = "sas "
"""How the outbox words of comparisons begin: they do not wait to be verified."""

NAMED = 5
"""People that a sentence names; the others are counted."""


def held_by(tx: Tx, me: str, group: Group) -> tuple[str, bool]:
    """Why nothing is sent to a group now.

    Returns:
        A sentence, empty if nothing holds; and whether a comparison may pass.
    """
    members = group.members()
    accounts, policy = accounts_of(members), policy_of(group)
    if policy.direct and (me not in accounts or len(accounts) > 2):
        return (
            "This direct chat has others in it than the two of you: nothing is sent "
            "here. Start a new chat, and tell the other one, another way.",
            False,
        )
    roots = _roots(group)
    own = known(tx, me)
    if own is not None and roots.get(me, set()) - {own.root}:
        return (
            "A device in this room claims to be yours and has another root key: "
            "nothing is sent here. Tell the others, and make a new room without it.",
            False,
        )
    if held := _of_changed_keys(tx, roots):
        return held, False
    if held := _returned(tx, members):
        return held, False
    if held := _of_other_roots(tx, roots):
        return held, True  # a comparison shows whose it is
    if policy.refuse_unverified:
        missing = unverified_in(tx, me, sorted(accounts))
        if missing:
            return (
                f"This room is for verified people, and you have not verified {missing}"
                ": what you write waits until you have.",
                True,
            )
        rows = tx.all("SELECT device FROM suspect ORDER BY device")
        devices = {device_of(member.identity) for member in members}
        false = [str(row[0]) for row in rows if row[0] in devices]
        if false:
            return (
                f"This room is for verified people, and the device {false[0]} does not "
                "stand in its owner's list: what you write waits until it is gone.",
                True,
            )
    return "", True


def _of_changed_keys(tx: Tx, roots: dict[str, set[bytes]]) -> str:
    rows = tx.all("SELECT account FROM contact WHERE other_root IS NOT NULL")
    for account in sorted(str(row[0]) for row in rows if row[0] in roots):
        found = known(tx, account)
        if found is None or found.other is None:
            continue
        if not found.kept:
            return (
                f"The keys of {account} changed: nothing is sent here until you "
                "accept the new key or keep the old one."
            )
        if found.other in roots[account]:
            return (
                f"You kept the old key of {account}, and a device with the new one is "
                "in this room: nothing is sent here until you remove them or accept "
                "the new key."
            )
    return ""


def unverified_in(tx: Tx, me: str, accounts: list[str]) -> str:
    """Who among some accounts is not verified, as words; empty: nobody."""
    found = []
    for account in accounts:
        state = known(tx, account)
        if account != me and (state is None or not state.verified):
            found.append(account)
    if len(found) > NAMED:
        return f"{', '.join(found[:NAMED])} and {len(found) - NAMED} more"
    return " and ".join(part for part in (", ".join(found[:-1]), *found[-1:]) if part)


def note_hold(tx: Tx, room: LogId, reason: str) -> None:
    """Say of a room why nothing is sent there; empty: all is well."""
    if tx.execute(
        "UPDATE room SET hold = ? WHERE id = ? AND hold != ?", reason, room, reason
    ):
        tx.rooms.add(room)


def stale_leaves(tx: Tx, group: Group, account: str) -> list[str]:
    """An account's devices in a group under another root key than the pinned one."""
    found = known(tx, account)
    return [
        device_of(member.identity)
        for member in group.members()
        if found is not None
        and account_of(member.identity) == account
        and _root_of(member.identity) != found.root
    ]


def _of_other_roots(tx: Tx, roots: dict[str, set[bytes]]) -> str:
    """A root key in the group that is not the one that is believed."""
    pinned = tx.all(
        "SELECT account, root FROM contact WHERE account IN"
        " (SELECT value FROM json_each(?)) ORDER BY account",
        json.dumps(sorted(roots)),
    )
    for account, root in pinned:
        if roots[account] - {bytes(root)}:
            return (
                f"Not all keys of {account} in this room are the ones you believe: "
                "nothing is sent here until the device under another root key is out. "
                "They can join again with their new key, or an admin removes it; else "
                "start a new chat."
            )
    return ""


def _returned(tx: Tx, members: list[Member]) -> str:
    """A device that was revoked, and came in all the same."""
    rows = tx.all("SELECT device FROM suspect WHERE why = ?", Suspicion.RETURNED)
    back = {str(row[0]) for row in rows}
    for device in sorted(back & {device_of(member.identity) for member in members}):
        return (
            f"The device {device} was revoked and came into this room all the same: "
            "nothing is sent here until it is out."
        )
    return ""


def _roots(group: Group) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for member in group.members():
        account = account_of(member.identity)
        found.setdefault(account, set()).add(_root_of(member.identity))
    return found


_root_of = lru_cache(maxsize=16_384)(credential_root)
"""Asked for each message and member; the credentials stay the same."""
