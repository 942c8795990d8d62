"""More than one device: the recovery phrase, and being let into the rooms."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from client import Client, State
from client.enrol import read_phrase
from client.errors import BadText, NodeUnreachable, ProfileExists, WrongPhrase
from protocol.errors import AccountTaken, BadLogin
from tests.client.conftest import Join
from tests.client.fake_node import NAME, FakeNode
from tests.client.people import PASSWORD, messages_of, online, profile, texts, until

ALICE, BOB = f"alice@{NAME}", f"bob@{NAME}"


async def test_a_second_device_joins_the_rooms(
    join: Join, fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    bob = await join("bob")
    laptop, words = await Client.register(
        profile(tmp_path, "laptop", fake.url), ALICE, invite="", password=PASSWORD
    )
    assert len(words) == 24
    async with laptop:
        await online(laptop)
        room = await laptop.start_direct(BOB)
        await laptop.send_text(room.id, "before the phone")
        await until(lambda: texts(bob, room.id))
        phone = await Client.login(
            profile(tmp_path, "phone", fake.url),
            ALICE,
            password=PASSWORD,
            phrase=" ".join(words),
        )
        async with phone:
            await until(phone.rooms, lambda rooms: rooms and rooms[0].active)
            await bob.send_text(room.id, "to both")
            for device in (laptop, phone):
                await until(
                    partial(texts, device, room.id), lambda t: t[-1:] == ["to both"]
                )
            await phone.send_text(room.id, "from the phone")
            for client in (bob, laptop):
                await until(
                    partial(texts, client, room.id),
                    lambda t: t[-1] == "from the phone",
                )
            (own,) = await messages_of(laptop, room.id, "from the phone")
            assert own.own and own.device == phone.device
            assert own.state in (State.SENT, State.DELIVERED)
            members = {m.account: m.devices for m in await bob.members(room.id)}
            assert members == {ALICE: 2, BOB: 1}


async def test_the_wrong_phrase_or_password_changes_nothing(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    await join("alice")
    other, words = await Client.register(
        profile(tmp_path, "other", fake.url), BOB, invite="", password=PASSWORD
    )
    await other.close()
    where = profile(tmp_path, "second", fake.url)
    phrase = " ".join(words)
    with pytest.raises(WrongPhrase, match="not the recovery phrase of alice"):
        await Client.login(where, ALICE, password=PASSWORD, phrase=phrase)
    with pytest.raises(BadLogin):
        await Client.login(where, BOB, password="not that one", phrase=phrase)
    assert not where.exists()
    assert len(fake.accounts[ALICE]) == 2


@pytest.mark.parametrize(
    ("phrase", "why"),
    [
        ("", "24 words"),
        ("abandon " * 23, "24 words"),
        ("abandon " * 23 + "telex", "Word 24"),
        ("abandon " * 24, "do not fit together"),
    ],
)
def test_a_phrase_with_a_slip_says_where(phrase: str, why: str) -> None:
    with pytest.raises(WrongPhrase, match=why):
        read_phrase(phrase)


def test_a_phrase_may_be_typed_with_capitals_and_spaces() -> None:
    phrase = "Abandon  " * 23 + " ART\n"
    assert read_phrase(phrase) == bytes(32)


async def test_a_registration_that_fails_leaves_no_profile(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    await join("alice")
    where = profile(tmp_path, "again", fake.url)
    with pytest.raises(AccountTaken):
        await Client.register(where, ALICE, invite="", password=PASSWORD)
    assert not where.exists()
    with pytest.raises(BadText, match="at least 8"):
        await Client.register(where, BOB, invite="", password="short")
    with pytest.raises(NodeUnreachable):
        await Client.register(
            profile(tmp_path, "again", "http://127.0.0.1:9"),
            BOB,
            invite="",
            password=PASSWORD,
        )
    client, _ = await Client.register(where, BOB, invite="", password=PASSWORD)
    await client.close()
    with pytest.raises(ProfileExists):
        await Client.register(where, BOB, invite="", password=PASSWORD)
