"""Calls in words: who, how it stands, how well it goes; and which call the keys mean.

Pure: times come in as arguments. The screens draw what this says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from client.calls.model import Call, CallLeg
from client.model import Trust
from media.port import Quality
from protocol.log import LogId
from tui.cells import cell_len, one_line
from tui.layout import person
from tui.text import say

__all__ = [
    "ENDED_SECONDS",
    "CallBook",
    "duration",
    "end_text",
    "grade",
    "marks",
    "meter",
    "names",
    "quality_parts",
    "state_text",
    "trust_of",
]

ENDED_SECONDS = 6.0
"""How long it is said why a call ended."""

LATE_SECONDS = 2.0
"""After a call that rang here has ended, in which the key that answers does not call
back: who presses it then meant the call that was ringing."""

FRESH_SECONDS = 0.5
"""After the key that answers began to mean a call: who presses it then meant what it
did before, because nobody reads and presses as fast."""

LOSS_FAIR, LOSS_BAD = 0.03, 0.10
"""Shares of lost packets: below the first nothing is heard of it (error correction
and concealment), above the second words are lost."""
RTT_FAIR, RTT_BAD = 250.0, 500.0
"""Milliseconds there and back: ITU-T G.114 calls 150 ms one way good, 400 the limit;
a jitter buffer and the devices take the rest."""
CONCEALED_FAIR, CONCEALED_BAD = 0.05, 0.20
"""Shares of the sound that had to be made up."""


@dataclass
class CallBook:
    """The calls of this device, as the screen knows them."""

    calls: dict[str, Call] = field(default_factory=dict)
    """Those that ring or run, by id, oldest first."""
    ended: Call | None = None
    """The one that ended last, while it is said why."""
    ended_at: float = 0.0
    rang: bool = False
    """Whether `ended` rang here to its end."""
    asks: str = ""
    """The call that the keys which answer mean."""
    asks_at: float = 0.0
    """Since when."""

    def put(self, call: Call, now: float) -> Call | None:
        """Take a call in; returns what it was before.

        Args:
            call: new or changed.
            now: seconds of a clock that never goes back.
        """
        before = self.calls.get(call.id)
        if call.state != "ended":
            self.calls[call.id] = call
        elif self.calls.pop(call.id, None) is not None:
            # A call of long ago, told again after a start, is no news.
            self.ended, self.ended_at = call, now
            self.rang = before is not None and before.state == "incoming"
        asks = "" if self.incoming is None else self.incoming.id
        if asks != self.asks:
            self.asks, self.asks_at = asks, now
        return before

    def begin(self, call: Call, now: float) -> None:
        """Take in a call that was made here; it may have ended at once."""
        if call.state == "ended":
            self.calls.pop(call.id, None)
            self.ended, self.ended_at, self.rang = call, now, False
        elif self.ended is None or self.ended.id != call.id:
            self.calls.setdefault(call.id, call)

    def forget_ended(self, now: float) -> None:
        """Say no longer why a call ended."""
        if self.ended is not None and now - self.ended_at >= ENDED_SECONDS:
            self.ended = None

    def just_rang(self, now: float) -> bool:
        """Whether a call that rang here ended a moment ago."""
        over = self.ended is not None and self.rang
        return over and now - self.ended_at < LATE_SECONDS

    def meant(self, room: LogId | None, now: float) -> bool:
        """Whether who presses the key that answers can mean the call that rings.

        Args:
            room: the chat that the key calls otherwise, if there is one.
            now: as for `put`.
        """
        ring = self.incoming
        if ring is None or now - self.asks_at >= FRESH_SECONDS:
            return True
        return room in (None, ring.room)

    @property
    def active(self) -> Call | None:
        """The call that this device is in, or makes."""
        return next((c for c in self.calls.values() if c.state != "incoming"), None)

    @property
    def incoming(self) -> Call | None:
        """The call that rings here; the oldest of several."""
        return next((c for c in self.calls.values() if c.state == "incoming"), None)

    @property
    def shown(self) -> Call | None:
        """The call that the line at the top is about."""
        return self.active or self.incoming or self.ended


def names(call: Call, titles: Mapping[str, str], node: str) -> str:
    """The others; before anybody is there whoever called or is called.

    Who is of another node is named with it: anybody may be called bob somewhere.

    Args:
        call: of whom.
        titles: of rooms, by their id.
        node: one's own: people there are named without it.
    """
    accounts: Sequence[str] = tuple(dict.fromkeys(leg.account for leg in call.legs))
    if not accounts:
        accounts = (titles.get(call.room, ""),) if call.own else (call.account,)
    return ", ".join("".join(person(account, node)) for account in accounts)


def trust_of(call: Call, room: Trust) -> Trust:
    """The least trusted of the others; before anybody is there, as of the room."""
    order = (Trust.CHANGED, Trust.UNVERIFIED, Trust.VERIFIED)
    known = [leg.trust for leg in call.legs] or [room]
    return min(known, key=order.index)


def duration(call: Call, now: int) -> str:
    """`3:25` or `1:03:25` since it was answered; empty before.

    Args:
        call: how long.
        now: milliseconds since 1970.
    """
    if not call.answered:
        return ""
    seconds = max(0, now - call.answered) // 1000
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"


def state_text(call: Call, now: int) -> str:
    """`ringing …`, the time while it runs, `reconnecting … 3:25`."""
    if call.state == "running":
        return duration(call, now) or say("call.state.running")
    if call.state == "incoming":
        return say("call.state.incoming.video" if call.video else "call.state.incoming")
    text = say(f"call.state.{call.state}")
    time = duration(call, now)
    return f"{text} {time}" if time and call.state != "ended" else text


def end_text(call: Call, who: str) -> str:
    """Why a call ended, in one sentence."""
    key = f"call.end.{call.end or 'hung_up'}"
    if not call.own and call.end in ("unanswered", "declined", "cancelled", "busy"):
        key += ".here"
    detail = one_line(call.detail)
    if detail and call.end in ("failed", "refused", "lost"):
        return detail
    return say(key, who=who)


def marks(
    call: Call, *, push: bool = False, screen: bool = False
) -> list[tuple[str, str]]:
    """What is worth a mark: (word, colour), ours first.

    Args:
        call: whose marks.
        push: whether the space bar has to be held to be heard.
        screen: whether the picture that is sent is a screen.
    """
    found = []
    if call.held:
        found.append((say("call.mark.held"), "$warning"))
    elif call.muted:
        word = say("call.mark.push" if push else "call.mark.muted")
        found.append((word, "$warning"))
    if call.camera:
        word = say("call.mark.screen" if screen else "call.mark.camera")
        found.append((word, "$success"))
    return found + [mark for leg in call.legs for mark in _others(leg)]


def _others(leg: CallLeg) -> list[tuple[str, str]]:
    who = one_line(leg.account).partition("@")[0]
    if leg.held:
        return [(say("call.mark.holds", who=who), "$quiet")]
    found = [(say("call.mark.silent", who=who), "$quiet")] if leg.muted else []
    if leg.camera and leg.screen:
        found.append((say("call.mark.shows", who=who), "$quiet"))
    return found


def grade(quality: Quality) -> str:
    """`good`, `fair` or `bad`: the worst of loss, delay and what was made up."""
    for word, loss, rtt, concealed in (
        ("bad", LOSS_BAD, RTT_BAD, CONCEALED_BAD),
        ("fair", LOSS_FAIR, RTT_FAIR, CONCEALED_FAIR),
    ):
        if quality.loss > loss or quality.rtt > rtt or quality.concealed > concealed:
            return word
    return "good"


def quality_parts(quality: Quality, width: int) -> list[str]:
    """What is known of a leg, the most telling first, as much as fits.

    Args:
        quality: of the last second.
        width: in cells, with ` · ` between the parts.
    """
    sent, received = (round(rate / 1000) for rate in (quality.sent, quality.received))
    wanted = [
        say(f"call.quality.{grade(quality)}"),
        say("call.rtt", ms=round(quality.rtt)) if quality.rtt else "",
        say("call.loss", share=f"{quality.loss:.1%}"),
        say(f"call.path.{quality.path}") if quality.path else "",
        f"↑{sent} ↓{received} kbit/s",
        say("call.jitter", ms=round(quality.jitter)),
        one_line(quality.audio),
        one_line(quality.video),
    ]
    kept: list[str] = []
    left = width
    for part in filter(None, wanted):
        need = cell_len(part) + (3 if kept else 0)
        if need > left:
            break
        kept.append(part)
        left -= need
    return kept


def meter(level: float, width: int) -> str:
    """How loud it is, 0 to 1, in as many cells.

    Loudness is heard by its logarithm; the square root comes close enough and keeps
    a whisper visible.
    """
    full = round(math.sqrt(max(0.0, min(1.0, level))) * width)
    return "▮" * full + "▯" * (width - full)
