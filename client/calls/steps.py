"""What the machine does in several places: legs, tones, and the end of a call."""

from collections import deque
from functools import partial

from client.calls.links import Attempt, Link
from client.calls.model import CallEnd
from client.calls.ongoing import Ongoing, Stage
from client.calls.record import account_of
from client.calls.values import Leave, Open, Play, Say, Show, Want
from client.content.calling import (
    LINES_MAX,
    CallAnswer,
    CallCandidates,
    CallDecline,
    Signal,
)
from client.content.calling import CallEnd as EndBody
from media.port import Tone
from protocol.log import LogId

__all__ = ["Steps"]

BYE_WAIT = 3_000
"""Milliseconds in which a newer leg has to stand behind a leg that was hung up."""

OWED = 5_000
"""Milliseconds that who hung up has to say so in the log; then this device does."""

PREPARED = 5
"""Times that an answer is prepared while a call rings."""

KEPT = 100
"""Calls that are remembered once they are over."""

TONES: dict[CallEnd, tuple[Tone, int]] = {
    "busy": ("busy", 3_000),
    "declined": ("busy", 1_500),
    "unanswered": ("ended", 1_000),
    "hung_up": ("ended", 1_000),
    "lost": ("ended", 1_000),
    "refused": ("ended", 1_000),
    "failed": ("ended", 1_000),
}
"""What tells people who were in a call how it ended, and for how many milliseconds."""


class Steps:
    """The state of a machine, and the steps that it is made of."""

    def __init__(self, device: str) -> None:
        """`device`: the address of this one."""
        self._me = device
        self._account = account_of(device)
        self.calls: dict[str, Ongoing] = {}
        """Those that ring or run, by the id that the log has for them."""
        self.ended: deque[Ongoing] = deque(maxlen=KEPT)
        """Those that are over, the newest last."""
        self.missing: dict[str, str] = {}
        """A sentence for each kind of device that is missing."""
        self._left: deque[str] = deque(maxlen=KEPT)
        """Calls of which this device said that it left them."""
        self._owed: dict[str, tuple[int, Say]] = {}
        """The end of calls in which the others hung up, said if they do not."""
        self._tone: Tone = "none"
        self._parting: tuple[Tone, int] | None = None
        """The tone that says how the last call ended, and until when."""
        self._rang: dict[LogId, deque[int]] = {}
        """When calls of a room rang last."""
        self._legs = 0
        self._out: list[Want] = []

    @property
    def occupied(self) -> bool:
        """Whether this device is in a call, or calls somebody."""
        return any(not call.incoming for call in self.calls.values())

    # --- legs ---------------------------------------------------------------------

    def _prepare(self, call: Ongoing, now: int) -> None:
        """Describe our side of the invite's leg, for when it is accepted."""
        call.prepared += 1
        if call.prepared <= PREPARED:
            self._out += self._link(call, call.caller).answer(0, call.offer, now)

    def _take(self, call: Ongoing, now: int) -> None:
        """Answer an invite as soon as our side is described."""
        link = self._link(call, call.caller)
        attempt = link.attempts.get(0)
        if call.said:
            return
        if attempt is None:
            self._prepare(call, now)
        elif attempt.mine:
            call.said = True
            id = bytes.fromhex(call.id)
            self._say(call, CallAnswer(id, call.caller, attempt.mine))
            self._out.append(Open(attempt.leg))
            self._tell_found(call, link, attempt)

    def _tell_found(self, call: Ongoing, link: Link, attempt: Attempt) -> None:
        """Name the candidates of a leg, once its description may be known."""
        if not attempt.mine or (attempt.generation == 0 and not call.said):
            return
        while attempt.found:
            lines = attempt.found[:LINES_MAX]
            del attempt.found[:LINES_MAX]
            id = bytes.fromhex(call.id)
            device, generation = link.device, attempt.generation
            self._say(call, CallCandidates(id, lines, device, generation))

    def _lose(self, call: Ongoing, link: Link, now: int) -> None:
        """A leg is no way any more; if it was the last one, look for another."""
        if not link.connected and not call.asking:
            if call.lost_since is None:
                call.lost_since = now
            link.lost(now)

    def _bye(self, call: Ongoing, link: Link, attempt: Attempt, now: int) -> None:
        """The other device hung up on a leg."""
        self._out += link.drop(attempt)
        newer = [a for a in link.attempts.values() if a.generation > attempt.generation]
        if not any(other.settled for other in newer):
            self._gone(call, link, now)
        elif not link.connected:
            # It moved to a newer leg, which does not stand on our side yet; or it
            # hung up on all of them.
            link.byes_until = now + BYE_WAIT
            self._lose(call, link, now)

    def _gone(self, call: Ongoing, link: Link, now: int) -> None:
        """A device hung up; the log will say so too."""
        self._out += link.drop_all()
        call.links.pop(link.device, None)
        if not call.links:
            body = EndBody(bytes.fromhex(call.id), "hung_up", call.seconds(now))
            self._owed[call.id] = (now + OWED, Say(call.room, call.id, body))
            self._finish(call, "hung_up", "", now)

    def device_of(self, leg: str) -> str:
        """The device at the other end of a leg; empty: of none that there is."""
        found = self._find(leg)
        return "" if found is None else found[1].device

    def _find(self, leg: str) -> tuple[Ongoing, Link, Attempt] | None:
        for call in self.calls.values():
            for link in call.links.values():
                attempt = link.by_leg(leg)
                if attempt is not None:
                    return call, link, attempt
        return None

    def _link(self, call: Ongoing, device: str) -> Link:
        known = call.links.get(device)
        if known is None:
            known = call.links[device] = Link(device, partial(self._name, call.shown))
        return known

    def _name(self, call: str) -> str:
        self._legs += 1
        return f"{call[:8]}.{self._legs}"

    # --- the end ------------------------------------------------------------------

    def _cannot(self, call: Ongoing, text: str, now: int) -> None:
        """The person took a call, and this device cannot."""
        self._say(call, CallDecline(bytes.fromhex(call.id), "failed"))
        self._finish(call, "failed", text, now)

    def _leave(self, call: Ongoing, end: CallEnd, detail: str, now: int) -> None:
        """End a call by ourselves, and say so."""
        body = EndBody(bytes.fromhex(call.id), end, call.seconds(now))
        silent = call.asking and not call.said  # no invite was written
        self._out.append(Leave(call.room, call.id, None if silent else body))
        if call.stage is Stage.ACCEPTED:
            # Our answer may not have left; then this is what the others hear.
            self._say(call, CallDecline(bytes.fromhex(call.id)))
        self._left.append(call.id)
        self._finish(call, end, detail, now)

    def _finish(self, call: Ongoing, end: CallEnd, detail: str, now: int) -> None:
        """A call is over at this device."""
        if self.calls.pop(call.id, None) is None:
            return
        for link in call.links.values():
            self._out += link.drop_all()
        if not call.incoming and end in TONES:
            tone, lasts = TONES[end]
            self._parting = (tone, now + lasts)
        call.stage, call.end, call.detail = Stage.ENDED, end, detail
        call.offer = ""  # what is remembered of it is little
        self.ended.append(call)
        if not self.calls:
            self.missing.clear()
        self._show(call)

    # --- what is wanted -----------------------------------------------------------

    def _fitting(self) -> Tone:
        """What is to be heard now, beside the others."""
        if any(call.asking and call.rung for call in self.calls.values()):
            return "ringback"
        if self.occupied:
            return "none"
        if any(call.incoming and not call.quiet for call in self.calls.values()):
            return "ring"
        return "none" if self._parting is None else self._parting[0]

    def _say(self, call: Ongoing, body: Signal) -> None:
        self._out.append(Say(call.room, call.id, body))

    def _show(self, call: Ongoing) -> None:
        self._out.append(Show(call.shown))

    def _wants(self) -> list[Want]:
        tone = self._fitting()
        if tone != self._tone:
            self._tone = tone
            self._out.append(Play(tone))
        out, self._out = self._out, []
        return out
