"""Connections and open files, of nodes in processes of their own: how many there may
be, who is turned away, and that those inside go on.

The sockets come from this process, so there are some hundred at most.
"""

import asyncio
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from node.bench.scratch import make_certificate
from node.descriptors import advice, connections_of, raise_open_files, sessions_of
from protocol.wire import Ready, ResultFrame
from tests.helpers.people import Person
from tests.node.phone import Phone
from tests.node.process import Process
from tests.node.raw import Raw, raw_session, submit, until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="sets limits of other processes"
)

FILES = 256
"""Open files of a node, which leave room for so many connections:"""

MOST = 128

ROOMS = "/telex/v1/rooms"
ASKED = b"GET /.well-known/telex HTTP/1.1\r\nHost: x\r\n\r\n"


class Poor(Process):
    """A node that may have few files open."""

    def prepare(self, **limits: int) -> None:
        """Make it, open to everybody; `limits` are settings."""
        self.init()
        text = self.config.read_text()
        text = text.replace('registration = "invite"', 'registration = "open"')
        lines = "".join(f"{name} = {value}\n" for name, value in limits.items())
        self.config.write_text(text.replace("[limits]\n", f"[limits]\n{lines}"))

    def start_with(self, soft: int, hard: int) -> None:
        """Start it under a soft and a hard limit."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        script = (
            "import resource, sys; from node.cli import main;"
            f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
            "main(sys.argv[1:])"
        )
        self.running = subprocess.Popen(
            [sys.executable, "-c", script, "--config", str(self.config), "run"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.running.stdout is not None
        line = self.running.stdout.readline()
        assert " is up at " in line, line
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self.running is not None
        return self.running.pid

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def status(self) -> dict[str, Any]:
        """What `status --json` prints."""
        _, text = await asyncio.to_thread(self.outcome, "status", "--json")
        found: dict[str, Any] = json.loads(text)
        return found

    def knock(self, source: str = "", data: bytes = b"") -> socket.socket:
        """A connection on which `data` was sent."""
        made = socket.socket()
        made.settimeout(10)
        if source:
            made.bind((source, 0))
        made.connect(("127.0.0.1", self.port))
        made.sendall(data)
        return made


@pytest.fixture
def poor(tmp_path: Path) -> Iterator[Poor]:
    """A node that is not made yet."""
    process = Poor(tmp_path)
    yield process
    if process.running is not None:
        process.running.kill()
        process.running.communicate()


@contextmanager
def crowd(poor: Poor, count: int, source: str = "") -> Iterator[list[socket.socket]]:
    """So many connections that say nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(poor.knock(source)) for _ in range(count)]


@asynccontextmanager
async def talking(poor: Poor) -> AsyncIterator[tuple[Phone, Raw, Any]]:
    """A device with a room and a session."""
    async with poor.phone("alice") as alice:
        await alice.register()
        room = await alice.create_room()
        async with raw_session(alice) as line:
            assert isinstance(await line.told(), Ready)
            yield alice, line, room


async def say(alice: Phone, line: Raw, room: Any, number: int) -> None:
    """A message on a session is stored."""
    await line.send(submit(number, alice.message(room)))
    while not isinstance(told := await line.told(), ResultFrame):
        pass
    assert told.problem is None
    assert told.receipt is not None and told.receipt.state == "committed"


def said(made: socket.socket) -> bytes:
    """All that came until now; nothing if it is open and silent."""
    made.setblocking(False)
    found = b""
    with suppress(OSError):
        while part := made.recv(4096):
            found += part
    return found


def over(made: socket.socket) -> bool:
    """Whether the node has closed it."""
    made.setblocking(False)
    try:
        return made.recv(4096) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_the_soft_limit_is_raised_and_a_low_one_is_told(poor: Poor) -> None:
    poor.prepare()
    poor.start_with(200, 600)
    found = await poor.status()
    assert found["state"]["files_max"] == 600
    assert found["state"]["door"]["most"] == connections_of(600)
    # A note on what may come, and nothing is wrong yet.
    assert found["healthy"] and found["problems"] == []
    (note,) = found["notes"]
    assert "LimitNOFILE=32768" in note and "20000 of limits.connections" in note
    status, text = await asyncio.to_thread(poor.outcome, "status")
    assert status == 0 and f"note:        {note}" in text
    assert poor.end()[1].count(note) == 1


async def test_who_is_too_many_is_refused_and_nobody_else_hurt(poor: Poor) -> None:
    poor.prepare(connections_per_address=5)  # which counts no proxy on loopback
    poor.start_with(FILES, FILES)
    async with talking(poor) as (alice, line, room):
        with crowd(poor, MOST + 40) as crowded:
            await until(lambda: over_or_said(crowded[-1]))
            with poor.knock(data=ASKED) as late:
                answer = (await asyncio.to_thread(read_all, late)).decode()
            head, _, body = answer.partition("\r\n\r\n")
            assert head.startswith("HTTP/1.1 503 ")
            assert "Retry-After: 10" in head and "problem+json" in head
            assert json.loads(body)["code"] == "node_busy"
            for number in range(3):
                await say(alice, line, room, number)
            found = await poor.status()
            door, state = found["state"]["door"], found["state"]
            assert door["connections"] <= door["most"] == MOST
            assert door["refused"] >= 41 and state["files"] < FILES
            # It says why, beside that it does not answer `status` itself.
            told = [each for each in found["problems"] if "128 of 128" in each]
            assert len(told) == 1 and "LimitNOFILE" in told[0] and not found["healthy"]
        # They have gone, and nobody had to do anything.
        await again(alice)
        await say(alice, line, room, 4)
        assert (await poor.status())["state"]["door"]["connections"] < 5
    assert poor.end()[0] == 0


def over_or_said(made: socket.socket) -> bool:
    """Whether the node has done anything about it."""
    made.setblocking(False)
    try:
        made.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def read_all(made: socket.socket) -> bytes:
    """All until it is closed, or broken off."""
    found = b""
    with suppress(ConnectionError):
        while part := made.recv(4096):
            found += part
    return found


async def again(alice: Phone) -> None:
    """Ask until it is answered."""
    async with asyncio.timeout(20):
        while True:
            with suppress(aiohttp.ClientError):
                if (await alice.send("GET", ROOMS))[0] == 200:
                    return
            await asyncio.sleep(0.05)


async def test_no_files_left_at_all(poor: Poor) -> None:
    """Below what is open already: not one file can be opened, not even libuv's own,
    without which its server would spin."""
    poor.prepare()
    poor.start_with(FILES, FILES)
    async with talking(poor) as (alice, line, room):
        resource.prlimit(poor.pid, resource.RLIMIT_NOFILE, (3, FILES))
        with crowd(poor, 20) as waiting:
            waiting[0].sendall(ASKED)
            before = poor.cpu
            for number in range(20):
                await say(alice, line, room, number)
                await asyncio.sleep(0.1)
            # A loop that spins takes all of two seconds.
            assert poor.cpu - before < 1
            assert not any(over(each) or said(each) for each in waiting)
            resource.prlimit(poor.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
            # Who waited is served.
            waiting[0].settimeout(10)
            assert b"200 OK" in await asyncio.to_thread(waiting[0].recv, 4096)
        await again(alice)
    log = poor.end()[1]
    assert log.count("Nobody can be let in for now: Too many open files.") == 1
    assert "Traceback" not in log


async def test_one_network_s_strangers_are_counted(poor: Poor, tmp_path: Path) -> None:
    files = make_certificate(tmp_path / "tls")
    poor.prepare(connections_per_address=8)
    text = poor.config.read_text()
    for name in ("cert", "key"):
        line = f'{name}_file = "{files / (name + ".pem")}"\n'
        text = text.replace("[tls]\n", f"[tls]\n{line}")
    poor.config.write_text(text)
    poor.start_with(FILES, FILES)
    trust = ssl.create_default_context(cafile=str(files / "cert.pem"))
    with crowd(poor, 8, "127.0.0.2") as inside:  # none of them shakes hands
        with crowd(poor, 3, "127.0.0.2") as outside:
            await until(lambda: all(over(each) for each in outside))
        assert not any(over(each) for each in inside)
        found = (await poor.status())["state"]["door"]
        assert found["crowded"] == 3 and found["refused"] == 0
        # Others come in, and who proved to be a device is counted no more: twelve
        # connections, on each of which a signed request was answered.
        person = Person(f"alice@{poor.name}", now=int(time.time()))
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        async with aiohttp.ClientSession(connector=connector) as http:
            base = f"https://localhost:{poor.port}"
            alice = Phone(http, poor.name, base, person, person.device())
            await alice.register()
            for count in (4, 8, 12):
                answers = await asyncio.gather(*(request(alice) for _ in range(count)))
                assert answers == [200] * count
    # Who left made room, once the node has noticed.
    while (await poor.status())["state"]["door"]["connections"]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    with crowd(poor, 8, "127.0.0.2") as inside:
        with poor.knock("127.0.0.2") as one_more:
            await until(lambda: over(one_more))
        assert not any(over(each) for each in inside)


async def request(alice: Phone) -> int:
    """A signed request; on a connection of its own if others are under way."""
    return (await alice.send("GET", ROOMS))[0]


def test_what_a_limit_has_room_for() -> None:
    assert connections_of(1024) == 896 and connections_of(524_288) == 520_192
    # Whatever the limit, something is left on both sides.
    for limit in (16, 100, 200, 256, 1000, 5000, 100_000):
        assert 0 < sessions_of(limit) < connections_of(limit) < limit
    for sessions in (1, 50, 1000, 20_000, 1_000_000):
        words = advice(16, sessions)
        if not words:
            assert sessions_of(16) >= sessions
            continue
        needed = int(words.partition("LimitNOFILE=")[2].partition(",")[0])
        assert advice(needed, sessions) == "" and advice(needed // 2, sessions)


def test_raising_is_harmless_when_there_is_nothing_to_raise() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        most = raise_open_files()
        assert most == raise_open_files() >= before[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
