"""The roll of this node's people: how they are, and to whom that is shown.

A person is what its devices say together: one that hides hides them all, "do not
disturb" beats "online", "online" beats "away". A device that vanished without a
goodbye counts as there until its lease ends; then the person was last seen when it
vanished. A change goes out once it stood for a moment, and for one person at most once
a second: the state of then, so a device that flickers costs no more than one that does
not, and one that comes back in time costs nothing.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from sys import intern

from protocol.errors import TooMany
from protocol.presence import LEASE, Availability, Mode, Person

__all__ = [
    "GATHER",
    "PAIRS_MAX",
    "PAUSE",
    "Change",
    "Roll",
    "Shown",
    "merge",
    "sort_by_node",
]

GATHER = 0.2
"""Seconds that a change waits for the next: a goodbye and the end of its socket, the
two devices of somebody who closes a lid."""

PAUSE = 1.0
"""Seconds between two changes of one person that go out."""

PAIRS_MAX = 1_000_000
"""Pairs of somebody and whom it shows itself to, in some 150 MB: 10,000 people who know
a hundred each. Those who left longest ago are forgotten first."""

CHANGES = 50
"""Changes in one turn, two milliseconds: a node whose people all come back at once does
other work in between."""

_RANK: tuple[tuple[Mode, Availability], ...] = (
    ("hidden", "offline"),
    ("dnd", "dnd"),
    ("online", "online"),
    ("away", "away"),
)

Shown = Mapping[str, frozenset[str]]
"""Names of accounts (before the @) by their node."""


def merge(modes: Collection[Mode]) -> Availability:
    """How somebody is whose devices say this; `offline` without any."""
    for mode, state in _RANK:
        if mode in modes:
            return state
    return "offline"


def sort_by_node(accounts: Iterable[str]) -> dict[str, frozenset[str]]:
    """Addresses of accounts (valid ones) as `Shown`."""
    nodes: dict[str, set[str]] = {}
    for account in accounts:
        name, _, node = account.partition("@")
        nodes.setdefault(intern(node), set()).add(intern(name))
    return {node: frozenset(names) for node, names in nodes.items()}


@dataclass(slots=True)
class _Device:
    account: str
    mode: Mode
    show: Shown
    until: float | None = None
    """When its lease ends; None while it is connected."""


@dataclass(slots=True)
class _Account:
    devices: dict[str, _Device] = field(default_factory=dict)
    shown: Shown = field(default_factory=dict)
    last_seen: int = 0
    out: Person | None = None
    """What was told last."""
    out_at: float = float("-inf")
    out_to: Shown = field(default_factory=dict)
    due: float | None = None

    @property
    def state(self) -> Availability:
        """Of all its devices."""
        return merge({each.mode for each in self.devices.values()})


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody is another way, or shows itself to others, than was told."""

    person: Person
    to: Shown
    """Who is to be told this."""
    dropped: Shown
    """To whom it does not show itself any more."""


class Roll:
    """The people of this node."""

    def __init__(self, pairs_max: int = PAIRS_MAX) -> None:
        self._pairs_max = pairs_max
        self._accounts: dict[str, _Account] = {}
        self._devices: dict[str, str] = {}
        self._left: OrderedDict[str, None] = OrderedDict()
        """Accounts without devices, the one that left first at the front."""
        self._vanished: OrderedDict[str, float] = OrderedDict()
        self._seen_by: dict[str, set[str]] = {}
        self._by_node: dict[str, set[str]] = {}
        self._pairs = 0
        self._due: list[tuple[float, str]] = []

    # --- what devices do --------------------------------------------------------

    def say(
        self,
        device: str,
        account: str,
        mode: Mode,
        show: Iterable[str] | None,
        now: float,
    ) -> None:
        """A device says how it is.

        Args:
            show: addresses of the accounts it may be shown to; None: as before.

        Raises:
            TooMany: the node holds all that it may.
        """
        if mode == "gone":
            self.end(device, now, goodbye=True)
            return
        account = intern(account)
        known = self._accounts.get(account)
        before = known.devices.get(device) if known is not None else None
        if show is not None:
            shown: Shown = sort_by_node(one for one in show if one != account)
            self._make_room(_count(shown))
        else:
            shown = before.show if before is not None else {}
        record = self._accounts.setdefault(account, _Account())
        was = record.state
        record.devices[device] = _Device(account, mode, shown)
        if was != "offline" and record.state == "offline":
            record.last_seen = int(now)
        self._devices[device] = account
        self._vanished.pop(device, None)
        self._left.pop(account, None)
        self._settle(account, record, now)

    def end(self, device: str, now: float, *, goodbye: bool = False) -> None:
        """The socket of a device has ended, or it said goodbye before."""
        account = self._devices.get(device)
        if account is None:
            return
        record = self._accounts[account]
        there = record.devices[device]
        if goodbye or there.mode == "hidden":
            seen = 0 if record.state == "offline" else int(now)
            self._drop(device, now, seen)
        elif there.until is None:
            there.until = now + LEASE
            self._vanished[device] = there.until

    def _drop(self, device: str, now: float, seen: int) -> None:
        self._vanished.pop(device, None)
        account = self._devices.pop(device)
        record = self._accounts[account]
        record.last_seen = max(record.last_seen, seen)
        del record.devices[device]
        if not record.devices:
            # Whom it showed itself to may still learn when it was seen last.
            self._left[account] = None
        self._settle(account, record, now, keep=not record.devices)

    def _settle(
        self, account: str, record: _Account, now: float, *, keep: bool = False
    ) -> None:
        """Index whom somebody shows itself to, and let the change wait its time."""
        if not keep:
            shown = _union([each.show for each in record.devices.values()])
            if shown != record.shown:
                self._index(account, record.shown, shown)
                record.shown = shown
        due = max(now + GATHER, record.out_at + PAUSE)
        if record.due is None or due < record.due:
            record.due = due
            heappush(self._due, (due, account))

    def _index(self, account: str, before: Shown, after: Shown) -> None:
        for node, names in _minus(before, after).items():
            self._pairs -= len(names)
            for name in names:
                viewer = f"{name}@{node}"
                people = self._seen_by[viewer]
                people.discard(account)
                if not people:
                    del self._seen_by[viewer]
            if node not in after:
                here = self._by_node[node]
                here.discard(account)
                if not here:
                    del self._by_node[node]
        for node, names in _minus(after, before).items():
            self._pairs += len(names)
            for name in names:
                self._seen_by.setdefault(intern(f"{name}@{node}"), set()).add(account)
            self._by_node.setdefault(node, set()).add(account)

    def _make_room(self, count: int) -> None:
        while self._pairs + count > self._pairs_max:
            if not self._left:
                raise TooMany(
                    "This node cannot keep more of who is shown to whom.",
                    retry_after=60,
                )
            account, _ = self._left.popitem(last=False)
            record = self._accounts.pop(account)
            self._index(account, record.shown, {})

    # --- what goes out ----------------------------------------------------------

    def next_due(self) -> float | None:
        """When `take` has something to do, or nothing at all."""
        due = self._due[0][0] if self._due else None
        if self._vanished:
            lease = next(iter(self._vanished.values()))
            return lease if due is None else min(due, lease)
        return due

    def take(self, now: float) -> list[Change]:
        """The changes that are due, at most `CHANGES`."""
        while self._vanished:
            device, until = next(iter(self._vanished.items()))
            if until > now:
                break
            del self._vanished[device]
            self._drop(device, now, int(until - LEASE))
        changes: list[Change] = []
        while self._due and self._due[0][0] <= now and len(changes) < CHANGES:
            due, account = heappop(self._due)
            record = self._accounts.get(account)
            if record is None or record.due != due:
                continue
            record.due = None
            change = self._change(account, record, now)
            if change is not None:
                changes.append(change)
        return changes

    def _change(self, account: str, record: _Account, now: float) -> Change | None:
        before, state = record.out, record.state
        since = record.last_seen if state == "offline" else int(now)
        if before is None or before.state != state:
            person = Person(account, state, since)
        else:
            person = before
        dropped = _minus(record.out_to, record.shown)
        to = record.shown if person != before else _minus(record.shown, record.out_to)
        record.out = person
        if to or dropped:
            record.out_at, record.out_to = now, record.shown
        if not record.devices and not record.shown:
            del self._accounts[account], self._left[account]
        return Change(person, to, dropped) if to or dropped else None

    # --- who asks ---------------------------------------------------------------

    def seen_by(self, viewer: str) -> list[Person]:
        """Who shows itself to an account, as it was told last."""
        found = (self._accounts[each].out for each in self._seen_by.get(viewer, ()))
        return [person for person in found if person is not None]

    def shown_at(self, node: str) -> list[str]:
        """The accounts that show themselves to somebody of a node."""
        return list(self._by_node.get(node, ()))

    def person(self, account: str) -> tuple[Person, Shown] | None:
        """Somebody as told last, and to whom."""
        record = self._accounts.get(account)
        if record is None or record.out is None:
            return None
        return record.out, record.out_to

    def there(self, account: str) -> bool:
        """Whether somebody is here and does not hide."""
        record = self._accounts.get(account)
        return record is not None and record.state != "offline"

    def nodes_of(self, account: str) -> list[str]:
        """The nodes of those to whom somebody shows itself."""
        record = self._accounts.get(account)
        return [] if record is None else list(record.shown)


def _union(shows: list[Shown]) -> Shown:
    if len(shows) == 1:
        return shows[0]
    found: dict[str, frozenset[str]] = {}
    for show in shows:
        for node, names in show.items():
            found[node] = found.get(node, frozenset()) | names
    return found


def _minus(one: Shown, other: Shown) -> dict[str, frozenset[str]]:
    found = {node: names - other.get(node, frozenset()) for node, names in one.items()}
    return {node: names for node, names in found.items() if names}


def _count(shown: Shown) -> int:
    return sum(map(len, shown.values()))
