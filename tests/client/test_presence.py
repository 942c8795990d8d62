"""Presence and typing of engines: on the fake node what is said, on real ones seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from client import Client, PersonPresence, TypingChanged
from client.presence import presence as module
from client.presence.chosen import Choice
from protocol.errors import AddressError
from protocol.log import LogId
from protocol.presence import SHOW_MAX, People, Person, Presence, Typing, Typist
from protocol.wire import FromNode
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.people import ALICE, BOB, CAROL, chat, online, opened, until
from tests.client.real_node import RealNode
from tests.client.test_receipts import Enter, enter

__all__ = ["enter"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE", 0.02)


def told(fake: FakeNode, account: str) -> list[Presence]:
    """How an account said it is."""
    return [f for who, f in fake.told if who == account and isinstance(f, Presence)]


def typed(fake: FakeNode, account: str) -> list[bool]:
    """What an account said of its typing."""
    return [f.on for who, f in fake.told if who == account and isinstance(f, Typing)]


async def tells(
    fake: FakeNode, account: str, good: Callable[[list[Presence]], object]
) -> None:
    """Wait for what an account says."""
    await until(lambda: asyncio.sleep(0, told(fake, account)), good)


async def hears(fake: FakeNode, client: Client, frame: FromNode) -> None:
    """The node says something to a client."""
    await fake.frame(fake.sockets[client.device], frame)


async def sees(client: Client, account: str, state: str) -> PersonPresence:
    """Wait until somebody is seen like this."""
    return await until(
        lambda: asyncio.sleep(0, client.presence_of(account)),
        lambda seen: seen.state == state,
    )


async def chosen(client: Client, good: Callable[[Choice], object]) -> None:
    """Wait until a client knows what was chosen."""
    await until(lambda: asyncio.sleep(0, client.presence.choice), good)


# --- what is said ------------------------------------------------------------------


async def test_it_is_shown_to_the_people_of_its_rooms_and_nobody_else(
    fake: FakeNode, join: Join
) -> None:
    alice, _, _ = await chat(join)
    carol = await join("carol")
    await tells(fake, ALICE, lambda p: p and p[-1].show == [BOB])
    room = await alice.create_group("Garden", [CAROL])
    await tells(fake, ALICE, lambda p: p[-1].show == [BOB, CAROL])
    assert told(fake, BOB)[-1].show == [ALICE]
    await alice.remove_member(room.id, CAROL)
    await tells(fake, ALICE, lambda p: p[-1].show == [BOB])
    await alice.presence.hide_from(BOB, True)
    await tells(fake, ALICE, lambda p: p[-1].show == [])
    with pytest.raises(AddressError):
        await alice.presence.hide_from("bob", True)
    assert carol.presence.choice == Choice()


async def test_the_list_is_said_only_when_it_changed(
    fake: FakeNode, join: Join
) -> None:
    alice, _, room = await chat(join)
    await tells(fake, ALICE, lambda p: p and p[-1].show == [BOB])
    count = len(told(fake, ALICE))
    for number in range(5):
        await alice.send_text(room.id, f"{number}")
    await alice.set_presence("dnd")
    await tells(fake, ALICE, lambda p: p[-1] == Presence("dnd", None))
    assert len(told(fake, ALICE)) == count + 1


async def test_what_was_chosen_is_said_again_after_a_restart(
    fake: FakeNode, join: Join, tmp_path: object
) -> None:
    alice, _, _ = await chat(join)
    await alice.set_presence("invisible")
    await tells(fake, ALICE, lambda p: p and p[-1].mode == "hidden")
    await alice.close()
    assert told(fake, ALICE)[-1].mode == "gone"
    async with opened(tmp_path, "alice", fake.url) as again:  # type: ignore[arg-type]
        await online(again)
        await tells(fake, ALICE, lambda p: p[-1] == Presence("hidden", [BOB]))
        await again.presence.set_switch("share", False)
        await tells(fake, ALICE, lambda p: p[-1] == Presence("hidden", []))


async def test_away_by_itself_and_back_with_the_first_key(
    fake: FakeNode, join: Join
) -> None:
    alice, _, _ = await chat(join)
    now = [1000.0]
    alice.presence._clock = lambda: now[0]
    alice.presence.active()
    await tells(fake, ALICE, lambda p: p and p[-1].mode == "online")
    now[0] += module.IDLE
    alice.presence._wake.set()
    await tells(fake, ALICE, lambda p: p[-1].mode == "away")
    alice.presence.active()
    await tells(fake, ALICE, lambda p: p[-1].mode == "online")


async def test_typing_is_said_every_three_seconds_at_most(
    fake: FakeNode, join: Join
) -> None:
    alice, _, room = await chat(join)
    await tells(fake, ALICE, lambda p: p and p[-1].show == [BOB])
    now = [1000.0]
    alice.presence._clock = lambda: now[0]
    for _ in range(100):  # ten seconds of keys
        alice.typing(room.id)
        now[0] += 0.1
    alice.typing(room.id, False)
    alice.typing(room.id, False)
    wanted = [True, True, True, True, False]
    await until(lambda: asyncio.sleep(0, typed(fake, ALICE)), lambda t: t == wanted)
    for switch in ("typing", "share"):
        await alice.presence.set_switch(switch, False)
        await chosen(alice, lambda c, s=switch: not getattr(c, s))  # type: ignore[misc]
        now[0] += 10
        alice.typing(room.id)
        await alice.presence.set_switch(switch, True)
        await chosen(alice, lambda c, s=switch: getattr(c, s))  # type: ignore[misc]
    alice.typing(LogId("nowhere"))
    await alice.set_presence("dnd")
    await tells(fake, ALICE, lambda p: p[-1].mode == "dnd")
    assert typed(fake, ALICE) == wanted


# --- what is heard -----------------------------------------------------------------


async def test_others_are_seen_as_they_show_themselves(
    fake: FakeNode, join: Join
) -> None:
    alice, _, _ = await chat(join)
    await tells(fake, ALICE, lambda p: p and p[-1].show == [BOB])
    strangers = [Person(f"u{n}@example.org", "online", 1) for n in range(SHOW_MAX)]
    await hears(fake, alice, People([Person(BOB, "away", 7), *strangers]))
    assert await sees(alice, BOB, "away") == PersonPresence("away", 7)
    assert alice.presence_of("u1@example.org").state == "unknown"
    assert len(alice.presence._people) == 1
    await hears(fake, alice, People([Person(BOB, "offline", 9)]))
    assert (await sees(alice, BOB, "offline")).since == 9
    await hears(fake, alice, People([], fresh=True))
    await sees(alice, BOB, "unknown")
    # The connection is lost: nobody knows any more.
    await hears(fake, alice, People([Person(BOB, "online", 7)]))
    await sees(alice, BOB, "online")
    await fake.sockets[alice.device].close()
    await sees(alice, BOB, "unknown")


async def test_who_types_is_seen_until_it_stops_writes_or_falls_silent(
    fake: FakeNode, join: Join
) -> None:
    alice, bob, room = await chat(join)
    await tells(fake, ALICE, lambda p: p and p[-1].show == [BOB])
    events = alice.events()

    async def changed() -> tuple[str, ...]:
        async with asyncio.timeout(5):
            async for event in events:
                if isinstance(event, TypingChanged):
                    assert event.accounts == alice.presence.typists(room.id)
                    return event.accounts
        raise AssertionError

    await hears(fake, alice, Typist(room.id, CAROL, 6))  # not in this room
    await hears(fake, alice, Typist(room.id, BOB, 6))
    assert await changed() == (BOB,)
    await hears(fake, alice, Typist(room.id, BOB, 0))
    assert await changed() == ()
    await hears(fake, alice, Typist(room.id, BOB, 6))
    assert await changed() == (BOB,)
    await bob.send_text(room.id, "there it is")
    assert await changed() == ()
    now = [1000.0]
    alice.presence._clock = lambda: now[0]
    await hears(fake, alice, Typist(room.id, BOB, 600))
    assert await changed() == (BOB,)
    now[0] += 7
    alice.presence._wake.set()
    assert await changed() == ()


# --- on real nodes -----------------------------------------------------------------


@pytest.mark.system
async def test_two_people_on_two_nodes_see_each_other(
    nodes: list[RealNode], enter: Enter
) -> None:
    alice, bob = await enter(nodes[0], "alice"), await enter(nodes[1], "bob")
    room = await alice.start_direct(bob.account)
    await sees(alice, bob.account, "online")
    await sees(bob, alice.account, "online")
    await bob.set_presence("dnd")
    await sees(alice, bob.account, "dnd")
    alice.typing(room.id)
    await until(
        lambda: asyncio.sleep(0, bob.presence.typists(room.id)),
        lambda typists: typists == (alice.account,),
    )
    await bob.close()
    seen = await sees(alice, bob.account, "offline")
    assert seen.since > 0
