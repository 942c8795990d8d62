"""Presence as it is wired, without sockets: who is told how much and how often."""

from typing import Any

import pytest

from node.accounts.device import Device
from node.presence.service import RESEND, PresenceService
from protocol.address import parse_account
from protocol.errors import TooMany
from protocol.presence import PeerPresence, People, Person, Presence

NODE, OTHER = "here.example", "there.example"
ALICE, BOB = f"alice@{NODE}", f"bob@{NODE}"


class Lines:
    """Sockets that take frames, or have no room for them."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, Any]] = []
        self.full = False

    def send(self, device: str, frame: Any) -> bool:
        """Keep a frame."""
        if not self.full:
            self.frames.append((device, frame))
        return not self.full


def nothing() -> Any:
    """What is not asked for here."""
    raise AssertionError


def wired() -> tuple[PresenceService, Lines, list[float]]:
    """A service, its sockets and its time."""
    lines, now = Lines(), [1000.0]
    service = PresenceService(NODE, lambda: now[0], lines, nothing, nothing)
    return service, lines, now


def device_of(name: str) -> Device:
    """The one device of somebody."""
    address = parse_account(f"{name}@{NODE}")
    return Device(f"{address}/phone", address, b"", b"", 0)


def say(service: PresenceService, name: str, frame: Presence) -> None:
    """A device of somebody says how it is."""
    service.handlers()[Presence](device_of(name), frame)


def test_who_had_no_room_for_a_frame_is_told_everything_later() -> None:
    service, lines, now = wired()
    say(service, "bob", Presence("online", [ALICE]))
    say(service, "alice", Presence("online", [BOB]))
    lines.frames.clear()
    lines.full = True
    now[0] += 1
    service.turn()
    assert lines.frames == []
    say(service, "alice", Presence("dnd"))
    now[0] += 1
    service.turn()
    lines.full = False
    now[0] += RESEND
    service.turn()
    told = {d: f for d, f in lines.frames if d == f"{BOB}/phone"}
    assert told == {f"{BOB}/phone": People([Person(ALICE, "dnd", 1002)], fresh=True)}


def test_a_node_that_asks_too_often_is_refused() -> None:
    service, _, now = wired()
    for _ in range(50):
        service.receive(OTHER, PeerPresence(1))
    with pytest.raises(TooMany):
        service.receive(OTHER, PeerPresence(1))
    service.receive("third.example", PeerPresence(1))
    now[0] += 1
    service.receive(OTHER, PeerPresence(1))


def test_a_crowd_is_worked_off_in_short_turns() -> None:
    service, lines, now = wired()
    names = [f"u{number}" for number in range(300)]
    everybody = [f"{name}@{NODE}" for name in names]
    for name in names:
        say(service, name, Presence("online", everybody))
    now[0] += 1
    turns = 0
    while (due := service._next_due()) is not None and due < now[0] + 10:
        now[0] = max(now[0], due)
        before = len(lines.frames)
        service.turn()
        turns += 1
        assert len(lines.frames) - before <= 100
    assert turns < 100
    people: dict[str, set[str]] = {}
    for device, frame in lines.frames:
        people.setdefault(device, set()).update(p.account for p in frame.people)
    assert all(len(seen) == 299 for seen in people.values()) and len(people) == 300
