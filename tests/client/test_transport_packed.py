"""Answers that the node compressed: unpacked, and never without a limit."""

import gzip
import zlib
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from client.clock import Clock
from client.errors import ClientError, NodeNonsense, NodeUnreachable
from client.model import Profile
from client.network import transport
from client.network.transport import Transport
from protocol.codec import encode
from protocol.log import LogId
from protocol.wire import Rooms, RoomState

ROOMS = Rooms([RoomState(LogId("a" * 52), "example.org", n, n) for n in range(100)])
PLAIN = encode(ROOMS)


async def get_rooms(directory: Path, body: bytes, coding: str) -> Rooms:
    """What the client makes of an answer."""
    asked: list[str] = []

    async def rooms(request: web.Request) -> web.Response:
        asked.append(request.headers["Accept-Encoding"])
        return web.Response(body=body, headers={"Content-Encoding": coding})

    app = web.Application()
    app.router.add_get("/telex/v1/rooms", rooms)
    async with TestServer(app) as server:
        profile = Profile(directory, node_url=str(server.make_url("")).rstrip("/"))
        async with Transport(profile, "example.org", Clock(), None) as client:
            found = await client.get("/rooms", Rooms)
    assert asked == ["gzip"]
    return found


async def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(PLAIN)
    assert len(packed) < len(PLAIN)
    assert await get_rooms(tmp_path, packed, "gzip") == ROOMS
    assert await get_rooms(tmp_path, PLAIN, "identity") == ROOMS


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (gzip.compress(PLAIN)[:-9], NodeUnreachable),
        (b"", NodeUnreachable),
        (PLAIN, NodeNonsense),
        (zlib.compress(PLAIN), NodeNonsense),
        (gzip.compress(b"\xc1"), NodeNonsense),
    ],
    ids=["cut off", "nothing", "not packed", "packed otherwise", "nonsense within"],
)
async def test_what_cannot_be_unpacked_is_an_error(
    tmp_path: Path, body: bytes, error: type[ClientError]
) -> None:
    with pytest.raises(error):
        await get_rooms(tmp_path, body, "gzip")


async def test_a_bomb_does_not_go_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "ANSWER_MAX", 1024 * 1024)
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    with pytest.raises(NodeNonsense, match="too large"):
        await get_rooms(tmp_path, bomb, "gzip")
