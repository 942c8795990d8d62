"""Two terminals, two nodes, real TLS: what is typed here is read there."""

import re
import time
from pathlib import Path

import pytest

from tests.system.terminal import Terminal
from tests.system.world import Node, Person, World, world

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def say(terminal: Terminal, text: str) -> None:
    """Type a message and send it."""
    terminal.write(text)
    terminal.wait(lambda screen: text in screen.splitlines()[-2])
    terminal.press("enter")


def direct(terminal: Terminal, address: str) -> None:
    """Open a direct chat."""
    terminal.wait("online").press("ctrl+n")
    terminal.wait("To whom do you want to write?").write(address)
    terminal.wait(address).press("enter")
    terminal.wait("direct chat")


def open_unread(terminal: Terminal, text: str) -> None:
    """Wait for a message in the list of chats, and open its chat."""
    terminal.wait(text)
    terminal.press("f6")
    terminal.wait("end-to-end encrypted")


def spoken(terminal: Terminal, pattern: str) -> list[str]:
    """What matches in the timeline, from top to bottom (not in the list of chats)."""
    timeline = "\n".join(line.partition("▕")[2] for line in terminal.lines[2:-2])
    found: list[str] = re.findall(pattern, timeline)
    return found


@pytest.fixture
def place(tmp_path: Path) -> "World":  # type: ignore[misc]
    with world(tmp_path) as made:
        yield made


def two(place: World, **options: bool) -> tuple[Node, Node, Person, Person]:
    north, south = place.node(**options), place.node(**options)
    return north, south, place.person("alice", north), place.person("bob", south)


@pytest.mark.long
def test_two_people_and_a_group_of_three(place: World) -> None:
    _, south, alice, bob = two(place)
    carol = place.person("carol", south)
    left, right, third = alice.terminal(), bob.terminal(), carol.terminal()

    direct(left, bob.address)
    say(left, "hello from the north")
    open_unread(right, "hello from the north")
    say(right, "and 你好 from the south")
    left.wait("and 你好 from the south")
    left.wait("✓✓")

    left.press("ctrl+g")
    left.wait("Name of the group").write("Garden")
    left.press("tab")
    left.write(f"{bob.address} {carol.address}")
    left.wait(f"{bob.address} {carol.address}").press("enter")
    left.wait("3 members")
    say(left, "who waters the roses")
    open_unread(third, "who waters the roses")
    assert "Garden" in third.text
    say(third, "I do tomorrow")
    left.wait("I do tomorrow")
    open_unread(right, "I do tomorrow")
    say(right, "and I on Sunday")
    for terminal in (left, third):
        terminal.wait("and I on Sunday")


def test_nothing_is_lost_or_doubled_when_nodes_are_killed(place: World) -> None:
    north, south, alice, bob = two(place)
    left, right = alice.terminal(rows=130), bob.terminal(rows=130)
    direct(left, bob.address)
    say(left, "a00")
    open_unread(right, "a00")
    say(right, "b00")
    left.wait("b00")

    for victim in (north, south):
        for number in range(1, 7):
            base = 0 if victim is north else 6
            say(left, f"a{base + number:02}")
            say(right, f"b{base + number:02}")
            if number == 3:
                victim.kill()
            if number == 5:
                victim.start()

    # Who wrote it sees it first: so it is known where something was lost.
    for prefix, terminals in (("a", (left, right)), ("b", (right, left))):
        expected = [f"{prefix}{number:02}" for number in range(13)]
        for terminal in terminals:
            terminal.wait(
                lambda _, t=terminal, e=expected, p=prefix: (  # type: ignore[misc]
                    spoken(t, rf"\b{p}\d\d\b") == e
                ),
                timeout=60,
            )
    # One order for all: the log's.
    time.sleep(1)
    assert spoken(left, r"\b[ab]\d\d\b") == spoken(right, r"\b[ab]\d\d\b")
    left.wait(lambda screen: "◷" not in screen and "✗" not in screen)


PLANTED = ("xylophone-harvest", "Zwiebelkuchen", "乌鸦喝水", "quicksilver@", "Sherwood")


@pytest.mark.long
def test_nodes_and_the_line_between_them_see_no_planted_word(place: World) -> None:
    north, south, alice, bob = two(place, recorded=True)
    left, right = alice.terminal(), bob.terminal()
    direct(left, bob.address)
    say(left, "xylophone-harvest")
    open_unread(right, "xylophone-harvest")
    say(right, "Zwiebelkuchen 乌鸦喝水 quicksilver@")
    left.wait("Zwiebelkuchen")
    left.press("ctrl+g")
    left.wait("Name of the group").write("Sherwood")
    left.press("tab")
    left.write(bob.address)
    left.wait("Sherwood").press("enter")
    left.wait("2 members")
    say(left, "meet me there")
    right.wait("Sherwood")

    for node in (north, south):
        node.stop()
        places = {
            path: path.read_bytes()
            for path in node.folder.rglob("*.*")
            if path.is_file()
        }
        assert node.proxy is not None
        places[Path("the line")] = bytes(node.proxy.recorded)
        # What may be seen is seen: the search looks in the right places.
        assert any(bob.address.encode() in seen for seen in places.values())
        assert bob.address.encode() in places[Path("the line")]
        for word in (*PLANTED, "meet me there"):
            for path, seen in places.items():
                assert word.encode() not in seen, f"{word} stands in {path}"


@pytest.mark.long
def test_everything_starts_again_on_the_same_data(place: World) -> None:
    north, south, alice, bob = two(place)
    left, right = alice.terminal(), bob.terminal()
    direct(left, bob.address)
    say(left, "before the night")
    open_unread(right, "before the night")
    left.close()
    place.terminals.remove(left)
    assert [north.stop(), south.stop()] == [0, 0]

    # Without its node the chat opens all the same, and takes what is written.
    left = alice.terminal()
    left.wait("before the night").press("f6", "down", "enter")
    left.wait(lambda screen: "offline" in screen or "connecting" in screen)
    left.wait("end-to-end encrypted")
    say(left, "written in the dark")
    left.wait("◷")
    north.start()
    south.start()
    right.wait("written in the dark", timeout=60)
    left.wait("✓✓", timeout=60)


def test_a_database_of_a_newer_version_is_refused_in_a_sentence(place: World) -> None:
    import sqlite3
    import subprocess

    from tests.system.world import BIN

    node = place.node()
    node.stop()
    with sqlite3.connect(node.data / "node.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    done = subprocess.run(
        [BIN / "telex-node", "--config", node.config, "run"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert "newer version" in done.stderr and "Traceback" not in done.stderr
