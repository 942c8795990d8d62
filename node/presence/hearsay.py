"""What other nodes told of their people, for those who are here now and nobody else.

It holds as long as the node renews it. What is told for somebody who is not here is not
kept: whoever comes asks for it again. So it costs memory for people here, however much
other nodes say.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from protocol.presence import (
    PEER_LEASE,
    PEER_RESAY,
    SHOW_MAX,
    Availability,
    Person,
    ShownPerson,
)

__all__ = ["PEER_SEEN_MAX", "SEEN_MAX", "Hearsay", "Told"]

SEEN_MAX = 4000
"""People of other nodes that one person here is told of: four times as many as it may
show itself to."""

PEER_SEEN_MAX = SHOW_MAX
"""The same of one node: strangers that it invents leave room for the others' people."""

Told = list[tuple[str, Person]]
"""Accounts here, each with what it is to be told."""


@dataclass(slots=True)
class _Remote:
    state: Availability
    since: int
    to: dict[str, int] = field(default_factory=dict)
    """Accounts here, and the run in which it was said to each."""


@dataclass(slots=True)
class _Peer:
    run: int
    expires: float
    settled: float | None = None
    """When those of another run are over."""
    people: dict[str, _Remote] = field(default_factory=dict)


class Hearsay:
    """By node: its people, as it told of them."""

    def __init__(self, node: str, here: Callable[[str], bool]) -> None:
        """`here`: whether an account of this node (`node`) listens now."""
        self._node = node
        self._here = here
        self._peers: dict[str, _Peer] = {}
        self._seen: dict[str, dict[str, set[str]]] = {}
        """By account here and node: of whom it was told."""

    def take(
        self,
        peer: str,
        run: int,
        people: Collection[ShownPerson],
        now: float,
        *,
        fresh: bool,
    ) -> tuple[Told, bool]:
        """A node told of its people (it was checked that they are its own).

        Returns:
            Who is to be told what, and whether the run is known.
        """
        known = self._peers.get(peer)
        if known is None:
            known = self._peers[peer] = _Peer(run, now + PEER_LEASE)
            lost = not fresh
        elif known.run != run:
            known.run, known.settled = run, now + PEER_RESAY
            lost = not fresh
        else:
            lost = False
        known.expires = now + PEER_LEASE
        told: Told = []
        # Each name once, however often it is named.
        names: set[str] = set().union(*(person.to for person in people))
        viewers = {name: f"{name}@{self._node}" for name in names}
        here = {name: one for name, one in viewers.items() if self._here(one)}
        for person in people:
            to = [here[name] for name in here.keys() & person.to]
            told += self._hear(peer, known, person, to)
        if not known.people:
            del self._peers[peer]
        return told, not lost

    def _hear(
        self, peer: str, known: _Peer, person: ShownPerson, to: list[str]
    ) -> Told:
        told: Told = []
        account = person.account
        # Nothing is known of it: it does not show itself (any more) to these.
        hides = person.state == "offline" and not person.since
        remote = known.people.get(person.account)
        for viewer in to:
            if hides:
                if remote is None or viewer not in remote.to:
                    continue
                self._unsee(viewer, peer, account)
                del remote.to[viewer]
            else:
                if (remote is None or viewer not in remote.to) and self._full(
                    viewer, peer
                ):
                    continue
                if remote is None:
                    remote = _Remote(person.state, person.since)
                    known.people[person.account] = remote
                seen = self._seen.setdefault(viewer, {})
                seen.setdefault(peer, set()).add(account)
                remote.to[viewer] = known.run
            told.append((viewer, Person(person.account, person.state, person.since)))
        if remote is not None:
            if not hides:
                remote.state, remote.since = person.state, person.since
            if not remote.to:
                del known.people[person.account]
        return told

    def _full(self, viewer: str, peer: str) -> bool:
        seen = self._seen.get(viewer, {})
        if len(seen.get(peer, ())) >= PEER_SEEN_MAX:
            return True
        return sum(map(len, seen.values())) >= SEEN_MAX

    def _unsee(self, viewer: str, peer: str, account: str) -> None:
        seen = self._seen[viewer]
        seen[peer].discard(account)
        if not seen[peer]:
            del seen[peer]

    def listens(self, peer: str) -> bool:
        """Whether somebody here looks at what a node tells."""
        return peer in self._peers

    def seen_by(self, viewer: str) -> list[Person]:
        """Whom an account here was told of."""
        found: list[Person] = []
        for peer, accounts in self._seen.get(viewer, {}).items():
            for account in accounts:
                remote = self._peers[peer].people[account]
                found.append(Person(account, remote.state, remote.since))
        return found

    def forget(self, viewer: str) -> None:
        """An account here listens no more."""
        for peer, accounts in self._seen.pop(viewer, {}).items():
            people = self._peers[peer].people
            for account in accounts:
                remote = people[account]
                remote.to.pop(viewer, None)
                if not remote.to:
                    del people[account]
            if not people:
                del self._peers[peer]

    # --- leases -----------------------------------------------------------------

    def next_due(self) -> float | None:
        """When something ends by itself."""
        times = [
            peer.expires if peer.settled is None else min(peer.settled, peer.expires)
            for peer in self._peers.values()
        ]
        return min(times, default=None)

    def expire(self, now: float) -> Told:
        """End what was not renewed: these people count as offline."""
        told: Told = []
        for name, peer in list(self._peers.items()):
            over = peer.expires <= now
            if over or (peer.settled is not None and peer.settled <= now):
                told += self._end(name, peer, None if over else peer.run)
                peer.settled = None
        return told

    def _end(self, name: str, peer: _Peer, run: int | None) -> Told:
        """End what was not said in a run; None: all."""
        told: Told = []
        for account, remote in list(peer.people.items()):
            # Nobody knows when it left: its node is away.
            word = Person(account, "offline", 0)
            for viewer in [one for one, said in remote.to.items() if said != run]:
                del remote.to[viewer]
                told.append((viewer, word))
                self._unsee(viewer, name, account)
            if not remote.to:
                del peer.people[account]
        if not peer.people:
            del self._peers[name]
        return told
