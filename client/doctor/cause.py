"""Every cause for which something cannot be read or sent, in one place.

A cause has a stable code, a sentence, who is at fault and which repair it takes. What
has no row of its own gets the one of its kind of entry: no code is without a repair
or the reason why there is none.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from protocol.log import Kind

__all__ = ["CAUSES", "Cause", "Fault", "Repair", "cause_of"]

Repair = Literal["rejoin", "ask_resend", "update", "wait", "verify", "none"]


class Fault(Enum):
    """Whose doing it is."""

    SENDER = "sender"
    OWN = "own"
    HUB = "hub"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something does not work, and what is done about it."""

    text: str
    """One sentence; `{who}` stands for the account whose entry it is."""
    fault: Fault
    repair: Repair
    repair_text: str
    """What the repair does, in one sentence; `{who}` as above."""


_ASK = "{who} is asked to send it again; it takes its old place."
_REJOIN = "This device joins the room again by itself, with new keys."
_UPDATE = "Update Telex: it is kept, and shown then."
_NOTHING = "Nothing needs to be done: it changes nothing here."

CAUSES: dict[str, Cause] = {
    # --- messages
    "no_keys": Cause(
        "It came while this device had no keys for the room.",
        Fault.OWN,
        "ask_resend",
        _ASK,
    ),
    "stale_epoch": Cause(
        "It came late, when the keys it was written with were deleted here already.",
        Fault.NOBODY,
        "ask_resend",
        _ASK,
    ),
    "future_epoch": Cause(
        "It was written with keys that this device has not seen yet.",
        Fault.OWN,
        "ask_resend",
        _ASK,
    ),
    "generation_used": Cause(
        "{who}'s device used a key twice: its data was put back from an old copy.",
        Fault.SENDER,
        "ask_resend",
        _ASK,
    ),
    "generation_too_far": Cause(
        "Too many messages of {who} are missing before it.",
        Fault.SENDER,
        "ask_resend",
        _ASK,
    ),
    "decryption_failed": Cause(
        "It does not open with the room's keys: those here or those at {who} are "
        "damaged.",
        Fault.SENDER,
        "ask_resend",
        _ASK,
    ),
    "bad_signature": Cause(
        "Its signature is not {who}'s: somebody changed it on the way.",
        Fault.SENDER,
        "ask_resend",
        _ASK,
    ),
    "unknown_sender": Cause(
        "Its sender is not in the room's group.", Fault.SENDER, "ask_resend", _ASK
    ),
    "own_lost": Cause(
        "This device wrote it and no longer has it: its data was put back from an "
        "old copy.",
        Fault.OWN,
        "ask_resend",
        "Your other devices, or else the others in the room, are asked for it.",
    ),
    "unknown_content": Cause(
        "{who} sent something that this Telex is too old to show.",
        Fault.NOBODY,
        "update",
        _UPDATE,
    ),
    "unknown_kind": Cause(
        "Something came that this Telex is too old to read.",
        Fault.NOBODY,
        "update",
        _UPDATE,
    ),
    "unsupported_version": Cause(
        "{who}'s Telex speaks a newer version of the encryption, or it is damaged.",
        Fault.SENDER,
        "ask_resend",
        _ASK,
    ),
    "internal": Cause(
        "A mistake in Telex kept it from being read.", Fault.OWN, "ask_resend", _ASK
    ),
    "bad_identity": Cause(
        "Whoever sent it is not who they say.", Fault.SENDER, "none", _NOTHING
    ),
    "not_allowed": Cause(
        "{who} may not do this in this room.", Fault.SENDER, "none", _NOTHING
    ),
    "fork": Cause(
        "{who} was shown another history of this room than this device.",
        Fault.HUB,
        "none",
        "Nothing here can repair it: compare what you see with {who}, and go on in a "
        "room at another node.",
    ),
    "forged_commit": Cause(
        "The room's hub put a change of keys into the log that nobody who may has "
        "made; it was passed over.",
        Fault.HUB,
        "none",
        "Nothing here needs repair: tell the hub's admin.",
    ),
    # --- the state of a room
    "lost_keys": Cause(
        "This device has no keys for this room.", Fault.OWN, "rejoin", _REJOIN
    ),
    "rewound": Cause(
        "This device's data was put back from an old copy: its keys here may have "
        "been used already.",
        Fault.OWN,
        "rejoin",
        _REJOIN,
    ),
    "lost_welcome": Cause(
        "This device was added, and its invitation cannot be used.",
        Fault.OWN,
        "rejoin",
        _REJOIN,
    ),
    "log_gap": Cause(
        "The node leaves out a part of this room's log.",
        Fault.HUB,
        "rejoin",
        "This device goes on behind the gap, with new keys; what is in the gap is "
        "asked for where it is known.",
    ),
    "log_broken": Cause(
        "The log of this room was rewritten at its hub; nothing of it is believed.",
        Fault.HUB,
        "none",
        "Nothing here can repair it: compare with the others, and go on in a room at "
        "another node.",
    ),
    "commit_waits": Cause(
        "A change of this room's members was sent and is not confirmed yet.",
        Fault.NOBODY,
        "wait",
        "It is sent again until the room's hub answers.",
    ),
    "outbox_waits": Cause(
        "Something that you wrote has not reached the room's hub.",
        Fault.NOBODY,
        "wait",
        "It is sent again until the room's hub answers.",
    ),
    "key_changed": Cause(
        "The keys of somebody here changed: nothing is sent until you choose.",
        Fault.SENDER,
        "verify",
        "Compare the keys with them another way, then accept the new ones or keep "
        "the old.",
    ),
}

_DEFAULT: dict[str, Cause] = {
    Kind.MESSAGE: Cause(
        "It could not be read here ({code}).", Fault.SENDER, "ask_resend", _ASK
    ),
    Kind.COMMIT: Cause(
        "A change of the room's keys by {who} does not fit those of this device "
        "({code}).",
        Fault.OWN,
        "rejoin",
        _REJOIN,
    ),
}
_OTHER = Cause("It could not be read here ({code}).", Fault.SENDER, "none", _NOTHING)

_MESSAGES_ALONE = frozenset(
    code for code, cause in CAUSES.items() if cause.repair == "ask_resend"
)


def cause_of(code: str, kind: str = "") -> Cause:
    """The cause for a code; never none.

    Args:
        code: as `rooms.notices.code_of` gives it, or one of the table's.
        kind: of the entry, a `log.Kind`; empty for the state of a room.
    """
    if kind == Kind.COMMIT and code != "forged_commit":
        return _DEFAULT[Kind.COMMIT]
    if code in CAUSES and (kind in ("", Kind.MESSAGE) or code not in _MESSAGES_ALONE):
        return CAUSES[code]
    return _DEFAULT.get(kind, _OTHER)
