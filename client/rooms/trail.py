"""Where a room's log leads, for a device that has no keys for it.

A group that a Welcome or the hub's GroupInfo shows is signed by somebody who is in it:
anybody can make such a group up, and a hub can show an old one. What cannot be made
up are the commits that lead to it, each signed by a member of the epoch before. So
the public half of the last epoch that was verified is kept when the keys go, follows
the commits of the log, and what this device comes back into has to be the very epoch
to which that leads.

Where the log cannot be followed (the node leaves a part out, or the keys were damaged
on the disk) less is asked: no older epoch than was known, and nobody who was not in
the room, or was taken out of it.
"""

import hashlib
from typing import NamedTuple

from client.rooms.groups import Groups, accounts_of, policy_of
from client.storage.alarms import raise_alarm
from client.storage.heads import has_gap, have
from client.storage.store import Tx
from e2ee import CommitEffects, Group, Member, PublicGroup
from e2ee.errors import E2eeError
from protocol.errors import IdentityError, StaleEpoch, TelexError
from protocol.log import Kind, LogId, Submission
from protocol.policy import device_of

__all__ = [
    "GHOST",
    "REWOUND",
    "Before",
    "GroupRefused",
    "Place",
    "before_joining",
    "check_members",
    "check_people",
    "check_state",
    "check_welcome",
    "follow",
    "has_trail",
    "inside",
    "jump",
    "outside",
    "place_of",
    "public_of",
    "step",
    "step_proposal",
    "unasked",
]

NOT_TWO = "direct_not_two"
"""The alarm: what is shown as a direct chat is none between two people."""

REWOUND = "group_rewound"
"""The alarm: another group is shown than the one to which the log leads."""

GHOST = "ghost_member"
"""The alarm: somebody is in a room whom nothing that was verified let in."""


class Place(NamedTuple):
    """How far a room was read, and the epoch to which that led."""

    read: int
    epoch: int


class Before(NamedTuple):
    """What was known of a room before this device came into it again."""

    accounts: frozenset[str]
    followed: bool
    """Whether nothing should have escaped this device since it was in it."""


class GroupRefused(IdentityError):
    """A group that is not this room's, or not with these people; with an alarm."""

    def __init__(self, code: str, text: str, evidence: str = "") -> None:
        """`code` is the alarm's, `text` says what is wrong and what to do."""
        super().__init__(text)
        self.code = code
        self.evidence = evidence

    def alarm(self, tx: Tx, room: LogId) -> None:
        """Raise the alarm, outside of what the refusal takes back."""
        known = tx.one("SELECT 1 FROM room WHERE id = ?", room) is not None
        fact = f"{room} {hashlib.sha256(self.evidence.encode()).hexdigest()}"
        where = room if known else None
        raise_alarm(tx, self.code, fact, where, str(self), evidence=self.evidence)


def check_people(tx: Tx, room: LogId, group: Group, me: str) -> None:
    """Hold a direct chat to what the word says: this account and one other.

    Raises:
        GroupRefused: it has others; or the room was a direct chat, or none, before.
    """
    direct, accounts = policy_of(group).direct, set(accounts_of(group.members()))
    row = tx.one("SELECT direct, title, joined FROM room WHERE id = ?", room)
    before = None if row is None or not row[2] else bool(row[0])
    pair = {me, str(row[1])} if row is not None and before and row[1] else accounts
    if direct is (direct if before is None else before) and (
        not direct or (me in accounts and len(accounts) <= 2 and accounts <= pair)
    ):
        return
    names = ", ".join(sorted(accounts - {me}))
    raise GroupRefused(
        NOT_TWO,
        f"Somebody shows you a direct chat that is not one between two people: in it "
        f"are {names}. It was not joined. Tell them, another way, what is done in "
        "their name.",
        _evidence(tx, room, group.epoch, group.members()),
    )


def public_of(tx: Tx, groups: Groups, room: LogId) -> PublicGroup | None:
    """The newest state of a room that this device verified; None if it has none."""
    group = groups.get(tx, room)
    if group is not None and group.active:
        return group.public()
    return groups.trail(tx, room)


def has_trail(tx: Tx, room: LogId) -> bool:
    """Whether the log of a room without keys is followed."""
    row = tx.one("SELECT data FROM trail WHERE room = ?", room)
    return row is not None and bool(row[0])


def step(
    public: PublicGroup, submission: Submission
) -> tuple[PublicGroup, CommitEffects]:
    """Take a commit as the hub must have taken it.

    Raises:
        E2eeError, TelexError: no honest hub has put it in the log.
    """
    after, effects = public.follow(submission.body)
    if device_of(effects.sender.identity) != submission.sender:
        raise IdentityError("Somebody else's commit was sent.")
    return after, effects


def step_proposal(public: PublicGroup, submission: Submission) -> PublicGroup | None:
    """Take a proposal as the hub must have taken it; None if it cannot have."""
    try:
        after, received = public.receive_proposal(submission.body)
    except (E2eeError, TelexError):
        return None
    same = device_of(received.sender.identity) == submission.sender
    return after if same else None


def follow(
    tx: Tx, groups: Groups, room: LogId, seq: int, submission: Submission
) -> CommitEffects | None:
    """Let the trail of a room without keys follow an entry of its log.

    Returns:
        What a commit did; None if it was none, or there is no trail.

    Raises:
        E2eeError, TelexError: no honest hub has put this commit in the log.
    """
    if submission.kind not in (Kind.COMMIT, Kind.PROPOSAL):
        return None
    public = groups.trail(tx, room)
    if public is None:
        return None
    if submission.kind == Kind.PROPOSAL:
        after = step_proposal(public, submission)
        if after is not None:
            groups.keep_trail(tx, room, after)
        return None
    public, effects = step(public, submission)
    groups.keep_trail(tx, room, public)
    tx.execute(
        "INSERT OR REPLACE INTO trail_point VALUES (?, ?, ?)",
        room,
        seq,
        hashlib.sha256(public.context.encode()).digest(),
    )
    return effects


def check_welcome(tx: Tx, room: LogId, seq: int, group: Group) -> None:
    """Hold the group of a Welcome against the log, where that was followed.

    Raises:
        GroupRefused: it is another one than the commit at `seq` leads to.
    """
    row = tx.one("SELECT data FROM trail WHERE room = ?", room)
    if row is None or not row[0]:
        check_members(tx, room, group.epoch, group.members())
        return
    point = tx.one(
        "SELECT context FROM trail_point WHERE room = ? AND seq = ?", room, seq
    )
    ours = hashlib.sha256(group.context.encode()).digest()
    if point is None or bytes(point[0]) != ours:
        raise _rewound(tx, room, group.epoch, group.members())


def place_of(tx: Tx, room: LogId) -> Place:
    """Where this device stands in a room, before it asks for the hub's state."""
    row = tx.one("SELECT epoch FROM trail WHERE room = ?", room)
    return Place(have(tx, room) or 0, -1 if row is None else int(row[0]))


def check_state(
    tx: Tx, groups: Groups, room: LogId, group_info: bytes, seq: int, place: Place
) -> bool:
    """Hold the state that the hub shows against where the log leads.

    Args:
        group_info: of the state; its signature and tree are checked elsewhere.
        seq: the newest entry when the hub gave it.
        place: where this device stood before it asked.

    Returns:
        Whether it is proven; if not, its members are to be given to `check_members`.

    Raises:
        StaleEpoch: the log has to be read further first.
        GroupRefused: it is not where the log leads.
    """
    public = public_of(tx, groups, room)
    if public is None or has_gap(tx, room):
        return False
    if public.is_state_of(group_info):
        return True
    if seq > place.read or public.epoch != place.epoch:
        raise StaleEpoch
    raise _rewound(tx, room, -1, [])


def jump(tx: Tx, groups: Groups, room: LogId) -> None:
    """Go on behind a gap in the log: what was followed so far leads no further."""
    groups.drop(tx, room)
    tx.execute("UPDATE trail SET data = x'' WHERE room = ?", room)
    tx.execute("DELETE FROM trail_point WHERE room = ?", room)


def check_members(tx: Tx, room: LogId, epoch: int, members: list[Member]) -> None:
    """Hold a group to which no log was followed against who was in the room.

    Raises:
        GroupRefused: it is older than what was known, or with others.
    """
    row = tx.one("SELECT epoch, data FROM trail WHERE room = ?", room)
    if row is None:
        return  # never here, or out of it for good: who is in it is news
    gap = has_gap(tx, room) or row[1] == b""
    if epoch < row[0]:
        raise _rewound(tx, room, epoch, members)
    accounts = set(accounts_of(members))
    ghosts = accounts & outside(tx, room)
    known = inside(tx, room)
    if gap and known:
        ghosts |= accounts - known
    if ghosts:
        names = ", ".join(sorted(ghosts))
        raise GroupRefused(
            GHOST,
            f"The hub of this room shows {names} as being in it, and nothing that this "
            "device could check let them in: it does not come back into this room. "
            "Ask the others, and make a new room at another node.",
            _evidence(tx, room, epoch, members),
        )


def before_joining(tx: Tx, room: LogId) -> Before:
    """Note who was in a room: call it before the new group is saved."""
    row = tx.one("SELECT 1 FROM trail WHERE room = ?", room)
    return Before(frozenset(inside(tx, room)), row is not None)


def unasked(tx: Tx, room: LogId) -> GroupRefused:
    """What a Welcome is into a room in which this device is, with working keys."""
    return GroupRefused(
        REWOUND,
        "An invitation would have put another group in the place of this room's, and "
        "nothing in the room's log led to it: it was refused. The hub of this room, "
        "or somebody with its help, lies. Tell the others, and make a new room at "
        "another node.",
        _evidence(tx, room, -1, []) + "\ninvitation: not used",
    )


def _rewound(tx: Tx, room: LogId, epoch: int, members: list[Member]) -> GroupRefused:
    return GroupRefused(
        REWOUND,
        "The hub of this room shows another group than the one to which the room's "
        "own log leads: an old one, or one that somebody made up. Nothing is sent "
        "to it. Tell the others, and make a new room at another node.",
        _evidence(tx, room, epoch, members),
    )


def _evidence(tx: Tx, room: LogId, epoch: int, members: list[Member]) -> str:
    hub = tx.one("SELECT hub FROM room WHERE id = ?", room)
    known = tx.one("SELECT epoch FROM trail WHERE room = ?", room)
    lines = [f"room: {room}", f"hub: {'' if hub is None else hub[0]}"]
    if known is not None:
        lines.append(f"epoch known: {known[0]}")
    if members:
        shown = " ".join(sorted(device_of(m.identity) for m in members))
        lines += [f"epoch shown: {epoch}", f"in the group shown: {shown}"]
    return "\n".join(lines)


_LAST = (
    "SELECT account FROM presence p WHERE room = ? AND inside = ? AND seq ="
    " (SELECT max(seq) FROM presence WHERE room = p.room AND account = p.account)"
)


def outside(tx: Tx, room: LogId) -> set[str]:
    """Who is out of a room, by the last commit that said something of them."""
    return {str(row[0]) for row in tx.all(_LAST, room, False)}


def inside(tx: Tx, room: LogId) -> set[str]:
    """Who is in a room, as far as this device knows from commits."""
    rows = tx.all("SELECT DISTINCT account FROM member WHERE room = ?", room)
    known = {str(row[0]) for row in tx.all(_LAST, room, True)}
    return known | ({str(row[0]) for row in rows} - outside(tx, room))
