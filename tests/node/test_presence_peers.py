"""Two nodes that tell each other of their people over a line that loses much."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from node.accounts.device import Device
from node.presence.outlet import RETRY_MAX
from node.presence.service import PresenceService
from protocol.address import parse_account
from protocol.errors import PeerUnreachable
from protocol.presence import (
    LEASE,
    PEER_LEASE,
    PeerPresence,
    PeerPresenceAnswer,
    People,
    Presence,
)

NODES = ("one.example", "two.example")
PEOPLE = [f"{name}@{node}" for node in NODES for name in ("ann", "ben")]


class Screen:
    """What people see: the last word in each session."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, str]] = {}

    def send(self, device: str, frame: Any) -> bool:
        """A frame for a device."""
        if isinstance(frame, People):
            seen = self.seen.setdefault(device.partition("/")[0], {})
            if frame.fresh:
                seen.clear()
            seen |= {p.account: p.state for p in frame.people}
        return True


class Pair:
    """The two nodes, the line between them, and time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lost: set[str] = set()
        """`request`, `answer`: what the line loses now."""
        self.screens = [Screen(), Screen()]
        self.nodes: list[PresenceService] = []
        for at in (0, 1):
            self.nodes.append(self.make(at))
        self.modes: dict[str, tuple[str, frozenset[str]]] = {}

    def make(self, at: int) -> PresenceService:
        """A node that has just been started."""
        pair, other = self, 1 - at

        class Line:
            """From this node to the other one."""

            async def knows(self, node: str) -> bool:
                return True

            async def presence(
                self, node: str, body: PeerPresence
            ) -> PeerPresenceAnswer:
                if "request" in pair.lost:
                    raise PeerUnreachable("It is away.")
                answer = pair.nodes[other].receive(NODES[at], body)
                await asyncio.sleep(0)
                if "answer" in pair.lost:
                    raise PeerUnreachable("It is away.")
                return answer

        def nothing() -> Any:
            raise AssertionError

        line = Line()
        return PresenceService(
            NODES[at], lambda: pair.now, self.screens[at], lambda: line, nothing
        )

    def device(self, account: str) -> Device:
        """The one device of somebody."""
        address = parse_account(account)
        return Device(f"{account}/phone", address, b"", b"", 0)

    def say(self, account: str, mode: Any, show: frozenset[str]) -> None:
        """Somebody connects, if it is not connected, and says how it is."""
        node = self.nodes[NODES.index(account.partition("@")[2])]
        if account not in self.modes:
            node.opened(self.device(account))
        self.modes[account] = (mode, show)
        node.handlers()[Presence](self.device(account), Presence(mode, [*show]))

    def leave(self, account: str) -> None:
        """Somebody's connection ends."""
        if self.modes.pop(account, None) is not None:
            at = NODES.index(account.partition("@")[2])
            self.nodes[at].ended(self.device(account))
            self.screens[at].seen.pop(account, None)

    def restart(self, at: int) -> None:
        """A node starts again; its people come back at once."""
        there = {
            a: said for a, said in self.modes.items() if a.endswith(f"@{NODES[at]}")
        }
        self.nodes[at] = self.make(at)
        self.screens[at].seen.clear()
        for account, (mode, show) in there.items():
            del self.modes[account]
            self.say(account, mode, show)

    async def go_on(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due."""
        end, turns = self.now + seconds, 0
        while True:
            turns += 1
            assert turns < 1000, "it does not come to rest"
            for node in self.nodes:
                node.turn()
            for _ in range(4):
                await asyncio.sleep(0)
            dues = [due for node in self.nodes if (due := node._next_due()) is not None]
            due = min(dues, default=end)
            if due > end or self.now >= end:
                break
            self.now = max(self.now + 0.05, due)
        self.now = max(self.now, end)

    def wanted(self, viewer: str, account: str) -> str:
        """How somebody should be seen by somebody else."""
        mode, show = self.modes.get(account, ("hidden", frozenset()))
        return mode if viewer in show and mode != "hidden" else "offline"


SHOWS = st.frozensets(st.sampled_from(PEOPLE))
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("say"),
            st.sampled_from(PEOPLE),
            st.tuples(st.sampled_from(["online", "away", "dnd", "hidden"]), SHOWS),
        ),
        st.tuples(st.just("leave"), st.sampled_from(PEOPLE), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1, 30, 700, 4000]), st.none()),
        st.tuples(
            st.just("lose"),
            st.sampled_from([(), ("request",), ("answer",)]),
            st.none(),
        ),
        st.tuples(st.just("restart"), st.sampled_from([0, 1]), st.none()),
    ),
    max_size=14,
)


def run(work: Callable[[], Awaitable[None]]) -> None:
    """In a loop of its own."""

    async def main() -> None:
        await work()

    asyncio.run(main())


@settings(max_examples=250, deadline=None)
@given(STEPS)
def test_whatever_is_lost_people_are_seen_as_they_are_in_the_end(
    steps: list[tuple[str, Any, Any]],
) -> None:
    async def story() -> None:
        pair = Pair()
        for account in PEOPLE:  # they know each other, and were there before
            pair.say(account, "online", frozenset(PEOPLE) - {account})
        await pair.go_on(5)
        for what, which, how in steps:
            match what:
                case "say":
                    pair.say(which, *how)
                case "leave":
                    pair.leave(which)
                case "wait":
                    await pair.go_on(which)
                case "lose":
                    pair.lost = set(which)
                case "restart":
                    pair.restart(which)
        pair.lost.clear()
        await pair.go_on(PEER_LEASE + RETRY_MAX + LEASE + 60)
        for viewer, (mode, show) in pair.modes.items():
            seen = pair.screens[NODES.index(viewer.partition("@")[2])].seen[viewer]
            for account in PEOPLE:
                far = account.partition("@")[2] != viewer.partition("@")[2]
                # Who hides does not ask another node, and may not hear of it.
                asks = mode != "hidden" and any(
                    one.partition("@")[2] == account.partition("@")[2] for one in show
                )
                if account != viewer and (asks or not far):
                    state = pair.wanted(viewer, account)
                    assert seen.get(account, "offline") == state, (viewer, account)
                elif account != viewer:
                    # It may miss it, but never sees who does not show itself.
                    state = pair.wanted(viewer, account)
                    assert seen.get(account, "offline") in ("offline", state)

    run(story)
