"""Connections that do not ask: closed, seen from raw sockets."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from node.api.patience import Patience
from tests.node.phone import phone
from tests.node.server import make_node, make_settings

FIRST = 0.4
WHOLE = b"GET /.well-known/telex HTTP/1.1\r\nHost: x\r\n\r\n"


async def held(port: int, first: bytes, drop: bytes) -> float:
    """Send `first`, then a drop twenty times a second, for three times as long as
    the node waits; the seconds until it closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()
    try:
        writer.write(first)
        while time.monotonic() - started < 3 * FIRST:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    if await reader.read(4096) == b"":
                        break
            writer.write(drop)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return time.monotonic() - started


async def test_who_never_finishes_a_head_is_closed(tmp_path: Path) -> None:
    node = make_node(make_settings(tmp_path))
    node._patience = Patience(FIRST, every=0.05)
    await node.start()
    try:
        async with phone(node, "alice") as alice:
            await alice.register()
            async with alice.session() as line:
                slow, silent, asked = await asyncio.gather(
                    held(node.port, b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
                    held(node.port, b"", b""),
                    held(node.port, WHOLE, b""),
                )
                assert FIRST <= slow < 2 * FIRST
                assert FIRST <= silent < 2 * FIRST
                # Who has asked once may be silent, and a session goes on.
                assert asked >= 3 * FIRST
                room = await alice.create_room()
                assert (await line.submit(alice.message(room))).seq == 2
    finally:
        await node.stop()
