"""Recovery: every device is gone, and 24 words bring the account back."""

import asyncio
from pathlib import Path

import pytest

from client import Client, State
from client.account.me import get_meta
from client.archive import backup
from client.archive.restore import BackupHead
from client.content.own import Entry
from client.enrol import check_quiz, quiz
from client.errors import BadText, WrongPhrase
from client.event import Event
from client.model import RestoreProgress
from protocol.account_log import read_account_log, revoke_device
from protocol.address import parse_account
from protocol.codec import encode
from protocol.errors import BadRecovery, UnknownAccount
from protocol.log import LogId
from tests.client.fake_node import NAME, FakeNode
from tests.client.people import (
    ALICE,
    BOB,
    PASSWORD,
    all_bytes,
    online,
    opened,
    profile,
    texts,
    until,
)

WRONG = " ".join(["abandon"] * 23 + ["art"])


async def register(fake: FakeNode, tmp_path: Path, name: str) -> tuple[Client, str]:
    client, words = await Client.register(
        profile(tmp_path, name, fake.url),
        f"{name}@{NAME}",
        invite="",
        password=PASSWORD,
    )
    return client, " ".join(words)


async def lose(fake: FakeNode, tmp_path: Path, *, backup: bool) -> tuple[str, LogId]:
    """Alice talks with Bob (who stays), and loses her only device."""
    bob, _ = await register(fake, tmp_path, "bob")
    alice, phrase = await register(fake, tmp_path, "alice")
    async with bob, alice:
        await online(bob)
        await online(alice)
        room = (await alice.start_direct(BOB)).id
        await alice.send_text(room, "before the loss")
        await until(lambda: texts(bob, room), bool)
        await bob.send_text(room, "yes?")
        await until(lambda: texts(alice, room), lambda found: len(found) == 2)
        await alice.mark_read(room)
        if backup:
            await alice.backup.now()
    return phrase, room


async def watch(client: Client, seen: list[Event]) -> None:
    async for event in client.events():
        seen.append(event)


async def test_the_words_bring_rooms_history_and_contacts_back(
    fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "CHECK", 0.02)
    phrase, room = await lose(fake, tmp_path, backup=True)
    assert len(fake.accounts[ALICE]) == 2
    async with opened(tmp_path, "bob", fake.url) as bob:
        alice = await Client.recover(
            profile(tmp_path, "new", fake.url),
            ALICE,
            phrase=phrase.upper(),
            password="another long one",
        )
        seen: list[Event] = []
        watcher = asyncio.create_task(watch(alice, seen))
        await asyncio.sleep(0)
        async with alice:
            await online(alice)
            await until(lambda: texts(alice, room), lambda found: len(found) == 2)
            assert await texts(alice, room) == ["before the loss", "yes?"]

            async def found() -> tuple[bool, str, bool]:
                (there,) = [r for r in await alice.rooms() if r.id == room]
                return there.active, there.title, there.direct

            await until(found, lambda seen: seen == (True, BOB, True))
            assert [r.unread for r in await alice.rooms()] == [0]
            await alice.send_text(room, "I am back")
            await until(lambda: texts(bob, room), lambda t: t[-1:] == ["I am back"])
            await bob.send_text(room, "good")
            await until(lambda: texts(alice, room), lambda t: t[-1:] == ["good"])
            row = await alice._store.run(
                lambda tx: tx.one("SELECT root FROM contact WHERE account = ?", BOB)
            )
            assert row is not None
            own = [m for m in await alice.messages(room) if m.own and m.kind == "text"]
            assert all(m.state is not State.FAILED for m in own)
        await watcher
    stages = [e.stage for e in seen if isinstance(e, RestoreProgress)]
    assert stages[-1] == "done" and "failed" not in stages
    state = read_account_log(parse_account(ALICE), fake.accounts[ALICE])
    assert len(state.devices) == 2, "the other device stays valid"
    assert phrase.encode() not in all_bytes(tmp_path / "new")
    # The new password is the account's now.
    with pytest.raises(BadRecovery):
        await Client.recover(
            profile(tmp_path, "x", fake.url), ALICE, phrase=WRONG, password=PASSWORD
        )
    assert fake.secrets[ALICE].rstrip() == b"another long one"


async def test_without_a_backup_the_account_comes_back_and_says_so(
    fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "CHECK", 0.02)
    phrase, room = await lose(fake, tmp_path, backup=False)
    async with opened(tmp_path, "bob", fake.url) as bob:
        alice = await Client.recover(
            profile(tmp_path, "new", fake.url), ALICE, phrase=phrase, password=PASSWORD
        )
        seen: list[Event] = []
        watcher = asyncio.create_task(watch(alice, seen))
        await asyncio.sleep(0)
        async with alice:
            await online(alice)

            async def active() -> bool:
                return any(r.active for r in await alice.rooms())

            await until(active)
            await alice.send_text(room, "hello again")
            await until(lambda: texts(bob, room), lambda t: t[-1:] == ["hello again"])

            async def told() -> bool:
                return any(
                    isinstance(e, RestoreProgress) and e.stage == "none" for e in seen
                )

            await until(told)
        await watcher


async def test_what_is_wrong_is_a_sentence_and_leaves_nothing(
    fake: FakeNode, tmp_path: Path
) -> None:
    alice, words = await register(fake, tmp_path, "alice")
    await alice.close()
    new = profile(tmp_path, "new", fake.url)
    before = list(fake.accounts[ALICE])
    with pytest.raises(WrongPhrase, match="24 words"):
        await Client.recover(new, ALICE, phrase="too short", password=PASSWORD)
    with pytest.raises(BadRecovery, match="recovery phrase is wrong"):
        await Client.recover(new, ALICE, phrase=WRONG, password=PASSWORD)
    with pytest.raises((BadRecovery, UnknownAccount)):
        await Client.recover(new, f"nobody@{NAME}", phrase=words, password=PASSWORD)
    with pytest.raises(BadText, match="password"):
        await Client.recover(new, ALICE, phrase=words, password="short")
    assert fake.accounts[ALICE] == before and not new.exists()


async def test_the_backup_of_a_revoked_device_is_taken_over(
    fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrase, room = await lose(fake, tmp_path, backup=True)
    (lost,) = fake.vaults.of(ALICE)
    monkeypatch.setattr(backup, "CHECK", 0.02)
    alice = await Client.recover(
        profile(tmp_path, "new", fake.url), ALICE, phrase=phrase, password=PASSWORD
    )
    async with alice:
        await online(alice)
        await until(lambda: texts(alice, room), lambda found: len(found) == 2)

        async def backed_up() -> bool:
            return not await alice._store.run(lambda tx: get_meta(tx, "restore"))

        await until(backed_up)
        await alice.backup.now()
        assert lost in fake.vaults.of(ALICE), "its device may still be there"
        # The lost device is revoked: all that it had is in the new vault.
        state = read_account_log(parse_account(ALICE), fake.accounts[ALICE])
        (old,) = [d for d in state.devices if d != alice.device.partition("/")[2]]
        ask = alice._me.ask
        assert ask is not None
        entry = revoke_device(state, ask, old, alice._clock.now())
        fake.accounts[ALICE].append(entry)
        await alice._sync._renewal._contacts.refresh(ALICE)
        await alice.backup.now()
        assert lost not in fake.vaults.of(ALICE) and len(fake.vaults.of(ALICE)) == 1
        report = await alice.backup.drill(phrase=phrase)
        assert report.ok and report.messages == 2
        assert await alarms(alice) == []


async def alarms(client: Client) -> list[str]:
    rows = await client._store.run(lambda tx: tx.all("SELECT code FROM alarm"))
    return [row[0] for row in rows]


async def test_a_backup_that_the_node_keeps_back_is_named(
    fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "CHECK", 0.02)
    alice, phrase = await register(fake, tmp_path, "alice")
    head = BackupHead(f"{ALICE}/{'x' * 16}", 3, bytes(32), 1, 7, 999)
    async with alice:
        await online(alice)
        entry = Entry("backup", "0a" * 16, encode(head), 1)
        await alice._store.run(lambda tx: alice.self_group.adopt(tx, [entry]))
        await alice.backup.now()
    back = await Client.recover(
        profile(tmp_path, "new", fake.url), ALICE, phrase=phrase, password=PASSWORD
    )
    async with back:
        await online(back)
        assert await until(lambda: alarms(back)) == ["archive_rolled_back"]
        assert "older archive" in (await back.backup.status()).error


def test_three_words_are_asked_back() -> None:
    words = [f"word{n}" for n in range(1, 25)]
    asked = {tuple(quiz(words)) for _ in range(50)}
    assert len(asked) > 10
    for found in asked:
        assert len(set(found)) == 3 and all(1 <= p <= 24 for p in found)
        assert list(found) == sorted(found)
    places = quiz(words)
    right = {place: f" {words[place - 1].upper()} " for place in places}
    assert check_quiz(words, right) == []
    assert check_quiz(words, {**right, places[1]: "wrong"}) == [places[1]]
    assert check_quiz(words, {25: "word25", 0: "word24"}) == [0, 25]
