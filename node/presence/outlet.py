"""What other nodes are told of our people: one request at a time for each node.

Nothing is kept to be sent later: what waits is the newest state of each person, and
when a request failed all of it is said anew, under another run, once the node answers
again. A node that says that nobody there listens is told nothing until it asks. So an
outage costs one number for each node, and a lost request can leave nobody shown as
there who is not: the lease ends what is not renewed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from node.presence.roll import Change, Roll
from protocol.log import LogId
from protocol.presence import (
    PEER_LEASE,
    PEER_PAIRS,
    PEER_PEOPLE,
    PEER_TYPING,
    SHOW_MAX,
    Availability,
    PeerPresence,
    PeerPresenceAnswer,
    PeerTyping,
    ShownPerson,
)

__all__ = ["OUTLETS_MAX", "PACE", "RENEW", "Outlets"]

PACE = 0.25
"""Seconds between the end of a request and the next one to the same node."""

RENEW = PEER_LEASE * 0.4
"""Seconds after which a node that listens is told that all of it still holds: one such
request may be lost."""

RETRY_FIRST, RETRY_MAX = 30.0, 600.0
"""Seconds until a node that did not answer is tried again, doubling, or until it asks
us. Federation itself lets no request through to a node that it is waiting for."""

OUTLETS_MAX = 5_000
"""Nodes that our people show themselves to: as many as a large node knows. Who is on
another is shown nobody until some go."""


@dataclass(slots=True)
class _Outlet:
    run: int
    fresh: bool = True
    """Everything is to be said anew."""
    listens: bool = True
    dirty: dict[str, None] = field(default_factory=dict)
    dropped: dict[str, set[str]] = field(default_factory=dict)
    probes: dict[str, None] = field(default_factory=dict)
    typing: dict[tuple[LogId, str], PeerTyping] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Whom the request that is under way probes for."""
    busy: bool = False
    probed: bool = False
    """Whether it asked us while the request was under way: then somebody listens,
    whatever its answer says of the moment before."""
    failures: int = 0
    failed_at: float = 0.0
    next_at: float = 0.0
    said_at: float = 0.0

    @property
    def waiting(self) -> bool:
        if self.probes or self.typing:
            return True
        return self.listens and bool(self.fresh or self.dirty or self.dropped)


class Outlets:
    """By node: what it is to be told next."""

    def __init__(self, roll: Roll, run: Callable[[], int]) -> None:
        """`run` gives a number that it did not give before."""
        self._roll = roll
        self._run = run
        self._outlets: dict[str, _Outlet] = {}
        self._pruned_at = float("-inf")

    # --- what is to be told -----------------------------------------------------

    def change(self, change: Change, nodes: Iterable[str], now: float) -> None:
        """Somebody of ours changed; `nodes` are those that may hear of it."""
        account = change.person.account
        for node in nodes:
            outlet = self._get(node, now)
            if outlet is None or outlet.fresh or not outlet.listens:
                continue
            if node in change.to:
                outlet.dirty[account] = None
            if node in change.dropped:
                gone = outlet.dropped.setdefault(account, set())
                gone |= change.dropped[node]

    def probe(self, account: str, nodes: Iterable[str], now: float) -> None:
        """Somebody of ours came: ask these nodes who shows itself to it."""
        for node in nodes:
            outlet = self._get(node, now)
            if outlet is not None:
                outlet.probes[account] = None

    def type(self, node: str, typing: PeerTyping, now: float) -> None:
        """Somebody types in a room that the node has a part in."""
        outlet = self._get(node, now)
        if outlet is None or outlet.failures or len(outlet.typing) >= PEER_TYPING:
            return
        outlet.typing[typing.log, typing.account] = typing

    def answer(self, node: str, probe: list[str], now: float) -> PeerPresenceAnswer:
        """A node asks who shows itself to these accounts of its own.

        Nobody else is named, whoever else is there.
        """
        outlet = self._outlets.get(node)
        if outlet is not None and outlet.failures:  # it is there again
            # But its answers may still be lost: not more often for that.
            soon = max(now + PACE, outlet.failed_at + RETRY_FIRST)
            outlet.next_at = min(outlet.next_at, soon)
        if not probe:
            return PeerPresenceAnswer(0 if outlet is None else outlet.run)
        quiet = outlet is None or not outlet.listens
        outlet = self._get(node, now)
        if outlet is None:
            return PeerPresenceAnswer(0)
        if quiet:  # nobody there listened before: these are all who do
            outlet.run, outlet.fresh, outlet.listens = self._run(), False, True
            outlet.said_at = now
        outlet.probed = True
        people: dict[str, ShownPerson] = {}
        for viewer in probe:
            for word in self._roll.seen_by(viewer):
                if word.account not in people:
                    if len(people) >= PEER_PEOPLE:
                        outlet.fresh = True  # the rest follows
                        continue
                    shown = ShownPerson(word.account, word.state, word.since, [])
                    people[word.account] = shown
                people[word.account].to.append(viewer.partition("@")[0])
        return PeerPresenceAnswer(outlet.run, fresh=True, people=list(people.values()))

    def _get(self, node: str, now: float) -> _Outlet | None:
        outlet = self._outlets.get(node)
        if outlet is None:
            if len(self._outlets) >= OUTLETS_MAX and now - self._pruned_at >= 1:
                self._pruned_at = now  # it looks at all of them: not for each
                self._prune()
            if len(self._outlets) < OUTLETS_MAX:
                outlet = self._outlets[node] = _Outlet(self._run(), said_at=now)
        return outlet

    def _prune(self) -> None:
        """Forget nodes at which nobody listens."""
        quiet = [n for n, o in self._outlets.items() if not (o.busy or o.waiting)]
        for node in quiet:
            if not self._outlets[node].listens:
                del self._outlets[node]

    # --- sending ----------------------------------------------------------------

    def due(self, now: float) -> list[str]:
        """Nodes that a request goes to now."""
        return [
            node
            for node, outlet in self._outlets.items()
            if not outlet.busy and (at := self._at(outlet)) is not None and at <= now
        ]

    def next_due(self) -> float | None:
        """When `due` names somebody."""
        times = [
            at
            for outlet in self._outlets.values()
            if not outlet.busy and (at := self._at(outlet)) is not None
        ]
        return min(times, default=None)

    def _at(self, outlet: _Outlet) -> float | None:
        if outlet.waiting:
            return outlet.next_at
        if outlet.listens:
            return max(outlet.next_at, outlet.said_at + RENEW)
        return None

    def take(self, node: str) -> PeerPresence | None:
        """The request for a node; `answered` or `failed` must follow.

        Returns:
            None: nobody shows itself there; the node is forgotten.
        """
        outlet = self._outlets[node]
        if not outlet.waiting and not self._roll.shown_at(node):
            del self._outlets[node]
            return None
        outlet.busy, outlet.probed = True, False
        fresh = outlet.fresh
        if fresh:
            outlet.run, outlet.fresh = self._run(), False
            outlet.dirty = dict.fromkeys(self._roll.shown_at(node))
            outlet.dropped = {}
        outlet.asked = list(outlet.probes)[:PEER_PEOPLE]
        for account in outlet.asked:
            del outlet.probes[account]
        typing, outlet.typing = list(outlet.typing.values()), {}
        people = self._people(node, outlet)
        return PeerPresence(outlet.run, fresh, people, outlet.asked, typing)

    def _people(self, node: str, outlet: _Outlet) -> list[ShownPerson]:
        """As many as fit into one request."""
        people: list[ShownPerson] = []
        pairs = 0

        def add(account: str, state: Availability, since: int, to: list[str]) -> None:
            nonlocal pairs
            pairs += len(to)
            people.append(ShownPerson(account, state, since, to))

        def room() -> bool:
            return len(people) < PEER_PEOPLE and pairs + SHOW_MAX <= PEER_PAIRS

        while outlet.dropped and room():
            account, gone = outlet.dropped.popitem()
            add(account, "offline", 0, sorted(gone))
        while outlet.dirty and room():
            account = next(iter(outlet.dirty))
            del outlet.dirty[account]
            known = self._roll.person(account)
            if known is not None and node in known[1]:
                person, shown = known
                add(account, person.state, person.since, sorted(shown[node]))
        return people

    def answered(self, node: str, answer: PeerPresenceAnswer, now: float) -> None:
        """The node has taken the request."""
        outlet = self._outlets[node]
        outlet.busy = False
        outlet.failures, outlet.asked = 0, []
        outlet.next_at, outlet.said_at = now + PACE, now
        outlet.listens = answer.listens or outlet.probed
        if answer.lost or not outlet.listens:
            outlet.fresh = True
            outlet.dirty, outlet.dropped = {}, {}

    def failed(self, node: str, now: float) -> None:
        """The node did not answer: what it has heard counts no more."""
        outlet = self._outlets[node]
        outlet.busy = False
        outlet.failures += 1
        outlet.failed_at = now
        wait = RETRY_FIRST * 2.0 ** min(outlet.failures - 1, 10)
        outlet.next_at = now + min(RETRY_MAX, wait)
        outlet.fresh, outlet.listens = True, True
        outlet.dirty, outlet.dropped, outlet.typing = {}, {}, {}
        outlet.probes |= dict.fromkeys(outlet.asked)
        outlet.asked = []

    def unknown(self, node: str) -> None:
        """There is no such node among those that we have met."""
        del self._outlets[node]
