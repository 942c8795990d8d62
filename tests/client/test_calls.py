"""Calls of engines on two real nodes: what two people see and hear of each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from client.calls.ledger import LATE
from client.calls.model import Call
from client.calls.record import RING, Heard
from client.content.calling import CallInvite
from client.errors import CallRefused, KeyChanged
from client.model import MessageId
from media.port import MediaError, Sound
from protocol.errors import UnknownRoom
from protocol.log import LogId
from tests.client.callers import Caller, Town
from tests.client.fake_media import MARK
from tests.client.people import all_bytes, online, room_of, texts, until
from tests.client.real_node import RealNode

pytestmark = pytest.mark.system


@pytest.fixture
async def town(nodes: list[RealNode], tmp_path: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield Town(nodes, tmp_path, stack)


async def running(one: Caller, other: Caller, room: LogId) -> Call:
    """A call from one to the other that runs on both sides."""
    await one.client.calls.start(room)
    await other.answers()
    await one.sees("running")
    return await other.sees("running")


async def codes(caller: Caller, room: LogId) -> list[str]:
    return [line.code for line in await caller.lines(room)]


async def test_one_rings_the_other_answers_and_hangs_up(town: Town) -> None:
    alice, bob, room = await town.pair()
    call = await alice.client.calls.start(room, video=True)
    assert call.state == "calling" and call.own and call.video
    rings = await bob.sees("incoming")
    assert (rings.account, rings.own, rings.room) == (alice.account, False, room)
    assert rings.video
    await alice.sees("ringing")
    assert alice.media.tones == ["ringback"] and bob.media.tones == ["ring"]
    # Prepared while it rings, and nothing flows before the person says so.
    await until(lambda: asyncio.sleep(0, bob.media.legs))
    assert not any(leg.open for leg in bob.media.legs.values())
    alice.media.find("candidate:early")
    bob.media.find("candidate:hers")
    await bob.client.calls.answer(rings.id)
    runs = await alice.sees("running")
    assert [leg.device for leg in runs.legs] == [bob.client.device]
    await bob.sees("running")
    (hers,), (his,) = alice.media.connected, bob.media.connected
    assert hers.open and his.open
    await until(lambda: asyncio.sleep(0, his.candidates and hers.candidates))
    assert (his.candidates, hers.candidates) == (
        ["candidate:early"],
        ["candidate:hers"],
    )
    await alice.client.calls.set_muted(runs.id, True)
    await alice.client.calls.set_camera(runs.id, "cam")
    await until(lambda: asyncio.sleep(0, bob.seen[-1].legs[0].camera))
    assert bob.seen[-1].legs[0].muted and alice.seen[-1].muted
    with pytest.raises(MediaError):
        await alice.client.calls.set_camera(runs.id, "broken")
    assert alice.seen[-1].camera == "cam"
    await bob.hangs_up()
    await alice.sees("hung_up")
    assert alice.states == ["calling", "ringing", "connecting", "running", "hung_up"]
    assert bob.states == ["incoming", "connecting", "running", "hung_up"]
    for one, other in ((alice, bob), (bob, alice)):
        line = await one.line(room)
        assert line.code == "call_ended" and other.account in line.text
        assert not one.client.calls.calls and not one.media.legs
    assert not alice.media.muted and not alice.media.camera
    found = await room_of(bob.client, room)
    assert found is not None and found.unread == 0


async def test_declined_cancelled_and_missed_with_lines_on_both_sides(
    town: Town,
) -> None:
    alice, bob, room = await town.pair()
    await alice.client.calls.start(room)
    rings = await bob.sees("incoming")
    await bob.client.calls.decline(rings.id)
    await alice.sees("declined")
    with pytest.raises(CallRefused):
        await bob.client.calls.answer(rings.id)
    await alice.client.calls.hang_up(rings.id)  # over already: no error
    await alice.client.calls.start(room)
    await bob.sees("incoming")
    await alice.hangs_up()
    await bob.sees("cancelled")
    await until(partial(codes, alice, room), lambda c: len(c) == 2)
    assert await codes(alice, room) == ["call_declined", "call_cancelled"]
    await until(partial(codes, bob, room), lambda c: len(c) == 2)
    assert await codes(bob, room) == ["call_declined", "call_missed"]
    found = await room_of(bob.client, room)
    assert found is not None and found.unread == 1
    await bob.client.mark_read(room)
    found = await room_of(bob.client, room)
    assert found is not None and found.unread == 0
    assert bob.media.tones[-1] == "none"


async def test_nobody_answers_until_it_has_rung_out(town: Town) -> None:
    alice, bob, room = await town.pair()
    await alice.client.calls.start(room)
    await bob.sees("incoming")
    await alice.sees("ringing")
    for caller in (bob, alice):
        works = caller.client.calls
        works._monotonic = lambda: asyncio.get_running_loop().time() + RING / 1000
        works._wake.set()
    await alice.sees("unanswered")
    await bob.sees("unanswered")
    assert (await alice.line(room)).code == "call_unanswered"
    assert (await bob.line(room)).code == "call_missed"


async def test_who_is_in_a_call_is_busy_for_others(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.calls.ongoing.BUSY_WAIT", 100)
    monkeypatch.setattr("client.calls.machine.BUSY_WAIT", 100)
    alice, bob, room = await town.pair()
    carol = await town.settle("carol", 0)
    other = (await carol.client.start_direct(bob.account)).id
    await until(partial(room_of, bob.client, other))
    await running(alice, bob, room)
    with pytest.raises(CallRefused, match="in a call already"):
        await bob.client.calls.start(other)
    await carol.client.calls.start(other)
    ended = await carol.sees("busy")
    assert "another call" in ended.detail and "busy" in carol.media.tones
    assert (await carol.line(other)).code == "call_busy"
    assert (await bob.line(other)).code == "call_missed"
    (missed,) = (call for call in bob.seen if call.account == carol.account)
    assert (missed.state, missed.end, missed.own) == ("ended", "busy", False)
    assert bob.now is not None and bob.now.state == "running"
    assert "ring" not in bob.media.tones[1:]


async def test_both_call_at_once_and_one_call_comes_of_it(town: Town) -> None:
    alice, bob, room = await town.pair()
    await asyncio.gather(alice.client.calls.start(room), bob.client.calls.start(room))
    one, other = await alice.sees("running"), await bob.sees("running")
    assert one.own and other.own
    assert "incoming" not in alice.states + bob.states
    assert "ring" not in alice.media.tones + bob.media.tones
    assert len(alice.media.connected) == len(bob.media.connected) == 1
    await alice.hangs_up()
    await bob.sees("hung_up")
    for caller in (alice, bob):
        assert (await caller.line(room)).code == "call_ended"


async def test_a_call_from_before_does_not_ring(town: Town) -> None:
    alice, bob, room = await town.pair()
    await bob.client.close()
    await alice.client.calls.start(room)
    await alice.sent()
    alice.client.calls._monotonic = lambda: (
        asyncio.get_running_loop().time() + RING / 1000
    )
    alice.client.calls._wake.set()
    await alice.sees("unanswered")
    again = await town.reopen(bob)
    assert (await again.line(room)).code == "call_missed"
    assert not again.states and not again.media.tones
    found = await room_of(again.client, room)
    assert found is not None and found.unread == 1


async def test_a_caller_that_was_killed_leaves_a_missed_call(town: Town) -> None:
    alice, bob, room = await town.pair()
    await alice.client.calls.start(room)
    await bob.sees("incoming")
    alice.client._background.cancel()  # type: ignore[union-attr]
    bob.client.calls._monotonic = lambda: asyncio.get_running_loop().time() + 60
    bob.client._clock.offset += 60
    bob.client.calls._wake.set()
    await bob.sees("unanswered")
    assert (await bob.line(room)).code == "call_missed"
    await alice.client._store.close()
    # Its next start says that it is over; the line stays the one it was.
    bob.client._clock.offset -= 60
    again = await town.reopen(alice)
    assert (await again.line(room)).code == "call_cancelled"
    await again.client.send_text(room, "sorry")
    await until(partial(texts, bob.client, room))
    assert (await bob.line(room)).code == "call_missed"


async def test_a_call_that_a_hub_dates_ahead_is_over_when_others_are(
    town: Town,
) -> None:
    alice, bob, room = await town.pair()
    ledger = bob.client.calls._ledger
    ahead = Heard(
        room,
        10_000,
        bob.client._clock.now_ms() + 365 * 24 * 3600 * 1000,
        alice.client.device,
        MessageId("0" * 32),
        CallInvite(bytes(16), "offer"),
    )
    await bob.client._store.run(lambda tx: ledger.take(tx, ahead))
    _, wait = await bob.client._store.run(ledger.overdue)
    assert wait is not None and wait <= RING + LATE
    bob.client._clock.offset += 60
    (over,), wait = await bob.client._store.run(ledger.overdue)
    assert (over.over, wait) == ("unanswered", None)
    assert (await bob.line(room)).code == "call_missed"


async def test_one_of_two_devices_answers_and_the_other_falls_silent(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.2)
    alice, bob, room = await town.pair()
    phone = await town.second(bob, 1, room)
    await alice.client.calls.start(room)
    await bob.sees("incoming")
    await phone.answers()
    await bob.sees("elsewhere")
    await phone.sees("running")
    assert bob.media.tones[-1] == "none" and not bob.media.legs
    (leg,) = (await alice.sees("running")).legs
    assert leg.device == phone.client.device
    await alice.hangs_up()
    await phone.sees("hung_up")
    assert (await bob.line(room)).code == "call_ended"
    # One declines for both.
    await alice.client.calls.start(room)
    await phone.sees("incoming")
    rings = await bob.sees("incoming")
    await bob.client.calls.decline(rings.id)
    await phone.sees("elsewhere")
    await alice.sees("declined")
    # One is busy, the other one rings.
    await running(alice, phone, room)
    carol = await town.settle("carol", 0)
    other = (await carol.client.start_direct(bob.account)).id
    for device in (bob, phone):
        await until(
            partial(room_of, device.client, other), lambda r: r is not None and r.active
        )
    await carol.client.calls.start(other)
    await bob.answers()
    await carol.sees("running")


async def test_a_lost_way_is_found_again_with_a_new_leg(town: Town) -> None:
    alice, bob, room = await town.pair()
    await running(alice, bob, room)
    (before,) = alice.media.connected
    await alice.client.calls.set_muted(alice.seen[-1].id, True)
    town.air.cut()
    await alice.sees("reconnecting")
    await bob.sees("reconnecting")
    town.air.heal()
    await alice.sees("running")
    await bob.sees("running")
    (after,) = alice.media.connected
    assert after.name != before.name and after.open and alice.media.muted
    await until(lambda: asyncio.sleep(0, len(alice.media.legs) == 1))
    # The same by itself: the old leg comes back.
    town.air.cut()
    await bob.sees("reconnecting")
    town.air.heal(old=True)
    await alice.sees("running")
    await bob.sees("running")
    await bob.hangs_up()
    await alice.sees("hung_up")
    assert [c for c in alice.states if c in ("hung_up", "lost")] == ["hung_up"]


async def test_no_way_for_half_a_minute_ends_it(town: Town) -> None:
    alice, bob, room = await town.pair()
    await running(alice, bob, room)
    town.air.cut()
    await alice.sees("reconnecting")
    alice.client.calls._monotonic = lambda: asyncio.get_running_loop().time() + 31
    alice.client.calls._wake.set()
    ended = await alice.sees("lost")
    assert "check your network" in ended.detail
    await bob.sees("lost")
    assert (await alice.line(room)).code == "call_lost"


async def test_a_call_goes_on_while_both_nodes_are_dead(town: Town) -> None:
    alice, bob, room = await town.pair()
    await running(alice, bob, room)
    try:
        for node in town.nodes:
            node.kill()
        for caller in (alice, bob):
            await until(
                lambda c=caller: asyncio.sleep(0, c.client.connection.value),  # type: ignore[misc]
                lambda state: state != "online",
            )
        id = alice.seen[-1].id
        await alice.client.calls.set_muted(id, True)
        await until(lambda: asyncio.sleep(0, bob.seen[-1].legs[0].muted))
        assert alice.seen[-1].state == bob.seen[-1].state == "running"
        await bob.hangs_up()
        await alice.sees("hung_up")
    finally:
        for node in town.nodes:
            await asyncio.to_thread(node.start)
    for caller in (alice, bob):
        caller.client.reconnect()
        await online(caller.client)
        assert (await caller.line(room)).code == "call_ended"


async def test_a_node_that_is_away_is_said_so_and_nobody_rings_later(
    town: Town,
) -> None:
    alice, bob, room = await town.pair()
    town.nodes[0].kill()
    await until(
        lambda: asyncio.sleep(0, alice.client.connection.value),
        lambda state: state != "online",
    )
    try:
        await alice.client.calls.start(room)
        await until(lambda: asyncio.sleep(0, alice.media.legs))
        alice.client.calls._monotonic = lambda: (
            asyncio.get_running_loop().time() + RING / 1000
        )
        alice.client.calls._wake.set()
        ended = await alice.sees("failed")
        assert "node could not be reached" in ended.detail
    finally:
        await asyncio.to_thread(town.nodes[0].start)
    alice.client.reconnect()
    await online(alice.client)
    await alice.client.send_text(room, "I called you")
    await until(partial(texts, bob.client, room))
    assert not bob.states and not await bob.lines(room)


async def test_without_sound_people_can_still_talk_and_decline(town: Town) -> None:
    alice, bob, room = await town.pair()
    missing = MediaError("no_library", "Calls need the extra: install it.")
    alice.media.broken = missing
    await alice.client.calls.start(room)
    ended = await alice.sees("failed")
    assert ended.detail == str(missing) and not bob.states
    alice.media.broken, bob.media.broken = None, missing
    await alice.client.calls.start(room)
    rings = await bob.sees("incoming")
    await bob.client.calls.answer(rings.id)
    assert (await bob.sees("failed")).detail == str(missing)
    assert "missing" in (await alice.sees("failed")).detail
    await alice.client.calls.start(room)
    await bob.client.calls.decline((await bob.sees("incoming")).id)
    await alice.sees("declined")
    await bob.client.send_text(room, "let us write instead")
    await until(partial(texts, alice.client, room))


async def test_a_media_process_that_dies_is_started_again(town: Town) -> None:
    alice, bob, room = await town.pair()
    id = (await running(alice, bob, room)).id
    await alice.client.calls.set_muted(id, True)
    await alice.client.calls.set_camera(id, "cam")
    for _ in range(2):
        alice.media.muted, alice.media.camera = False, ""
        alice.media.crash()
        await alice.sees("reconnecting")
        await alice.sees("running")
        await bob.sees("running")
        assert alice.media.muted and alice.media.camera == "cam"
    alice.media.crash()
    await alice.sees("failed")
    assert "missing" in (await bob.sees("failed")).detail


async def test_a_key_that_is_not_the_described_one_ends_it(town: Town) -> None:
    alice, bob, room = await town.pair()
    town.air.liar = True
    await alice.client.calls.start(room)
    await bob.answers()
    ended = await until(
        lambda: asyncio.sleep(0, [*alice.seen[-1:], *bob.seen[-1:]]),
        lambda last: all(call.end == "refused" for call in last),
    )
    assert any("key" in call.detail for call in ended)
    assert (await alice.line(room)).code == "call_refused"


async def test_a_client_that_starts_again_is_in_no_call(town: Town) -> None:
    alice, bob, room = await town.pair()
    await running(alice, bob, room)
    alice.client._background.cancel()  # type: ignore[union-attr]
    await alice.client._store.close()
    again = await town.reopen(alice)
    await bob.sees("lost")
    assert (await again.line(room)).code == "call_lost"
    assert (await bob.line(room)).code == "call_lost"
    assert not again.client.calls.calls
    # And both can call again.
    await running(bob, again, room)
    await again.client.close()
    await bob.sees("hung_up")


async def test_who_can_be_called(town: Town) -> None:
    alice, bob, room = await town.pair()
    calls = alice.client.calls
    with pytest.raises(UnknownRoom):
        await calls.start(LogId("nowhere"))
    group = await alice.client.create_group("Garden", [bob.account])
    with pytest.raises(CallRefused, match="two people"):
        await calls.start(group.id)
    await alice.client._store.run(
        lambda tx: tx.execute(
            "UPDATE contact SET other_root = root WHERE account = ?", bob.account
        )
    )
    with pytest.raises(KeyChanged):
        await calls.start(room)
    await bob.client.calls.start(room)
    await bob.sent()
    await bob.hangs_up()
    assert (await alice.line(room)).code == "call_missed"
    assert not alice.states


async def test_quiet_people_see_it_and_hear_nothing(town: Town) -> None:
    alice, bob, room = await town.pair()
    await bob.client.set_presence("dnd")
    await until(
        lambda: asyncio.sleep(0, bob.client.presence.choice.state),
        lambda state: state == "dnd",
    )
    await alice.client.calls.start(room)
    await bob.sees("incoming")
    await alice.sees("ringing")
    await alice.hangs_up()
    await bob.sees("cancelled")
    await bob.client.set_presence("online")
    await bob.client.set_muted(room, True)
    await alice.client.calls.start(room)
    await bob.answers()
    await alice.sees("running")
    assert "ring" not in bob.media.tones


async def test_settings_stay_on_this_device(town: Town) -> None:
    alice = await town.settle("alice", 0)
    sound = Sound("null:", "file:/tmp/x.wav", echo=False)
    await alice.client.calls.set_sound(sound)
    await alice.client.calls.set_relay_only(True)
    await alice.client.close()
    again = await town.reopen(alice)
    assert again.client.calls.sound == sound and again.client.calls.relay_only
    await again.client.calls.devices()
    await until(lambda: asyncio.sleep(0, again.media.sound == sound))


async def test_no_description_stands_on_a_disk(town: Town) -> None:
    alice, bob, room = await town.pair()
    await bob.client.calls.set_relay_only(True)
    await running(alice, bob, room)
    (hers,), (his,) = alice.media.connected, bob.media.connected
    assert his.ice.relay_only and not hers.ice.relay_only
    await alice.hangs_up()
    await bob.sees("hung_up")
    await bob.line(room)
    places = [node.directory for node in town.nodes]
    places += [caller.client.profile.directory for caller in (alice, bob)]
    for place in places:
        seen = all_bytes(place)
        assert MARK.encode() not in seen and b"call_invite" not in seen
    assert bob.account.encode() in all_bytes(town.nodes[1].directory)
