"""`telex-node` as a process: its commands, a second start, and kill -9."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.phone import Phone
from tests.node.process import Process, check_log

pytestmark = pytest.mark.system


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path)
    found.init()
    yield found
    if found.running is not None:
        found.running.kill()
        found.running.communicate()


def test_init_makes_everything_once(process: Process) -> None:
    directory = process.config.parent
    assert (directory / "data" / "node.key").stat().st_mode & 0o777 == 0o600
    assert (directory / "recovery.key").stat().st_mode & 0o777 == 0o600
    before = (directory / "data" / "node.key").read_bytes()
    error = process.command("init", "--name", process.name, ok=False)
    assert "is there already; nothing was changed" in error
    assert (directory / "data" / "node.key").read_bytes() == before
    assert "is fine" in process.command("check-config")
    assert "running:     no" in process.command("status")
    assert "no accounts yet" in process.command("user", "list")
    assert "met no other" in process.command("peer", "list")


def test_errors_are_one_sentence(process: Process) -> None:
    assert "no account" in process.command("user", "disable", "nobody", ok=False)
    good = process.config.read_text()
    process.config.write_text(good + "\ncolour = 1\n")
    for command in ("run", "status", "check-config", "invite"):
        error = process.command(command, ok=False)
        assert error.count("\n") == 1 and "log.colour" in error
    process.config.write_text(good.replace(process.name, "other.example"))
    assert "cannot change its name" in process.spawn("run", ok=False)
    process.config.unlink()
    assert "telex-node init" in process.command("run", ok=False)


async def test_a_life_on_the_command_line(process: Process) -> None:
    process.start()
    code = process.command("invite", "--uses", "2", "--expires", "1h").strip()
    async with process.phone("alice") as alice:
        await alice.register(code)
        room = await alice.create_room()
        assert "another telex-node runs" in process.spawn("run", ok=False).lower()
        status = process.command("status")
        assert "running:     yes" in status and "1 with 1 devices" in status
        assert "answers:     telex-node/" in status
        assert f"alice@{process.name}" in process.command("user", "list")
        process.command("user", "disable", "alice")
        assert "disabled" in process.command("user", "list")
        await until_shut_out(alice)
        process.command("user", "enable", f"alice@{process.name}")
        status_code, log = process.end()
        assert status_code == 0
        assert "Traceback" not in log and alice.account not in log
        # The same data again, and a log for programs.
        process.write_json_log()
        process.start()
        assert (await alice.submit(alice.message(room))).seq == 2
        status_code, log = process.end(signal.SIGINT)
    assert status_code == 0 and alice.account not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert any("listens on" in line["message"] for line in lines)
    assert any(line["level"] == "debug" for line in lines)
    assert {"time", "level", "logger", "message"} <= lines[0].keys()


async def test_nothing_acked_is_lost_by_kill_9(process: Process) -> None:
    process.start()
    code = process.command("invite").strip()
    async with process.phone("alice") as alice:
        await alice.register(code)
        room = await alice.create_room()
        sent: list[bytes] = []
        acked: dict[bytes, tuple[int | None, bytes | None]] = {}

        enough = asyncio.Event()

        async def write() -> None:
            while True:
                data = alice.message(room, os.urandom(20))
                sent.append(data)
                receipt = await alice.submit(data)
                acked[data] = (receipt.seq, receipt.hash)
                if len(acked) % 60 == 0:
                    enough.set()

        for _ in range(2):
            enough.clear()
            writers = [asyncio.create_task(write()) for _ in range(6)]
            async with asyncio.timeout(20):
                await enough.wait()
            process.end(signal.SIGKILL)
            await asyncio.gather(*writers, return_exceptions=True)
            process.start()
            await check_log(alice, room.id, acked)
        # What was not acked may be in the log or not; sent again it is, once.
        for data in sent:
            receipt = await alice.submit(data)
            assert acked.setdefault(data, (receipt.seq, receipt.hash)) == (
                receipt.seq,
                receipt.hash,
            )
        assert await check_log(alice, room.id, acked) == len(sent) + 1


async def until_shut_out(device: Phone) -> None:
    """Wait until the node refuses a device; it notices within a second."""
    for _ in range(100):
        if (await device.send("GET", "/telex/v1/rooms"))[0] == 403:
            return
        await asyncio.sleep(0.05)
    pytest.fail("the node did not notice")
