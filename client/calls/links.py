"""The way to one other device of a call: legs, one generation after the other.

The first leg comes of the invite and its answer. Where its way is lost, either side
offers a new one of the next generation, while the old one may still come back: sound
flows on whichever is connected. Of two offers of one generation that cross, that of
the smaller address stands. Once a leg is connected on this side, those before it are
closed; so both sides end with the newest that connected for both, whoever saw what
first.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from client.calls.values import Accept, Add, Answer, Close, Offer, Open, Want
from client.content.calling import (
    GENERATION_MAX,
    LINES_MAX,
    CallAnswer,
    CallCandidates,
    CallOffer,
)
from media.port import PeerSays, Quality

__all__ = ["AHEAD", "CONNECT", "Attempt", "Link"]

CONNECT = 10_000
"""Milliseconds in which two devices that know each other's descriptions find a way:
checks take a tenth of a second, a TURN server over TLS some seconds."""

BACKOFF = (0, 3_000, 5_000, 8_000, 12_000)
"""Milliseconds between offers: five of them in the time after which a call is lost."""

AHEAD = 64
"""Generations by which an offer may be ahead of the last one in the log: who offers
while its node is away counts on, and half a minute without any way takes a dozen. One
far ahead would leave no number for those after it."""

OFFERS, OFFERS_TIME = 40, 60_000
"""Offers of the other side that are taken within a minute; a way that comes and goes
every two and a half seconds makes 24. Each has a leg made and an answer said."""

EARLY_MAX = 4 * LINES_MAX
"""Candidates that are kept until they can be used or told."""


@dataclass(slots=True)
class Attempt:
    """One leg."""

    leg: str
    generation: int
    offered: bool
    """Whether we described first."""
    mine: str = field(default="", repr=False)
    """Our description, once the media process gave it."""
    settled: bool = False
    """Whether each side knows the other's description."""
    connected: bool = False
    silent: bool = False
    """Whether it was connected, and nothing is heard now: it may come back."""
    found: list[str] = field(default_factory=list, repr=False)
    """Candidates of ours that are not to be told yet."""


@dataclass(slots=True)
class Link:
    """The legs to one device."""

    device: str
    """Empty: whoever answers."""
    name: Callable[[], str] = field(repr=False)
    """Makes a new leg's name."""
    attempts: dict[int, Attempt] = field(default_factory=dict)
    newest: int = 0
    """The highest generation that either side offered, as far as this one knows."""
    known: int = 0
    """The highest of them in the log."""
    tries: int = 0
    """Offers since it was connected last."""
    offer_at: int | None = None
    """When a new leg is offered if none is connected; else those beside it go."""
    byes_until: int | None = None
    """It hung up on one leg; if no other stands by then, on all."""
    says: PeerSays | None = None
    quality: Quality | None = None
    early: dict[int, list[str]] = field(default_factory=dict, repr=False)
    """Candidates of legs that are not made yet."""
    taken: deque[int] = field(default_factory=partial(deque, maxlen=OFFERS))
    """When offers of the other side were taken last."""

    @property
    def connected(self) -> bool:
        """Whether sound can flow."""
        return any(attempt.connected for attempt in self.attempts.values())

    def by_leg(self, leg: str) -> Attempt | None:
        """The attempt with this leg."""
        return next((a for a in self.attempts.values() if a.leg == leg), None)

    def offer(self, generation: int, now: int) -> list[Want]:
        """Describe our side first."""
        wants: list[Want] = []
        for old in list(self.attempts.values()):
            if old.generation > 0 and not old.settled:
                wants += self.drop(old)
        attempt = Attempt(self.name(), generation, offered=True)
        self.attempts[generation] = attempt
        self.newest = generation
        if generation > 0:
            self.tries += 1
        self.offer_at = now + BACKOFF[min(max(1, self.tries), len(BACKOFF) - 1)]
        return [*wants, Offer(attempt.leg)]

    @property
    def next(self) -> int | None:
        """The generation of our next offer; None: the log has to be heard first."""
        number = self.newest + 1
        return number if number <= min(self.known + AHEAD, GENERATION_MAX) else None

    def note(self, generation: int) -> bool:
        """An offer of either side stands in the log; answers whether it counts."""
        if generation > self.known + AHEAD:
            return False
        self.known = max(self.known, generation)
        return True

    def answer(self, generation: int, sdp: str, now: int) -> list[Want]:
        """Describe our side for somebody's offer."""
        attempt = Attempt(self.name(), generation, offered=False, settled=True)
        self.attempts[generation] = attempt
        self.newest = generation
        self.offer_at = now + CONNECT
        return [Answer(attempt.leg, sdp), *self._flush(attempt)]

    def heard_offer(self, me: str, body: CallOffer, now: int) -> list[Want]:
        """The other side wants a new leg."""
        if not self.note(body.generation) or body.generation < self.newest:
            return []
        mine = self.attempts.get(body.generation)
        if body.generation == self.newest and (
            mine is None or not mine.offered or mine.settled or me < self.device
        ):
            return []
        if len(self.taken) == OFFERS and self.taken[0] + OFFERS_TIME > now:
            return []
        self.taken.append(now)
        wants: list[Want] = []
        for old in list(self.attempts.values()):
            if not (old.connected or old.silent) and (
                old.generation > 0 or old.settled
            ):
                wants += self.drop(old)
        return [*wants, *self.answer(body.generation, body.offer, now)]

    def heard_answer(self, body: CallAnswer, now: int) -> list[Want]:
        """The other side described a leg that we offered."""
        attempt = self.attempts.get(body.generation)
        if attempt is None or not attempt.offered or attempt.settled:
            return []
        attempt.settled = True
        self.offer_at = now + CONNECT
        wants: list[Want] = [Accept(attempt.leg, body.answer), Open(attempt.leg)]
        return [*wants, *self._flush(attempt)]

    def heard_candidates(self, body: CallCandidates) -> list[Want]:
        """More ways to the other side; kept while they cannot be used yet."""
        attempt = self.attempts.get(body.generation)
        if attempt is not None and attempt.settled:
            return [Add(attempt.leg, tuple(body.lines))]
        if self.newest <= body.generation <= self.newest + 1:
            kept = self.early.setdefault(body.generation, [])
            kept += body.lines[: max(0, EARLY_MAX - len(kept))]
        return []

    def stands(self, attempt: Attempt, now: int) -> list[Want]:
        """A leg is connected: those before it are not needed, nor open offers."""
        attempt.connected, attempt.silent = True, False
        self.tries, self.offer_at, self.byes_until = 0, None, None
        wants: list[Want] = []
        for other in list(self.attempts.values()):
            older = other.generation < attempt.generation
            if older or not other.settled:
                wants += self.drop(other)
        newer = [a for a in self.attempts.values() if a.generation > attempt.generation]
        if any(other.connected for other in newer):
            wants += self.drop(attempt)
        if len(self.attempts) > 1:
            self.offer_at = now + CONNECT
        return wants

    def prune(self) -> list[Want]:
        """One leg stands, and others had their time."""
        others = [a for a in self.attempts.values() if not a.connected]
        return [want for attempt in others for want in self.drop(attempt)]

    def lost(self, now: int) -> None:
        """Nothing is heard: a new leg is offered soon."""
        soon = now + BACKOFF[min(self.tries, len(BACKOFF) - 1)]
        self.offer_at = soon if self.offer_at is None else min(self.offer_at, soon)

    def later(self, now: int) -> None:
        """No new leg can be offered yet."""
        self.offer_at = now + BACKOFF[-1]

    def drop(self, attempt: Attempt) -> list[Want]:
        """Give a leg up."""
        self.attempts.pop(attempt.generation, None)
        self.early.pop(attempt.generation, None)
        return [Close(attempt.leg)]

    def drop_all(self) -> list[Want]:
        """Give all of them up."""
        return [want for a in list(self.attempts.values()) for want in self.drop(a)]

    def _flush(self, attempt: Attempt) -> list[Want]:
        lines = self.early.pop(attempt.generation, None)
        self.early = {n: kept for n, kept in self.early.items() if n >= self.newest}
        return [Add(attempt.leg, tuple(lines))] if lines else []
