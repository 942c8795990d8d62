"""Pins: signed rotations pass, unsigned changes hold everything."""

import asyncio
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from federation.discovery import FRESH, STALE
from federation.ports import PendingStream
from federation.signer import NodeSigner
from protocol.codec import encode
from protocol.errors import PeerUnreachable, PeerUntrusted
from protocol.log import GENESIS, LogId, chain
from protocol.wire import Claim, Push
from tests.federation.clock import FakeClock
from tests.federation.conftest import MakeNode
from tests.federation.nodes import Handler, TestNode, eventually
from tests.federation.raw import RawPeer

CLAIM = Claim(bytes(16), [])
WELL_KNOWN = "/.well-known/telex"


async def asks(one: TestNode, other: TestNode) -> None:
    await one.running.claim(other.name, CLAIM)


async def test_first_contact_pins_and_the_document_is_kept(
    make_node: MakeNode, clock: FakeClock
) -> None:
    one, other = await make_node(clock), await make_node(clock)
    for _ in range(3):
        await asks(one, other)
    assert other.documents == 1 and one.documents == 1
    record = one.store.peers[other.name]
    assert record.keys == tuple(other.key_log)
    assert record.trusted == "ok" and record.pinned_at == clock.time()
    clock.advance(FRESH)
    await asks(one, other)
    assert other.documents == 2


async def test_a_signed_rotation_is_accepted_on_both_sides(
    make_node: MakeNode, clock: FakeClock
) -> None:
    one, other = await make_node(clock), await make_node(clock)
    await asks(one, other)
    pinned_at = clock.time()
    clock.advance(100)
    await other.rotate()
    await asks(one, other)  # its answer has the new key
    record = one.store.peers[other.name]
    assert len(record.keys) == 2 and record.trusted == "ok"
    assert record.pinned_at == pinned_at
    clock.advance(100)
    await other.rotate()
    await asks(other, one)  # its request has the newest key
    assert len(one.store.peers[other.name].keys) == 3


async def test_entries_flow_through_a_rotation(
    make_node: MakeNode, clock: FakeClock
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    log = hub.store.room("garden", [follower.name])
    for n in range(4):
        hub.store.append(log, b"%d" % n)
        hub.running.wake(follower.name)
        await eventually(
            lambda n=n: hub.store.cursors[follower.name, log] == n + 1,  # type: ignore[misc]
            clock,
            step=1.0,
        )
        clock.advance(61)
        await (hub if n % 2 else follower).rotate()
    assert follower.store.copies[log].entries == hub.store.logs[log].entries
    assert hub.store.peers[follower.name].trusted == "ok"


async def test_an_unsigned_change_holds_what_goes_out(
    make_node: MakeNode, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    hub, follower = await make_node(clock), await make_node(clock)
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, b"one")
    hub.running.wake(follower.name)
    await eventually(lambda: hub.store.cursors[follower.name, log] == 1)
    true_log, true_key = follower.key_log, follower.key
    clock.advance(100)
    await follower.rotate(signed=False)
    hub.store.append(log, b"secret")
    hub.running.wake(follower.name)
    await eventually(lambda: hub.store.peers[follower.name].fails > 0)
    record = hub.store.peers[follower.name]
    assert record.trusted == "changed" and "keys changed" in record.last_error
    assert record.keys == tuple(true_log)
    assert record.next_try - clock.time() == 300
    assert any(r.levelname == "ERROR" for r in caplog.records)
    with pytest.raises(PeerUntrusted):
        await asks(hub, follower)
    pushes = follower.requests.count("/telex/fed/v1/push")
    clock.advance(301)
    await asyncio.sleep(0.1)
    assert follower.requests.count("/telex/fed/v1/push") == pushes
    assert hub.store.cursors[follower.name, log] == 1

    # The true keys come back: everything goes on by itself.
    follower.key_log, follower.key = true_log, true_key
    follower.running.rotate(true_key)
    await eventually(
        lambda: hub.store.cursors[follower.name, log] == 2, clock, step=60.0
    )
    assert hub.store.peers[follower.name].trusted == "ok"
    assert hub.store.peers[follower.name].last_error == ""


async def test_an_unsigned_change_refuses_what_comes_in(
    make_node: MakeNode, clock: FakeClock, ca: tuple[Path, ssl.SSLContext]
) -> None:
    one, other = await make_node(clock), await make_node(clock)
    await asks(one, other)
    old = RawPeer(other.keyid, other.key, ca[0])
    await other.rotate(signed=False)
    new = RawPeer(other.keyid, other.key, ca[0])
    log = LogId("b" * 52)
    pending = PendingStream(log, 0, GENESIS, [b"x"], 1, 1, chain(GENESIS, b"x"))
    body = encode(Push([NodeSigner(other.name, other.key).stream(pending, 1.0)]))
    answer = await new.send(one, "POST", "/telex/fed/v1/push", body)
    assert (answer.status, answer.code) == (403, "peer_untrusted")
    # Now not even the old key passes: somebody may hold it who should not.
    answer = await old.send(one, "POST", "/telex/fed/v1/push", body)
    assert (answer.status, answer.code) == (403, "peer_untrusted")
    assert not one.store.copies


async def test_a_shorter_key_log_is_a_change(
    make_node: MakeNode, clock: FakeClock
) -> None:
    one, other = await make_node(clock), await make_node(clock)
    await other.rotate()
    await asks(one, other)
    del other.key_log[1:]
    clock.advance(FRESH)
    with pytest.raises(PeerUntrusted):
        await asks(one, other)


async def test_an_admin_can_accept_new_keys(
    make_node: MakeNode, clock: FakeClock
) -> None:
    one, other = await make_node(clock), await make_node(clock)
    await asks(one, other)
    clock.advance(100)
    await other.rotate(signed=False)
    with pytest.raises(PeerUntrusted):
        await asks(one, other)
    record = await one.running.accept_keys(other.name)
    assert record.trusted == "ok" and record.keys == tuple(other.key_log)
    await asks(one, other)


async def test_a_node_in_the_middle_that_shows_the_true_document_is_found_out(
    make_node: MakeNode, clock: FakeClock
) -> None:
    """It holds a certificate and the public key log, but not the key."""
    one, other = await make_node(clock), await make_node(clock)
    await asks(one, other)
    clock.advance(100)
    log = one.store.room("garden", [other.name])
    one.store.append(log, b"held")
    thief = NodeSigner(other.name, one.key)
    other.running._server._signer = thief
    with pytest.raises(PeerUntrusted):
        await asks(one, other)
    one.running.wake(other.name)
    await eventually(lambda: one.store.peers[other.name].fails > 0)
    assert one.store.cursors[other.name, log] == 0


async def test_a_document_that_cannot_be_had_is_used_for_a_week(
    make_node: MakeNode, clock: FakeClock
) -> None:
    one, other = await make_node(clock), await make_node(clock)
    await asks(one, other)

    async def broken(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == WELL_KNOWN:
            return web.Response(status=500)
        return await handler(request)

    other.fault = broken
    clock.advance(FRESH + 1)
    await asks(one, other)
    await asks(other, one)
    clock.advance(STALE)
    with pytest.raises(PeerUnreachable, match="status 500"):
        await asks(one, other)
    other.fault = None
    clock.advance(60)
    await asks(one, other)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=404),
        web.Response(status=302, headers={"Location": "https://127.0.0.1:1/"}),
        web.Response(body=b"<html>", content_type="text/html"),
        web.Response(body=b"{}", content_type="application/json"),
        web.Response(body=bytes(600_000), content_type="application/json"),
        web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
    ],
    ids=["missing", "redirect", "html", "empty", "huge", "gzip"],
)
async def test_what_is_no_document_is_a_peer_that_cannot_be_reached(
    make_node: MakeNode, clock: FakeClock, answer: web.Response
) -> None:
    one, other = await make_node(clock), await make_node(clock)

    async def wrong(request: web.Request, handler: Handler) -> web.StreamResponse:
        return answer if request.path == WELL_KNOWN else await handler(request)

    other.fault = wrong
    with pytest.raises(PeerUnreachable):
        await asks(one, other)
    assert other.name not in one.store.peers
    other.fault = None
    clock.advance(1)  # a failed look is remembered for a second
    await asks(one, other)


async def test_a_node_that_is_not_the_one_of_the_name_is_not_pinned(
    make_node: MakeNode, clock: FakeClock
) -> None:
    one, other = await make_node(clock), await make_node(clock)
    name = other.name
    other.name = "impostor.example"  # what its document says from now on
    with pytest.raises(PeerUnreachable, match="another node"):
        await one.running.claim(name, CLAIM)
    assert not one.store.peers
