"""A second device comes, reads everything, and is shut out again."""

import re
import shutil

import pytest

from tests.system import acts
from tests.system.conftest import Town
from tests.system.terminal import Terminal
from tests.system.world import Person

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

ALIKE = str.maketrans("018", "olb")
"""What people type for the characters of a code."""


def as_typed(code: str) -> str:
    """A code as somebody types it: small, in other groups, with look-alikes."""
    letters = code.replace("-", "").lower().translate(ALIKE)
    return f"{letters[:5]} {letters[5:9]}-{letters[9:]}"


def word_asked(terminal: Terminal) -> int:
    """Which word of the phrase is asked back at last."""
    return int(re.findall(r"^Word (\d+):", terminal.text, re.MULTILINE)[-1])


def test_from_registering_to_two_devices(town: Town) -> None:
    place = town.place
    bob = town.settle("bob", town.south)
    name = town.name("alice")
    alice = Person(place, f"{name}@{town.north.name}", place.folder / name)
    register_from_paper(alice, town.north.invite())

    left, right = alice.terminal(columns=80, rows=24), bob.terminal()
    acts.direct(left, bob.address)
    acts.say(left, "before the laptop")
    acts.open_unread(right, "before the laptop")
    acts.say(right, "hello from the south")
    left.wait("hello from the south").wait("✓✓")

    laptop = alice.machine("laptop")
    link(alice, left, laptop)
    left, there = alice.terminal(), laptop.terminal(columns=80, rows=24)
    everything_is_on_both(left, there, right)
    what_is_begun_on_one_is_finished_on_the_other(left, there)
    acts.group(right, "Garden", alice.address)
    acts.say(right, "who waters the roses")
    what_is_read_on_one_is_read_on_the_other(left, there)


def register_from_paper(alice: Person, invite: str) -> None:
    """The words are asked back; who read them wrongly is sent back to the paper."""
    paper = alice.terminal("register", alice.address, "--invite", invite, columns=80)
    paper.wait("Keep an encrypted backup").write("y\n")
    words = acts.words_on(paper.wait("Have you written them down?"))
    paper.write("y\n")
    paper.wait("Word ")
    answered: list[int] = []
    while len(answered) < 3:
        paper.wait(lambda _: word_asked(paper) not in answered)
        asked = word_asked(paper)
        if not answered:
            paper.write("zebra\n")
            paper.wait(f"This is not word {asked}; look at your paper again.")
        paper.write(f"{words[asked - 1]}\n")
        answered.append(asked)
    assert paper.wait("Now start: telex").ended() == 0


def link(alice: Person, left: Terminal, laptop: Person) -> None:
    """The new device shows a code; the old one takes it as people type it.

    Args:
        left: Alice's old device, which is closed: a profile is open once.
    """
    joining = laptop.terminal("link", alice.address, "--name", "laptop", rows=45)
    code = acts.code_on(joining.wait("Waiting for the other device"))
    alice.close(left)
    letting = alice.terminal("devices", "approve", as_typed(code), columns=80)
    letting.wait("Do you hold it in your hands, and let it in?").write("y\n")
    assert "laptop" in letting.text
    assert letting.wait("The new device has everything", 40).ended() == 0
    assert joining.wait("Start: telex", 40).ended() == 0


def everything_is_on_both(left: Terminal, there: Terminal, right: Terminal) -> None:
    """What was said before is there, and both get what is said from now on."""
    for terminal in (left, there):
        terminal.wait("online")
        acts.shows(terminal, "before the laptop")
        assert "hello from the south" in acts.timeline(terminal)
    acts.say(right, "good morning to both")
    for terminal in (left, there):
        acts.shows(terminal, "good morning to both")
    acts.say(there, "from the laptop")
    for terminal in (left, right):
        acts.shows(terminal, "from the laptop")


def what_is_begun_on_one_is_finished_on_the_other(
    left: Terminal, there: Terminal
) -> None:
    left.write("a half sen")
    there.wait(lambda text: "a half sen" in text.splitlines()[-2])
    there.write("tence")
    there.wait(lambda text: "a half sentence" in text.splitlines()[-2])
    there.press("enter")
    acts.shows(left, "a half sentence")
    left.wait(lambda text: "a half" not in text.splitlines()[-2])


def what_is_read_on_one_is_read_on_the_other(left: Terminal, there: Terminal) -> None:
    for terminal in (left, there):
        terminal.wait("1 unread")
    there.press("f6")
    acts.shows(there, "who waters the roses")
    left.wait(lambda text: "1 unread" not in text)
    assert "who waters" in acts.chats(left)


@pytest.mark.long
def test_a_stolen_laptop_is_shut_out(town: Town) -> None:
    alice, bob = town.settle("alice", town.north), town.settle("bob", town.south)
    right = bob.terminal(columns=140)
    acts.direct(right, alice.address)
    acts.sent(right, "welcome")
    laptop = town.place.linked(alice, "laptop")
    right.press("f3")
    right.wait("unverified · 2 devices")
    thief = laptop.terminal(columns=80, rows=24)
    acts.open_news(thief, "welcome")
    copied = laptop.machine("copy")
    shutil.copytree(laptop.profile, copied.profile)

    assert "laptop" in alice.run("devices", "revoke", "laptop", "--yes").stderr
    thief.wait("revoked")
    laptop.close(thief)
    right.wait("unverified · 1 device")
    right.press("f3")
    right.wait(lambda text: "Members" not in text)
    acts.sent(right, "the new key is under the stone")
    assert "revoked" in laptop.refused("send", bob.address, "let me in")
    assert "revoked" in copied.refused("send", bob.address, "let me in")
    looking = copied.terminal(columns=80, rows=24)
    looking.wait("revoked")
    assert "stone" not in looking.text
