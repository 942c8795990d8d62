"""The media process starts, ends, hangs and dies; the engine goes on."""

import asyncio
import logging
import os
import pty
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from media import ipc, process, supervisor
from media.port import Device, Exited, Ice, IceServer, MediaError, Sound, View
from media.supervisor import Media
from tests.media.conftest import Ear

ROOT = Path(__file__).parents[2]


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waited for has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def until_dead(pid: int, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while alive(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def started(media: Media) -> int:
    await media.devices()
    assert media.pid is not None
    return media.pid


async def test_it_starts_at_the_first_call_that_needs_it(ear: Ear) -> None:
    media = ear.media
    await media.set_muted(True)
    await media.set_sound(Sound(echo=False))
    await media.set_view(View(160, 96))
    await media.set_camera("")
    await media.play("none")
    await media.close("never")
    assert media.pid is None
    found = await media.devices()
    assert media.pid is not None
    kinds = {device.kind for device in found.found}
    assert kinds >= {"microphone", "speaker"} or found.missing


async def test_about_a_leg_that_is_not_there(ear: Ear) -> None:
    await started(ear.media)
    for asked in (
        ear.media.accept("leg", "v=0"),
        ear.media.add_candidates("leg", ["candidate:1"]),
        ear.media.open("leg"),
    ):
        with pytest.raises(MediaError, match="call again") as caught:
            await asked
        assert caught.value.code == "unknown_leg"
    await ear.media.close("leg")


async def test_a_stopped_process_ends_and_another_starts(ear: Ear) -> None:
    first = await started(ear.media)
    await ear.media.stop()
    assert not alive(first)
    assert ear.media.pid is None
    second = await started(ear.media)
    assert second != first
    assert ear.of(Exited) == []
    await ear.media.stop()
    await ear.media.stop()


async def test_a_killed_process_is_told_and_the_next_call_starts_another(
    ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    pid = await started(ear.media)
    os.kill(pid, signal.SIGKILL)
    exited = await ear.first(Exited)
    assert exited.detail.startswith("Sound and picture stopped: their process ended")
    assert "Call again" in exited.detail
    assert await started(ear.media) != pid
    async with asyncio.timeout(5):
        while "SIGKILL" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert len(ear.of(Exited)) == 1


async def test_who_waits_for_a_process_that_dies_is_told(ear: Ear) -> None:
    pid = await started(ear.media)
    os.kill(pid, signal.SIGSTOP)
    waiting = asyncio.gather(
        *(ear.media.devices() for _ in range(3)), return_exceptions=True
    )
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    for error in await waiting:
        assert isinstance(error, MediaError)
        assert error.code == "process_lost"
        assert "Call again" in str(error)


async def test_a_process_that_hangs_is_killed(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = await started(ear.media)
    monkeypatch.setattr(process, "BEAT", 0.1)
    os.kill(pid, signal.SIGSTOP)
    exited = await ear.first(Exited)
    assert "did not answer any more" in exited.detail
    await until_dead(pid, 5)


async def test_an_engine_that_slept_does_not_think_that_the_process_hangs(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = await started(ear.media)
    monkeypatch.setattr(process, "BEAT", 0.2)
    time.sleep(0.2 * (process.MISSED + 2))  # noqa: ASYNC251
    for _ in range(5):
        await ear.media.devices()
    assert ear.media.pid == pid
    assert ear.of(Exited) == []


async def test_stop_is_bounded_for_a_process_that_does_not_listen(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOPPING", 0.2)
    pid = await started(ear.media)
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(10):
        await ear.media.stop()
    assert not alive(pid)
    assert ear.of(Exited) == []


async def test_a_process_that_nobody_needs_ends(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = await started(ear.media)
    with monkeypatch.context() as patch:
        patch.setattr(process, "BEAT", 0.1)
        patch.setattr(supervisor, "IDLE", 3)
        await until_dead(pid, 10)
    assert ear.media.pid is None
    assert ear.of(Exited) == []
    await started(ear.media)


async def test_a_camera_that_is_off_again_is_no_reason_to_stay(ear: Ear) -> None:
    media = ear.media
    await asyncio.gather(media.set_camera("lavfi:color"), media.set_camera(""))
    assert not media._settings.camera
    with pytest.raises(MediaError):
        await media.set_camera("nothing")
    assert not media._settings.camera


async def test_a_leg_that_nobody_waits_for_any_more_is_closed(ear: Ear) -> None:
    await started(ear.media)
    offering = asyncio.create_task(ear.media.offer("leg", Ice()))
    await asyncio.sleep(0)
    offering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await offering
    assert not ear.media._settings.legs
    # The process has closed it before it does what comes next for a leg of that name.
    child = ear.media._child
    assert child is not None
    with pytest.raises(MediaError) as refused:
        await child.ask(ipc.Open("leg"))
    assert refused.value.code == "unknown_leg"


async def test_what_it_prints_goes_to_the_log_and_not_to_the_screen(
    ear: Ear, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    pid = await started(ear.media)
    for fd in (0, 1, 2):
        assert "/dev/null" in os.readlink(f"/proc/{pid}/fd/{fd}") or "pipe:" in (
            os.readlink(f"/proc/{pid}/fd/{fd}")
        )
    assert os.getsid(pid) == pid != os.getsid(0)
    os.kill(pid, signal.SIGSEGV)
    await ear.first(Exited)
    async with asyncio.timeout(5):
        while "Fatal Python error" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert "Segmentation fault" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_a_process_that_prints_without_end_fills_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    noisy = subprocess.Popen(
        [sys.executable, "-c", "for _ in range(9999): print('x' * 2000)"],
        stdout=subprocess.PIPE,
    )
    assert noisy.stdout is not None
    with caplog.at_level(logging.WARNING):
        process._log_lines(noisy.stdout)
    assert noisy.wait(10) == 0
    lines = [r for r in caplog.records if r.name == "media.process"]
    assert len(lines) == process.LINES
    assert all(len(line.getMessage()) <= process.LINE for line in lines)


async def test_nothing_secret_is_in_its_arguments_or_environment(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEX_PASSPHRASE", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    pid = await started(ear.media)
    about = Path(f"/proc/{pid}")
    arguments = (about / "cmdline").read_bytes().split(b"\0")
    assert arguments[1:4] == [b"-P", b"-m", b"media.child"]
    assert b"hunter2" not in (about / "environ").read_bytes()
    assert "hunter2" not in repr(
        (ear.media, Ice((IceServer(("turn:x",), "ann", "hunter2"),)))
    )


async def test_no_module_is_taken_from_the_folder_we_are_in(
    ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "msgspec.py").write_text("raise SystemExit('taken from here')")
    (tmp_path / "media" / "__init__.py").write_text("raise SystemExit('here')")
    monkeypatch.chdir(tmp_path)
    await started(ear.media)


@pytest.mark.parametrize("library", ["aiortc", "av", "numpy"])
async def test_without_the_libraries_a_sentence_says_how_to_get_them(
    ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    (tmp_path / f"{library}.py").write_text("raise ImportError('not installed')")
    env = process._environment()
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    monkeypatch.setattr(process, "_environment", lambda: env)
    for _ in range(2):
        with pytest.raises(MediaError, match=r"pip install 'telex\[calls\]'") as caught:
            await ear.media.prepare()
        assert caught.value.code == "no_library"
    found = await ear.media.devices()
    assert any("telex[calls]" in text for text in found.missing) or found.found
    assert ear.of(Exited) == []


PARENT = """
import asyncio, signal, sys
from media.supervisor import Media

async def main():
    signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
    media = Media()
    await media.devices()
    print(media.pid, flush=True)
    while True:
        line = await asyncio.to_thread(sys.stdin.readline)
        await media.devices()
        print(media.pid, flush=True)

asyncio.run(main())
"""


async def test_it_ends_when_the_engine_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    await parent.wait()
    await until_dead(pid, 10)


BUSY = """
import sys, time
import media.child
from media.desk import Desk

async def do(self, command):
    while True:
        {work}

Desk.do = do
media.child.main()
"""


@pytest.mark.parametrize("work", ["pass", "time.sleep(60)"])
async def test_it_ends_without_an_engine_also_while_its_loop_is_busy(work: str) -> None:
    ours, theirs = socket.socketpair()
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        BUSY.format(work=work),
        str(theirs.fileno()),
        cwd=ROOT,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    pipe = ipc.Pipe(ipc.from_child, lambda _: answered.set(), lambda: None)
    await loop.create_unix_connection(lambda: pipe, sock=ours)
    pipe.send(ipc.Request(1, ipc.Ping()))
    async with asyncio.timeout(20):
        await answered.wait()
    pipe.send(ipc.Request(2, ipc.Prepare()))
    pipe.close()
    async with asyncio.timeout(10):
        assert await child.wait() == 1


async def test_ctrl_c_in_the_terminal_is_not_for_it() -> None:
    ours, terminal = pty.openpty()
    script = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + PARENT
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        cwd=ROOT,
        stdin=terminal,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None
    try:
        pid = int(await parent.stdout.readline())
        os.write(ours, b"\x03")
        assert await parent.stdout.readline() == b"interrupted\n"
        os.write(ours, b"\n")
        assert int(await parent.stdout.readline()) == pid
        assert alive(pid)
    finally:
        parent.kill()
        await parent.wait()
        os.close(ours)
        os.close(terminal)
    await until_dead(pid, 10)


def test_the_engine_loads_no_library_of_sound_or_picture() -> None:
    script = """
        import sys, media.supervisor, media.port
        heavy = {"aiortc", "aioice", "av", "numpy", "sounddevice", "miniaudio",
                 "livekit", "OpenSSL", "media.desk", "media.child"}
        print(sorted(heavy & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


async def test_paths_of_files_are_made_whole_for_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given, whole in {
        "file:a.mp4": f"file:{tmp_path}/a.mp4",
        "file-loop:a.wav": f"file-loop:{tmp_path}/a.wav",
        "file:/b.mp4": "file:/b.mp4",
        "/dev/video0": "/dev/video0",
        "": "",
        ":0": ":0",
    }.items():
        assert supervisor._absolute(given) == whole


async def test_devices_are_named_or_a_sentence_says_why_not(ear: Ear) -> None:
    found = await ear.media.devices()
    assert all(isinstance(device, Device) for device in found.found)
    kinds = {device.kind for device in found.found}
    if "camera" not in kinds:
        assert any(text.startswith("No camera was found") for text in found.missing)
    for text in found.missing:
        assert text.endswith(".")
