"""The demo's promise: whatever happens, nothing of it is left."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tui import demo_warden
from tui.demo_parts import Processes, free_ports, last_lines, make_certificates

WARDEN = Path(demo_warden.__file__)


def gone(pid: int) -> bool:
    """Whether a process ended (a zombie has)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"


def wait_gone(pid: int) -> bool:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        if gone(pid):
            return True
        time.sleep(0.05)
    return False


def sleeper(*, stubborn: bool = False) -> subprocess.Popen[bytes]:
    """A process in a session of its own, as the demo starts them."""
    ignore = "signal.signal(15, signal.SIG_IGN);" if stubborn else ""
    code = f"import signal,time;{ignore}print('up',flush=True);time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_warden_cleans_up_when_the_demo_is_gone(
    tmp_path: Path, stubborn: bool
) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "data").write_text("x")
    process = sleeper(stubborn=stubborn)
    warden = subprocess.Popen(
        [sys.executable, str(WARDEN), str(folder)], stdin=subprocess.PIPE
    )
    assert warden.stdin is not None
    warden.stdin.write(f"{process.pid}\n".encode())
    warden.stdin.close()
    # A parent that lives collects its children; that of a dead one is init.
    process.wait(20)
    assert warden.wait(20) == 0
    assert not folder.exists()


def test_the_warden_touches_nothing_after_done(tmp_path: Path) -> None:
    process = sleeper()
    warden = subprocess.run(
        [sys.executable, str(WARDEN), str(tmp_path)],
        input=f"{process.pid}\ndone\n".encode(),
        timeout=10,
    )
    assert warden.returncode == 0
    assert tmp_path.exists() and not gone(process.pid)
    process.kill()
    process.wait()


def test_the_warden_leaves_strangers_alone(tmp_path: Path) -> None:
    # Not the leader of a session: an id that somebody else has now.
    stranger = subprocess.Popen([sys.executable, "-c", "import time;time.sleep(60)"])
    demo_warden.stop([stranger.pid, 2**22 + 1])
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_the_warden_never_takes_its_own_group_for_one_of_the_demo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In a container whose session leader lives outside, getsid(0) is 0.
    sent: list[int] = []
    monkeypatch.setattr(os, "getsid", lambda pid: pid)
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append(group))
    demo_warden.stop([0, -1])
    assert sent == []


async def test_processes_are_stopped_and_their_logs_are_read(tmp_path: Path) -> None:
    processes = await Processes.begin(tmp_path)
    code = "import time;print('line one');time.sleep(600)"
    running = await processes.spawn("node", [sys.executable, "-c", code], {})
    broken = await processes.spawn("bot", [sys.executable, "-c", "1/0"], {})
    await broken.wait()
    assert "bot ended with exit code 1" in processes.ended()
    assert "ZeroDivisionError" in processes.ended()
    async with asyncio.timeout(30):
        while not last_lines(tmp_path / "node.log"):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)
    await processes.stop()
    await processes.dismiss()
    assert running.returncode == -signal.SIGTERM
    assert "line one" in last_lines(tmp_path / "node.log")


def test_ports_and_certificates(tmp_path: Path) -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3
    make_certificates(tmp_path)
    for name in ("ca.pem", "cert.pem"):
        assert "BEGIN CERTIFICATE" in (tmp_path / name).read_text()
    assert os.stat(tmp_path / "key.pem").st_mode & 0o077 == 0


@pytest.mark.system
def test_the_whole_demo(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tui.cli", "demo", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert run.returncode == 0, run.stderr
    assert "its answer back" in run.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.long)]
)
def test_nothing_is_left_when_the_demo_is_stopped(
    tmp_path: Path, number: signal.Signals
) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "tui.cli", "demo", "--check"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert demo.stderr is not None
    for line in demo.stderr:
        if line.startswith("Registering"):
            break
    children = nodes_in(tmp_path)
    assert len(children) == 2
    demo.send_signal(number)
    demo.wait(30)
    assert all(wait_gone(pid) for pid in children)
    end = time.monotonic() + 15
    while list(tmp_path.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
    demo.stderr.close()


def nodes_in(folder: Path) -> list[int]:
    """Running nodes whose config lies in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"run" in words and any(str(folder).encode() in word for word in words):
            found.append(int(entry.name))
    return found
