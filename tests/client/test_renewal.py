"""Certificates that are renewed in time, by whoever can, and used from then on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from client import Client
from client.rooms.groups import leaf_of
from e2ee import key_package_info
from protocol.account_log import AccountState, read_account_log
from protocol.address import parse_account
from protocol.errors import NodeFault
from protocol.log import LogId
from tests.client.fake_node import NAME, FakeNode
from tests.client.people import PASSWORD, online, profile, room_of, texts, until

ALICE, BOB, CAROL = f"alice@{NAME}", f"bob@{NAME}", f"carol@{NAME}"
DAY = 24 * 3600


async def register(fake: FakeNode, tmp_path: Path, name: str) -> str:
    """Make an account, close it again, and give its recovery phrase."""
    client, words = await Client.register(
        profile(tmp_path, name, fake.url),
        f"{name}@{NAME}",
        invite="",
        password=PASSWORD,
    )
    await client.close()
    return " ".join(words)


@asynccontextmanager
async def opened(fake: FakeNode, tmp_path: Path, name: str) -> AsyncIterator[Client]:
    client = await Client.open(profile(tmp_path, name, fake.url), password=PASSWORD)
    async with client:
        yield await online(client)


def state_of(fake: FakeNode, account: str) -> AccountState:
    return read_account_log(parse_account(account), fake.accounts[account])


def days_left(fake: FakeNode, account: str) -> list[int]:
    devices = state_of(fake, account).devices.values()
    return sorted((d.certificate.expires - fake.time()) // DAY for d in devices)


async def shown(client: Client, room: LogId, device: str) -> bytes:
    """The credential that a device shows in a room, as a client sees it."""

    def read(tx: object) -> bytes:
        group = client._groups.get(tx, room)  # type: ignore[arg-type]
        assert group is not None
        leaf = leaf_of(group, device)
        return next(m.identity for m in group.members() if m.leaf == leaf)

    return await client._store.run(read)


async def test_a_certificate_is_renewed_in_its_last_weeks_and_once(
    fake: FakeNode, tmp_path: Path
) -> None:
    fake.offset = -300 * DAY
    await register(fake, tmp_path, "alice")
    async with opened(fake, tmp_path, "alice") as alice:
        before = alice._me.credential
    assert len(fake.accounts[ALICE]) == 2
    fake.offset = 7 * DAY
    async with opened(fake, tmp_path, "alice") as alice:
        assert alice._me.credential != before
        device = alice.device
    assert days_left(fake, ALICE)[0] >= 365
    assert len(fake.accounts[ALICE]) == 3
    # It is kept, offered to others, and nothing is renewed a second time.
    info = key_package_info(fake.last_resort[device])
    async with opened(fake, tmp_path, "alice") as alice:
        assert info.identity == alice._me.credential != before
    assert len(fake.accounts[ALICE]) == 3


async def test_no_key_package_outlives_the_certificate(
    fake: FakeNode, tmp_path: Path
) -> None:
    fake.offset = -290 * DAY
    await register(fake, tmp_path, "alice")
    fake.packages.clear()
    fake.offset = 0  # 76 days are left: too early to renew, too late for 90 days
    async with opened(fake, tmp_path, "alice") as alice:
        assert len(fake.accounts[ALICE]) == 2
        (device,) = state_of(fake, ALICE).devices.values()
        for package in fake.packages[alice.device]:
            assert key_package_info(package).not_after <= device.certificate.expires


async def test_the_newest_device_renews_for_the_others(
    fake: FakeNode, tmp_path: Path
) -> None:
    fake.offset = -320 * DAY
    phrase = await register(fake, tmp_path, "alice")
    fake.offset = -20 * DAY
    phone = await Client.login(
        profile(tmp_path, "phone", fake.url), ALICE, password=PASSWORD, phrase=phrase
    )
    await phone.close()
    fake.offset = 0
    # The older one cannot do it; it goes on as it is.
    async with opened(fake, tmp_path, "alice") as laptop:
        old = laptop._me.credential
        assert len(fake.accounts[ALICE]) == 4
        async with opened(fake, tmp_path, "phone"):
            assert days_left(fake, ALICE)[-1] >= 365 and len(fake.accounts[ALICE]) == 5
        assert laptop._me.credential == old
    async with opened(fake, tmp_path, "alice") as laptop:
        assert laptop._me.credential != old


async def test_others_see_the_new_one_with_the_next_commit(
    fake: FakeNode, tmp_path: Path
) -> None:
    fake.offset = -310 * DAY
    for name in ("alice", "bob", "carol"):
        await register(fake, tmp_path, name)
    async with (
        opened(fake, tmp_path, "alice") as alice,
        opened(fake, tmp_path, "bob") as bob,
    ):
        room = await alice.create_group("Garden", [BOB])
        # Its name is said: what waited to be said would bring new keys, and with
        # them the new certificate.
        await until(partial(room_of, bob, room.id), lambda r: r and r.title == "Garden")
    fake.offset = 0
    fake.packages.clear()  # those from then are over
    async with (
        opened(fake, tmp_path, "alice") as alice,
        opened(fake, tmp_path, "bob") as bob,
        opened(fake, tmp_path, "carol") as carol,
    ):
        new = alice._me.credential
        assert await shown(bob, room.id, alice.device) != new
        await alice.add_members(room.id, [CAROL])
        await until(partial(room_of, carol, room.id))
        assert await shown(carol, room.id, alice.device) == new
        await until(partial(bob.members, room.id), lambda m: len(m) == 3)
        assert await shown(bob, room.id, alice.device) == new
        await alice.send_text(room.id, "still me")
        for client in (bob, carol):
            await until(partial(texts, client, room.id), lambda t: t == ["still me"])


async def test_a_node_that_refuses_to_renew_stops_nothing(
    fake: FakeNode, tmp_path: Path
) -> None:
    fake.offset = -320 * DAY
    await register(fake, tmp_path, "alice")
    fake.offset = 0
    fake.fail["renewal"] = NodeFault()
    async with opened(fake, tmp_path, "alice"):
        assert not fake.fail and len(fake.accounts[ALICE]) == 2
    async with opened(fake, tmp_path, "alice"):
        assert len(fake.accounts[ALICE]) == 3
