"""What is to be told to people here, one frame a second for each of them.

Whoever changes how often, a person gets at most one frame in `PAUSE` seconds, with the
last word about everybody in it: so neither a peer node nor a crowd that comes back at
once can flood a socket. It holds as many words as there are people to be seen.
"""

from heapq import heappop, heappush

from protocol.presence import Person

__all__ = ["PAUSE", "Tray"]

PAUSE = 1.0
"""Seconds between two frames to one person."""

VIEWERS = 100
"""Frames in one turn, two milliseconds; other work is done in between."""


class Tray:
    """Words that wait, by who is to hear them."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, Person]] = {}
        self._sent: dict[str, float] = {}
        self._due: list[tuple[float, str]] = []

    def put(self, viewer: str, person: Person, now: float) -> None:
        """Somebody is to hear how somebody is."""
        waiting = self._waiting.get(viewer)
        if waiting is None:
            waiting = self._waiting[viewer] = {}
            due = max(now, self._sent.get(viewer, float("-inf")) + PAUSE)
            heappush(self._due, (due, viewer))
        waiting[person.account] = person

    def forget(self, viewer: str) -> None:
        """Nobody is there any more to hear anything."""
        self._waiting.pop(viewer, None)
        self._sent.pop(viewer, None)

    def next_due(self) -> float | None:
        """When `take` has something."""
        return self._due[0][0] if self._due else None

    def take(self, now: float) -> list[tuple[str, list[Person]]]:
        """What is due, by viewer."""
        found: list[tuple[str, list[Person]]] = []
        while self._due and self._due[0][0] <= now and len(found) < VIEWERS:
            _, viewer = heappop(self._due)
            waiting = self._waiting.pop(viewer, None)
            if waiting:
                self._sent[viewer] = now
                found.append((viewer, list(waiting.values())))
        return found
