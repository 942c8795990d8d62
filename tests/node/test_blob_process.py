"""Blobs and a node that is a process: kill -9 in an upload, and its memory."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.node.blobs import append, begin, blob_id, get, state, upload
from tests.node.process import Process

pytestmark = pytest.mark.system

MIB = 1024 * 1024


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path)
    found.init()
    yield found
    if found.running is not None:
        found.running.kill()
        found.running.communicate()


async def test_an_upload_survives_kill_9(process: Process) -> None:
    process.start()
    code = process.command("invite").strip()
    data = os.urandom(3 * MIB + 5)
    blob = blob_id(data)
    async with process.phone("alice") as alice:
        await alice.register(code)
        await begin(alice, blob, len(data))
        done = await append(alice, blob, 0, data[:MIB])
        process.end(signal.SIGKILL)
        with pytest.raises(aiohttp.ClientError):
            await append(alice, blob, MIB, data[MIB : 2 * MIB])
        process.start()
        assert await state(alice, blob) == done
        await upload(alice, data)
        process.end(signal.SIGKILL)
        process.start()
        assert (await get(alice, blob))[2] == data


async def test_a_large_blob_costs_no_memory(process: Process) -> None:
    """24 MiB in and out; the node's peak of memory grows by a few MiB."""
    process.start()
    assert process.running is not None
    proc = Path(f"/proc/{process.running.pid}")

    def peak() -> int:
        """KiB of resident memory at most since it was reset."""
        (line,) = (
            line
            for line in (proc / "status").read_text().splitlines()
            if line.startswith("VmHWM:")
        )
        return int(line.split()[1])

    code = process.command("invite").strip()
    data = os.urandom(24 * MIB)
    async with process.phone("alice") as alice:
        await alice.register(code)
        small = await upload(alice, data[: 2 * MIB])  # whatever is made once
        await get(alice, small)
        (proc / "clear_refs").write_text("5")
        before = peak()
        blob = await upload(alice, data)
        assert (await get(alice, blob))[2] == data
        grown = peak() - before
    assert grown < 8 * 1024, f"{grown} KiB"
