"""What the program says in a timeline: one sentence for each thing that happened.

The facts come from what was verified (the proposals of a commit, the signature of a
message), never from what a node says. Each sentence has a stable code beside it.
"""

from client.errors import KeyPackageLost, OwnLost
from client.rooms.trail import GroupRefused
from client.storage.store import Tx
from client.storage.timeline import add_notice
from e2ee import CommitEffects
from e2ee.errors import E2eeError
from protocol.errors import IdentityError, Malformed, Refused, TelexError
from protocol.log import Entry, LogId
from protocol.policy import account_of, device_of, read_policy

__all__ = ["Lines", "code_of", "describe_commit"]


class Lines:
    """Adds lines to a timeline at the place of one entry, one below the other."""

    def __init__(self, tx: Tx, room: LogId, entry: Entry, *, first: int = 0) -> None:
        self._tx = tx
        self._room = room
        self._entry = entry
        self._next = first

    def say(self, about: str, code: str, text: str) -> None:
        """Add a line about an account or device."""
        add_notice(
            self._tx,
            self._room,
            seq=self._entry.seq,
            line=self._next,
            device=about,
            time=self._entry.time,
            code=code,
            text=text,
        )
        self._next += 1


def describe_commit(
    lines: Lines, effects: CommitEffects, before: set[str], after: set[str]
) -> None:
    """Say what a commit did to the people in the room.

    Args:
        effects: what it did to their devices.
        before: the accounts that were there.
        after: the accounts that are there now.
    """
    committer = account_of(effects.sender.identity)
    if effects.extensions_before is not None and effects.extensions_after is not None:
        _describe_rules(
            lines,
            committer,
            read_policy(effects.extensions_before).refuse_unverified,
            read_policy(effects.extensions_after).refuse_unverified,
        )
    wished = {
        device_of(action.subject.identity): account_of(action.proposer.identity)
        for action in effects.actions
        if action.subject is not None and action.kind == "remove"
    }
    gone = {device_of(member.identity) for member in effects.removed}
    for member in effects.added:
        device = device_of(member.identity)
        account = account_of(member.identity)
        if account not in before:
            before.add(account)
            lines.say(device, "added", f"{committer} added {account}.")
        elif device in gone:
            gone.discard(device)
            name = device.partition("/")[2]
            text = f"{account}'s device {name} joined again."
            lines.say(device, "rejoined", text)
        else:
            lines.say(device, "device_added", f"{account} has a new device here.")
    for device in sorted(gone):
        account = device.partition("/")[0]
        if account in after:
            lines.say(device, "device_removed", f"A device of {account} was removed.")
        elif account in before:
            before.discard(account)
            by = wished.get(device, committer)
            if by == account:
                lines.say(device, "left", f"{account} left.")
            else:
                lines.say(device, "removed", f"{by} removed {account}.")


def _describe_rules(lines: Lines, by: str, before: bool, after: bool) -> None:
    if after and not before:
        text = "nothing is sent here while somebody in it is not verified."
        lines.say(by, "refuse_unverified_on", f"{by} changed the rules: {text}")
    elif before and not after:
        text = "people who are not verified may be here again."
        lines.say(by, "refuse_unverified_off", f"{by} changed the rules: {text}")


def code_of(error: Exception) -> str:
    """The stable word for why something could not be read."""
    match error:
        case E2eeError() | Refused():
            return error.code
        case OwnLost():
            return "own_lost"
        case KeyPackageLost() | GroupRefused():
            return error.code
        case IdentityError():
            return "bad_identity"
        case Malformed():
            return "malformed"
        case TelexError():
            return "refused"
        case _:
            return "internal"
