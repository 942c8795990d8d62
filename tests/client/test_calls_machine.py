"""Calls as arbitrary stories of devices that read one log, and single races by hand."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.calls.ongoing import Stage
from client.calls.record import RING, Heard
from client.content.calling import (
    LINES_MAX,
    CallAnswer,
    CallCandidates,
    CallEnd,
)
from client.model import MessageId
from media.port import Candidates, Trouble
from protocol.log import LogId
from tests.client.call_world import HUB, ROOM, World, two, world
from tests.helpers.fuzz import LONG

ACTS = ("start", "accept", "decline", "hang_up")
WORK = ("post", "hear", "step")
HARM = ("exit", "crash", "second", "lie")

acts = st.one_of(
    st.tuples(st.sampled_from(WORK), st.integers(0, 3), st.integers(1, 6)),
    st.tuples(st.sampled_from(WORK), st.integers(0, 3), st.integers(1, 6)),
    st.tuples(st.just("all"), st.just(0), st.just(1)),
    st.tuples(st.sampled_from(ACTS), st.integers(0, 3), st.just(1)),
    st.tuples(st.sampled_from(HARM), st.integers(0, 3), st.just(1)),
    st.tuples(
        st.just("wait"), st.sampled_from([10, 500, 3_000, 12_000, 50_000]), st.just(1)
    ),
    st.tuples(st.sampled_from(("cut", "heal")), st.just(0), st.just(1)),
)


def play(world: World, act: tuple[str, int, int]) -> None:
    what, which, times = act
    if what == "wait":
        world.wait(which)
    elif what == "all":
        world.settle()
    elif what in ("cut", "heal"):
        getattr(world, what)()
    else:
        for _ in range(times):
            getattr(world.devices[which], what)()
    world.check()


@settings(
    max_examples=20_000 if LONG else 600,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(acts, max_size=60), st.integers(0, 1000))
def test_all_devices_agree_and_every_call_ends_or_stands(
    story: list[tuple[str, int, int]], seed: int
) -> None:
    town = world(seed)
    for act in story:
        play(town, act)
    town.heal()
    for _ in range(12):
        town.settle()
        town.check()
        town.wait(10_000)
    town.settle()
    town.check()
    town.agree()


def test_of_two_who_call_each_other_the_first_invite_stands() -> None:
    town, alice, bob = two()
    for device in (alice, bob):
        device.start()
        device.step()  # described: both invites wait in their outboxes
    alice.post()
    bob.post()
    town.settle()
    town.agree()
    assert alice.call is not None and bob.call is not None
    assert alice.call.id == bob.call.id == town.log[0].call
    assert not any(device.rang for device in (alice, bob))
    # Their other devices were rung by the first one at most, and are silent now.
    assert all(device.call is None for device in town.devices[1::2])


def test_an_invite_that_crossed_and_never_left_is_taken_back() -> None:
    town, alice, bob = two()
    alice.start()
    alice.step()
    alice.post()
    bob.start()
    bob.hear()  # before his own was described
    town.settle()
    town.agree()
    assert [h.body.kind for h in town.log].count("call_invite") == 1
    assert bob.call is not None and bob.call.own and len(alice.legs) == 1


def test_of_two_devices_that_answer_the_first_in_the_log_is_in_it() -> None:
    town, alice, laptop = two()
    phone = town.devices[3]
    alice.start()
    town.settle()
    for device in (laptop, phone):
        device.accept()
    phone.post()
    town.settle()
    town.agree()
    assert laptop.call is None and laptop.machine.ended[-1].end == "elsewhere"
    assert phone.call is not None and phone.call.stage is Stage.INSIDE


def test_of_two_offers_that_cross_that_of_the_smaller_address_stands() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    before = len(town.log)
    town.cut()
    for device in (alice, bob):
        device.step()
        device.do(device.machine.tick(town.now))
        device.step()  # described
    town.heal()
    town.settle()
    town.agree()
    said = [(h.device, h.body.kind) for h in town.log[before:]]
    assert said.count((alice.name, "call_offer")) == 1
    assert (bob.name, "call_answer") in said
    assert (alice.name, "call_answer") not in said


def test_a_busy_device_says_so_and_another_one_may_ring() -> None:
    town = world()
    alice, bob, phone = town.devices[0], town.devices[2], town.devices[3]
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    other = town.devices[1]  # the other device of Alice calls Bob too
    other.start()
    town.settle()
    assert other.call is not None and other.call.rung
    assert phone.call is not None and phone.call.incoming
    phone.decline()
    town.settle()
    assert other.machine.ended[-1].end == "declined"
    assert alice.call is not None and bob.call is not None


def test_a_call_ends_busy_when_no_device_rings() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    other = town.devices[1]
    town.devices[3].crash()
    town.devices[3].read = 10_000  # it is off
    other.start()
    while other.machine.calls and town.now < RING:
        for device in (other, bob):
            while device.outbox or device.steps or device.read < len(town.log):
                device.post()
                device.step()
                device.hear()
        town.wait(500)
    assert other.machine.ended[-1].end == "busy" and other.tone == "busy"
    town.wait(5000)
    assert [other.tone] == ["none"]


def test_who_accepts_and_hangs_up_at_once_has_declined_for_all() -> None:
    town, alice, laptop = two()
    alice.start()
    town.settle()
    laptop.accept()
    laptop.hang_up()
    town.settle()
    town.agree()
    assert not any(device.call for device in town.devices)
    assert alice.machine.ended[-1].end in ("declined", "hung_up")


def test_an_answer_that_comes_too_late_comes_to_nothing() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.now += RING + 1
    bob.post()
    bob.hear()
    assert bob.machine.ended[-1].end == "unanswered"
    town.settle()
    town.agree()


def test_a_bye_ends_it_at_once_and_the_log_is_told_if_nobody_does() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    bob.hang_up()
    bob.outbox.clear()  # its node is gone for good
    while bob.steps:
        bob.step()
    alice.step()
    assert alice.machine.ended[-1].end == "hung_up"
    town.wait(6_000)
    town.settle()
    town.agree()
    assert [h.body.kind for h in town.log][-1] == "call_end"


def test_the_media_process_may_end_twice() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    for _ in range(2):
        alice.exit()
        town.settle()
        town.wait(15_000)
        town.settle()
        town.agree()
        assert alice.call is not None and bob.call is not None
    alice.exit()
    town.settle()
    assert alice.machine.ended[-1].end == bob.machine.ended[-1].end == "failed"


def test_candidates_are_told_when_they_may_be_and_are_bounded() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    (hers,), (his,) = alice.legs, bob.legs
    for number in range(200):
        line = Candidates(his, (f"candidate:{number}",))
        bob.do(bob.machine.media(line, town.now))
    alice.do(alice.machine.media(Candidates(hers, ("candidate:a",)), town.now))
    assert not bob.outbox and len(alice.outbox) == 1
    first = alice.outbox[0].body
    assert isinstance(first, CallCandidates) and first.lines == ["candidate:a"]
    bob.accept()
    told = [s.body for s in bob.outbox if isinstance(s.body, CallCandidates)]
    assert sum(len(body.lines) for body in told) == 4 * LINES_MAX
    assert isinstance(bob.outbox[0].body, CallAnswer)


def test_another_room_says_nothing_of_a_call() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    assert alice.call is not None
    end = CallEnd(bytes.fromhex(alice.call.id), "hung_up")
    elsewhere = LogId("another")
    heard = Heard(elsewhere, 1, HUB + town.now, bob.name, MessageId("-"), end)
    fact = msgspec.structs.replace(
        alice.facts[alice.call.id], room=elsewhere, over="hung_up"
    )
    for changed in ({}, {fact.id: fact}):
        assert not alice.machine.read(heard, changed, 0, town.now)
    town.agree()


def test_what_is_missing_is_known_from_the_first_ring_on() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    gone = Trouble("speaker", "no_device", "There is no speaker: plug one in.")
    bob.do(bob.machine.trouble(gone))
    bob.accept()
    town.settle()
    assert list(bob.machine.missing.values()) == [gone.text]
    bob.do(bob.machine.trouble(Trouble("speaker", "", "")))
    assert not bob.machine.missing


def test_an_invite_that_is_sent_again_late_does_nothing_to_the_calls_after_it() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    alice.hang_up()
    town.settle()
    old = town.log[0]
    for device in town.devices[2:]:
        del device.facts[old.call]  # it could not be read, nor who hung up
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    assert bob.call is not None
    running = bob.call.id
    for device in town.devices[2:]:
        device.again(old)
        assert device.facts[old.call].over == "cancelled"
    assert bob.call is not None and bob.call.id == running
    assert all(old.call not in device.machine.calls for device in town.devices)
    bob.hang_up()
    town.settle()
    # Nor is it an answer to a call that was made after it.
    del bob.facts[old.call]
    bob.start()
    town.settle()
    assert bob.call is not None and bob.call.asking
    bob.again(old)
    assert bob.call.asking and bob.call.id in bob.machine.calls


def test_who_is_in_a_call_sees_that_somebody_called_and_hears_nothing() -> None:
    town, alice, bob = two()
    alice.start()
    town.settle()
    bob.accept()
    town.settle()
    bob.second()
    assert [say.body.kind for say in bob.aside] == ["call_busy"]
    assert bob.machine.ended[-1].end == "busy" and not bob.machine.ended[-1].own
    assert bob.tone == "none" and len(bob.machine.calls) == 1
    town.agree()


def test_who_takes_one_call_or_makes_one_is_busy_for_the_other_that_rings() -> None:
    for begin in ("accept", "start"):
        town, alice, bob = two()
        bob.second()
        assert bob.call is not None and bob.call.incoming
        if begin == "accept":
            alice.start()
            town.settle()
            assert len(bob.machine.calls) == 2
            ringing = [c for c in bob.machine.calls.values() if c.room == ROOM]
            bob.do(bob.machine.accept(ringing[0].id, town.now))
        else:
            bob.start()
        town.check()
        assert [say.body.kind for say in bob.aside] == ["call_ringing", "call_busy"]
        assert bob.machine.ended[-1].end == "busy"
        town.settle()
        assert bob.call is not None and bob.call.room == ROOM
