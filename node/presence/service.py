"""Presence and typing, wired: sockets of devices on one side, other nodes on the other.

`roll`, `tray`, `outlet`, `hearsay` and `typists` decide; this gives them the time,
carries their frames and calls `turn` when one of them has something to do. All of it
lives in memory: after a restart devices say again how they are.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

from node.accounts.device import Device
from node.clock import Clock
from node.limit import Buckets
from node.presence.hearsay import Hearsay
from node.presence.outlet import Outlets
from node.presence.roll import Roll
from node.presence.tray import Tray
from node.presence.typing import Typings
from node.storage.store import Store
from protocol.address import parse_account, parse_node
from protocol.errors import AddressError, BadRequest, NotAllowed, Refused
from protocol.presence import (
    PEER_PAIRS,
    PEER_PEOPLE,
    PEER_TYPING,
    PEOPLE_MAX,
    SHOW_MAX,
    PeerPresence,
    PeerPresenceAnswer,
    People,
    Person,
    Presence,
    ShownPerson,
    Typing,
    Typist,
)
from protocol.wire import FromDevice, FromNode

__all__ = ["PeerLine", "PresenceService", "Sockets"]

log = logging.getLogger(__name__)

TURN = 0.02
"""Seconds between two turns at least: what comes together is done together."""

RESEND = 5.0
"""Seconds until a device that had no room for a frame is told everything anew."""

REQUESTS = 32
"""Requests to other nodes under way in all; one to each."""

RATE, BURST = 1.0, 20.0
"""Frames of one device that say how it is, a second and at once: a person who plays
with the menu; a list of a thousand people costs some milliseconds to read."""

PEER_RATE, PEER_BURST = 10.0, 50.0
"""Requests of one node, a second and at once: twice what ours sends."""

NAME_MAX = 64
"""Characters of an account's name."""

AHEAD = 60
"""Seconds that a time of another node may be ahead of ours."""


class Sockets(Protocol):
    """What this needs of `Delivery`."""

    def send(self, device: str, frame: FromNode) -> bool:
        """An ephemeral frame for a device; False if it was dropped."""


class PeerLine(Protocol):
    """What this needs of `Federation`."""

    async def knows(self, node: str) -> bool:
        """Whether this node has met that one, and it can be tried."""

    async def presence(self, node: str, body: PeerPresence) -> PeerPresenceAnswer:
        """Tell a node; raises `Refused`."""


class PresenceService:
    """Who is there: told to those who may know."""

    def __init__(
        self,
        node: str,
        clock: Clock,
        sockets: Sockets,
        peers: Callable[[], PeerLine],
        store: Callable[[], Store],
        met: Callable[[str], bool] = lambda node: True,
    ) -> None:
        """Args:
        node: this node's name.
        clock: for leases and times.
        sockets: carries frames to devices.
        peers, store: asked later, because they are made later.
        met: whether a node is one that this node has met. Nobody is shown on others:
            a list may name any number of nodes that there are not.
        """
        self._node = node
        self._clock = clock
        self._sockets = sockets
        self._peers = peers
        self._met = met
        self._roll = Roll()
        self._tray = Tray()
        self._hearsay = Hearsay(node, self._here)
        self._outlets = Outlets(self._roll, lambda: secrets.randbits(53))
        self._typings = Typings(
            node, clock, store, self._tell_typist, self._tell_peer, self._spawn
        )
        self._listening: dict[str, dict[str, None]] = {}
        """By account: its devices that said how they are, in this session."""
        self._probed: dict[str, set[str]] = {}
        """By account: nodes that were asked who shows itself to it."""
        self._interest: Counter[str] = Counter()
        """By node: how many accounts here it was asked for."""
        self._behind: dict[str, float] = {}
        """Devices that missed a frame, and when they are told everything anew."""
        self._frames = Buckets(RATE, BURST, "This device changes its state too often.")
        self._requests = Buckets(PEER_RATE, PEER_BURST, "Too much presence at once.")
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- devices ----------------------------------------------------------------

    def handlers(self) -> Mapping[type, Callable[[Device, Any], None]]:
        """What to do with frames of devices, by their type."""
        return {Presence: self._on_presence, Typing: self._on_typing}

    def opened(self, device: Device) -> None:
        """A session has begun; the one that the device had may just be forgotten."""
        self._stop_telling(device)

    def ended(self, device: Device) -> None:
        """The last session of a device has ended."""
        self._stop_telling(device)
        self._roll.end(device.address, self._clock())
        self._wake.set()

    def _stop_telling(self, device: Device) -> None:
        account = str(device.account)
        self._behind.pop(device.address, None)
        devices = self._listening.get(account)
        if devices is None:
            return
        devices.pop(device.address, None)
        if not devices:
            del self._listening[account]
            for node in self._probed.pop(account, ()):
                self._interest[node] -= 1
                if not self._interest[node]:
                    del self._interest[node]
            self._hearsay.forget(account)
            self._tray.forget(account)

    def _on_presence(self, device: Device, frame: FromDevice) -> None:
        assert isinstance(frame, Presence)
        now, account = self._clock(), str(device.account)
        self._frames.take(device.address, now)
        show = frame.show
        if show is not None:
            _check_show(show)
            show = [each for each in show if self._is_met(each.partition("@")[2])]
        self._roll.say(device.address, account, frame.mode, show, now)
        self._wake.set()
        if frame.mode == "gone":
            return
        devices = self._listening.setdefault(account, {})
        if device.address not in devices:
            devices[device.address] = None
            self._tell_all(account, device.address)
        if self._roll.there(account):
            self._probe(account, now)

    def _is_met(self, node: str) -> bool:
        return node == self._node or self._met(node)

    def _probe(self, account: str, now: float) -> None:
        """Ask the others' nodes once who shows itself to somebody who came."""
        asked = self._probed.setdefault(account, set())
        nodes = [
            node
            for node in self._roll.nodes_of(account)
            if node not in asked and node != self._node
        ]
        asked.update(nodes)
        self._interest.update(nodes)
        self._outlets.probe(account, nodes, now)

    def _on_typing(self, device: Device, frame: FromDevice) -> None:
        assert isinstance(frame, Typing)
        self._typings.heard(device, frame)

    def _here(self, account: str) -> bool:
        return account in self._listening

    # --- other nodes ------------------------------------------------------------

    def receive(self, peer: str, body: PeerPresence) -> PeerPresenceAnswer:
        """A node tells of its people and asks for those who show themselves to them.

        Raises:
            TooMany, BadRequest, NotAllowed: it may not.
        """
        now = self._clock()
        self._requests.take(peer, now)
        _check_request(peer, body)
        people = _believed(peer, body.people, now)
        told, known = self._hearsay.take(peer, body.run, people, now, fresh=body.fresh)
        self._put(told, now)
        for typing in body.typing:
            self._typings.heard_from(peer, typing)
        answer = self._outlets.answer(peer, body.probe, now)
        answer.lost = not known
        answer.listens = peer in self._interest or self._hearsay.listens(peer)
        self._wake.set()
        return answer

    async def _tell(self, node: str, body: PeerPresence) -> None:
        try:
            if not await self._peers().knows(node):
                self._outlets.unknown(node)
                return
            answer = await self._peers().presence(node, body)
        except Refused as error:
            log.debug("%s was not told who is here: %s", node, error)
            self._outlets.failed(node, self._clock())
        except BaseException:
            self._outlets.failed(node, self._clock())
            raise
        else:
            now = self._clock()
            people = _believed(node, answer.people[:PEER_PEOPLE], now)
            told, _ = self._hearsay.take(
                node, answer.run, people, now, fresh=answer.fresh
            )
            self._put(told, now)
            self._outlets.answered(node, answer, now)
        finally:
            self._wake.set()

    def _tell_peer(self, node: str, typing: Any) -> None:
        self._outlets.type(node, typing, self._clock())
        self._wake.set()

    # --- turns ------------------------------------------------------------------

    async def run(self) -> None:
        """Do what is due when it is due; runs until cancelled."""
        try:
            while True:
                due = self._next_due()
                wait = None if due is None else max(0.0, due - self._clock())
                try:
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                self.turn()
                await asyncio.sleep(TURN)
        finally:
            for task in self._tasks:
                task.cancel()

    def _next_due(self) -> float | None:
        times = [
            self._roll.next_due(),
            self._tray.next_due(),
            self._hearsay.next_due(),
            min(self._behind.values(), default=None),
        ]
        if len(self._tasks) < REQUESTS:
            times.append(self._outlets.next_due())
        return min((at for at in times if at is not None), default=None)

    def turn(self) -> None:
        """Do what is due now."""
        now = self._clock()
        for change in self._roll.take(now):
            gone = Person(change.person.account, "offline", 0)
            for shown, person in ((change.to, change.person), (change.dropped, gone)):
                here = (f"{name}@{self._node}" for name in shown.get(self._node, ()))
                self._put([(viewer, person) for viewer in here], now)
            nodes = {*change.to, *change.dropped} - {self._node}
            self._outlets.change(change, nodes, now)
        self._put(self._hearsay.expire(now), now)
        for viewer, people in self._tray.take(now):
            for device in list(self._listening.get(viewer, ())):
                if device not in self._behind:
                    self._send(device, people, fresh=False)
        for device, at in list(self._behind.items()):
            if at <= now:
                del self._behind[device]
                self._tell_all(device.partition("/")[0], device)
        for node in self._outlets.due(now):
            if len(self._tasks) >= REQUESTS:
                break
            body = self._outlets.take(node)
            if body is not None:
                self._spawn(self._tell(node, body))

    def _put(self, told: Iterable[tuple[str, Person]], now: float) -> None:
        for viewer, person in told:
            if viewer in self._listening:
                self._tray.put(viewer, person, now)

    # --- frames -----------------------------------------------------------------

    def _tell_all(self, account: str, device: str) -> None:
        """Say everything that a device may know, in place of what it was told."""
        people = self._roll.seen_by(account) + self._hearsay.seen_by(account)
        self._send(device, people, fresh=True)

    def _send(self, device: str, people: list[Person], *, fresh: bool) -> None:
        for start in range(0, max(1, len(people)), PEOPLE_MAX):
            frame = People(people[start : start + PEOPLE_MAX], fresh and not start)
            if not self._sockets.send(device, frame):
                self._behind[device] = self._clock() + RESEND
                return

    def _tell_typist(self, account: str, frame: Typist) -> None:
        for device in self._listening.get(account, ()):
            self._sockets.send(device, frame)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("presence failed", exc_info=error)


def _check_show(show: list[str]) -> None:
    if len(show) > SHOW_MAX:
        raise BadRequest(f"A device shows itself to at most {SHOW_MAX} accounts.")
    nodes: set[str] = set()
    for account in show:
        name, at, node = account.partition("@")
        if not (0 < len(name) <= NAME_MAX and at):
            raise BadRequest("A device shows itself to accounts.")
        nodes.add(node)
    try:
        # A name that is none is nobody's: only nodes are spoken to.
        for node in nodes:
            parse_node(node)
    except AddressError as error:
        raise BadRequest(str(error)) from error


def _check_request(peer: str, body: PeerPresence) -> None:
    if (
        len(body.people) > PEER_PEOPLE
        or len(body.probe) > PEER_PEOPLE
        or len(body.typing) > PEER_TYPING
        or sum(len(person.to) for person in body.people) > PEER_PAIRS
    ):
        raise BadRequest("This names more people than one request may.")
    try:
        named = [parse_account(account).node for account in body.probe]
        named += [parse_account(person.account).node for person in body.people]
    except AddressError as error:
        raise BadRequest(str(error)) from error
    if any(node != peer for node in named):
        raise NotAllowed("A node speaks for its own accounts alone.")


def _believed(peer: str, people: list[ShownPerson], now: float) -> list[ShownPerson]:
    """What a node may say: of its own accounts, and of times that have come."""
    found: list[ShownPerson] = []
    for each in people:
        if each.account.partition("@")[2] == peer:
            since = max(0, min(each.since, int(now) + AHEAD))
            found.append(ShownPerson(each.account, each.state, since, each.to))
    return found
