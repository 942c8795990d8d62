"""`telex-node status`: what is wrong, in sentences, and by the exit status."""

import asyncio
import json
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from federation.ports import PeerRecord
from node import local
from node.app import Node
from node.config import Settings
from node.local import LocalStatus, NodeState, NoStatus, ask
from node.lock import ended_badly, read_running, take_lock
from node.peers.store import Peers
from node.status import Status, print_status, read_status
from node.storage.health import Health
from node.watchdog import Stalls
from tests.node.process import Process
from tests.node.server import make_settings, running


async def look(settings: Settings) -> Status:
    """In a thread: the node that is asked runs on this loop."""
    return await asyncio.to_thread(read_status, settings)


async def test_a_node_that_is_well(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await look(node.settings)
    assert found.healthy and found.problems == []
    assert found.state is not None and found.state.storage.ok
    assert found.running is not None and found.answers.startswith("telex-node/")
    print_status(found, as_json=False)
    text = capsys.readouterr().out
    assert "storage:     writes" in text and "PROBLEM" not in text
    print_status(found, as_json=True)
    read = json.loads(capsys.readouterr().out)
    assert read["healthy"] is True and read["state"]["storage"]["state"] == "ok"
    assert read["counts"]["entries"] == 0


async def test_the_socket_is_the_owner_s_alone_and_goes_with_the_node(
    tmp_path: Path,
) -> None:
    settings = make_settings(tmp_path)
    path = settings.data_dir / "node.sock"
    async with running(settings):
        assert path.stat().st_mode & 0o777 == 0o600
        assert settings.data_dir.stat().st_mode & 0o077 == 0 or os.geteuid() == 0
    assert not path.exists()
    assert (await look(settings)).running is None
    with pytest.raises(NoStatus):
        ask(settings.data_dir)


async def test_a_data_directory_with_a_long_name(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    status = LocalStatus(directory, lambda: NodeState(sessions=7))
    await status.start()
    try:
        assert (await asyncio.to_thread(ask, directory)).sessions == 7
    finally:
        await status.stop()
    assert list(directory.iterdir()) == []


async def test_a_stranger_on_the_socket_is_not_believed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "node.sock"))
        listening.listen()

        def lie(data: bytes) -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(data)

        for data in (b"", b"{", b"[]", b"x" * 70_000):
            answer = asyncio.create_task(asyncio.to_thread(lie, data))
            with pytest.raises(NoStatus):
                await asyncio.to_thread(ask, tmp_path)
            await asyncio.gather(answer, return_exceptions=True)


BAD: list[tuple[NodeState, str]] = [
    (NodeState(storage=Health("full", 1, "disk full")), "The disk is full"),
    (NodeState(storage=Health("damaged", 1, "malformed")), "telex-node verify"),
    (NodeState(waiting=900, waiting_max=1000), "900 writes wait"),
    (NodeState(wal_bytes=1 << 30), "write-ahead log has 1074 MB"),
]


@pytest.mark.parametrize(("state", "words"), BAD)
async def test_what_a_node_says_of_itself_is_told(
    node: Node,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: NodeState,
    words: str,
) -> None:
    monkeypatch.setattr(node._local, "_state", lambda: state)
    found = await look(node.settings)
    assert not found.healthy and len(found.problems) == 1
    print_status(found, as_json=False)
    assert f"PROBLEM:     {found.problems[0]}" in capsys.readouterr().out
    assert words in found.problems[0]


async def test_stalls_are_told_but_make_nobody_ill(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = NodeState(stalls=Stalls(2, 55.5, 1, "work (a/b.py:3)"))
    monkeypatch.setattr(node._local, "_state", lambda: state)
    found = await look(node.settings)
    print_status(found, as_json=False)
    text = capsys.readouterr().out
    assert found.healthy and "held up 3 times, by 56 ms" in text
    assert "work (a/b.py:3)" in text


async def test_a_peer_whose_keys_changed_is_a_problem(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    record = PeerRecord("evil.example", trusted="changed", fails=3)
    await Peers(node.store, lambda: 1.0).store_peer(record)
    found = await look(node.settings)
    assert not found.healthy and "evil.example" in found.problems[0]
    print_status(found, as_json=False)
    assert "no answer from evil.example" in capsys.readouterr().out


async def test_a_database_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    data = bytearray(settings.database.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    settings.database.write_bytes(data)
    found = read_status(settings)
    assert not found.healthy and found.counts is None
    assert "restore" in found.problems[0]


def test_a_certificate_that_is_missing(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    tls = replace(settings.tls, cert_file=tmp_path / "none.pem")
    found = read_status(replace(settings, tls=tls))
    assert not found.healthy and "none.pem" in found.problems[0]


def test_an_end_in_order_leaves_a_blank_lock(tmp_path: Path) -> None:
    lock = take_lock(tmp_path)
    assert read_running(tmp_path) is None
    lock.release()
    assert not ended_badly(tmp_path) and not ended_badly(tmp_path / "none")


@pytest.mark.system
def test_a_process_that_stands_still_or_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "TIMEOUT", 1.0)
    process = Process(tmp_path)
    process.init()
    process.start()
    assert process.running is not None
    process.running.send_signal(signal.SIGSTOP)
    status, text = process.outcome("status")
    assert status == 1 and "has not answered for 1 seconds" in text
    process.end(signal.SIGKILL)
    status, text = process.outcome("status")
    assert status == 1 and "running:     no" in text
    assert "ended without shutting down" in text
    process.start()
    assert process.outcome("status", "--json")[0] == 0
    process.end()
    status, text = process.outcome("status")
    assert status == 0 and "running:     no" in text
