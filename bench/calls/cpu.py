"""Processor time of a call: of the media process, and of the interface beside it.

Alice is a real `telex` in a pseudo terminal that this process reads, Bob a headless
client; each at a node of their own. Both talk (espeak-ng) into microphones that are
files, sound is treated as it comes. Then both cameras are on, 320 x 240 at 15 pictures
a second; Bob's is drawn in half blocks in about 80 x 48 cells, and Alice's own beside
it. Figures are Alice's, CPU seconds of all threads for each second (`/proc/PID/stat`).

With real device code (PulseAudio, null sinks) sound alone is measured once more, of a
media process without an interface.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.calls.links import CAMERA
from bench.calls.pair import pair
from bench.calls.people import Street, Talker, street
from bench.calls.process import Use, children, environment
from bench.calls.report import Result, Skip, middle, need_programs, progress
from bench.calls.sound import speech
from media.port import Sound
from tests.system.terminal import Terminal
from tests.system.world import BIN

__all__ = ["run"]

COLUMNS, ROWS = 84, 56
SETTLE, MEASURED = 2.5, 8.0
"""Seconds of a call before it is measured, and that are measured."""

F9 = "\x1b[20~"

SCREEN = {
    "TELEX_AUDIO": "null",
    "TELEX_VIDEO": "blocks",
    "COLORTERM": "truecolor",
}


def run(folder: Path, rounds: int) -> list[Result]:
    """`rounds` calls in one `telex`, and as many through PulseAudio."""
    voices = [speech(folder, voice) for voice in ("en", "en-us+f3")]
    os.environ.pop("NO_COLOR", None)  # what is drawn would have none
    with environment({"TELEX_AUDIO": "null"}), street(folder) as town:
        asyncio.run(_equip(town, voices))
        camera = f'camera = "{CAMERA}"\n'
        (town.alice.profile / "tui.toml").write_text(camera, encoding="utf-8")
        terminal = Drained(town.alice.env | SCREEN)
        try:
            terminal.wait("online", 40)
            terminal.looks = False
            used = asyncio.run(_measure(town, terminal, rounds))
        finally:
            terminal.close()
    results = [middle(name, cores, "core") for name, cores in used.figures().items()]
    return results + _with_devices(folder, voices, rounds)


class Drained(Terminal):
    """A terminal that reads all, and stops interpreting it: that takes a core."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.looks = True
        self.received = 0
        super().__init__([str(BIN / "telex")], env=env, columns=COLUMNS, rows=ROWS)

    def _take(self, data: bytes) -> None:
        self.received += len(data)
        if self.looks:
            super()._take(data)


@dataclass
class Used:
    """Cores of each call."""

    audio: list[float] = field(default_factory=list)
    """Of the media process, sound alone."""
    audio_tui: list[float] = field(default_factory=list)
    """Of the interface, engine included, meanwhile."""
    video: list[float] = field(default_factory=list)
    video_tui: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, list[float]]:
        return {
            "cpu_audio_media": self.audio,
            "cpu_audio_telex": self.audio_tui,
            "cpu_audio": _sums(self.audio, self.audio_tui),
            "cpu_video_media": self.video,
            "cpu_video_telex": self.video_tui,
            "cpu_video": _sums(self.video, self.video_tui),
        }


def _sums(first: list[float], second: list[float]) -> list[float]:
    return [sum(both) for both in zip(first, second, strict=True)]


async def _equip(town: Street, voices: list[Path]) -> None:
    """Give both a voice; their profiles remember it."""
    async with town.open(town.alice, town.bob) as talkers:
        for talker, voice in zip(talkers, voices, strict=True):
            await talker.client.calls.set_sound(Sound(f"file-loop:{voice}", "null:"))


async def _measure(town: Street, terminal: Drained, rounds: int) -> Used:
    used = Used()
    async with town.open(town.bob) as (bob,):
        for _ in range(rounds):
            await _call(town, terminal, bob, used)
    return used


async def _call(town: Street, terminal: Drained, bob: Talker, used: Used) -> None:
    """Bob calls; Alice answers, then turns on her camera."""
    begun = time.monotonic()
    call = await bob.client.calls.start(town.room)
    await bob.sees("ringing", begun)
    await asyncio.sleep(1.0)
    terminal.write(F9)
    await bob.sees("running", begun)
    telex = terminal.process.pid
    media = next(pid for pid in children(telex) if _is_media(pid))
    await _use(media, telex, used.audio, used.audio_tui)

    terminal.write("c")
    await bob.client.calls.set_camera(call.id, CAMERA)
    await bob.until(lambda: any(leg.camera for leg in bob.states[-1][1].legs))
    before = terminal.received
    seconds = await _use(media, telex, used.video, used.video_tui)
    progress(f"drawn: {(terminal.received - before) / 1000 / seconds:.0f} kB/s")
    ended = time.monotonic()
    await bob.client.calls.hang_up(call.id)
    await bob.sees("ended", ended)
    terminal.write("\x1b")
    await asyncio.sleep(1.0)


async def _use(media: int, telex: int, its: list[float], ours: list[float]) -> float:
    """Note what both processes use while the call goes on."""
    await asyncio.sleep(SETTLE)
    first, second = Use(media), Use(telex)
    await asyncio.sleep(MEASURED)
    its.append(first.cores())
    ours.append(second.cores())
    return SETTLE + MEASURED


def _is_media(pid: int) -> bool:
    return b"media.child" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _with_devices(folder: Path, voices: list[Path], rounds: int) -> list[Result]:
    """Sound alone, through PulseAudio."""
    try:
        need_programs("pulseaudio", "pactl", "paplay", "parec", "pacat")
    except Skip as skip:
        progress(f"cpu: sound devices skipped: {skip}")
        return []
    from tests.media.pulse import pulse

    cores: list[float] = []
    names = ("alice", "bob")
    with pulse(folder / "p", *names) as server, environment(server.env):
        os.environ.pop("TELEX_AUDIO", None)
        for name, voice in zip(names, voices, strict=True):
            server.say(name, voice, loop=True)

        async def call() -> None:
            async with pair() as two:
                for side, name in zip(two.sides, names, strict=True):
                    await side.media.set_sound(Sound(f"mic-{name}", f"spk-{name}"))
                for _ in range(rounds):
                    await two.call()
                    await asyncio.sleep(SETTLE)
                    uses = [Use(side.pid) for side in two.sides]
                    await asyncio.sleep(MEASURED)
                    cores.extend(use.cores() for use in uses)
                    await two.hang_up()

        asyncio.run(call())
    return [middle("cpu_audio_media_pulseaudio", cores, "core")]
