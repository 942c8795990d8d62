"""Whatever breaks: in the end everybody reads everything that anybody still has.

Each round breaks something at one of three members, in the middle of a talk, and then
holds every timeline against what was said. What only others than its author still have
is there as their copy.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from client import Client
from client.model import DATABASE_FILE, Message
from client.rooms import changes, resending
from client.rooms.changes import Want, want
from client.storage.store import Tx
from e2ee import Group
from e2ee.errors import BadConfirmationTag
from protocol.log import Kind, LogId, read_submission
from protocol.wire import Receipt
from tests.client.fake_node import NAME, FakeNode
from tests.client.people import PASSWORD, online, profile, room_of, until
from tests.helpers.fuzz import LONG

ROUNDS = 12 if LONG else 1
NAMES = ("alice", "bob", "carol")
Failure = Callable[["Circle", str], Awaitable[None]]

pytestmark = pytest.mark.timeout(1800 if LONG else 120)


class Circle:
    """Three members of one room, each of whom can go away and come back."""

    def __init__(self, fake: FakeNode, folder: Path) -> None:
        self.fake, self.folder = fake, folder
        self.clients: dict[str, Client] = {}
        self.said: set[str] = set()
        self.lost: set[str] = set()
        self.room = LogId("")
        self.chance = random.Random(0)

    async def begin(self) -> None:
        for name in NAMES:
            client, _ = await Client.register(
                profile(self.folder, name, self.fake.url),
                f"{name}@{NAME}",
                invite="",
                password=PASSWORD,
            )
            self.clients[name] = await client.__aenter__()
            await online(client)
        alice = self.clients["alice"]
        others = [self.clients[name].account for name in NAMES[1:]]
        self.room = (await alice.create_group("Circle", others)).id
        for client in self.clients.values():
            await until(
                partial(room_of, client, self.room), lambda r: r and r.members == 3
            )

    async def away(self, name: str) -> Path:
        """Close a client; its folder."""
        client = self.clients.pop(name)
        await client.close()
        return client.profile.directory

    async def back(self, name: str) -> Client:
        """Open a client again."""
        client = await Client.open(
            profile(self.folder, name, self.fake.url), password=PASSWORD
        )
        self.clients[name] = await client.__aenter__()
        return client

    async def say(self, name: str) -> str:
        """Say something new, and wait until it is in the log."""
        text = f"{name} says {len(self.said)}"
        self.said.add(text)
        client = self.clients[name]
        message = await client.send_text(self.room, text)

        async def look() -> object:
            found = await client.messages(self.room, limit=500)
            return next(m.seq for m in found if m.id == message.id)

        await until(look, lambda seq: seq is not None)
        return text

    async def talk(self) -> None:
        """Everybody who is there says something."""
        for name in list(self.clients):
            await self.say(name)

    async def sql(self, name: str, *statements: str) -> None:
        """Change a database behind its engine's back."""
        client = self.clients[name]

        def run(tx: Tx) -> None:
            for statement in statements:
                tx.execute(statement, self.room)
            client._groups._cache.clear()

        await client._store.run(run)

    async def commit(self, name: str) -> None:
        """Let somebody change the keys."""
        client = self.clients[name]
        before = self.fake.logs[self.room].epoch
        await client._store.run(lambda tx: want(tx, self.room, Want.UPDATE))
        client._workers.poke(self.room)
        await until(
            lambda: asyncio.sleep(0, self.fake.logs[self.room].epoch),
            lambda epoch: epoch > before,
        )
        # A wish for new keys that comes before the last is fulfilled is the same one.
        await until(
            lambda: client._store.run(lambda tx: tx.all("SELECT kind FROM intent")),
            lambda left: not left,
        )

    async def readable(self, name: str) -> set[str]:
        """Everything that a member can read now."""
        lines = await self.clients[name].messages(self.room, limit=500)
        return {text for text in self.said if any(holds(m, text) for m in lines)}


def holds(line: Message, text: str) -> bool:
    """Whether a line is a text, or somebody's copy of it."""
    copied = line.code == "copied" and line.text.endswith(f": {text}")
    return copied or (line.kind == "text" and line.text == text)


# --- what breaks ------------------------------------------------------------------


async def ratchets_are_gone(circle: Circle, name: str) -> None:
    await circle.sql(name, "DELETE FROM mls_ratchet WHERE room = ?")
    await circle.talk()


async def the_group_is_gone(circle: Circle, name: str) -> None:
    await circle.sql(
        name,
        "DELETE FROM mls_ratchet WHERE room = ?",
        "DELETE FROM mls_epoch WHERE room = ?",
    )
    await circle.talk()


async def the_epoch_is_damaged(circle: Circle, name: str) -> None:
    await circle.sql(
        name, "UPDATE mls_epoch SET data = substr(data, 1, 99) WHERE room = ?"
    )
    await circle.talk()


async def a_secret_is_damaged(circle: Circle, name: str) -> None:
    """The state loads, and nothing opens any more."""
    client = circle.clients[name]

    def damage(tx: Tx) -> None:
        row = tx.one("SELECT data FROM mls_epoch WHERE room = ?", circle.room)
        group = client._groups.get(tx, circle.room)
        assert row is not None and group is not None
        secret = group._epoch.secrets.sender_data_secret
        data = bytes(row[0]).replace(secret, bytes(len(secret)))
        tx.execute("UPDATE mls_epoch SET data = ? WHERE room = ?", data, circle.room)
        client._groups._cache.clear()

    await client._store.run(damage)
    for other in NAMES:
        if other != name:
            await circle.say(other)
            await circle.say(other)
    await circle.say(name)


async def the_database_is_an_old_copy(circle: Circle, name: str) -> None:
    folder = await circle.away(name)
    old = (folder / DATABASE_FILE).read_bytes()
    await online(await circle.back(name))
    await circle.say(name)
    await circle.talk()
    await circle.away(name)
    (folder / DATABASE_FILE).write_bytes(old)
    await circle.back(name)
    await circle.talk()


async def the_ratchet_goes_back_unnoticed(circle: Circle, name: str) -> None:
    client = circle.clients[name]
    row = await client._store.run(
        lambda tx: tx.one("SELECT data FROM mls_ratchet WHERE room = ?", circle.room)
    )
    assert row is not None
    await circle.say(name)

    def rewind(tx: Tx) -> None:
        sql = "UPDATE mls_ratchet SET data = ? WHERE room = ?"
        tx.execute(sql, row[0], circle.room)
        client._groups._cache.clear()

    await client._store.run(rewind)
    await circle.say(name)


async def messages_come_epochs_late(circle: Circle, name: str) -> None:
    """The hub holds a message back until nobody has its keys any more."""
    client = circle.clients[name]
    uplink = client._reading._uplink
    real, held = uplink.submit, []

    async def hold(log: LogId, data: bytes, bundle: object = None) -> Receipt:
        if log == circle.room and read_submission(data).kind == Kind.MESSAGE:
            held.append(data)
            return Receipt(bytes(32), "pending")
        return await real(log, data, bundle)  # type: ignore[arg-type]

    uplink.submit = hold  # type: ignore[method-assign, assignment]
    text = f"{name} says {len(circle.said)}"
    circle.said.add(text)
    await client.send_text(circle.room, text)
    await until(lambda: asyncio.sleep(0, held))
    uplink.submit = real  # type: ignore[method-assign]
    for _ in range(5):
        await circle.commit(next(other for other in NAMES if other != name))
    for data in held:
        circle.fake.append(data)
    await circle.fake.flush()


async def a_commit_cannot_be_read(circle: Circle, name: str) -> None:
    client = circle.clients[name]
    real = Group.process_commit
    failed: list[bytes] = []

    def fail(group: Group, message: bytes, *, now: int) -> object:
        if group is client._groups._cache.get(circle.room) and not failed:
            failed.append(message)
            raise BadConfirmationTag("the states differ")
        return real(group, message, now=now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Group, "process_commit", fail)
        await circle.commit(next(other for other in NAMES if other != name))
        await circle.talk()
        await until(lambda: asyncio.sleep(0, failed))


async def a_message_is_damaged_on_the_way(circle: Circle, name: str) -> None:
    real = circle.fake.append
    damaged: list[bytes] = []

    def damage(data: bytes) -> Receipt:
        submission = read_submission(data)
        client = circle.clients[name]
        named = (submission.log, submission.sender, submission.kind)
        if named == (circle.room, client.device, Kind.MESSAGE) and not damaged:
            damaged.append(data)
            at = data.index(submission.body) + len(submission.body) - 5
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return real(data)

    circle.fake.append = damage  # type: ignore[method-assign]
    text = f"{name} says {len(circle.said)}"
    circle.said.add(text)
    await circle.clients[name].send_text(circle.room, text)
    await until(lambda: asyncio.sleep(0, damaged))
    circle.fake.append = real  # type: ignore[method-assign]
    await circle.talk()


async def the_clock_is_wrong_by_a_day(circle: Circle, name: str) -> None:
    circle.fake.offset = circle.chance.choice([-86_400, 86_400])
    folder = await circle.away(name)
    assert folder.exists()
    await circle.talk()
    await circle.back(name)
    await the_group_is_gone(circle, name)
    circle.fake.offset = 0


async def key_packages_and_keys_are_gone(circle: Circle, name: str) -> None:
    """Others let it in by a Welcome that nobody can open; then it joins by itself."""
    client = circle.clients[name]
    await client._store.run(lambda tx: tx.execute("DELETE FROM key_package"))
    await the_group_is_gone(circle, name)


FAILURES: list[Failure] = [
    ratchets_are_gone,
    the_group_is_gone,
    the_epoch_is_damaged,
    a_secret_is_damaged,
    the_database_is_an_old_copy,
    the_ratchet_goes_back_unnoticed,
    messages_come_epochs_late,
    a_commit_cannot_be_read,
    a_message_is_damaged_on_the_way,
    the_clock_is_wrong_by_a_day,
    key_packages_and_keys_are_gone,
]


@pytest.fixture
async def circle(
    fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Circle]:
    """Three members who talk."""
    monkeypatch.setattr(changes, "ASK_INTERVAL", 1000)
    monkeypatch.setattr(resending, "ASK_AGAIN", 1000)
    monkeypatch.setattr(resending, "ASKS", 30)
    monkeypatch.setattr(resending, "KIN_DELAY", 200)
    monkeypatch.setattr(resending, "COPY_DELAY", 500)
    monkeypatch.setattr("client.rooms.reader.ASK_DELAY", 100)
    made = Circle(fake, tmp_path)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(close_all, made)
        await made.begin()
        yield made


async def close_all(circle: Circle) -> None:
    for name in list(circle.clients):
        await circle.away(name)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: f.__name__)
async def test_everything_is_readable_in_the_end(
    circle: Circle, failure: Failure
) -> None:
    for seed in range(ROUNDS):
        circle.chance = random.Random(f"{failure.__name__} {seed}")
        await circle.talk()
        await failure(circle, circle.chance.choice(NAMES))
        await circle.talk()
        for client in circle.clients.values():
            await client.doctor.repair_all()
        for name in NAMES:
            await until(
                partial(circle.readable, name),
                lambda seen: seen == circle.said,
                seconds=30,
            )
        # And nobody is left waiting for anything.
        for name in NAMES:
            client = circle.clients[name]
            await until(
                client.doctor.examine,
                lambda found: not [a for a in found if a.repair != "none"],
                seconds=30,
            )
        heads = {
            await client._store.run(partial(authenticator, client, circle.room))
            for client in circle.clients.values()
        }
        assert len(heads) == 1


def authenticator(client: Client, room: LogId, tx: Tx) -> bytes:
    group = client._groups.get(tx, room)
    return b"" if group is None else group.epoch_authenticator


async def test_a_failure_that_is_not_repaired_would_be_seen(circle: Circle) -> None:
    """The control: what nobody has any more is missed."""
    await circle.talk()
    text = f"alice says {len(circle.said)}"
    circle.said.add(text)
    assert await circle.readable("bob") != circle.said
