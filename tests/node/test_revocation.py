"""A revoked device: told so, and out of everything before its revoker is answered."""

import asyncio
import os
import time
from typing import cast

import aiohttp
import pytest

from node.app import Node
from node.rooms.incoming import read_incoming
from protocol.codec import decode, encode
from protocol.errors import DeviceRevoked, UnknownRoom
from protocol.log import read_submission
from protocol.wire import (
    Claim,
    Claimed,
    Entries,
    FromNode,
    ProblemFrame,
    ResultFrame,
    SubmitFrame,
)
from tests.node.phone import Phone, further_phone, revocation
from tests.node.test_external_join import head, roster


async def last_words(line: aiohttp.ClientWebSocketResponse) -> list[FromNode]:
    """What comes until the node ends the session."""
    found: list[FromNode] = []
    async with asyncio.timeout(10):
        async for message in line:
            assert message.type is aiohttp.WSMsgType.BINARY
            found.append(decode(message.data, cast("type[FromNode]", FromNode)))
    assert line.closed
    return found


async def test_its_open_socket_is_closed_and_takes_nothing_more(
    node: Node, alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    await alice.add(room, bob.account)
    async with further_phone(node, bob) as second:
        data, bundle, joined = second.external_commit(
            room.id, await second.group_state(room.id)
        )
        await second.submit(data, bundle)
        room.group.process_commit(read_submission(data).body, now=int(time.time()))
        async with second.session() as line:
            await line.ack(**{room.id: 3})
            await bob.append_log(revocation(bob, second))
            # Sent after the answer to the revocation: too late, however fast it is.
            frame = SubmitFrame(1, second.message(joined, b"too late"))
            await line.connection.send_bytes(encode(frame))
            frames = await last_words(line.connection)
            problems = [
                each.problem
                for each in frames
                if isinstance(each, ProblemFrame | ResultFrame)
            ]
            assert problems and {p and p.code for p in problems} == {"device_revoked"}
        assert await head(alice, room.id) == 3
        async with bob.session() as still:  # its account goes on
            await still.ack(**{room.id: 3})
            await alice.submit(alice.message(room))
            await still.entries(room.id, 1)
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with second.session():
                pass
        assert caught.value.status == DeviceRevoked.status


async def test_its_socket_ends_though_it_says_nothing(node: Node, alice: Phone) -> None:
    async with further_phone(node, alice) as second, second.session() as line:
        await alice.append_log(revocation(alice, second))
        (frame,) = await last_words(line.connection)
        assert isinstance(frame, ProblemFrame)
        assert frame.problem.code == "device_revoked"


def nothing(*_: object) -> None:
    """A line on which nothing gets through."""


async def test_a_device_that_does_not_read_is_cut_off_all_the_same(
    node: Node, alice: Phone, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be told why, because its line is full; nor does it go on by that."""
    room = await alice.create_room()
    await alice.add(room, bob.account)
    monkeypatch.setattr("node.api.websocket.CLOSE_TIMEOUT", 0.05)
    async with further_phone(node, bob) as second:
        data, bundle, joined = second.external_commit(
            room.id, await second.group_state(room.id)
        )
        await second.submit(data, bundle)
        async with second.session() as line:
            # Nothing gets through any more, not even the node's close.
            monkeypatch.setattr("node.api.websocket.WebSocket.send", nothing)
            monkeypatch.setattr("node.api.websocket.WebSocket._control", nothing)
            await bob.append_log(revocation(bob, second))
            late = encode(SubmitFrame(2, second.message(joined, b"too late")))
            await line.connection.send_bytes(late)
            frames = await last_words(line.connection)
            assert all(isinstance(frame, Entries) for frame in frames)
        assert await head(alice, room.id) == 3


async def test_every_request_of_it_is_refused_with_the_same_code(
    node: Node, alice: Phone
) -> None:
    room = await alice.create_room()
    async with further_phone(node, alice) as second:
        await second.upload_packages()
        await alice.append_log(revocation(alice, second))
        vault, link, tree = "ab" * 16, "cd" * 16, "ef" * 32
        for method, path in (
            ("GET", "/telex/v1/rooms"),
            ("GET", f"/telex/v1/logs/{room.id}/entries"),
            ("POST", f"/telex/v1/logs/{room.id}/entries"),
            ("GET", f"/telex/v1/logs/{room.id}/group"),
            ("GET", f"/telex/v1/logs/{room.id}/roster"),
            ("GET", f"/telex/v1/logs/{room.id}/tree/{tree}"),
            ("GET", f"/telex/v1/accounts/{alice.account}/log"),
            ("POST", f"/telex/v1/accounts/{alice.account}/log"),
            ("GET", "/telex/v1/key-packages"),
            ("PUT", "/telex/v1/key-packages"),
            ("POST", "/telex/v1/key-packages/claim"),
            ("GET", "/telex/v1/vaults"),
            ("GET", f"/telex/v1/vaults/{vault}"),
            ("PUT", f"/telex/v1/vaults/{vault}/1"),
            ("DELETE", f"/telex/v1/vaults/{vault}"),
            ("GET", f"/telex/v1/links/{link}/offer"),
            ("PUT", f"/telex/v1/links/{link}/answer"),
            ("GET", "/telex/v1/ws"),
        ):
            status, _, content = await second.send(method, path)
            assert status == 403 and b'"device_revoked"' in content, (method, path)


async def test_a_request_whose_body_comes_late_is_refused(
    node: Node, alice: Phone
) -> None:
    """Its head came when the device was good, its body when it was not."""
    async with further_phone(node, alice) as second:
        path, body = "/telex/v1/key-packages", b"\x80"
        headers = second.headers("PUT", path, "", body)
        lines = [f"PUT {path} HTTP/1.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await writer.drain()
        await alice.append_log(revocation(alice, second))
        writer.write(body)
        async with asyncio.timeout(10):
            status = await reader.readline()
        assert b" 403 " in status
        writer.close()


async def test_its_key_packages_are_gone_from_repeated_claims_too(
    node: Node, alice: Phone, bob: Phone
) -> None:
    async with further_phone(node, bob) as second:
        await second.upload_packages()
        path = "/telex/v1/key-packages/claim"
        claim = Claim(os.urandom(16), [bob.account])
        first = await alice.call("POST", path, claim, Claimed)
        assert {p.device for p in first.packages} == {bob.address, second.address}
        await bob.append_log(revocation(bob, second))
        again = await alice.call("POST", path, claim, Claimed)
        assert [p for p in first.packages if p.device == bob.address] == again.packages
        fresh = await alice.claim(bob.account)
        assert {p.device for p in fresh.packages} == {bob.address}


async def test_it_leaves_rosters_and_its_cursors(
    node: Node, alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    await alice.add(room, bob.account)
    async with further_phone(node, bob) as second:
        data, bundle, joined = second.external_commit(
            room.id, await second.group_state(room.id)
        )
        await second.submit(data, bundle)
        room.group.process_commit(read_submission(data).body, now=int(time.time()))
        async with second.session() as line:
            await line.ack(**{room.id: 3})
            await bob.append_log(revocation(bob, second))
        found = await roster(alice, room.id)
        assert found.devices == sorted([alice.address, bob.address])
        rows = await node.store.read(
            lambda c: c.exec_driver_sql(
                "SELECT count(*) FROM cursor WHERE reader = ?", (second.address,)
            ).scalar()
        )
        assert rows == 0
        # What it wrote before is refused by the hub itself, whoever brings it.
        with pytest.raises(UnknownRoom):
            await node.hub.submit(read_incoming(second.message(joined)), None)
        late, late_bundle, _ = second.commit(joined)
        with pytest.raises(DeviceRevoked):
            await node.hub.submit(read_incoming(late), late_bundle)
        # Members take its leaf away, and the roster stays right.
        data, bundle, staged = alice.commit(room, remove=[second.address])
        await alice.submit(data, bundle)
        room.group.apply_own(staged)
        assert (await roster(alice, room.id)).devices == found.devices
