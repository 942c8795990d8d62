"""What the other side, or a hub, may say that is not so: bounds of a call's machine."""

from __future__ import annotations

from dataclasses import replace

from client.calls.links import AHEAD, OFFERS, OFFERS_TIME
from client.calls.machine import RINGS, RINGS_TIME
from client.calls.record import RING
from client.calls.values import Answer, Offer, Say
from client.content.calling import (
    GENERATION_MAX,
    LINE_MAX,
    SDP_MAX,
    CallAnswer,
    CallCandidates,
    CallInvite,
    CallOffer,
)
from media.port import Candidates, LegState
from tests.client.call_world import HUB, ROOM, two


def test_a_generation_far_ahead_takes_no_number_from_those_after_it() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    assert alice.call is not None
    id = bytes.fromhex(alice.call.id)
    for number in (GENERATION_MAX, 10_000, AHEAD + 1):
        body = CallOffer(id, alice.name, "offer 0", number)
        town.append(bob.name, Say(ROOM, alice.call.id, body))
    town.settle()
    assert alice.call.links[bob.name].newest == 0 and len(alice.legs) == 1
    town.append(bob.name, Say(ROOM, alice.call.id, CallOffer(id, alice.name, "x 0", 9)))
    town.settle()
    assert alice.call.links[bob.name].newest == 9
    town.cut()
    town.settle()
    town.heal()
    town.wait(15_000)
    town.settle()
    town.agree()
    assert alice.call is not None and alice.call.links[bob.name].newest > 9


def test_who_offers_for_long_without_its_node_is_understood_afterwards() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    assert bob.call is not None
    for _ in range(2 * AHEAD):  # his node is away, and the way comes and goes
        (leg,) = bob.legs
        for state in ("silent", "connected"):
            if state == "connected":
                town.wait(1)
                while bob.steps:
                    bob.step()
            bob.do(bob.machine.media(LegState(leg, state), town.now))
        while bob.steps:
            bob.step()
    link = bob.call.links[alice.name]
    assert link.newest == AHEAD and len(bob.outbox) == 1
    town.cut()
    for _ in range(8):
        town.wait(3_000)
        bob.step()
    assert bob.call is not None and link.newest == AHEAD
    town.heal()
    town.settle()
    town.wait(5_000)
    town.settle()
    town.agree()
    assert bob.call is not None


def test_an_invite_from_the_future_rings_no_longer_than_others() -> None:
    town, alice, bob = two()
    year = 365 * 24 * 3600 * 1000
    call = bytes(16)
    town.append(alice.name, Say(ROOM, call.hex(), CallInvite(call, "offer 1")))
    town.log[-1] = replace(town.log[-1], time=HUB + year)
    bob.hear()
    assert bob.call is not None and bob.call.incoming
    town.wait(RING)
    assert bob.call is None and bob.machine.ended[-1].end == "unanswered"
    # Nor does it swallow the calls after it, once the hub's clock is right.
    bob.start()
    while bob.steps:
        bob.step()
    while bob.outbox:
        bob.post()
        bob.hear()
    assert bob.facts[call.hex()].over == "unanswered"
    assert bob.call is not None and bob.call.read and bob.call.asking


def test_a_flood_of_offers_has_few_legs_made() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    assert bob.call is not None
    id = bytes.fromhex(bob.call.id)
    for number in range(1, 500):
        body = CallOffer(id, bob.name, "offer 0", number)
        town.append(alice.name, Say(ROOM, bob.call.id, body))
        bob.hear()
        town.wait(10)
        while bob.steps:
            bob.step()
    answers = [say for say in bob.outbox if isinstance(say.body, CallAnswer)]
    assert len(answers) == OFFERS and len(bob.legs) <= 2
    town.wait(OFFERS_TIME)
    town.settle()
    town.agree()
    assert bob.call is not None


def test_what_is_too_long_to_be_said_is_not_said() -> None:
    town, alice, _ = two()
    alice.start()
    (leg,) = [step.leg for step in alice.steps if isinstance(step, Offer)]
    alice.do(alice.machine.described(leg, "x" * (SDP_MAX + 1), town.now))
    assert not alice.outbox and alice.machine.ended[-1].end == "failed"
    assert "interfaces" in alice.machine.ended[-1].detail
    alice.steps.clear()
    alice.start()
    town.settle()
    (leg,) = alice.legs
    long = Candidates(leg, ("candidate:" + "x" * LINE_MAX, "candidate:a"))
    alice.do(alice.machine.media(long, town.now))
    (said,) = alice.outbox
    assert isinstance(said.body, CallCandidates) and said.body.lines == ["candidate:a"]


def test_a_flood_of_invites_rings_some_times_and_fills_no_outbox() -> None:
    town, alice, bob = two()
    for number in range(200):
        call = number.to_bytes(16, "big")
        town.append(alice.name, Say(ROOM, call.hex(), CallInvite(call, "offer 1")))
        bob.hear()
        town.wait(10)
    assert len(bob.outbox) == len(bob.rang) == RINGS
    assert sum(isinstance(step, Answer) for step in bob.steps) == RINGS
    assert len(bob.facts) == 200 and not bob.call
    # Later it rings again.
    town.wait(RINGS_TIME)
    alice.start()
    alice.step()
    alice.post()
    bob.hear()
    assert bob.call is not None and bob.call.incoming
