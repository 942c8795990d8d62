"""Backups: kept current by themselves, without what was deleted; and drills."""

import asyncio
from pathlib import Path

import pytest

from client import Client
from client.account.contacts import Contacts
from client.account.me import get_meta, set_meta
from client.archive import Kind, backup, begin, heads, read_archive
from client.archive.job import load_kind
from client.archive.restore import BackupHead
from client.content.own import Entry
from client.errors import BackupFailed, WrongPhrase
from client.model import DrillReport
from client.storage.keyfile import Strength
from client.storage.store import Store
from protocol.account_log import add_device, read_account_log
from protocol.address import parse_account
from protocol.codec import encode
from protocol.credential import device_id
from protocol.errors import QuotaExceeded
from protocol.log import LogId
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.people import (
    ALICE,
    BOB,
    PASSWORD,
    messages_of,
    online,
    profile,
    state_of,
    until,
)
from tests.helpers.people import key


async def talk(join: Join) -> tuple[Client, Client, LogId]:
    """Alice and Bob, who said two things."""
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.start_direct(BOB)).id
    await alice.send_text(room, "the cat is in zanzibar")
    await until(lambda: texts_of(bob, room), bool)
    await bob.send_text(room, "and the dog")
    await until(lambda: texts_of(alice, room), lambda found: len(found) == 2)
    return alice, bob, room


async def texts_of(client: Client, room: LogId) -> list[str]:
    return [m.text for m in await client.messages(room) if m.kind == "text" and m.seq]


async def restored(fake: FakeNode, client: Client, tmp_path: Path) -> list[str]:
    """The texts in a client's backups, read by whoever has the key."""
    key = await client._store.run(lambda tx: get_meta(tx, "backup_key"))
    assert key is not None
    scratch, _ = Store.create(tmp_path / "scratch", "", Strength(1, 8192))
    try:
        await scratch.run(lambda tx: set_meta(tx, "device", client.device.encode()))
        for vault, segments in list(fake.vaults.of(client.account).items()):
            await scratch.run(lambda tx, v=vault: begin(tx, v, Kind.RESTORE, key))  # type: ignore[misc]

            async def get(n: int, segments: list[bytes] = segments) -> bytes | None:
                return segments[n - 1] if n <= len(segments) else None

            await read_archive(scratch, vault, get)
        rows = await scratch.run(
            lambda tx: tx.all(
                "SELECT text FROM message WHERE kind = 'text' ORDER BY position"
            )
        )
        return [row[0] for row in rows]
    finally:
        await scratch.destroy()


async def test_what_was_said_is_backed_up_and_only_sealed(
    fake: FakeNode, join: Join, tmp_path: Path
) -> None:
    alice, bob, room = await talk(join)
    assert not (await alice.backup.status()).last
    status = await alice.backup.now()
    assert status.enabled and status.last and status.messages >= 2
    assert status.size == sum(len(s) for v in fake.vaults.of(ALICE).values() for s in v)
    assert status.quota == fake.vaults.quota and not status.error
    assert await restored(fake, alice, tmp_path) == [
        "the cat is in zanzibar",
        "and the dog",
    ]
    everything = b"".join(s for v in fake.vaults.of(ALICE).values() for s in v)
    assert b"zanzibar" not in everything and ALICE.encode() not in everything
    # What comes later goes behind it.
    await bob.send_text(room, "and the bird")
    await until(lambda: texts_of(alice, room), lambda found: len(found) == 3)
    before = list(next(iter(fake.vaults.of(ALICE).values())))
    await alice.backup.now()
    (after,) = fake.vaults.of(ALICE).values()
    assert after[: len(before)] == before and len(after) == len(before) + 1
    assert "and the bird" in await restored(fake, alice, tmp_path)


async def test_it_runs_by_itself(
    fake: FakeNode, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "CHECK", 0.02)
    monkeypatch.setattr(backup, "SETTLE", 0.05)
    alice, _, _ = await talk(join)

    async def last() -> int:
        return (await alice.backup.status()).last

    await until(last)


async def test_what_was_deleted_leaves_the_backup(
    fake: FakeNode, join: Join, tmp_path: Path
) -> None:
    alice, _, room = await talk(join)
    await alice.backup.now()
    (old,) = fake.vaults.of(ALICE)
    (message,) = await messages_of(alice, room, "and the dog")
    await alice._store.run(
        lambda tx: tx.execute("DELETE FROM message WHERE id = ?", message.id)
    )
    await alice.backup.now()
    assert list(fake.vaults.of(ALICE)) != [old] and len(fake.vaults.of(ALICE)) == 1
    assert await restored(fake, alice, tmp_path) == ["the cat is in zanzibar"]


async def test_a_large_backup_is_written_anew_within_a_day(
    fake: FakeNode, join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "SMALL", 0)
    alice, _, room = await talk(join)
    await alice.backup.now()
    (old,) = fake.vaults.of(ALICE)
    (message,) = await messages_of(alice, room, "and the dog")
    await alice._store.run(
        lambda tx: tx.execute("DELETE FROM message WHERE id = ?", message.id)
    )
    await alice.backup.now()
    assert list(fake.vaults.of(ALICE)) == [old], "not at once"
    # Whoever restores in between does not see it again either.
    assert await restored(fake, alice, tmp_path) == ["the cat is in zanzibar"]
    now = backup._now() + backup.REWRITE_AFTER + 1000
    monkeypatch.setattr(backup, "_now", lambda: now)
    await alice.backup.now()
    assert list(fake.vaults.of(ALICE)) != [old]
    assert await restored(fake, alice, tmp_path) == ["the cat is in zanzibar"]


async def test_a_full_node_gives_a_sentence_and_nothing_is_lost(
    fake: FakeNode, join: Join, tmp_path: Path
) -> None:
    alice, _, _ = await talk(join)
    fake.vaults.quota = 100
    with pytest.raises(QuotaExceeded, match="ask the node's admin"):
        await alice.backup.now()
    assert "admin" in (await alice.backup.status()).error
    fake.vaults.quota = 1 << 30
    await alice.backup.now()
    assert not (await alice.backup.status()).error
    assert len(await restored(fake, alice, tmp_path)) == 2


async def test_turned_off_it_is_gone_and_back_on_it_is_whole(
    fake: FakeNode, join: Join, tmp_path: Path
) -> None:
    alice, _, _ = await talk(join)
    await alice.backup.now()
    await alice.backup.disable()
    assert fake.vaults.of(ALICE) == {}
    assert not (await alice.backup.status()).enabled
    with pytest.raises(BackupFailed, match="turn them on"):
        await alice.backup.now()
    await alice.backup.enable()
    await alice.backup.now()
    assert len(await restored(fake, alice, tmp_path)) == 2


async def test_a_node_that_lost_the_backup_is_named_and_gets_a_new_one(
    fake: FakeNode, join: Join, tmp_path: Path
) -> None:
    alice, _, _ = await talk(join)
    await alice.backup.now()
    (segments,) = fake.vaults.of(ALICE).values()
    segments.pop()
    await alice.backup.now()
    (alarm,) = [a for a in await alarms(alice) if a == "archive_rolled_back"]
    assert alarm and len(await restored(fake, alice, tmp_path)) == 2


async def alarms(client: Client) -> list[str]:
    rows = await client._store.run(lambda tx: tx.all("SELECT code FROM alarm"))
    return [row[0] for row in rows]


async def test_a_copy_of_the_profile_gets_a_vault_of_its_own(
    fake: FakeNode, join: Join, tmp_path: Path
) -> None:
    alice, bob, room = await talk(join)
    await alice.backup.now()
    (vault,) = fake.vaults.of(ALICE)
    # Somebody with the same key wrote behind ours.
    fake.vaults.of(ALICE)[vault].append(b"something else")
    await bob.send_text(room, "one more")
    await until(lambda: texts_of(alice, room), lambda found: len(found) == 3)
    await alice.backup.now()
    assert len(fake.vaults.of(ALICE)) == 1 and vault not in fake.vaults.of(ALICE)
    assert len(await restored(fake, alice, tmp_path)) == 3


async def test_an_old_profile_needs_the_phrase_once(
    fake: FakeNode, tmp_path: Path
) -> None:
    alice, words = await Client.register(
        profile(tmp_path, "alice", fake.url),
        ALICE,
        invite="",
        password=PASSWORD,
        backup=False,
    )
    async with alice:
        await online(alice)
        assert not (await alice.backup.status()).enabled
        await alice._store.run(lambda tx: set_meta(tx, "backup_key", b""))
        with pytest.raises(BackupFailed, match="recovery phrase"):
            await alice.backup.enable()
        with pytest.raises(WrongPhrase):
            await alice.backup.enable(phrase=" ".join(["abandon"] * 23 + ["art"]))
        await alice.backup.enable(phrase=" ".join(words))
        assert (await alice.backup.status()).enabled


async def test_another_device_that_backs_up_is_enough(
    fake: FakeNode, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _, _ = await talk(join)
    due = alice.backup._due
    assert await alice._store.run(due)
    other = read_account_log(parse_account(ALICE), fake.accounts[ALICE])
    auth, mls = key(), key()
    assert alice._me.ask is not None
    entry = add_device(other, alice._me.ask, auth.public, mls.public, other.seq)
    fake.accounts[ALICE].append(entry)
    await Contacts(alice._store, alice._transport).refresh(ALICE)
    device = f"{ALICE}/{device_id(auth.public, mls.public)}"
    now = backup._now()

    def heard(whole: int, time: int) -> Entry:
        head = BackupHead(device, 3, bytes(32), whole, 7, 999)
        return Entry("backup", "0a" * 16, encode(head), time)

    adopt = alice.self_group.adopt
    # By a clock that was years ahead nobody knows when it fell silent.
    ahead = heard(now + 1000 * heads.SILENT, now - 2000)
    await alice._store.run(lambda tx: adopt(tx, [ahead]))
    assert await alice._store.run(due)
    await alice._store.run(lambda tx: adopt(tx, [heard(now - 1000, now - 1000)]))
    assert not await alice._store.run(due)
    status = await alice.backup.status()
    assert (status.messages, status.size, status.last) == (7, 999, now - 1000)
    # It falls silent: this device does it.
    later = now + heads.SILENT + 1
    monkeypatch.setattr(heads, "_now", lambda: later)
    assert await alice._store.run(due)
    # And a node that does not show what the other one told is named.
    report = await alice.backup.drill()
    assert not report.ok and says(report, "gone")


# --- the drill ----------------------------------------------------------------


def says(report: DrillReport, *words: str) -> bool:
    return any(all(word in line for word in words) for line in report.lost)


async def test_a_drill_says_what_would_come_back(
    fake: FakeNode, join: Join, tmp_path: Path
) -> None:
    alice, bob, room = await talk(join)
    report = await alice.backup.drill()
    assert not report.ok and says(report, "no backup")
    await alice.backup.now()
    writes, key = fake.vaults.writes, tmp_path / "alice" / "key.json"
    before = key.read_bytes()
    accounts = {name: list(log) for name, log in fake.accounts.items()}
    report = await alice.backup.drill()
    assert report.ok and report.rooms == 1 and report.messages == 2
    assert report.contacts == 2 and report.newest > 0
    assert says(report, "only device") and not says(report, "since the last backup")
    await bob.send_text(room, "too late for the backup")
    await until(lambda: texts_of(alice, room), lambda found: len(found) == 3)
    report = await alice.backup.drill()
    assert not report.ok and says(report, "1 message", "since the last backup")
    assert fake.vaults.writes == writes and fake.accounts == accounts
    assert key.read_bytes() == before and not (key.parent / "drill").exists()
    assert all(line.endswith(".") for line in report.lost)


async def test_a_drill_names_a_node_that_takes_back_or_swaps(
    fake: FakeNode, join: Join
) -> None:
    alice, bob, room = await talk(join)
    await alice.backup.now()
    await bob.send_text(room, "newer")
    await until(lambda: texts_of(alice, room), lambda found: len(found) == 3)
    await alice.backup.now()
    ((vault, segments),) = fake.vaults.of(ALICE).items()
    newest = segments.pop()
    report = await alice.backup.drill()
    assert not report.ok and says(report, "older archive")
    segments.append(newest[:-1] + bytes([newest[-1] ^ 1]))
    report = await alice.backup.drill()
    assert not report.ok and says(report, "did not write")
    del fake.vaults.of(ALICE)[vault]
    report = await alice.backup.drill()
    assert not report.ok and says(report, "gone")


async def test_a_drill_with_the_words_on_paper(fake: FakeNode, tmp_path: Path) -> None:
    alice, words = await Client.register(
        profile(tmp_path, "alice", fake.url), ALICE, invite="", password=PASSWORD
    )
    async with alice:
        await online(alice)
        room = (await alice.create_group("garden", [])).id
        await alice.send_text(room, "note to self")
        await until(lambda: texts_of(alice, room), bool)
        await alice.backup.now()
        report = await alice.backup.drill(phrase=" ".join(words).upper())
        assert report.ok and report.messages == 1 and says(report, "nobody but you")
        with pytest.raises(WrongPhrase, match="nothing would come back"):
            await alice.backup.drill(phrase=" ".join(["abandon"] * 23 + ["art"]))


async def test_jobs_survive_a_restart(
    fake: FakeNode, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _, room = await talk(join)
    assert await state_of(alice, room, "the cat is in zanzibar")
    fake.vaults.refuse = QuotaExceeded()
    with pytest.raises(QuotaExceeded):
        await alice.backup.now()
    (job,) = await alice._store.run(lambda tx: load_kind(tx, Kind.BACKUP))
    assert job.segment is not None
    await asyncio.gather(alice.backup.now(), alice.backup.now())
    (again,) = await alice._store.run(lambda tx: load_kind(tx, Kind.BACKUP))
    assert again.id == job.id and again.segment is None and again.whole
