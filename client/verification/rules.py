"""What keeps messages of a room waiting: changed keys, and people who are not verified.

Nothing that waits is lost: it goes out when the reason is gone.
"""

from client.rooms.groups import accounts_of, policy_of
from client.storage.store import Tx
from client.verification.trust import known
from e2ee import Group
from protocol.credential import credential_root
from protocol.log import LogId
from protocol.policy import account_of, device_of

__all__ = ["SAS_WORD", "held_by", "note_hold", "unverified_in"]

SAS_WORD = "sas "
"""How the outbox words of comparisons begin: they do not wait to be verified."""

NAMED = 5
"""People that a sentence names; the others are counted."""


def held_by(tx: Tx, me: str, group: Group) -> tuple[str, bool]:
    """Why nothing is sent to a group now.

    Returns:
        A sentence, empty if nothing holds; and whether a comparison may pass.
    """
    accounts = accounts_of(group.members())
    own = known(tx, me)
    if own is not None and _roots(group, me) - {own.root}:
        return (
            "A device in this room claims to be yours and has another root key: "
            "nothing is sent here. Tell the others, and make a new room without it.",
            False,
        )
    rows = tx.all("SELECT account FROM contact WHERE other_root IS NOT NULL")
    for account in sorted(str(row[0]) for row in rows if row[0] in accounts):
        found = known(tx, account)
        if found is None or found.other is None:
            continue
        if not found.kept:
            return (
                f"The keys of {account} changed: nothing is sent here until you "
                "accept the new key or keep the old one.",
                False,
            )
        if found.other in _roots(group, account):
            return (
                f"You kept the old key of {account}, and a device with the new one is "
                "in this room: nothing is sent here until you remove them or accept "
                "the new key.",
                False,
            )
    if policy_of(group).refuse_unverified:
        missing = unverified_in(tx, me, sorted(accounts))
        if missing:
            return (
                f"This room is for verified people, and you have not verified {missing}"
                ": what you write waits until you have.",
                True,
            )
        rows = tx.all("SELECT device FROM suspect ORDER BY device")
        devices = {device_of(member.identity) for member in group.members()}
        false = [str(row[0]) for row in rows if row[0] in devices]
        if false:
            return (
                f"This room is for verified people, and the device {false[0]} does not "
                "stand in its owner's list: what you write waits until it is gone.",
                True,
            )
    return "", True


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


def _roots(group: Group, account: str) -> set[bytes]:
    return {
        credential_root(member.identity)
        for member in group.members()
        if account_of(member.identity) == account
    }
