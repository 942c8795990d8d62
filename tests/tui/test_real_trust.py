"""Over a real node, in real terminals: a second device, and two people verified."""

import re
from pathlib import Path

import pytest

from tests.system.terminal import Terminal
from tests.system.world import BIN, Person, world

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(240)]


F7 = "\x1b[18~"
FIVE = re.compile(r"(?<![\d:])\d{5}(?=\s)")
"""A group of a fingerprint; a port in an address has a colon before it."""


def direct(terminal: Terminal, address: str) -> None:
    """Open a direct chat."""
    terminal.wait("online").press("ctrl+n")
    terminal.wait("To whom do you want to write?").write(address)
    terminal.wait(address).press("enter")
    terminal.wait("direct chat")


def test_a_second_device_is_linked_and_two_people_verify(tmp_path: Path) -> None:
    with world(tmp_path) as place:
        node = place.node()
        alice, bob = place.person("alice", node), place.person("bob", node)
        first = alice.terminal()
        direct(first, bob.address)
        first.write("before the tablet")
        first.wait("before the tablet").press("enter")
        first.wait(lambda text: "✓" in text)

        tablet = Person(place, alice.address, tmp_path / "profile-tablet")
        link(first, tablet)
        # What was said before is there, and so is what is said from now on.
        there = tablet.terminal()
        there.wait("before the tablet", 40)

        compare_digits(first, alice, bob)
        compare_emoji(first, bob.terminal())


def link(first: Terminal, tablet: Person) -> None:
    """A new device shows a code in a plain terminal; it is typed into the old one."""
    second = Terminal(
        [str(BIN / "telex"), "link", tablet.address, "--name", "tablet"],
        env=tablet.env,
        columns=80,
        rows=40,
    )
    tablet.world.terminals.append(second)
    second.wait("Waiting for the other device")
    code = re.search(r"Code:\s+(\S+)", second.text)
    assert code is not None, second.text
    assert "▀" in second.text

    first.write("\x0f")
    first.wait("My devices").write("d")
    first.wait("this device").write("l")
    first.wait("Code of the new device").write(code[1])
    first.wait(code[1]).press("enter")
    first.wait("Let this device in?").wait("tablet").write("a")
    first.wait("Let in").wait("everything", 60)
    second.wait("Start: telex", 60)
    first.press("escape")
    first.wait(lambda text: text.count("tablet") > 0).press("escape")
    listed = tablet.telex("devices")
    assert "tablet" in listed and "this device" in listed, listed


def compare_digits(first: Terminal, alice: Person, bob: Person) -> None:
    """Both sides see the same digits; one compares them by a command."""
    shown = alice_digits(first)
    assert shown == digits(bob.telex("verify", alice.address, "--no-qr"))
    with pytest.raises(AssertionError, match="These are not the digits"):
        bob.telex("verify", alice.address, "--digits", shown[::-1])


def compare_emoji(first: Terminal, right: Terminal) -> None:
    """Then they compare emoji, both online; the answer is one key."""
    right.wait("1 unread").press("f6")
    right.wait("before the tablet")
    first.write("e")
    right.wait("wants to compare keys with you").write(F7)
    right.wait("Call each other first").write("y")
    for terminal in (first, right):
        terminal.wait("Do both screens show the same")
    assert emoji_names(first) == emoji_names(right)
    first.write("a")
    first.wait("You agreed")
    right.write("a")
    for terminal in (first, right):
        terminal.wait("The keys are the same").press("escape")
        terminal.wait("◆")
    right.wait("◆ verified")


def emoji_names(terminal: Terminal) -> list[str]:
    """The names under the seven symbols, from left to right."""
    lines = terminal.lines
    top = next(n for n, line in enumerate(lines) if "Do both screens" in line)
    inside = re.findall(r"│(.{76})│", "\n".join(lines[top + 1 : top + 8]))
    words = re.findall(r"[a-z]+(?: [a-z]+)?", " ".join(inside))
    assert len(words) == 7, terminal.text
    return words


def digits(printed: str) -> str:
    """The sixty digits at the top of what `telex verify` prints."""
    found = "".join(FIVE.findall(printed))[:60]
    assert len(found) == 60, printed
    return found


def alice_digits(terminal: Terminal) -> str:
    """What a device shows on its screen for the person of the open chat."""
    terminal.write(F7)
    terminal.wait("Is this").wait(lambda text: len(FIVE.findall(text)) >= 12)
    return digits(terminal.text)


def test_everything_is_lost_but_the_words(tmp_path: Path) -> None:
    with world(tmp_path) as place:
        node = place.node()
        bob = place.person("bob", node)
        carol = Person(place, f"carol@{node.name}", tmp_path / "profile-carol")
        printed = carol.telex(
            "register", carol.address, "--invite", node.invite(), "--yes"
        )
        words = re.findall(r"\d+ ([a-z]{3,8})\b", printed)
        order = [re.search(rf"\b{n} +([a-z]+)", printed) for n in range(1, 25)]
        phrase = " ".join(found[1] for found in order if found)
        assert len(words) == 24 and len(phrase.split()) == 24, printed
        paper = tmp_path / "paper"
        paper.write_text(phrase)
        carol.telex("send", bob.address, "remember me")
        assert "messages  " in carol.telex("backup", "now")
        drill = carol.telex(
            "recover", carol.address, "--drill", "--phrase-file", str(paper)
        )
        assert "Everything would come back." in drill
        assert "Everything can be read and sent." in carol.telex("doctor")

        again = Person(place, carol.address, tmp_path / "profile-again")
        again.telex("recover", carol.address, "--phrase-file", str(paper))
        listed = again.telex("devices")
        assert listed.count("\n") == 3 and "this device" in listed, listed
        screen = again.terminal()
        screen.wait("remember me", 40)
