"""A lost laptop on a real node: back up, drill, lose everything, come back."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from client import Client
from client.account.me import get_meta
from client.archive import backup
from protocol.errors import BadRecovery
from protocol.log import LogId
from tests.client.people import PASSWORD, all_bytes, online, texts, until
from tests.client.real_node import RealNode

pytestmark = pytest.mark.system

WRONG = " ".join(["abandon"] * 23 + ["art"])


async def test_everything_comes_back_after_the_only_device_is_lost(
    nodes: list[RealNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "CHECK", 0.05)
    node = nodes[0]
    account = f"backup-alice@{node.name}"
    alice, words = await Client.register(
        node.profile(tmp_path / "alice"), account, invite="", password=PASSWORD
    )
    phrase = " ".join(words)
    bob, _ = await Client.register(
        node.profile(tmp_path / "bob"),
        f"backup-bob@{node.name}",
        invite="",
        password=PASSWORD,
    )
    async with bob:
        await online(bob)
        async with alice:
            await online(alice)
            room, said = await talked(alice, bob)
            await backed_up(alice, phrase)
        shutil.rmtree(tmp_path / "alice")
        node.stop()
        assert b"zanzibar" not in all_bytes(node.directory)
        node.start()
        with pytest.raises(BadRecovery):
            await Client.recover(
                node.profile(tmp_path / "x"), account, phrase=WRONG, password=PASSWORD
            )
        back = await Client.recover(
            node.profile(tmp_path / "back"),
            account,
            phrase=phrase,
            password="another long one",
        )
        async with back:
            await online(back)
            await until(partial(texts, back, room), lambda t: t == said)
            await back.send_text(room, "back again")
            said.append("back again")
            await until(partial(texts, bob, room), lambda t: t == said)
            await until(partial(is_restored, back))
            await back.backup.now()
            report = await back.backup.drill(phrase=phrase)
            assert report.ok and report.messages == 32


async def talked(alice: Client, bob: Client) -> tuple[LogId, list[str]]:
    """They say 31 texts to each other; the room, and what was said."""
    room = (await alice.start_direct(bob.account)).id
    said = [f"zanzibar {n}" for n in range(30)]
    for text in said:
        await alice.send_text(room, text)
    await until(partial(texts, bob, room), lambda t: t == said)
    await bob.send_text(room, "I have it all")
    said.append("I have it all")
    await until(partial(texts, alice, room), lambda t: t == said)
    return room, said


async def backed_up(alice: Client, phrase: str) -> None:
    """Back up, and let a drill find everything, without the phrase and with it."""
    status = await alice.backup.now()
    assert status.last and 0 < status.size < status.quota
    for report in (
        await alice.backup.drill(),
        await alice.backup.drill(phrase=phrase),
    ):
        assert report.ok and report.messages == 31 and report.rooms == 1


async def is_restored(client: Client) -> bool:
    return not await client._store.run(lambda tx: get_meta(tx, "restore"))
