"""What a room's log says of its calls: who called, who is in one, how it ended.

A function of the log's order and of its hub's times alone, so that all devices that
have read the same know the same, whatever they read when:

- Of two people who call each other the first invite in the log stands; the other one's
  device answers by its own invite. Both wanted to talk, so nobody is asked.
- The first answer of an account is the answer; its other devices are out.
- An account that declines does so on all its devices.
- Who begins a call is in no other one in this room any more.
- What nobody answered for `RING` milliseconds, by the hub's clock, is over: answers
  that come later come to nothing. So is what that clock has put as far ahead of what
  comes after it: a hub's false date lets nothing ring for ever.
- A call with fewer than two devices in it is over.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from client.calls.model import CallEnd as End
from client.content.calling import (
    CallAnswer,
    CallDecline,
    CallEnd,
    CallInvite,
    Signal,
)
from client.model import MessageId
from client.quiet import Quiet
from protocol.log import LogId
from protocol.whole import Whole

__all__ = ["RING", "Fact", "Heard", "account_of", "follow", "presume"]

RING = 45_000
"""Milliseconds that a call rings: ten rings of a telephone."""

SLACK = 5
"""Seconds by which a call may have been longer than the log's times say."""

BEFORE: dict[str, End] = {
    "cancelled": "cancelled",
    "unanswered": "unanswered",
    "busy": "busy",
    "failed": "failed",
}
"""Ends of a call that nobody answered, by the words on the wire."""

AFTER: dict[str, End] = {
    "hung_up": "hung_up",
    "lost": "lost",
    "refused": "refused",
    "failed": "failed",
}


class Fact(msgspec.Struct, array_like=True, frozen=True):
    """A call, as the log has it."""

    id: str
    """32 hex digits."""
    room: LogId
    seq: Whole
    """Of its invite, as `began` and `line`."""
    began: Whole
    """Milliseconds since 1970, at the hub; so are all times here."""
    line: MessageId
    """The line in the timeline that stands for it."""
    caller: str
    """A device."""
    video: bool
    invited: tuple[str, ...]
    """Accounts that are called."""
    inside: tuple[str, ...]
    """Devices in it; the caller from the beginning."""
    declined: tuple[str, ...] = ()
    """Accounts."""
    answered: Whole = 0
    """When somebody did."""
    over: End = ""
    ended: Whole = 0
    seconds: Whole = 0
    """How long it was; 0: nobody said."""
    by: str = ""
    """The device that ended it."""
    presumed: bool = False
    """Whether this device took it for over without a word of the log."""

    @property
    def live(self) -> bool:
        """Whether the log does not say that it is over."""
        return not self.over or self.presumed

    @property
    def rings(self) -> bool:
        """Whether it may still be answered."""
        return self.live and not self.answered


@dataclass(frozen=True, slots=True, repr=False)
class Heard(Quiet):
    """A content about calls that has its place in a room's log."""

    room: LogId
    seq: int
    time: int
    """Milliseconds since 1970, at the hub."""
    device: str
    """Who sent it."""
    line: MessageId
    body: Signal

    @property
    def account(self) -> str:
        """Whose device that is."""
        return account_of(self.device)

    @property
    def call(self) -> str:
        """The id that it names."""
        return self.body.call.hex()


def account_of(device: str) -> str:
    """The account of a device."""
    return device.partition("/")[0]


def follow(
    facts: Iterable[Fact], heard: Heard, invited: Sequence[str]
) -> dict[str, Fact]:
    """What changes when the next content of a room is read.

    Args:
        facts: the room's calls that are live, or were lately.
        heard: the content.
        invited: the other accounts in the room.

    Returns:
        Calls that are new or changed, by id.
    """
    found = {fact.id: fact for fact in facts}
    changed: dict[str, Fact] = {}
    for fact in sorted(found.values(), key=lambda fact: fact.seq):
        if fact.rings and heard.time > fact.began + RING:
            changed[fact.id] = _end(fact, "unanswered", fact.began + RING, "")
        elif fact.rings and heard.seq > fact.seq and heard.time < fact.began - RING:
            changed[fact.id] = _end(fact, "unanswered", heard.time, "")
    found |= changed
    if isinstance(heard.body, CallInvite):
        return changed | _invite(found, heard, heard.body, invited)
    known = found.get(heard.call)
    if known is None or not known.live:
        return changed
    match heard.body:
        case CallAnswer(generation=0) if _may_join(known, heard.account):
            return changed | {known.id: _join(known, heard)}
        case CallDecline(code=code) if _may_join(known, heard.account):
            return changed | {known.id: _decline(known, heard, code)}
        case CallEnd() if heard.device in known.inside:
            return changed | {known.id: _leave(known, heard, heard.body)}
    return changed


def presume(fact: Fact, over: End) -> Fact:
    """Take a call for over that the log does not end (yet)."""
    return msgspec.structs.replace(fact, over=over, presumed=True)


def _invite(
    found: dict[str, Fact], heard: Heard, body: CallInvite, invited: Sequence[str]
) -> dict[str, Fact]:
    if heard.call in found:
        return {}
    changed: dict[str, Fact] = {}
    gone = CallEnd(body.call, "lost")
    # What was sent again late has its old place: it does nothing to calls after it.
    before = [f for f in found.values() if f.live and f.seq < heard.seq]
    for fact in before:
        if heard.device in fact.inside:
            changed[fact.id] = _leave(fact, heard, gone)
    live = [f for f in before if f.id not in changed]
    for fact in sorted(live, key=lambda fact: fact.seq):
        if fact.rings and _may_join(fact, heard.account):
            return changed | {fact.id: _join(fact, heard)}
        if fact.rings and account_of(fact.caller) == heard.account:
            return changed  # another device of theirs calls already
    fact = Fact(
        heard.call,
        heard.room,
        heard.seq,
        heard.time,
        heard.line,
        heard.device,
        body.video,
        tuple(sorted(set(invited) - {heard.account})),
        (heard.device,),
    )
    if any(f.seq > heard.seq and heard.device in f.inside for f in found.values()):
        fact = _end(fact, "cancelled", heard.time, heard.device)
    return changed | {fact.id: fact}


def _may_join(fact: Fact, account: str) -> bool:
    """Whether an account was called, and has neither answered nor declined."""
    inside = {account_of(device) for device in fact.inside}
    return account in fact.invited and account not in (*inside, *fact.declined)


def _join(fact: Fact, heard: Heard) -> Fact:
    return msgspec.structs.replace(
        fact,
        inside=(*fact.inside, heard.device),
        answered=fact.answered or heard.time,
        over="",
        presumed=False,
    )


def _decline(fact: Fact, heard: Heard, code: str) -> Fact:
    fact = msgspec.structs.replace(fact, declined=(*fact.declined, heard.account))
    if fact.answered or set(fact.invited) - set(fact.declined):
        return fact
    over: End = "failed" if code == "failed" else "declined"
    return _end(fact, over, heard.time, heard.device)


def _leave(fact: Fact, heard: Heard, body: CallEnd) -> Fact:
    inside = tuple(device for device in fact.inside if device != heard.device)
    longest = 0
    if fact.answered:
        longest = max(0, heard.time - fact.answered) // 1000 + SLACK
    fact = msgspec.structs.replace(
        fact,
        inside=inside,
        seconds=max(fact.seconds, min(body.seconds, longest)),
    )
    if len(inside) > 1:
        return fact
    if fact.answered:
        over = AFTER.get(body.code, "hung_up")
    else:
        over = BEFORE.get(body.code, "cancelled")
    return _end(fact, over, heard.time, heard.device)


def _end(fact: Fact, over: End, ended: int, by: str) -> Fact:
    return msgspec.structs.replace(fact, over=over, ended=ended, by=by, presumed=False)
