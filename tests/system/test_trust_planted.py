"""What people write, name, delete and keep on paper stands nowhere in clear."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import acts
from tests.system.conftest import Town
from tests.system.world import PASSWORD, Node

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

PLANTED = (
    "xylophone-harvest",
    "乌鸦喝水",
    "Sherwood",
    "quokka-tablet",
    "half-written-sonnet",
    "regrettable-remark",
    "everybody-forgets-this",
)
"""Texts, a group, a device, a draft, and what is deleted for one and for all."""


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def traces(node: Node) -> Iterator[tuple[str, bytes]]:
    """What a node has on its disk, and what went over the line to it."""
    assert node.proxy is not None
    yield from bytes_of(node.folder).items()
    yield f"the line to {node.name}", bytes(node.proxy.recorded)


def test_nobody_but_the_people_sees_a_planted_word(town: Town) -> None:
    alice, bob = town.settle("alice", town.north), town.settle("bob", town.south)
    left, right = alice.terminal(), bob.terminal()
    acts.direct(left, bob.address)
    acts.say(left, "xylophone-harvest 乌鸦喝水")
    acts.open_unread(right, "xylophone-harvest")
    acts.say(right, "everybody-forgets-this")
    acts.shows(left, "everybody-forgets-this")
    acts.delete_last(right)
    right.press("down", "enter")
    right.wait("Delete it for everyone?").press("tab", "enter")
    left.wait(lambda _: "everybody-forgets-this" not in acts.timeline(left))
    acts.say(left, "regrettable-remark")
    acts.shows(right, "regrettable-remark")
    acts.delete_last(left)
    left.press("enter")
    left.wait(lambda _: "regrettable-remark" not in acts.timeline(left))
    acts.group(left, "Sherwood", bob.address)
    acts.sent(left, "meet me there")
    left.write("half-written-sonnet")
    # The window is closed while the words stand there.
    assert left.wait("half-written-sonnet").hang_up() == 0
    alice.close(left)
    alice.telex("backup", "now")
    tablet = town.place.linked(alice, "quokka-tablet")
    there = tablet.terminal()
    there.wait("half-wri")  # in the list, or in the chat if that is open
    tablet.close(there)
    bob.close(right)

    nodes = [*traces(town.north), *traces(town.south)]
    profiles = [
        found for one in (alice, bob, tablet) for found in bytes_of(one.profile).items()
    ]
    # What may be seen is seen: the search looks in the right places.
    assert any(alice.address.encode() in seen for _, seen in nodes)
    for node in (town.north, town.south):
        assert node.proxy is not None
        assert alice.address.encode() in node.proxy.recorded
    assert any("vault" in place for place, _ in nodes), [place for place, _ in nodes]
    phrases = [" ".join(alice.words[at : at + 2]) for at in range(23)]
    for place, seen in [*nodes, *profiles]:
        for word in (*PLANTED, *phrases, PASSWORD, "meet me there"):
            assert word.encode() not in seen, f"{word} stands in {place}"
