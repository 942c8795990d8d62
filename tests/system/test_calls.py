"""Two people call each other from two terminals, through two nodes.

What comes out of a speaker is compared with what was said into the other microphone.
"""

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="the extra `calls` is not installed")
av = pytest.importorskip("av", reason="the extra `calls` is not installed")

from tests.system import acts  # noqa: E402
from tests.system.calling import (  # noqa: E402
    F9,
    F10,
    Desk,
    answer,
    child_of,
    colours,
    desk,
    hears,
    hears_nothing,
    remembers,
    ring,
    says,
    talk,
    to_the_chat,
)
from tests.system.terminal import Terminal  # noqa: E402
from tests.system.world import Node, World, world  # noqa: E402

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@dataclass
class Street:
    """Two nodes, and two people who have written to each other."""

    place: World
    north: Node
    south: Node
    alice: Desk
    bob: Desk
    stories: "itertools.count[int]" = field(default_factory=itertools.count)

    def begin(self) -> str:
        """Both are at their chats; the text that the story begins with."""
        text = f"story {next(self.stories)}"
        acts.sent(self.alice.terminal, text)
        acts.shows(self.bob.terminal, text)
        return text


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    """Both speak all the time, and have their chat open."""
    folder = tmp_path_factory.mktemp("street")
    with ExitStack() as stack:
        place = stack.enter_context(world(folder))
        north, south = place.node(), place.node()
        alice, bob = (
            stack.enter_context(desk(place.settled(name, node), folder / name, name))
            for name, node in (("alice", north), ("bob", south))
        )
        for one in (alice, bob):
            one.speak()
            one.sit_down()
        acts.direct(alice.terminal, bob.person.address)
        acts.sent(alice.terminal, "hello")
        acts.open_unread(bob.terminal, "hello")
        yield Street(place, north, south, alice, bob)


@pytest.fixture
def street(built: Street) -> Iterator[Street]:
    """The two without any call."""
    for one in (built.alice, built.bob):
        if one.seat is None:
            one.sit_down()
            acts.open_first(one.terminal, "")
    yield built
    for node in (built.north, built.south):
        if node.process is None:
            node.start()
    for one in (built.alice, built.bob):
        if one.seat is not None and one.seat.process.poll() is not None:
            one.leave()
        if one.seat is not None:
            to_the_chat(one)


def test_a_call_is_heard_at_both_ends_and_needs_no_node_while_it_runs(
    street: Street,
) -> None:
    alice, bob = street.alice, street.bob
    begin = street.begin()
    ring(alice, bob)
    answer(alice, bob)
    for one in (alice, bob):
        says(one, "not verified: F7 compares keys")
        one.terminal.wait("kbit/s").wait("direct")
    with alice.listen() as left, bob.listen() as right:
        hears(right, alice.voice, bob.voice)
        hears(left, bob.voice, alice.voice)

        alice.terminal.write("m")
        bob.terminal.wait("alice is muted")
        hears_nothing(right)
        hears(left, bob.voice)
        alice.terminal.write("m")
        bob.terminal.wait(lambda text: "alice is muted" not in text)
        hears(right, alice.voice)

        for node in (street.north, street.south):
            node.kill()
        hears(right, alice.voice)
        # Mute goes the way of the call, and its end too.
        bob.terminal.write("m")
        alice.terminal.wait("bob is muted")
        hears_nothing(left)
        alice.terminal.write(F10)
        for one, other in ((alice, bob), (bob, alice)):
            says(one, f"The call with {other.person.address} is over.")
        hears_nothing(right)

    for node in (street.north, street.south):
        node.start()
    for one in (alice, bob):
        to_the_chat(one)
        remembers(one, begin, r"☎ Call with \S+, 0:\d\d\.", timeout=60)


def test_a_picture_stands_in_the_other_terminal_until_it_is_off(
    street: Street,
) -> None:
    alice, bob = street.alice, street.bob
    talk(alice, bob)
    use_file(alice, flag(street.place.folder / "flag.png"))
    alice.terminal.write("c")
    alice.terminal.wait("camera on")
    alice.terminal.wait("C camera off")
    # Red on the left, blue on the right: at bob's, and small at her own.
    alice.terminal.wait(lambda _: is_flag(alice.terminal, 3), 40)
    bob.terminal.wait(lambda _: is_flag(bob.terminal, 10), 40)
    alice.terminal.write("c")
    for one in (alice, bob):
        one.terminal.wait(lambda _, t=one.terminal: not colours(t))  # type: ignore[misc]


def test_who_was_away_reads_that_somebody_called(street: Street) -> None:
    alice, bob = street.alice, street.bob
    begin = street.begin()
    alice.terminal.wait(lambda _: seen(alice.terminal, begin))
    bob.leave()
    before = entries(street.north)
    alice.terminal.write(F9)
    alice.terminal.wait(lambda text: "calling …" in text)
    # Until her node has it nobody was called, and nobody would have to know.
    alice.terminal.wait(lambda _: entries(street.north) > before)
    alice.terminal.write(F10)
    says(alice, "You hung up before")
    to_the_chat(alice)
    # Without any sound at his place; see what that makes of the next call.
    bob.sit_down(PULSE_SERVER="unix:/nowhere/at/all")
    acts.open_first(bob.terminal, begin)
    remembers(bob, begin, "Missed call from .* F9 call back")
    assert "F9 answer" not in bob.terminal.text

    talk(alice, bob)
    says(bob, "The sound server that PULSE_SERVER names (unix:/nowhere/at/all)")
    with alice.listen() as left:
        hears_nothing(left)
    # Whom one cannot speak to one can write to.
    bob.terminal.press("escape")
    bob.terminal.wait("Write a message")
    acts.sent(bob.terminal, "I hear nothing here")
    alice.terminal.press("escape")
    acts.shows(alice.terminal, "I hear nothing here")
    assert "F10 hang up" in alice.terminal.text
    bob.leave()


@pytest.mark.long
def test_who_declines_and_who_is_in_another_call_say_so(street: Street) -> None:
    alice, bob = street.alice, street.bob
    begin = street.begin()
    ring(alice, bob)
    bob.terminal.write(F10)
    says(alice, "declined.")
    to_the_chat(alice)
    remembers(alice, begin, r"it was declined\.")
    remembers(bob, begin, r"which you declined\.")

    carol = Desk(street.place.settled("carol", street.south), None, bob.voice)
    carol.sit_down(TELEX_AUDIO="null")
    acts.direct(carol.terminal, bob.person.address)
    acts.sent(carol.terminal, "me too")
    bob.terminal.wait("me too")
    talk(alice, bob)
    carol.terminal.write(F9)
    remembers(carol, "me too", "who was in another call")
    assert "F9 answer" not in bob.terminal.text
    # Neither of the two who talk was disturbed.
    with bob.listen() as right:
        hears(right, alice.voice)
    for one in (alice, bob):
        to_the_chat(one)
    acts.open_unread(bob.terminal, "Missed call from")
    remembers(bob, "me too", "Missed call from")
    carol.leave()
    acts.sent(alice.terminal, "back to us")
    acts.open_unread(bob.terminal, "back to us")


@pytest.mark.long
def test_a_shared_screen_stands_in_the_other_terminal(street: Street) -> None:
    alice, bob = street.alice, street.bob
    with white_screen() as display:
        alice.leave()
        # Where the tests run there may be Wayland.
        alice.sit_down(DISPLAY=display, WAYLAND_DISPLAY="", XDG_SESSION_TYPE="x11")
        acts.open_first(alice.terminal, "")
        talk(alice, bob)
        alice.terminal.write("s")
        alice.terminal.wait("screen shared").wait("S stop sharing")
        bob.terminal.wait("alice shows a screen")
        bob.terminal.wait(lambda _: is_white(bob.terminal, 5), 40)
        alice.terminal.write("s")
        bob.terminal.wait(lambda _: not colours(bob.terminal))
        to_the_chat(alice)
        alice.leave()


@pytest.mark.long
def test_all_devices_ring_until_one_answers(street: Street) -> None:
    alice, bob = street.alice, street.bob
    bob.leave()
    phone = Desk(street.place.linked(bob.person, "phone"), None, bob.voice)
    bob.sit_down()
    phone.sit_down(TELEX_AUDIO="null")
    # Other chats tell of the new device, too: what is said now is on top.
    acts.sent(alice.terminal, "to all of you")
    for one in (bob, phone):
        one.terminal.wait("to all of you")
        acts.open_first(one.terminal, "to all of you")
    alice.terminal.write(F9)
    for one in (bob, phone):
        one.terminal.wait("F9 answer", 40)
    answer(alice, bob)
    says(phone, "Another device of yours took the call.")
    assert "F9 answer" not in phone.terminal.text
    with bob.listen() as right:
        hears(right, alice.voice)
    phone.leave()


@pytest.mark.long
def test_a_microphone_that_is_unplugged_and_plugged_in_again(street: Street) -> None:
    alice, bob = street.alice, street.bob
    talk(alice, bob)
    with bob.listen() as right, alice.listen() as left:
        hears(right, alice.voice)
        alice.unplug_microphone()
        alice.terminal.wait(
            lambda text: any(
                "! The" in x and "microphone" in x for x in text.split("\n")
            )
        )
        hears_nothing(right)
        hears(left, bob.voice)
        alice.plug_microphone()
        alice.terminal.wait(lambda text: "! " not in text, 40)
        hears(right, alice.voice)
    bob.terminal.wait("there and back")


@pytest.mark.long
def test_sound_and_picture_that_die_come_back_or_say_so(street: Street) -> None:
    alice, bob = street.alice, street.bob
    talk(alice, bob)
    with bob.listen() as right, alice.listen() as left:
        hears(right, alice.voice)
        os.kill(child_of(alice.terminal), signal.SIGKILL)
        hears(right, alice.voice, timeout=60)
        hears(left, bob.voice)


# --- what is seen ---------------------------------------------------------------------


def seen(terminal: Terminal, text: str) -> bool:
    """Whether the other one has read a message."""
    lines = acts.timeline(terminal).splitlines()
    return any(text in line and line.rstrip().endswith("✓✓") for line in lines)


def entries(node: Node) -> int:
    """How many there are in all logs of a node."""
    with closing(sqlite3.connect(node.data / "node.db")) as database:
        count: int = database.execute("SELECT count(*) FROM entry").fetchone()[0]
        return count


# --- pictures -------------------------------------------------------------------------


def flag(path: Path) -> Path:
    """A picture that is red on the left and blue on the right."""
    frame = av.VideoFrame(320, 240, "rgb24")
    plane = frame.planes[0]
    row = bytes((200, 20, 20)) * 160 + bytes((20, 20, 200)) * 160
    plane.update(row.ljust(plane.line_size, b"\0") * 240)
    with av.open(str(path), "w", format="image2") as file:
        stream = file.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "rgb24"
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def is_flag(terminal: Terminal, height: int) -> bool:
    """Whether so many rows of the screen are red first and then blue."""

    def red(pixel: tuple[int, int, int]) -> bool:
        return pixel[0] > 120 > 3 * max(pixel[1:]) / 2

    def blue(pixel: tuple[int, int, int]) -> bool:
        return pixel[2] > 120 > 3 * max(pixel[:2]) / 2

    rows = [row for row in colours(terminal) if red(row[0]) and blue(row[-1])]
    return len(rows) >= height


def is_white(terminal: Terminal, height: int) -> bool:
    """Whether so many rows are all white."""
    rows = [row for row in colours(terminal) if min(map(min, row)) > 225]
    return len(rows) >= height


@contextmanager
def white_screen() -> Iterator[str]:
    """An X11 screen; the name of its display. Skips where Xvfb is missing."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not there: apt install xvfb")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-wr", "-screen", "0", "400x200x24"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as line:
            yield f":{line.readline().strip()}"
    finally:
        server.terminate()
        server.wait(10)


def use_file(one: Desk, path: Path) -> None:
    """Choose a file as the camera, in the panel of devices over the call."""
    one.terminal.write("d")
    one.terminal.wait("F File instead of a camera")
    one.terminal.wait("Screens to share").write("f")
    one.terminal.wait("Send a file as the camera").wait("~/clip.mp4")
    one.terminal.write(str(path))
    one.terminal.wait(path.name).press("enter")
    one.terminal.wait(lambda text: "Send a file" not in text)
    says(one, f"(•) file:{path}"[:30])
    one.terminal.press("escape")
    one.terminal.wait("C camera")
