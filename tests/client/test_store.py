"""The encrypted database: locked, migrated, all or nothing, unreadable to others."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlcipher3

from client.account.me import get_meta, set_meta
from client.errors import (
    Closed,
    NoProfile,
    ProfileDamaged,
    ProfileExists,
    ProfileInUse,
    ProfileTooNew,
    WrongPassword,
)
from client.storage.keyfile import Strength, read_key
from client.storage.schema import MIGRATIONS
from client.storage.store import Store, Tx

WEAK = Strength(1, 8192)
PLANTED = b"planted word zanzibar"


def make(directory: Path, password: str = "correct horse") -> Store:
    store, finish = Store.create(directory, password, WEAK)
    finish()
    return store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = make(tmp_path / "profile")
    yield store
    await store.close()


async def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    store = make(tmp_path)
    await store.run(lambda tx: set_meta(tx, "word", b"kept"))
    await store.close()
    store = Store.open(tmp_path, "correct horse")
    assert await store.run(lambda tx: get_meta(tx, "word")) == b"kept"
    await store.close()


async def test_a_wrong_password_says_so(tmp_path: Path) -> None:
    await make(tmp_path).close()
    with pytest.raises(WrongPassword, match="password is wrong"):
        Store.open(tmp_path, "incorrect horse")


def test_a_folder_without_account_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoProfile, match="register or log in"):
        Store.open(tmp_path / "nothing", "whatever")
    assert not (tmp_path / "nothing").exists()


async def test_an_account_is_never_overwritten(tmp_path: Path) -> None:
    await make(tmp_path).close()
    with pytest.raises(ProfileExists):
        Store.create(tmp_path, "other", WEAK)
    await Store.open(tmp_path, "correct horse").close()


async def test_an_unfinished_registration_is_overwritten(tmp_path: Path) -> None:
    store, _ = Store.create(tmp_path, "one", WEAK)
    await store.close()
    await make(tmp_path, "two").close()
    await Store.open(tmp_path, "two").close()


async def test_one_process_at_a_time(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ProfileInUse, match="open in another"):
        Store.open(tmp_path / "profile", "correct horse")


async def test_a_newer_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    store = make(tmp_path)
    newer = len(MIGRATIONS) + 1
    store._connection.execute(f"PRAGMA user_version = {newer}")
    await store.close()
    with pytest.raises(ProfileTooNew, match=f"version {newer}.*update Telex"):
        Store.open(tmp_path, "correct horse")


@pytest.mark.parametrize("damage", [b"", b"x" * 5000, b"{}", b'{"telex":"key"}'])
async def test_a_damaged_key_file_is_no_wrong_password(
    tmp_path: Path, damage: bytes
) -> None:
    await make(tmp_path).close()
    (tmp_path / "key.json").write_bytes(damage)
    with pytest.raises(ProfileDamaged):
        Store.open(tmp_path, "correct horse")


async def test_a_damaged_database_says_so_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await make(tmp_path).close()
    with (tmp_path / "telex.db").open("r+b") as file:
        file.write(os.urandom(4096))
    with pytest.raises(ProfileDamaged, match="damaged"):
        Store.open(tmp_path, "correct horse")
    assert capfd.readouterr() == ("", "")


async def test_a_key_file_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    await make(tmp_path).close()
    path = tmp_path / "key.json"
    path.write_text(path.read_text().replace("8192", str(1 << 40)))
    with pytest.raises(ProfileDamaged, match="memory"):
        read_key(path, "correct horse")


async def test_files_are_for_the_owner_alone(store: Store, tmp_path: Path) -> None:
    await store.run(lambda tx: set_meta(tx, "a", b"b"))
    directory = tmp_path / "profile"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    assert {"telex.db", "telex.db-wal", "key.json", "lock"} <= {
        path.name for path in directory.iterdir()
    }


async def test_no_file_holds_a_planted_word(store: Store, tmp_path: Path) -> None:
    await store.run(lambda tx: set_meta(tx, "text", PLANTED * 500))
    for path in (tmp_path / "profile").iterdir():
        assert PLANTED not in path.read_bytes(), path.name


async def test_a_failing_function_changes_nothing(store: Store) -> None:
    undone: list[str] = []

    def fail(tx: Tx) -> None:
        set_meta(tx, "half", b"done")
        tx.undo.append(lambda: undone.append("memory"))
        raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        await store.run(fail)
    assert await store.run(lambda tx: get_meta(tx, "half")) is None
    assert undone == ["memory"]


async def test_an_attempt_can_fail_alone(store: Store) -> None:
    undone: list[str] = []

    def work(tx: Tx) -> None:
        set_meta(tx, "first", b"1")
        try:
            with tx.attempt():
                set_meta(tx, "second", b"2")
                tx.undo.append(lambda: undone.append("second"))
                raise ValueError
        except ValueError:
            pass
        set_meta(tx, "third", b"3")

    await store.run(work)
    found = await store.run(
        lambda tx: [get_meta(tx, key) for key in ("first", "second", "third")]
    )
    assert found == [b"1", None, b"3"]
    assert undone == ["second"]


async def test_a_cancelled_caller_does_not_undo_what_was_begun(store: Store) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(tx: Tx) -> None:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)
        set_meta(tx, "word", b"kept")

    task = asyncio.create_task(store.run(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await store.run(lambda tx: get_meta(tx, "word")) == b"kept"


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = make(tmp_path)
    await store.close()
    await store.close()
    with pytest.raises(Closed):
        await store.run(lambda tx: None)


async def test_deleted_values_do_not_stay_in_the_log(tmp_path: Path) -> None:
    store = make(tmp_path)
    await store.run(lambda tx: set_meta(tx, "key", os.urandom(5000)))
    await store.close()
    wal = tmp_path / "telex.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0


_WRITER = """
import asyncio, sys
from pathlib import Path
from client.storage.store import Store
from client.account.me import set_meta
async def main():
    store = Store.open(Path(sys.argv[1]), "correct horse")
    for n in range(100000):
        def work(tx):
            set_meta(tx, "left", str(n).encode())
            set_meta(tx, "right", str(n).encode())
        await store.run(work)
        print(n, flush=True)
asyncio.run(main())
"""


async def _both(directory: Path) -> tuple[bytes | None, bytes | None]:
    store = Store.open(directory, "correct horse")
    try:
        return await store.run(lambda tx: (get_meta(tx, "left"), get_meta(tx, "right")))
    finally:
        await store.close()


def test_sigkill_leaves_whole_transactions_and_every_one_told(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path).close())
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        told = -1
        while told < 50:
            told = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        told = max([told, *map(int, writer.stdout.read().split())])
    left, right = asyncio.run(_both(tmp_path))
    assert left is not None and left == right
    assert int(left) >= told


def test_the_driver_is_the_encrypting_one() -> None:
    connection = sqlcipher3.connect(":memory:")
    assert connection.execute("PRAGMA cipher_version").fetchone()[0]
    connection.close()
