"""What devices say to each other of a call, in the log of the room that it is in.

    invite ->      somebody calls; with the description (SDP) of the caller's side
    <- ringing     a device shows it to its person
    <- busy        a device is in another call
    <- decline     a person does not want to, or cannot
    <- answer      a person took it; with the description of that device's side
    candidates     more ways to reach a device, found after it described itself
    offer, answer  a new leg between two devices of the call: another generation
    end            a device left the call

The order of the log decides every race (`client.calls.record`), and what stands in a
description is authentic because this is: above all the fingerprint of the DTLS key.
"""

from typing import ClassVar

import msgspec

from client.quiet import Quiet
from protocol.errors import Malformed
from protocol.whole import Whole

__all__ = [
    "LINES_MAX",
    "LINE_MAX",
    "SDP_MAX",
    "CallAnswer",
    "CallBusy",
    "CallCandidates",
    "CallDecline",
    "CallEnd",
    "CallInvite",
    "CallOffer",
    "CallRinging",
    "Signal",
]

SDP_MAX = 24 * 1024
"""Bytes of a description: two media lines with every codec and fifty candidates are
12 KiB, and half of a content is left for what comes later."""

LINES_MAX = 32
"""Candidates in one content: a host with eight addresses and four servers."""

LINE_MAX = 400
"""Bytes of one candidate: those of today have 150."""

DEVICE_MAX = 400
"""Characters of a device's address: at most 340."""

GENERATION_MAX = 1_000_000
"""Of a leg between two devices in one call: one every second for eleven days."""

SECONDS_MAX = 366 * 24 * 3600
"""Seconds of a call: a year."""

CODE_MAX = 16


class CallInvite(Quiet, msgspec.Struct, frozen=True):
    """Somebody calls the others in this room."""

    kind: ClassVar[str] = "call_invite"
    call: bytes
    """16 random bytes that name the call."""
    offer: str
    """SDP, for generation 0."""
    video: bool = False
    """Whether a picture is asked for."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.call, sdp=self.offer)


class CallRinging(Quiet, msgspec.Struct, frozen=True):
    """The sending device shows this call to its person."""

    kind: ClassVar[str] = "call_ringing"
    call: bytes

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.call)


class CallBusy(Quiet, msgspec.Struct, frozen=True):
    """The sending device is in another call and does not ring; others may."""

    kind: ClassVar[str] = "call_busy"
    call: bytes

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.call)


class CallDecline(Quiet, msgspec.Struct, frozen=True):
    """The sender's account does not take this call, on none of its devices."""

    kind: ClassVar[str] = "call_decline"
    call: bytes
    code: str = "declined"
    """`failed`: its person wanted to, and something there is missing."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.call, code=self.code)


class CallAnswer(Quiet, msgspec.Struct, frozen=True):
    """The sending device's side of a leg that another device offered.

    That of generation 0, with which a person takes the call, answers the invite.
    """

    kind: ClassVar[str] = "call_answer"
    call: bytes
    to: str
    """The address of the device that offered."""
    answer: str
    """SDP."""
    generation: Whole = 0

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.call, sdp=self.answer, device=self.to, generation=self.generation)


class CallOffer(Quiet, msgspec.Struct, frozen=True):
    """The way to a device of the call was lost: a new leg."""

    kind: ClassVar[str] = "call_offer"
    call: bytes
    to: str
    """The address of the other device."""
    offer: str
    """SDP."""
    generation: Whole
    """Higher than of every leg between the two so far."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.call, sdp=self.offer, device=self.to, generation=self.generation)
        if self.generation == 0:
            raise Malformed("A leg of generation 0 is offered by an invite.")


class CallCandidates(Quiet, msgspec.Struct, frozen=True):
    """More ways to reach the sending device on a leg."""

    kind: ClassVar[str] = "call_candidates"
    call: bytes
    lines: list[str]
    """`candidate:...` (RFC 8839, section 5.1)."""
    to: str = ""
    """The other device; empty: whoever answers the invite."""
    generation: Whole = 0

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.call, device=self.to, generation=self.generation)
        if not 0 < len(self.lines) <= LINES_MAX:
            raise Malformed("A call's candidates are none, or too many.")
        if any(_size(line) > LINE_MAX for line in self.lines):
            raise Malformed("A call's candidate is too long.")


class CallEnd(Quiet, msgspec.Struct, frozen=True):
    """The sending device left the call; with fewer than two in it, it is over."""

    kind: ClassVar[str] = "call_end"
    call: bytes
    code: str
    """A `calls.model.CallEnd`, or a later version's word."""
    seconds: Whole = 0
    """How long the sender was in it; 0: it was not, or cannot say."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check(self.call, code=self.code)
        if not 0 <= self.seconds <= SECONDS_MAX:
            raise Malformed("A call lasts a year at most.")


Signal = (
    CallInvite
    | CallRinging
    | CallBusy
    | CallDecline
    | CallAnswer
    | CallOffer
    | CallCandidates
    | CallEnd
)


def _check(
    call: bytes,
    *,
    sdp: str | None = None,
    device: str = "",
    generation: int = 0,
    code: str = "-",
) -> None:
    if len(call) != 16:
        raise Malformed("A call is named by 16 bytes.")
    if sdp is not None and not 0 < _size(sdp) <= SDP_MAX:
        raise Malformed("A call's description is empty or too long.")
    if len(device) > DEVICE_MAX:
        raise Malformed("A call's device has no such address.")
    if not 0 <= generation <= GENERATION_MAX:
        raise Malformed("A call's leg has no such generation.")
    if not 0 < len(code) <= CODE_MAX or not code.isascii():
        raise Malformed("A call ends for a short reason.")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
