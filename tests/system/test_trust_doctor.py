"""Keys get lost: the doctor says so, and repairs it."""

import asyncio

import pytest

from client import Client, Profile
from tests.system import acts
from tests.system.conftest import Town
from tests.system.world import PASSWORD, Person

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def lose_keys(person: Person) -> None:
    """As if a disk had lost the keys of all this device's chats."""

    async def lose() -> None:
        profile = Profile(person.profile, person.world.ca_file)
        client = await Client.open(profile, password=PASSWORD)
        for room in await client.rooms():
            await client._store.run(lambda tx, id=room.id: client._groups.drop(tx, id))  # type: ignore[misc]
        await client.close()

    asyncio.run(lose())


def test_the_doctor_names_what_is_lost_and_brings_it_back(town: Town) -> None:
    alice, bob = town.settle("alice", town.north), town.settle("bob", town.south)
    left, right = alice.terminal(), bob.terminal()
    acts.direct(left, bob.address)
    acts.sent(left, "one")
    acts.open_unread(right, "one")
    alice.close(left)
    healthy = alice.run("doctor")
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert healthy.stdout == "Everything can be read and sent.\n"

    lose_keys(alice)
    acts.sent(right, "two")
    acts.sent(right, "three")
    ill = alice.run("doctor")
    assert ill.returncode == 1, ill.stdout
    for row in ("what    ", "cause   ", "device  ", "repair  "):
        assert row in ill.stdout, ill.stdout
    assert alice.telex("doctor", "--repair") == "Everything can be read and sent.\n"
    left = alice.terminal(columns=80, rows=24)
    acts.open_news(left, "three")
    for text in ("one", "two"):
        acts.shows(left, text)
    acts.say(left, "four")
    acts.shows(right, "four")
    assert "✗" not in left.text and "cannot" not in left.text
