"""Who is there, and who is typing: frames that are told and never stored.

Presence is directed by its owner: a device tells its own node how it is and to which
accounts that may be shown, because only members know who is in a room. Nobody can ask
for somebody's presence; who was not named hears nothing, and cannot tell an account
that hides from one that does not exist. A node tells these frames to a device only
after the device sent a `Presence` of its own in the session, so that a program that
does not know them never meets one.
"""

from typing import Final, Literal

import msgspec

from protocol.log import LogId
from protocol.whole import Whole

__all__ = [
    "LEASE",
    "PEER_LEASE",
    "PEER_PAIRS",
    "PEER_PEOPLE",
    "PEER_RESAY",
    "PEER_TYPING",
    "PEOPLE_MAX",
    "SHOW_MAX",
    "TYPING_EVERY",
    "TYPING_LEASE",
    "TYPING_MEMBERS",
    "Availability",
    "Mode",
    "PeerPresence",
    "PeerPresenceAnswer",
    "PeerTyping",
    "People",
    "Person",
    "Presence",
    "ShownPerson",
    "Typing",
    "Typist",
]

Availability = Literal["online", "away", "dnd", "offline"]
"""How somebody is, as others see it."""

Mode = Literal["online", "away", "dnd", "hidden", "gone"]
"""How a device is. `hidden`: its person is shown to nobody as there, whatever the
person's other devices say. `gone`: goodbye; the others count from here on."""

SHOW_MAX: Final = 1000
"""Accounts that a device shows itself to: all the people somebody knows, or the
members of the largest room."""

LEASE: Final = 90
"""Seconds that a device which vanished without a word counts as there: two heartbeats
of its socket and a way through a tunnel."""

PEOPLE_MAX: Final = 500
"""People in one frame; more go in the next one."""

TYPING_EVERY: Final = 3
"""Seconds between two frames that say that somebody still types in a room."""

TYPING_LEASE: Final = 6
"""Seconds that somebody types without being heard of again: twice the former."""

TYPING_MEMBERS: Final = 200
"""Members of a room from which on nobody is told who types: each frame would go to
all of them, and nobody follows it."""

PEER_LEASE: Final = 600
"""Seconds that a node's word about its people holds. Each request renews it for all;
a node that has nothing to say renews it with an empty one."""

PEER_RESAY: Final = 30
"""Seconds in which a node says everything anew: some requests, one after the other."""

PEER_PEOPLE: Final = 500
"""People in one request between nodes, and accounts it probes for."""

PEER_PAIRS: Final = 20_000
"""Names in all `to` of one request between nodes; half a megabyte. One person alone,
with `SHOW_MAX` of them, always fits."""

PEER_TYPING: Final = 200
"""Typists in one request between nodes."""


# --- between a device and its node -------------------------------------------


class Presence(msgspec.Struct, tag_field="t", tag="presence"):
    """Device to node: how this device is. A device that says `gone` before it closes
    is gone at once; one that falls silent is there for `LEASE` seconds more."""

    mode: Mode
    show: list[str] | None = None
    """The accounts that it may be shown to, at most `SHOW_MAX`; None: those of the
    frame before in this session (at its beginning: nobody)."""


class Person(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Somebody who shows itself to whoever gets this."""

    account: str
    state: Availability
    since: Whole
    """Unix seconds: since when; of `offline`: when last seen, 0 if unknown."""


class People(msgspec.Struct, tag_field="t", tag="people"):
    """Node to device: people who show themselves to it. It holds until the next word
    about them or the end of the session: the node watches the leases."""

    people: list[Person]
    fresh: bool = False
    """All that was said before in this session is void: whoever is not named here, or
    in the frames that follow, shows nothing."""


class Typing(msgspec.Struct, tag_field="t", tag="typing"):
    """Device to node: its person types in a room, or has stopped."""

    log: LogId
    on: bool = True


class Typist(msgspec.Struct, tag_field="t", tag="typist"):
    """Node to device: somebody types in a room."""

    log: LogId
    account: str
    lease: Whole
    """Seconds until that is over by itself; 0: it is over now."""


# --- between nodes ------------------------------------------------------------


class ShownPerson(msgspec.Struct, array_like=True, frozen=True):
    """A person of the sending node, and whom of the receiving one it is for."""

    account: str
    state: Availability
    since: Whole
    to: list[str]
    """Names of the receiver's accounts, the part before the @."""


class PeerTyping(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Somebody types in a room of which one of the two nodes is the hub."""

    log: LogId
    account: str
    lease: Whole


class PeerPresence(msgspec.Struct):
    """`POST /telex/fed/v1/presence`: what changed; it renews all that was said before.

    Best effort: whoever could not say something says all of it anew, with another
    `run`.
    """

    run: Whole
    """Names what the receiver should hold: another number than before means that
    nothing of before counts unless it is said again within `PEER_RESAY` seconds."""
    fresh: bool = False
    """The receiver need not know this run yet."""
    people: list[ShownPerson] = []
    probe: list[str] = []
    """Accounts of the sender that came online: who shows itself to them?"""
    typing: list[PeerTyping] = []


class PeerPresenceAnswer(msgspec.Struct):
    """The answer to it."""

    run: Whole
    """The answerer's own, of its people here."""
    fresh: bool = False
    people: list[ShownPerson] = []
    """Who shows itself to the accounts that were probed for, and nobody else."""
    lost: bool = False
    """The run is not known here: say everything again."""
    listens: bool = False
    """Somebody here looks at what was sent; if not, nothing more need be sent until
    this node asks."""
