"""The disk is gone: 24 words and the encrypted backup bring everything back."""

import shutil

import pytest

from tests.system import acts
from tests.system.conftest import Town

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(120)]


def test_everything_comes_back_with_the_words(town: Town) -> None:
    alice, bob = town.settle("alice", town.north), town.settle("bob", town.south)
    left, right = alice.terminal(), bob.terminal()
    acts.direct(left, bob.address)
    acts.say(left, "the ladder stands behind the shed")
    acts.open_unread(right, "the ladder stands behind the shed")
    acts.say(right, "and the key hangs beside it")
    acts.shows(left, "and the key hangs beside it")
    acts.group(left, "Garden", bob.address)
    acts.sent(left, "apples are ripe")
    alice.close(left)
    fingerprint = acts.digits_in(alice.telex("verify", bob.address, "--no-qr"))
    alice.telex("verify", bob.address, "--digits", fingerprint)

    assert "messages  " in alice.telex("backup", "now")
    said = alice.telex("recover", alice.address, "--drill", typed=alice.phrase)
    assert "Everything would come back." in said
    assert "rooms     2" in said, said
    trying = alice.run("recover", alice.address, "--drill", typed=bob.phrase)
    assert trying.returncode == 1, trying.stdout
    assert "not the recovery phrase" in trying.stderr, trying
    shutil.rmtree(alice.profile)

    machine = alice.machine("new")
    for words in (bob.phrase, "zebra " * 24, "one two three", ""):
        why = machine.refused("recover", alice.address, typed=words)
        assert "words" in why or "phrase" in why, why
    done = machine.run("recover", alice.address, "--name", "new", typed=alice.phrase)
    assert done.returncode == 0, done.stderr
    assert f"{alice.address} is yours again." in done.stderr

    back = machine.terminal(columns=80, rows=24)
    back.wait("online").wait("Garden").wait("◆")
    acts.open_news(right, "apples are ripe")
    acts.say(right, "welcome back")
    acts.shows(back, "welcome back")
    acts.shows(back, "apples are ripe")
    acts.say(back, "thank you")
    acts.shows(right, "thank you")
    back.press("ctrl+n")
    back.wait("To whom do you want to write?").write(bob.address)
    back.press("enter")
    acts.shows(back, "the ladder stands behind the shed")
    acts.shows(back, "and the key hangs beside it")
    assert "verified" in back.lines[0] and "unverified" not in back.lines[0]
    machine.close(back)
    listed = machine.telex("devices")
    assert "new" in listed and "desk" in listed, listed


def test_nodes_are_killed_during_a_link_and_a_recovery(town: Town) -> None:
    alice, bob = town.settle("alice", town.north), town.settle("bob", town.south)
    right = bob.terminal()
    acts.direct(right, alice.address)
    for number in range(3):
        acts.sent(right, f"apple {number}")
    alice.telex("backup", "now")

    # While the code is shown, and again once the old device has let the new one in.
    tablet = alice.machine("tablet")
    joining = tablet.terminal("link", alice.address, "--name", "tablet", rows=45)
    code = acts.code_on(joining.wait("Waiting for the other device"))
    town.north.kill()
    town.north.start()
    letting = alice.terminal("devices", "approve", code, "--yes")
    letting.wait("Let in.")
    town.north.kill()
    town.south.kill()
    town.south.start()
    town.north.start()
    assert joining.wait("Start: telex", 60).ended() == 0
    assert letting.ended(60) == 0
    there = tablet.terminal()
    acts.open_news(there, "apple 2")

    # And once the node has answered the words.
    machine = alice.machine("found")
    finding = machine.terminal("recover", alice.address, "--phrase-file", alice.paper)
    finding.wait("your history is being looked for")
    town.north.kill()
    town.north.start()
    assert finding.wait("is yours again", 60).ended() == 0
    back = machine.terminal()
    acts.open_first(back, "apple 2")
    acts.say(back, "all apples are here")
    for terminal in (right, there):
        acts.shows(terminal, "all apples are here", 40)
