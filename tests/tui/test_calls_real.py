"""Two real `telex` in real terminals call each other through two real nodes."""

import re
from functools import partial
from pathlib import Path

import pytest

from tests.system.terminal import Terminal
from tests.system.world import world

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(240)]

F9, F10 = "\x1b[20~", "\x1b[21~"
SHIFT_F9 = "\x1b[20;2~"
"""As xterm sends it."""


def pictures(terminal: Terminal, _: str) -> bool:
    """Whether a large picture stands there."""
    return sum("▀" * 20 in line for line in terminal.lines) > 10


def remembered(text: str) -> bool:
    """Whether the timeline says how long the call was."""
    return re.search(r"Call with \S+, 0:\d\d", text) is not None


def test_a_call_with_pictures_between_two_terminals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No sound devices here; the terminal of the test knows no graphics.
    monkeypatch.setenv("TELEX_AUDIO", "null")
    monkeypatch.setenv("TELEX_VIDEO", "blocks")
    with world(tmp_path) as place:
        here, there = place.node(), place.node()
        alice, bob = place.person("alice", here), place.person("bob", there)
        for person in (alice, bob):
            camera = 'camera = "lavfi:testsrc2=size=320x240:rate=15"\n'
            (person.profile / "tui.toml").write_text(camera, encoding="utf-8")
        left, right = alice.terminal(), bob.terminal()
        left.wait("online").press("ctrl+n")
        left.wait("To whom do you want to write?").write(bob.address)
        left.wait(bob.address).press("enter")
        left.wait("Write a message").write("hello")
        left.wait("hello").press("enter")
        left.wait("✓✓", 40)
        right.wait("1 unread", 40).press("f6")
        right.wait("hello")

        # Declined: both are told, and both timelines remember it.
        left.write(F9)
        left.wait("F10 hang up")
        right.wait("is calling", 40).wait("F9 answer").write("not now")
        right.wait("not now").write(F10)
        right.wait("You declined the call")
        left.wait("declined.").press("escape")
        left.wait("it was declined.")

        # Missed: it offers to call back, and whoever looks at it has read it.
        left.write(F9)
        right.wait("F9 answer", 40)
        left.write(F10)
        left.wait("You hung up before").press("escape")
        right.wait("Missed call from").wait("F9 call back")
        right.wait(lambda text: "1 unread" not in text)

        # Answered: sound both ways, then pictures both ways.
        left.write(F9)
        right.wait("F9 answer", 40)
        right.write(F9)
        for side in (left, right):
            side.wait("there and back", 40).wait("opus").wait("direct")
            side.wait("not verified: F7 compares keys")
        left.write("m")
        right.wait("alice is muted")
        for side, other in ((left, right), (right, left)):
            side.write("c")
            side.wait("camera on")
            other.wait(partial(pictures, other), 30)

        # Words go on beside it; the text written before the call is still there.
        right.press("escape")
        right.wait("not now").press("enter")
        left.wait("not now")
        right.write(F10)
        for side in (left, right):
            side.wait(remembered, 30)
