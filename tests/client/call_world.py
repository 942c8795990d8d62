"""Devices that read one log, each with its machine: no network, no clock, no tasks."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from client.calls.machine import Machine
from client.calls.ongoing import Ongoing, Stage
from client.calls.record import RING, Fact, Heard, account_of, follow
from client.calls.values import (
    Accept,
    Add,
    Answer,
    Close,
    Leave,
    Offer,
    Open,
    Play,
    Say,
    Want,
)
from client.content.calling import (
    CallAnswer,
    CallBusy,
    CallEnd,
    CallInvite,
    CallOffer,
)
from client.model import MessageId
from media.port import Event, Exited, LegState, PeerSays, Tone
from protocol.log import LogId

ROOM = LogId("room")
ASIDE = LogId("aside")
"""Another chat of each device's person, with somebody whom nobody else knows."""
CAROL = "carol@c/1"
LIES = (1, 2, 64, 65, 128, 10_000, 1_000_000)
"""Generations that are offered and mean nothing."""
HUB = 1_700_000_000_000
"""The hub's clock when the story begins."""

NAMES = ["alice@a/1", "alice@a/2", "bob@b/1", "bob@b/2"]


@dataclass(repr=False)
class Leg:
    device: Device
    name: str
    token: str
    to: str = ""
    state: str = "new"


@dataclass(repr=False)
class Device:
    """One device: what it has read, wants, and its media process."""

    name: str
    world: World
    machine: Machine = field(init=False)
    facts: dict[str, Fact] = field(default_factory=dict)
    read: int = 0
    outbox: deque[Say] = field(default_factory=deque)
    steps: deque[Want] = field(default_factory=deque)
    events: deque[Event] = field(default_factory=deque)
    legs: dict[str, Leg] = field(default_factory=dict)
    rang: list[str] = field(default_factory=list)
    tone: Tone = "none"
    aside: list[Say] = field(default_factory=list)
    """What it said to Carol."""
    strange: dict[str, Fact] = field(default_factory=dict)
    """Her calls."""

    def __post_init__(self) -> None:
        self.machine = Machine(self.name)

    @property
    def account(self) -> str:
        return account_of(self.name)

    @property
    def call(self) -> Ongoing | None:
        """The call that it is in, or the first that rings."""
        calls = sorted(self.machine.calls.values(), key=lambda c: c.incoming)
        return calls[0] if calls else None

    def do(self, wants: list[Want]) -> None:
        """Carry out what is at once, keep what takes a while."""
        for want in wants:
            match want:
                case Say(room=room) | Leave(room=room) if room != ROOM:
                    if isinstance(want, Say):
                        self.aside.append(want)
                case Say():
                    if isinstance(want.body, CallOffer):
                        waiting = (s for s in self.outbox if s.call == want.call)
                        for old in [
                            s for s in waiting if isinstance(s.body, CallOffer)
                        ]:
                            self.outbox.remove(old)
                    self.outbox.append(want)
                case Leave():
                    self.leave(want)
                case Play(tone):
                    self.tone = tone
                case Offer() | Answer() | Accept() | Add() | Open() | Close():
                    self.steps.append(want)
        for call in self.machine.calls.values():
            if call.incoming and call.id not in self.rang:
                self.rang.append(call.id)

    def leave(self, want: Leave) -> None:
        mine = [s for s in self.outbox if s.call == want.call]
        unsaid = any(_joins(say) for say in mine)
        for say in mine:
            if not isinstance(say.body, CallEnd):
                self.outbox.remove(say)
        if want.body is not None and not unsaid:
            self.outbox.append(Say(want.room, want.call, want.body))

    # --- what may happen ------------------------------------------------------------

    def start(self) -> None:
        now = self.world.now
        ringing = [c for c in self.machine.calls.values() if c.incoming]
        if any(call.room == ROOM for call in ringing):
            return self.accept()
        if not self.machine.occupied:
            others = [a for a in self.world.accounts if a != self.account]
            id = self.world.random.randbytes(16).hex()
            self.do(self.machine.start(id, ROOM, others, False, now))
        return None

    def accept(self) -> None:
        if self.call is not None and not self.machine.occupied:
            self.do(self.machine.accept(self.call.id, self.world.now))

    def decline(self) -> None:
        if self.call is not None and self.call.incoming:
            self.do(self.machine.decline(self.call.id, self.world.now))

    def hang_up(self) -> None:
        if self.call is not None:
            self.do(self.machine.hang_up(self.call.id, self.world.now))

    def second(self) -> None:
        """Carol calls, or gives up if she does already."""
        now, number = self.world.now, len(self.strange) + 1
        waits = [fact for fact in self.strange.values() if fact.live]
        call = bytes.fromhex(waits[0].id) if waits else self.world.random.randbytes(16)
        body = CallEnd(call, "cancelled") if waits else CallInvite(call, "offer 0")
        busy, before = self.machine.occupied, len(self.aside)
        line = MessageId(f"{number:032x}")
        heard = Heard(ASIDE, 2 * number + bool(waits), HUB + now, CAROL, line, body)
        changed = follow(self.strange.values(), heard, [self.account])
        self.strange |= changed
        self.do(self.machine.read(heard, changed, 0, now))
        if busy and not waits:
            # She hears it, and so does the person; at most some times in a minute.
            assert call.hex() not in self.machine.calls
            if said := self.aside[before:]:
                assert [say.body for say in said] == [CallBusy(call)]
                assert self.machine.ended[-1].id == call.hex()
                assert self.machine.ended[-1].end == "busy"

    def lie(self) -> None:
        """Its node takes an offer from it that means nothing."""
        if self.call is not None and self.call.stage is Stage.INSIDE:
            for device in self.call.links:
                number = self.world.random.choice(LIES)
                id = bytes.fromhex(self.call.id)
                body = CallOffer(id, device, "offer 0", number)
                self.world.append(self.name, Say(ROOM, self.call.id, body))

    def post(self) -> None:
        """The node takes what was said first."""
        if self.outbox:
            self.world.append(self.name, self.outbox.popleft())

    def hear(self) -> None:
        """Read the next entry."""
        if self.read < len(self.world.log):
            self.read += 1
            self.again(self.world.log[self.read - 1])

    def again(self, heard: Heard) -> None:
        """Read an entry, maybe one that could not be read when it came."""
        changed = follow(self.facts.values(), heard, self.world.accounts)
        self.facts |= changed
        age = HUB + self.world.now - heard.time
        self.do(self.machine.read(heard, changed, age, self.world.now))

    def step(self) -> None:
        """The media process does the next thing, and tells what happened."""
        if self.steps:
            self.media(self.steps.popleft())
        elif self.events:
            event = self.events.popleft()
            now = self.world.now
            if isinstance(event, Exited):
                self.do(self.machine.exited(event, now))
            elif isinstance(event, LegState | PeerSays):
                self.do(self.machine.media(event, now))

    def media(self, step: Want) -> None:
        now, legs = self.world.now, self.legs
        match step:
            case Offer(leg):
                made = self.world.leg(self, leg)
                self.do(self.machine.described(leg, f"offer {made.token}", now))
            case Answer(leg, sdp):
                made = self.world.leg(self, leg)
                made.to = sdp.split()[1]
                self.do(self.machine.described(leg, f"answer {made.token}", now))
                self.world.meet(made)
            case Accept(leg, sdp) if leg in legs:
                legs[leg].to = sdp.split()[1]
                self.world.meet(legs[leg])
            case Accept(leg):
                self.do(self.machine.failed(leg, "There is no such leg.", now))
            case Close(leg) if leg in legs:
                gone = legs.pop(leg)
                other = self.world.legs.get(gone.to)
                if gone.state == "connected" and other is not None:
                    other.state = "closed"
                    other.device.events.append(PeerSays(other.name, bye=True))
                self.world.legs.pop(gone.token, None)

    def exit(self) -> None:
        """The media process is gone."""
        for leg in self.legs.values():
            self.world.legs.pop(leg.token, None)
            self.world.silence(leg.to)
        self.legs.clear()
        self.steps.clear()
        self.events.clear()
        self.events.append(Exited("It ended."))

    def crash(self) -> None:
        """The client is gone, and starts again with what is on its disk."""
        for leg in self.legs.values():
            self.world.legs.pop(leg.token, None)
            self.world.silence(leg.to)
        self.legs.clear()
        self.steps.clear()
        self.events.clear()
        self.machine = Machine(self.name)
        self.tone = "none"
        self.outbox = deque(s for s in self.outbox if isinstance(s.body, CallEnd))
        for fact in self.facts.values():
            if fact.live and self.name in fact.inside:
                self.machine.forget(fact.id)
                if fact.id not in [say.call for say in self.outbox]:
                    body = CallEnd(bytes.fromhex(fact.id), "lost")
                    self.outbox.append(Say(ROOM, fact.id, body))


@dataclass(repr=False)
class World:
    """The log, the time, and what lies between the legs."""

    names: list[str]
    random: random.Random
    now: int = 1000
    log: list[Heard] = field(default_factory=list)
    legs: dict[str, Leg] = field(default_factory=dict)
    clear: bool = True
    devices: list[Device] = field(init=False)
    made: int = 0

    def __post_init__(self) -> None:
        self.devices = [Device(name, self) for name in self.names]

    @property
    def accounts(self) -> list[str]:
        return sorted({account_of(name) for name in self.names})

    def append(self, device: str, say: Say) -> None:
        seq = len(self.log) + 1
        line = MessageId(f"{seq:032x}")
        self.log.append(Heard(ROOM, seq, HUB + self.now, device, line, say.body))

    def leg(self, device: Device, name: str) -> Leg:
        self.made += 1
        made = Leg(device, name, str(self.made))
        device.legs[name] = self.legs[made.token] = made
        return made

    def meet(self, one: Leg) -> None:
        other = self.legs.get(one.to)
        if self.clear and other is not None and other.to == one.token:
            for leg in (one, other):
                if leg.state == "new":
                    leg.state = "connected"
                    leg.device.events.append(LegState(leg.name, "connected"))

    def silence(self, token: str) -> None:
        leg = self.legs.get(token)
        if leg is not None and leg.state == "connected":
            leg.state = "silent"
            leg.device.events.append(LegState(leg.name, "silent"))

    def cut(self) -> None:
        """All ways are lost; new legs find none until `heal`."""
        self.clear = False
        for token in list(self.legs):
            self.silence(token)

    def heal(self) -> None:
        self.clear = True
        for leg in list(self.legs.values()):
            self.meet(leg)

    def wait(self, time: int) -> None:
        """Let time pass, and each device notice what is due at its time."""
        end = self.now + time
        while True:
            dues = [due for d in self.devices if (due := d.machine.due()) is not None]
            self.now = min([end, *(max(self.now, due) for due in dues)])
            for device in self.devices:
                due = device.machine.due()
                if due is not None and due <= self.now:
                    device.do(device.machine.tick(self.now))
                    after = device.machine.due()
                    assert after is None or after > self.now, "it is due for ever"
            if self.now >= end:
                return

    def settle(self) -> None:
        """Let everything that was begun come to its end."""
        busy = True
        while busy:
            busy = False
            for device in self.devices:
                while (
                    device.outbox
                    or device.steps
                    or device.events
                    or (device.read < len(self.log))
                ):
                    busy = True
                    device.post()
                    device.step()
                    device.hear()

    def check(self) -> None:
        """What holds at any time."""
        for device in self.devices:
            calls = device.machine.calls.values()
            taken = [call for call in calls if not call.incoming]
            assert len(taken) <= 1, "in two calls at once"
            assert len(taken) in (0, len(calls)), "another one rings in a call"
            for call in calls:
                if call.incoming:
                    assert HUB + self.now <= call.began + RING, "it rings too long"
            assert len(device.rang) == len(set(device.rang)), "it rang twice"
            if device.tone == "ring":
                assert any(call.incoming for call in calls), "nothing rings"

    def agree(self) -> None:
        """What holds once all is settled: who is in a call, and that it stands."""
        first = self.devices[0].facts
        for device in self.devices:
            assert device.facts == first
        for fact in first.values():
            if fact.over or (fact.rings and fact.began + RING < HUB + self.now):
                continue  # or its caller is gone, and nobody said anything since
            assert fact.answered and len(fact.inside) == 2, fact
            for device in self.devices:
                call = device.machine.calls.get(fact.id)
                if device.name in fact.inside:
                    assert call is not None and call.stage is Stage.INSIDE
                    links = [link.device for link in call.links.values()]
                    assert links == [n for n in fact.inside if n != device.name]
                    assert all(link.connected for link in call.links.values())
                    assert len(device.legs) == 1, device.legs
                else:
                    assert call is None
        for device in self.devices:
            for call in device.machine.calls.values():
                assert call.stage is Stage.INSIDE and not first[call.id].over, (
                    f"{device.name} is in no call"
                )


def _joins(say: Say) -> bool:
    return isinstance(say.body, CallInvite) or (
        isinstance(say.body, CallAnswer) and not say.body.generation
    )


def world(seed: int = 0) -> World:
    return World(NAMES, random.Random(seed))


def two() -> tuple[World, Device, Device]:
    town = world()
    return town, town.devices[0], town.devices[2]
