"""Two people who call each other: a desk each, with a terminal and a sound server.

Each desk has a PulseAudio of its own, as two machines have: what is played into its
microphone is a voice (espeak-ng), and what its speaker plays is recorded.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.media.needs import require
from tests.media.pulse import Ear, Pulse, pulse
from tests.media.waves import Samples, loudness, read_wav, speech
from tests.system.acts import timeline
from tests.system.terminal import Terminal
from tests.system.world import BIN, Person

__all__ = [
    "F9",
    "F10",
    "SHIFT_F9",
    "Desk",
    "Voice",
    "answer",
    "child_of",
    "colours",
    "desk",
    "hears",
    "hears_nothing",
    "likeness",
    "remembers",
    "ring",
    "says",
    "talk",
    "to_the_chat",
]

RATE = 48_000
F9, F10 = "\x1b[20~", "\x1b[21~"
SHIFT_F9 = "\x1b[20;2~"
"""As xterm sends it."""

NARROW = 8_000
WINDOW = NARROW * 3 // 10
"""Samples (`NARROW` a second) of a piece of sound that is looked for in another: three
phonemes or so. Longer ones are torn where a jitter buffer takes up or makes up some
milliseconds."""

ALIKE = 0.7
"""Correlation from which on a piece is the same sound; see `likeness`."""

QUIET = 30.0
"""RMS of 32767: -61 dBFS. Nothing of a voice is left below it."""

SENTENCES = {
    "alice": "the quick brown fox jumps over the lazy dog while seven sailors sing"
    " about the weather in Amsterdam, and nobody knows why they do it",
    "bob": "one two three four, my old bicycle stands at the harbour; please bring"
    " eleven oranges and a yellow umbrella when you come home tonight",
}


@dataclass(frozen=True)
class Voice:
    """Something that is said again and again."""

    file: Path
    samples: Samples = field(repr=False)


@dataclass
class Desk:
    """A person at a machine: sound server, voice, and the chat in a terminal."""

    person: Person
    sound: Pulse | None
    voice: Voice
    extra: Mapping[str, str] = field(default_factory=dict)
    seat: Terminal | None = None

    @property
    def name(self) -> str:
        """The name without the node, which the screens say."""
        return self.person.address.partition("@")[0]

    @property
    def terminal(self) -> Terminal:
        """The terminal, while the chat is open."""
        assert self.seat is not None
        return self.seat

    @property
    def env(self) -> dict[str, str]:
        """What `telex` runs with."""
        found = {"TELEX_VIDEO": "blocks", **self.person.env}
        if self.sound is not None:
            names = ("PULSE_SERVER", "HOME", "XDG_RUNTIME_DIR")
            found |= {name: self.sound.env[name] for name in names}
        return found | dict(self.extra)

    def sit_down(self, columns: int = 80, rows: int = 24, **extra: str) -> Terminal:
        """Open the chat; `extra`: more environment."""
        world = self.person.world
        self.seat = Terminal(
            [str(BIN / "telex")],
            env=self.env | extra,
            columns=columns,
            rows=rows,
        )
        world.terminals.append(self.seat)
        return self.seat

    def leave(self) -> None:
        """Close the chat."""
        if self.seat is not None:
            self.person.close(self.seat)
            self.seat = None

    def speak(self) -> None:
        """Say it again and again into the microphone."""
        assert self.sound is not None
        self.sound.say(self.sound.parties[0], self.voice.file, loop=True)

    def unplug_microphone(self) -> None:
        """Take it away; what was said into it is not heard any more."""
        assert self.sound is not None
        party = self.sound.parties[0]
        lines = self.sound.pactl("list", "short", "modules").splitlines()
        # What is made of the other goes first.
        found = [int(one.split()[0]) for one in lines if f"=mic-{party}" in one]
        self.sound.unplug(found[::-1])

    def plug_microphone(self) -> None:
        """Plug it in again, and go on speaking."""
        assert self.sound is not None
        self.sound.plug_microphone(self.sound.parties[0])
        self.speak()

    def listen(self) -> Ear:
        """Record what comes out of the speaker."""
        assert self.sound is not None
        return self.sound.listen(self.sound.parties[0])


@contextmanager
def desk(
    person: Person, folder: Path, voice: str, *, silent: bool = False
) -> Iterator[Desk]:
    """A desk for a person, without the terminal; `silent`: there is no sound server.

    Skips where PulseAudio or espeak-ng are missing.
    """
    require("espeak-ng", "sox")
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {"alice": "en+f3", "bob": "en+m3"}
    file = speech(folder, SENTENCES[voice], seed=seeds[voice])
    said = Voice(file, read_wav(file))
    if silent:
        yield Desk(person, None, said)
        return
    with pulse(folder / "sound", voice) as server:
        server.keep_awake(voice)
        made = Desk(person, server, said)
        try:
            yield made
        finally:
            made.leave()


# --- what comes out -------------------------------------------------------------------


def likeness(heard: Samples, said: Samples) -> float:
    """How much of what was heard is in what was said, 0 to 1.

    The share of the loud pieces of `WINDOW` that are found (`ALIKE`) anywhere in it;
    0 where nothing was loud. Delay, loudness and small gaps do not matter to it.
    """
    whole = _telephone(np.concatenate((said, said[:RATE])))
    energy = np.concatenate(([0.0], np.cumsum(whole**2)))
    norm = np.sqrt(np.maximum(energy[WINDOW:] - energy[:-WINDOW], 1.0))
    size = 1 << (len(whole) + WINDOW).bit_length()
    spectrum = np.fft.rfft(whole, size)
    narrow = _telephone(heard)
    alike = count = 0
    for at in range(0, len(narrow) - WINDOW, WINDOW):
        piece = narrow[at : at + WINDOW]
        loud = float(np.sqrt(piece @ piece / WINDOW))
        if loud < 5 * QUIET:
            continue
        found = np.fft.irfft(spectrum * np.conj(np.fft.rfft(piece, size)), size)
        best = np.max(np.abs(found[: len(norm)]) / norm)
        alike += bool(best / (loud * np.sqrt(WINDOW)) > ALIKE)
        count += 1
    return alike / count if count else 0.0


def _telephone(sound: Samples) -> NDArray[np.float64]:
    """From 300 to 3400 Hz, 8,000 samples a second.

    There the shape of a wave is kept; the filters against rumble turn what is below.
    """
    count = len(sound) * NARROW // RATE
    spectrum = np.fft.rfft(sound.astype(float))[: count // 2 + 1]
    hertz = np.arange(len(spectrum)) * RATE / max(len(sound), 1)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    wave: NDArray[np.float64] = np.fft.irfft(spectrum, count) * NARROW / RATE
    return wave


def hears(
    ear: Ear, voice: Voice, other: Voice | None = None, timeout: float = 30.0
) -> None:
    """Wait until what comes out is this voice (and not the other one).

    Looks at the newest two seconds; what came before is forgotten.
    """
    deadline = time.monotonic() + timeout
    begin = len(ear.samples)
    right = wrong = 0.0
    while time.monotonic() < deadline:
        ear.wait((len(ear.samples) + RATE // 2) / RATE)
        sound = ear.samples[begin:][-2 * RATE :]
        if len(sound) < 3 * RATE // 2:
            continue
        right = likeness(sound, voice.samples)
        wrong = likeness(sound, other.samples) if other else 0.0
        if right > 0.4 and wrong < 0.1:
            return
    raise AssertionError(
        f"the voice did not come: alike {right:.2f}, to the other one {wrong:.2f}"
    )


def hears_nothing(ear: Ear, timeout: float = 20.0) -> None:
    """Wait until nothing came out for a second."""
    deadline = time.monotonic() + timeout
    begin = len(ear.samples)
    while time.monotonic() < deadline:
        ear.wait((len(ear.samples) + RATE // 2) / RATE)
        sound = ear.samples[begin:][-RATE:]
        if len(sound) == RATE and loudness(sound) < QUIET:
            return
    raise AssertionError(f"it is still {loudness(sound):.0f} loud")


# --- what one does --------------------------------------------------------------------


def ring(caller: Desk, callee: Desk) -> None:
    """Call who is in the open chat; it rings there."""
    caller.terminal.write(F9)
    caller.terminal.wait("ringing …", 40)
    callee.terminal.wait("F9 answer").wait(caller.name)


def answer(caller: Desk, callee: Desk) -> None:
    """Answer what rings; both are connected, and both screens say how it goes."""
    callee.terminal.write(F9)
    for one in (caller, callee):
        one.terminal.wait("there and back", 40)


def talk(caller: Desk, callee: Desk) -> None:
    """A call that runs."""
    ring(caller, callee)
    answer(caller, callee)


def to_the_chat(one: Desk) -> None:
    """Hang up where something runs or rings, and go to the chat."""
    deadline = time.monotonic() + 20
    while "Ctrl+P" not in one.terminal.text or "F10 " in one.terminal.text:
        assert time.monotonic() < deadline, one.terminal.text
        if "F10 " in one.terminal.text:
            one.terminal.write(F10)
        else:
            one.terminal.press("escape")
        time.sleep(0.3)


# --- what one sees --------------------------------------------------------------------


def flat(text: str) -> str:
    """A text without its lines and frames, for sentences that are wrapped."""
    return re.sub(r"[\s▌▎▕▏│]+", " ", text)


def says(one: Desk, sentence: str, timeout: float = 30.0) -> None:
    """Wait until the screen says a sentence, however it is wrapped."""
    one.terminal.wait(lambda text: sentence in flat(text), timeout)


def remembers(one: Desk, since: str, pattern: str, timeout: float = 30.0) -> None:
    """Wait until the timeline has a line after the message `since`."""

    def there(_: str) -> bool:
        later = flat(timeline(one.terminal)).rpartition(since)[2]
        return re.search(pattern, later) is not None

    one.terminal.wait(there, timeout)


def colours(terminal: Terminal) -> list[list[tuple[int, int, int]]]:
    """What the half blocks on the screen are coloured with, row by row.

    A cell is two pixels, which are given one after the other; rows without any are
    left out.
    """
    found = []
    for row in terminal.cells:
        pixels = [
            (int(colour[:2], 16), int(colour[2:4], 16), int(colour[4:], 16))
            for cell in row
            if cell.data == "▀" and len(cell.fg) == len(cell.bg) == 6
            for colour in (cell.fg, cell.bg)
        ]
        if pixels:
            found.append(pixels)
    return found


# --- processes ------------------------------------------------------------------------


def child_of(terminal: Terminal) -> int:
    """The pid of the media process that a terminal's chat started."""
    found = _below(terminal.process.pid)
    assert len(found) == 1, found
    return found[0]


def _below(pid: int) -> list[int]:
    """Media processes that this one started, by /proc."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for one in (thread / "children").read_text().split():
            line = Path(f"/proc/{one}/cmdline").read_bytes()
            found += [int(one)] if b"media.child" in line else _below(int(one))
    return found
