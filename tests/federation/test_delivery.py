"""Delivery between two real nodes: in order, exactly once, from the cursor."""

import asyncio

import pytest
from aiohttp import web

from federation.sender import SWEEP
from protocol.codec import encode
from protocol.log import Kind, LogId, make_submission
from protocol.wire import Push, PushAck, StreamAck
from tests.federation.clock import FakeClock
from tests.federation.conftest import MakeNode
from tests.federation.nodes import Handler, TestNode, eventually

PUSH = "/telex/fed/v1/push"


def has_all(hub: TestNode, follower: TestNode, log: LogId) -> bool:
    copy = follower.store.copies.get(log)
    return copy is not None and copy.head == hub.store.logs[log].head


def same(hub: TestNode, follower: TestNode, log: LogId) -> None:
    """The copy is the log, byte for byte and hash for hash, from where it began."""
    copy, own = follower.store.copies[log], hub.store.logs[log]
    assert copy.entries == own.entries[copy.base :]
    assert copy.hashes == own.hashes[copy.base :]


async def test_entries_arrive_in_order_with_the_same_bytes_and_hashes(
    make_node: MakeNode,
) -> None:
    hub, follower = await make_node(), await make_node()
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, *(b"%d" % n for n in range(450)))
    hub.running.wake(follower.name)
    await eventually(lambda: has_all(hub, follower, log))
    same(hub, follower, log)
    await eventually(lambda: hub.store.cursors[follower.name, log] == 450)
    assert hub.store.peers[follower.name].trusted == "ok"
    assert follower.store.peers[hub.name].last_seen > 0


async def test_a_copy_starts_where_the_peer_came_in(make_node: MakeNode) -> None:
    hub, follower = await make_node(), await make_node()
    log = hub.store.room("garden", [])
    hub.store.append(log, b"before", b"before", b"invited")
    hub.store.room("garden", [follower.name], start=2)
    hub.running.wake(follower.name)
    await eventually(lambda: has_all(hub, follower, log))
    assert follower.store.copies[log].base == 2
    same(hub, follower, log)


async def test_outgoing_items_get_a_receipt_each_and_a_poison_one_stops_nothing(
    make_node: MakeNode,
) -> None:
    hub, writer = await make_node(), await make_node()
    log = hub.store.room("garden", [])
    first = writer.store.send_out(hub.name, hub.store.submission(log, b"1"))
    poison = writer.store.send_out(hub.name, b"\xff not a submission")
    gone = make_submission(
        LogId("a" * 52), "a@b/aaaaaaaaaaaaaaaa", bytes(16), Kind.MESSAGE, b""
    )
    lost = writer.store.send_out(hub.name, gone)
    last = writer.store.send_out(hub.name, hub.store.submission(log, b"2"))
    writer.running.wake(hub.name)
    await eventually(lambda: len(writer.store.outcomes) == 4)
    states = [writer.store.outcomes[i].state for i in (first, poison, lost, last)]
    assert states == ["committed", "rejected", "rejected", "committed"]
    problem = writer.store.outcomes[lost].problem
    assert problem is not None and problem.code == "unknown_room"
    assert writer.store.outcomes[last].seq == 2
    assert len(hub.store.logs[log].entries) == 2


async def test_an_entry_nobody_understands_is_stored_and_passed_by(
    make_node: MakeNode,
) -> None:
    hub, follower = await make_node(), await make_node()
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, b"one")
    hub.store.logs[log].add(b"\xc1 these bytes are no entry")
    hub.store.append(log, b"three")
    hub.running.wake(follower.name)
    await eventually(lambda: has_all(hub, follower, log))
    same(hub, follower, log)


async def test_lost_acks_and_garbage_answers_cause_repeats_but_no_duplicates(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    log = hub.store.room("garden", [follower.name])
    out = hub.store.send_out(follower.name, b"poison")
    hub.store.append(log, *(b"%d" % n for n in range(250)))
    turn = 0

    async def lose(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal turn
        answer = await handler(request)
        if request.path != PUSH:
            return answer
        turn += 1
        match turn:
            case 1:
                return web.Response(body=b"\xc1garbage", content_type="text/html")
            case 2:
                return web.Response(status=502, body=b"<html>bad gateway</html>")
            case 3:
                assert request.transport is not None
                request.transport.close()
            case 4:
                forged = encode(PushAck([], 0))
                return web.Response(body=forged, content_type="application/msgpack")
        return answer

    follower.fault = lose
    hub.running.wake(follower.name)
    await eventually(
        lambda: (
            has_all(hub, follower, log) and turn > 4 and len(hub.store.outcomes) > 0
        ),
        clock,
        step=1.0,
    )
    same(hub, follower, log)
    assert hub.store.outcomes[out].state == "rejected"
    assert follower.store.calls == 250 + 1 + 3  # entries, and what begins once


async def test_a_push_that_arrives_twice_changes_nothing_more(
    make_node: MakeNode,
) -> None:
    hub, follower = await make_node(), await make_node()
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, b"one", b"two")
    hub.running.wake(follower.name)
    await eventually(lambda: hub.store.cursors[follower.name, log] == 2)
    before = follower.store.calls
    hub.store.cursors[follower.name, log] = 0
    hub.running.wake(follower.name)
    await eventually(lambda: hub.store.cursors[follower.name, log] == 2)
    assert follower.store.calls == before
    same(hub, follower, log)


async def test_a_restart_of_either_side_resumes_from_the_cursor(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    log = hub.store.room("garden", [follower.name])
    for round_ in range(3):
        hub.store.append(log, *(b"%d" % n for n in range(30)))
        hub.running.wake(follower.name)
        victim = hub if round_ % 2 else follower
        await victim.stop()
        hub.store.append(log, b"while down")
        await victim.start()
        await eventually(lambda: has_all(hub, follower, log), clock, step=0.5)
    same(hub, follower, log)


async def test_a_follower_that_lost_data_makes_the_hub_go_back(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, *(b"%d" % n for n in range(300)))
    hub.running.wake(follower.name)
    await eventually(lambda: hub.store.cursors[follower.name, log] == 300)
    copy = follower.store.copies[log]
    del copy.entries[40:], copy.hashes[41:]  # a backup is restored
    hub.store.append(log, b"new")
    hub.running.wake(follower.name)
    await eventually(lambda: has_all(hub, follower, log))
    same(hub, follower, log)
    assert not any(path.endswith("/entries") for path in hub.requests)


async def test_a_gap_that_the_hub_does_not_close_is_pulled(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, *(b"%d" % n for n in range(450)))
    hub.running.wake(follower.name)
    await eventually(lambda: hub.store.cursors[follower.name, log] == 450)
    copy = follower.store.copies[log]
    del copy.entries[5:], copy.hashes[6:]
    # A hub whose cursor never goes back.
    forward = hub.store.record_acks

    async def record_acks(peer: str, acks: list[StreamAck]) -> None:
        await forward(peer, [ack for ack in acks if ack.seq >= 450])

    hub.store.record_acks = record_acks  # type: ignore[method-assign]
    hub.store.append(log, b"new")
    hub.running.wake(follower.name)
    await eventually(lambda: has_all(hub, follower, log), clock, step=0.5)
    same(hub, follower, log)
    assert any(path.endswith("/entries") for path in hub.requests)


async def test_a_peer_that_is_down_backs_off_and_drains_when_it_returns(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub = await make_node(clock)
    follower = await make_node(clock, start=False)
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, b"one")
    hub.running.wake(follower.name)
    store = hub.store
    await eventually(lambda: store.peers.get(follower.name) is not None)
    waits = []
    for fails in range(1, 6):
        await eventually(lambda n=fails: store.peers[follower.name].fails == n)  # type: ignore[misc]
        record = store.peers[follower.name]
        waits.append(record.next_try - clock.time())
        hub.running.wake(follower.name)  # a wake does not shorten it
        await asyncio.sleep(0.05)
        assert store.peers[follower.name].fails == fails
        await eventually(lambda r=record: clock.wakes_at(r.next_try))  # type: ignore[misc]
        clock.advance(waits[-1])
    assert waits == [1, 2, 4, 8, 16]
    assert "failed" in store.peers[follower.name].last_error
    hub.store.append(log, *(b"%d" % n for n in range(500)))
    await follower.start()
    clock.advance(60)
    await eventually(lambda: has_all(hub, follower, log))
    same(hub, follower, log)
    await eventually(lambda: store.peers[follower.name].fails == 0)
    assert store.peers[follower.name].last_error == ""


async def test_the_backoff_survives_a_restart(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub = await make_node(clock)
    follower = await make_node(clock, start=False)
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, b"one")
    hub.running.wake(follower.name)
    peers = hub.store.peers
    await eventually(lambda: follower.name in peers and peers[follower.name].fails == 1)
    # Only now does it wait: an advance before the failure would be lost.
    await eventually(lambda: clock.wakes_at(peers[follower.name].next_try))
    clock.advance(1)
    await eventually(lambda: peers[follower.name].fails == 2)
    await hub.stop()
    await hub.start()
    record = hub.store.peers[follower.name]
    assert record.next_try == clock.time() + 2
    await eventually(lambda: clock.wakes_at(record.next_try))
    assert hub.store.peers[follower.name].fails == 2
    clock.advance(2)
    await eventually(lambda: hub.store.peers[follower.name].fails == 3)


async def test_hello_ends_the_backoff_on_both_sides(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    log = hub.store.room("garden", [follower.name])
    back = follower.store.room("cellar", [hub.name])
    hub.store.append(log, b"one")
    hub.running.wake(follower.name)
    await eventually(lambda: hub.store.cursors[follower.name, log] == 1)
    # Both have been failing for hours.
    for one, other in ((hub, follower), (follower, hub)):
        await one.stop()
        record = one.store.peers[other.name]
        object.__setattr__(record, "fails", 14)
        object.__setattr__(record, "failing_since", clock.time() - 36_000)
        object.__setattr__(record, "next_try", clock.time() + 900)
    hub.store.append(log, b"two")
    follower.store.append(back, b"back")
    copy = follower.store.copies[log]
    del copy.entries[0:], copy.hashes[1:]  # and the follower lost everything
    began = clock.time()
    await hub.start()
    await asyncio.sleep(0.1)
    assert not has_all(hub, follower, log)
    await follower.start()
    await eventually(lambda: len(hub.store.hellos) == 1, clock, step=0.01)
    await eventually(lambda: has_all(hub, follower, log))
    await eventually(lambda: has_all(follower, hub, back))
    same(hub, follower, log)
    ((said_by, hello),) = hub.store.hellos
    assert said_by == follower.name
    assert set(hello.cursors) == {log}
    assert clock.time() - began < 5
    assert hub.store.peers[follower.name].fails == 0


async def test_a_wake_while_it_stops_is_no_error(make_node: MakeNode) -> None:
    hub, follower = await make_node(), await make_node()
    federation = hub.running
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, b"one")
    stopping = asyncio.create_task(hub.stop())
    for n in range(50):
        federation.wake(f"n{n}.example")
        await asyncio.sleep(0)
    await stopping
    federation.wake("late.example")
    await hub.start()
    await eventually(lambda: has_all(hub, follower, log))


async def test_a_lost_wake_is_found_by_the_sweep(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    log = hub.store.room("garden", [follower.name])
    await asyncio.sleep(0.05)
    hub.store.append(log, b"nobody was told")
    await asyncio.sleep(0.1)
    assert log not in follower.store.copies
    clock.advance(SWEEP)
    await eventually(lambda: has_all(hub, follower, log))


async def test_one_peer_that_hangs_does_not_slow_another(make_node: MakeNode) -> None:
    hub, slow, quick = await make_node(), await make_node(), await make_node()
    freed = asyncio.Event()

    async def hang(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == PUSH:
            await freed.wait()
        return await handler(request)

    slow.fault = hang
    room = hub.store.room("garden", [slow.name, quick.name])
    hub.store.append(room, *(b"%d" % n for n in range(500)))
    for node in (slow, quick):
        hub.running.wake(node.name)
    await eventually(lambda: has_all(hub, quick, room), seconds=5)
    assert room not in slow.store.copies
    freed.set()
    await eventually(lambda: has_all(hub, slow, room))


async def test_two_requests_are_under_way_and_never_two_for_one_room(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.sender.PUSH_ENTRIES", 20)
    hub, follower = await make_node(), await make_node()
    rooms = [hub.store.room(f"room {n}", [follower.name]) for n in range(4)]
    for room in rooms:
        hub.store.append(room, *(b"%d" % n for n in range(60)))
    flying: list[set[LogId]] = []
    most = 0
    receive = follower.running._inbox.receive

    async def watch(peer: str, push: Push) -> PushAck:
        nonlocal most
        mine = {stream.log for stream in push.streams}
        assert not any(mine & other for other in flying)
        flying.append(mine)
        most = max(most, len(flying))
        await asyncio.sleep(0.02)
        flying.remove(mine)
        return await receive(peer, push)

    follower.running._inbox.receive = watch  # type: ignore[method-assign]
    hub.running.wake(follower.name)
    await eventually(lambda: all(has_all(hub, follower, room) for room in rooms))
    for room in rooms:
        same(hub, follower, room)
    assert most == 2


async def test_no_credit_pauses_the_sender_until_a_probe_finds_some(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    inbox = follower.running._inbox
    inbox._applying = 10_000
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, b"one")
    hub.running.wake(follower.name)
    await eventually(lambda: PUSH in follower.requests)
    for _ in range(6):
        await asyncio.sleep(0.03)
        clock.advance(1)
    assert follower.requests.count(PUSH) <= 4
    assert log not in follower.store.copies
    inbox._applying = 0
    await eventually(lambda: has_all(hub, follower, log), clock, step=1)


async def test_a_log_that_the_peer_refuses_holds_no_other(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    bad, good = (hub.store.room(n, [follower.name]) for n in ("bad", "good"))
    follower.store.room("bad", [])  # the follower owns it: it will not take a copy
    hub.store.append(bad, b"x")
    hub.store.append(good, b"x")
    hub.running.wake(follower.name)
    await eventually(lambda: hub.store.cursors[follower.name, good] == 1)
    assert hub.store.cursors[follower.name, bad] == 0
    assert hub.store.peers[follower.name].fails == 0
    before = follower.requests.count(PUSH)
    await asyncio.sleep(0.1)
    assert follower.requests.count(PUSH) == before  # held, not hammered
    clock.advance(1)
    await eventually(lambda: follower.requests.count(PUSH) > before)


async def test_a_push_refused_as_a_whole_is_taken_apart(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    bad, good = (hub.store.room(n, [follower.name]) for n in ("bad", "good"))
    hub.store.append(bad, bytes(5000))
    hub.store.append(good, b"x")

    async def firewall(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (request.content_length or 0) > 5000:
            return web.Response(status=413)
        return await handler(request)

    follower.fault = firewall
    hub.running.wake(follower.name)
    await eventually(lambda: has_all(hub, follower, good))
    assert hub.store.cursors[follower.name, bad] == 0
