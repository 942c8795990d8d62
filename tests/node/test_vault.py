"""Vaults: kept whole, in order and within their quota, and nobody else's to see."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.accounts.vault import (
    PUTS_BURST,
    TRANSFER_KEPT,
    VaultKeeper,
    parse_vault,
)
from node.admin import disable
from node.app import Node
from node.storage.schema import migrate
from node.storage.store import Store
from protocol.codec import decode
from protocol.errors import (
    AccountDisabled,
    BadRequest,
    DeviceRevoked,
    DigestMismatch,
    NotFound,
    QuotaExceeded,
    StorageFailed,
    StorageFull,
    TooLarge,
    TooMany,
    UnknownVault,
    UnsupportedMedia,
    VaultConflict,
)
from protocol.limits import SEGMENT_MAX, VAULTS_MAX
from protocol.wire import Vault, Vaults
from tests.helpers.fuzz import fuzzing
from tests.node.phone import Phone, further_phone, phone, revocation
from tests.node.server import make_settings, running

ONE, TWO = "0" * 31 + "1", "ab" * 16


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def put(
    device: Phone, name: str, n: int, data: bytes, kind: str = "backup"
) -> Vault:
    _, content = await device.vault("PUT", f"/{name}/{n}", data, kind=kind)
    return decode(content, Vault)


async def kept(device: Phone) -> Vaults:
    return decode((await device.vault("GET"))[1], Vaults)


async def test_segments_come_back_as_they_went(node: Node, alice: Phone) -> None:
    parts = [os.urandom(SEGMENT_MAX), b"x", b"\0" * 1000]
    for n, part in enumerate(parts, 1):
        stored = await put(alice, ONE, n, part)
    assert (stored.segments, stored.size, stored.kind) == (
        3,
        SEGMENT_MAX + 1001,
        "backup",
    )
    for n, part in enumerate(parts, 1):
        assert (await alice.vault("GET", f"/{ONE}/{n}"))[1] == part
    # What broke off goes on where it was.
    path = f"/telex/v1/vaults/{ONE}/1"
    headers = alice.headers("GET", path) | {"Range": f"bytes={SEGMENT_MAX - 5}-"}
    status, _, rest = await alice.send("GET", path, headers=headers)
    assert (status, rest) == (206, parts[0][-5:])
    assert decode((await alice.vault("GET", f"/{ONE}"))[1], Vault) == stored
    found = await kept(alice)
    assert (found.vaults, found.used) == ([stored], stored.size)
    assert found.quota == node.settings.limits.vault_quota
    for file in files(node.settings.data_dir / "vaults"):
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.parent.stat().st_mode & 0o777 == 0o700
        assert ONE not in str(file) and "alice" not in file.name


async def test_the_same_segment_again_changes_nothing(node: Node, alice: Phone) -> None:
    stored = await put(alice, ONE, 1, b"one")
    assert await put(alice, ONE, 1, b"one") == stored
    both = await asyncio.gather(*(put(alice, ONE, 2, b"two") for _ in range(4)))
    assert {(v.segments, v.size) for v in both} == {(2, 6)}
    assert len(files(node.settings.data_dir / "vaults")) == 2


async def test_there_are_no_gaps_and_nothing_is_overwritten(
    node: Node, alice: Phone
) -> None:
    with pytest.raises(VaultConflict, match="send 1 next"):
        await put(alice, ONE, 2, b"two")
    await put(alice, ONE, 1, b"one")
    with pytest.raises(VaultConflict, match="send 2 next"):
        await put(alice, ONE, 3, b"three")
    with pytest.raises(VaultConflict, match="other bytes"):
        await put(alice, ONE, 1, b"other")
    with pytest.raises(VaultConflict, match="It is a backup"):
        await put(alice, ONE, 2, b"two", kind="transfer")
    # Of two who send the next one, one is refused, and its file is not kept.
    ends = await asyncio.gather(
        put(alice, ONE, 2, b"mine"),
        put(alice, ONE, 2, b"yours"),
        return_exceptions=True,
    )
    assert sorted(type(end).__name__ for end in ends) == ["Vault", "VaultConflict"]
    assert len(files(node.settings.data_dir / "vaults")) == 2


@pytest.mark.parametrize(
    "path",
    [
        f"/{ONE}/0",
        f"/{ONE}/-1",
        f"/{ONE}/1.0",
        f"/{ONE}/01",
        f"/{ONE}/9999999999",
        f"/{ONE.upper().replace('0', 'A')}/1",
        f"/{ONE[1:]}/1",
        f"/{ONE}0/1",
        f"/{'g' * 32}/1",
        "/..%2F..%2F..%2Fetc%2Fpasswd/1",
        f"/{ONE}/..%2F1",
    ],
)
async def test_what_is_no_name_is_refused(node: Node, alice: Phone, path: str) -> None:
    before = files(node.settings.data_dir)
    for method, data in (("PUT", b"x"), ("GET", b"")):
        with pytest.raises((BadRequest, NotFound)):
            await alice.vault(method, path, data)
    assert [p for p in files(node.settings.data_dir) if "vault" in str(p)] == []
    assert {p.name for p in before} <= {p.name for p in files(node.settings.data_dir)}


async def test_what_is_no_segment_is_refused(node: Node, alice: Phone) -> None:
    with pytest.raises(TooLarge):
        await put(alice, ONE, 1, bytes(SEGMENT_MAX + 1))
    with pytest.raises(BadRequest, match="kind"):
        await put(alice, ONE, 1, b"x", kind="diary")
    with pytest.raises(UnsupportedMedia):
        await alice.vault("PUT", f"/{ONE}/1", b"x", media="text/html")
    path = f"/telex/v1/vaults/{ONE}/1"
    status, _, _ = await alice.send("PUT", path, query="kind=backup")
    assert status in (400, 415)
    headers = alice.headers(
        "PUT", path, "kind=backup", b"x", content_type="application/octet-stream"
    )
    status, _, content = await alice.send(
        "PUT", path, b"y", query="kind=backup", headers=headers
    )
    assert status == DigestMismatch.status and DigestMismatch.code.encode() in content
    assert files(node.settings.data_dir / "vaults") == []
    assert (await kept(alice)).vaults == []


async def test_vaults_are_an_accounts_own(alice: Phone, bob: Phone) -> None:
    await put(alice, ONE, 1, b"mine")
    assert (await kept(bob)).vaults == []
    for path in (f"/{ONE}", f"/{ONE}/1"):
        with pytest.raises(UnknownVault):
            await bob.vault("GET", path)
    await bob.vault("DELETE", f"/{ONE}")
    await put(bob, ONE, 1, b"another's")
    assert (await alice.vault("GET", f"/{ONE}/1"))[1] == b"mine"
    unsigned = await alice.send("GET", f"/telex/v1/vaults/{ONE}/1", headers={})
    assert unsigned[0] == 401


async def test_a_deleted_vault_leaves_nothing(node: Node, alice: Phone) -> None:
    for n in (1, 2):
        await put(alice, ONE, n, b"data")
    await put(alice, TWO, 1, b"stays")
    for _ in range(2):  # the answer was lost
        await alice.vault("DELETE", f"/{ONE}")
    with pytest.raises(UnknownVault):
        await alice.vault("GET", f"/{ONE}/1")
    with pytest.raises(UnknownVault):
        await alice.vault("GET", f"/{ONE}")
    found = await kept(alice)
    assert [v.vault for v in found.vaults] == [TWO] and found.used == 5
    assert len(files(node.settings.data_dir / "vaults")) == 1


async def test_the_quota_holds(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    settings = replace(settings, limits=replace(settings.limits, vault_quota=1000))
    async with running(settings) as node, phone(node, "alice") as alice:
        await alice.register()
        await put(alice, ONE, 1, bytes(900))
        with pytest.raises(QuotaExceeded):
            await put(alice, ONE, 2, bytes(101))
        with pytest.raises(QuotaExceeded):
            await put(alice, TWO, 1, bytes(101))
        await put(alice, TWO, 1, bytes(100))
        assert (await kept(alice)).used == 1000
        await alice.vault("DELETE", f"/{ONE}")
        # Eight at once are not eight times the quota.
        ends = await asyncio.gather(
            *(put(alice, f"{n:032x}", 1, bytes(200)) for n in range(8)),
            return_exceptions=True,
        )
        assert sum(isinstance(end, Vault) for end in ends) == 4
        assert (await kept(alice)).used == 900
        assert len(files(settings.data_dir / "vaults")) == 5


async def test_an_account_has_so_many_vaults(alice: Phone) -> None:
    for n in range(VAULTS_MAX):
        await put(alice, f"{n:032x}", 1, b"x")
    with pytest.raises(QuotaExceeded, match="vaults"):
        await put(alice, TWO, 1, b"x")
    await put(alice, f"{0:032x}", 2, b"x")


async def test_who_was_shut_out_sees_nothing(
    node: Node, alice: Phone, bob: Phone
) -> None:
    await put(alice, ONE, 1, b"data")
    async with further_phone(node, alice) as second:
        assert (await second.vault("GET", f"/{ONE}/1"))[1] == b"data"
        await alice.append_log(revocation(alice, second))
        for method, path in (("GET", f"/{ONE}/1"), ("DELETE", f"/{ONE}"), ("GET", "")):
            with pytest.raises(DeviceRevoked):
                await second.vault(method, path)
    async with alice.session() as line:
        disable(node.settings, "alice", True)
        await line.receive()
    with pytest.raises(AccountDisabled):
        await put(alice, ONE, 2, b"x")
    with pytest.raises(AccountDisabled):
        await alice.vault("GET", f"/{ONE}/1")


# --- the keeper alone -----------------------------------------------------------------


class Keeper:
    """A keeper on a database and a directory, that can fall over."""

    def __init__(self, directory: Path) -> None:
        self.now: float = time.time()
        self.directory = directory / "vaults"
        self.path = directory / "node.db"
        migrate(self.path)

    async def open(self) -> VaultKeeper:
        self.store = Store(self.path, on_events=lambda _: None)
        await self.store.start()
        self.keeper = VaultKeeper(self.store, self.directory, lambda: self.now, 10**9)
        return self.keeper

    async def close(self) -> None:
        self.keeper.close()
        await self.store.stop()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Keeper]:
    found = Keeper(tmp_path)
    await found.open()
    yield found
    await found.close()


async def test_an_account_stores_so_much_at_once(house: Keeper) -> None:
    house.now = int(house.now)
    for _ in range(int(PUTS_BURST)):
        with pytest.raises(VaultConflict):
            await house.keeper.put("alice", ONE, 9, "backup", b"x")
    with pytest.raises(TooMany) as caught:
        await house.keeper.put("alice", ONE, 1, "backup", b"x")
    await house.keeper.put("bob", ONE, 1, "backup", b"x")
    house.now += caught.value.retry_after or 0
    await house.keeper.put("alice", ONE, 1, "backup", b"x")


async def test_a_transfer_is_dropped_after_a_week_and_a_backup_never(
    house: Keeper,
) -> None:
    keeper = house.keeper
    await keeper.put("alice", ONE, 1, "transfer", b"x")
    await keeper.put("alice", TWO, 1, "backup", b"x")
    house.now += TRANSFER_KEPT - 10
    await keeper.put("alice", ONE, 2, "transfer", b"x")
    house.now += 100
    await keeper.prune()
    assert len((await keeper.list("alice")).vaults) == 2
    house.now += TRANSFER_KEPT
    await keeper.prune()
    assert [v.vault for v in (await keeper.list("alice")).vaults] == [TWO]
    assert len(files(house.directory)) == 1


async def test_a_crash_leaves_no_file_for_ever(house: Keeper) -> None:
    """Files without a row: the row's write failed, or the process ended before."""
    keeper = house.keeper
    await keeper.put("alice", ONE, 1, "backup", b"kept")
    (kept_file,) = files(house.directory)
    (house.directory / "ff").mkdir(exist_ok=True)
    for name in ("f" * 32, "e" * 32 + ".part"):
        (house.directory / "ff" / name).write_bytes(b"orphan")
    await house.close()
    keeper = await house.open()
    assert await keeper.sweep() == 2
    assert files(house.directory) == [kept_file]
    assert (await keeper.segment("alice", ONE, 1)).read_bytes() == b"kept"
    assert await keeper.sweep() == 0


@pytest.mark.parametrize("at", ["fsync", "rename"])
async def test_a_disk_that_fails_stores_nothing(
    house: Keeper, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    keeper = house.keeper
    await keeper.put("alice", ONE, 1, "backup", b"one")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC if at == "fsync" else errno.EIO, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os if at == "fsync" else Path, at, fail)
        with pytest.raises((StorageFull, StorageFailed)):
            await keeper.put("alice", ONE, 2, "backup", b"two")
    assert len(files(house.directory)) == 1
    assert (await keeper.get("alice", ONE)).segments == 1
    assert (await keeper.put("alice", ONE, 2, "backup", b"two")).segments == 2


async def test_a_row_that_cannot_be_written_takes_its_file_with_it(
    house: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageFailed()

    with monkeypatch.context() as patch:
        patch.setattr(VaultKeeper, "_record", fail)
        with pytest.raises(StorageFailed):
            await house.keeper.put("alice", ONE, 1, "backup", b"one")
    assert files(house.directory) == []


async def test_a_lost_file_is_told(house: Keeper) -> None:
    await house.keeper.put("alice", ONE, 1, "backup", b"one")
    files(house.directory)[0].unlink()
    with pytest.raises(StorageFailed, match="lost"):
        await house.keeper.segment("alice", ONE, 1)


@pytest.mark.fuzz
@fuzzing
@given(st.text(max_size=64))
def test_only_names_of_hex_digits_pass(text: str) -> None:
    try:
        parse_vault(text)
    except BadRequest:
        return
    assert len(text) == 32 and set(text) <= set("0123456789abcdef")
