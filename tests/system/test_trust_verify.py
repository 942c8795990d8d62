"""Two people make sure that they talk to each other."""

import re

import pytest

from tests.system import acts
from tests.system.conftest import Town
from tests.system.terminal import Terminal

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(120)]


def emoji_on(terminal: Terminal) -> list[str]:
    """The names under the seven symbols, from left to right."""
    lines = terminal.lines
    top = next(n for n, line in enumerate(lines) if "Do both screens" in line)
    words = re.findall(r"[a-z]+(?: [a-z]+)?", " ".join(lines[top + 2 : top + 8]))
    assert len(words) >= 7, terminal.text
    return words


def test_two_people_compare_keys_and_one_links_a_device(town: Town) -> None:
    alice, bob = town.settle("alice", town.north), town.settle("bob", town.south)
    left, right = alice.terminal(columns=80, rows=24), bob.terminal()
    acts.direct(left, bob.address)
    acts.say(left, "is it you?")
    acts.open_unread(right, "is it you?")
    assert "◇ unverified" in left.lines[0]

    # The same sixty digits on both sides.
    left.press("f7")
    left.wait("Is this").wait(lambda text: len(acts.FIVE.findall(text)) >= 12)
    bob.close(right)
    printed = bob.telex("verify", alice.address, "--no-qr")
    digits = acts.digits_in(printed)
    assert acts.digits_in(left.text) == digits
    other = "0" * 5 if digits[:5] != "0" * 5 else "1" * 5
    wrong = bob.refused("verify", alice.address, "--digits", other + digits[5:])
    assert "not the digits" in wrong and alice.address in wrong

    # Seven emoji, both online.
    right = bob.terminal()
    right.wait("online").wait("is it you?")
    left.write("e")
    right.wait("wants to compare keys with you").press("f7")
    right.wait("yes, compare now").write("y")
    for terminal in (left, right):
        terminal.wait("Do both screens show the same")
    assert emoji_on(left) == emoji_on(right)
    left.write("a")
    left.wait("You agreed")
    right.write("a")
    for terminal in (left, right):
        terminal.wait("The keys are the same").press("escape")
    left.press("escape")
    for terminal in (left, right):
        terminal.wait("◆ verified")

    # A new device of bob's needs no new comparison, and raises no alarm.
    bob.close(right)
    phone = town.place.linked(bob, "phone")
    acts.shows(left, "new device")
    there = phone.terminal()
    acts.shows(there, "is it you?")
    there.wait("◆ verified")
    acts.say(there, "from my phone")
    acts.shows(left, "from my phone")
    left.wait("◆ verified")
    assert "▲" not in left.text and "unverified" not in left.text
