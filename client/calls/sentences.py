"""What is said about calls that did not go well: each one sentence, or two."""

from client.calls.model import CallEnd

__all__ = [
    "ELSEWHERE",
    "LOST",
    "NODE_AWAY",
    "NO_WAY",
    "OF_OTHERS",
    "REFUSED",
    "TOO_LONG",
]

ELSEWHERE = "Another device of yours answered this call, or declined it."

NODE_AWAY = (
    "Your node could not be reached, so nobody was called: check your network, then "
    "call again."
)

NO_WAY = (
    "The two devices found no way to each other: call again, or ask the admin of your "
    "node for a TURN server."
)

LOST = (
    "The way to the other device was lost and did not come back: check your network, "
    "then call again."
)

REFUSED = (
    "Whoever answered there does not have the key that the other device named, so the "
    "call was ended: somebody may stand between you. Compare your keys, then call "
    "again."
)

TOO_LONG = (
    "This machine has more network addresses than a call can name: take some "
    "interfaces down, or hide your address behind the relay."
)

OF_OTHERS: dict[CallEnd, str] = {
    "busy": "All devices there that answered are in another call.",
    "failed": "A device there cannot take calls right now: something it needs for "
    "them is missing.",
    "lost": "The other device lost the way to this one: call again.",
    "refused": "The other device saw another key than this one had named, and ended "
    "the call: somebody may stand between you. Compare your keys, then call again.",
}
"""Why somebody else ended it."""
