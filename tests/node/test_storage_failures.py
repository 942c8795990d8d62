"""Disks that are full, read-only or damaged, and a database that somebody holds.

Real ones: a file system in a file, filled, broken and made immutable under a running
`telex-node`. Where mounting is not allowed (not root), these tests say so and pass by.
"""

import asyncio
import errno
import os
import resource
import sqlite3
import subprocess
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from client.network.refusals import says_later
from node.storage.health import diagnose, refusal
from node.storage.schema import migrate
from node.storage.store import Store, Transaction
from protocol.errors import (
    CODES,
    NodeBusy,
    NodeFault,
    Refused,
    StorageBusy,
    StorageDamaged,
    StorageFailed,
    StorageFull,
    StorageReadOnly,
)
from protocol.wire import Page
from tests.node.phone import Phone, Room
from tests.node.process import Process, check_log

pytestmark = pytest.mark.system

DISK_BYTES = 24 * 1024 * 1024

Acked = dict[bytes, tuple[int | None, bytes | None]]


class Disk:
    """A small file system of its own."""

    def __init__(self, image: Path, place: Path) -> None:
        self.image = image
        self.place = place

    def mount(self) -> None:
        run("mount", "-o", "loop,errors=remount-ro", self.image, self.place)

    def unmount(self) -> None:
        run("umount", self.place)

    def repair(self) -> None:
        """What an admin does with a disk that went read-only."""
        self.unmount()
        subprocess.run(["e2fsck", "-fy", self.image], capture_output=True)
        self.mount()

    def fill(self) -> Path:
        """Leave no byte free."""
        path = self.place / "filler"
        with open(path, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
        return path

    def fail(self) -> None:
        """Let the kernel find an error, upon which it makes the disk read-only."""
        device = next(
            line.split()[0]
            for line in Path("/proc/mounts").read_text().splitlines()
            if f" {self.place} " in line
        )
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("test")


def run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True)
    if done.returncode != 0:
        raise OSError(done.stderr.decode())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk to fill and break it")
    found = Disk(tmp_path / "image", tmp_path / "disk")
    found.place.mkdir()
    with open(found.image, "wb") as file:
        file.truncate(DISK_BYTES)
    try:
        run("mkfs.ext4", "-q", "-F", found.image)
        found.mount()
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    yield found
    subprocess.run(["chattr", "-R", "-i", str(found.place)], capture_output=True)
    subprocess.run(["umount", "-l", str(found.place)], capture_output=True)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    yield from lived(tmp_path)


@pytest.fixture
def on_disk(disk: Disk) -> Iterator[Process]:
    yield from lived(disk.place)


def lived(directory: Path) -> Iterator[Process]:
    found = Process(directory)
    found.init()
    text = found.config.read_text()
    found.config.write_text(text.replace('registration = "invite"', OPEN))
    found.start()
    yield found
    if found.running is not None:
        found.running.kill()
        found.running.communicate()


OPEN = 'registration = "open"'


@asynccontextmanager
async def writer(process: Process) -> AsyncIterator[tuple[Phone, Room]]:
    """A device with a room of one message."""
    async with process.phone("alice") as alice:
        await alice.register()
        room = await alice.create_room()
        await alice.submit(alice.message(room))
        yield alice, room


async def refused(alice: Phone, room: Room, acked: Acked) -> Refused:
    """Write on a socket until the node refuses; what it says there and over HTTP."""
    async with alice.session() as socket:
        for _ in range(200):
            data = alice.message(room, os.urandom(60_000))
            try:
                receipt = await socket.submit(data)
            except Refused as error:
                with pytest.raises(type(error)):
                    await alice.submit(data)
                return error
            acked[data] = (receipt.seq, receipt.hash)
    pytest.fail("everything was taken")


async def works_again(process: Process, alice: Phone, room: Room) -> None:
    """Wait until the node says that it is well, and write."""
    for _ in range(200):
        if "PROBLEM" not in process.outcome("status")[1]:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail(process.outcome("status")[1])
    assert process.outcome("status")[0] == 0
    await alice.submit(alice.message(room))


async def first_page(alice: Phone, room: Room) -> Page:
    path = f"/telex/v1/logs/{room.id}/entries"
    return await alice.call("GET", path, None, Page, query="after=0")


async def test_a_disk_that_is_full_and_one_that_is_read_only(
    disk: Disk, on_disk: Process
) -> None:
    acked: Acked = {}
    async with writer(on_disk) as (alice, room):
        await full(disk, on_disk, alice, room, acked)
        await immutable(disk, on_disk, alice, room, acked)
    status, log = on_disk.end()
    assert status == 0 and "Traceback" not in log
    assert log.count("The disk is full") <= 2, "said once, and not for each message"
    assert "All is in order" in on_disk.command("verify")


async def full(
    disk: Disk, process: Process, alice: Phone, room: Room, acked: Acked
) -> None:
    filler = disk.fill()
    error = await refused(alice, room, acked)
    assert isinstance(error, StorageFull) and error.retry_after
    status, text = process.outcome("status")
    assert status == 1 and "The disk is full" in text and "make room" in text
    assert (await first_page(alice, room)).entries, "reading goes on"
    filler.unlink()
    await works_again(process, alice, room)
    # The same again, and now the process dies and is started on the full disk.
    filler = disk.fill()
    assert isinstance(await refused(alice, room, acked), StorageFull)
    process.end(9)
    process.start()
    await check_log(alice, room.id, acked)
    assert isinstance(await refused(alice, room, acked), StorageFull)
    filler.unlink()
    await works_again(process, alice, room)
    await check_log(alice, room.id, acked)


async def immutable(
    disk: Disk, process: Process, alice: Phone, room: Room, acked: Acked
) -> None:
    files = sorted((disk.place / "data").glob("node.db*"))
    run("chattr", "+i", *files)
    error = await refused(alice, room, acked)
    assert isinstance(error, StorageReadOnly) and error.retry_after
    status, text = process.outcome("status")
    assert status == 1 and "read-only" in text
    assert (await first_page(alice, room)).entries
    run("chattr", "-i", *files)
    await works_again(process, alice, room)
    await check_log(alice, room.id, acked)


@pytest.mark.long
async def test_a_disk_that_the_kernel_makes_read_only(
    disk: Disk, on_disk: Process
) -> None:
    acked: Acked = {}
    async with writer(on_disk) as (alice, room):
        disk.fail()
        assert isinstance(await refused(alice, room, acked), StorageReadOnly)
        status, text = on_disk.outcome("status")
        assert status == 1 and "read-only" in text
        assert (await first_page(alice, room)).entries
        on_disk.end(9)
        assert "All is in order" in on_disk.command("verify")
        assert on_disk.outcome("status")[0] == 1
        words = on_disk.spawn("run", ok=False)
        assert words.count("\n") == 1 and "cannot be written" in words
        disk.repair()
        on_disk.start()
        await works_again(on_disk, alice, room)
        await check_log(alice, room.id, acked)


@pytest.mark.long
async def test_a_database_that_is_held_and_one_that_is_damaged(
    process: Process,
) -> None:
    path = process.config.parent / "data" / "node.db"
    async with writer(process) as (alice, room):
        assert process.end()[0] == 0
        await held(path, process, alice, room)
        await damaged(path, process, alice, room)


async def held(path: Path, process: Process, alice: Phone, room: Room) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    process.start()  # it reads all the same
    error = await refused_in_time(alice, room)
    assert isinstance(error, StorageBusy) and error.retry_after
    status, text = process.outcome("status")
    assert status == 1 and "Another program holds the database" in text
    assert len((await first_page(alice, room)).entries) == 2
    other.execute("ROLLBACK")
    other.close()
    await works_again(process, alice, room)
    assert len((await first_page(alice, room)).entries) == 3


async def refused_in_time(alice: Phone, room: Room) -> Refused:
    """One submission, which waits as long as the node waits for the lock."""
    try:
        await asyncio.wait_for(alice.submit(alice.message(room)), 20)
    except Refused as error:
        return error
    pytest.fail("it was taken")


async def damaged(path: Path, process: Process, alice: Phone, room: Room) -> None:
    other = await alice.create_room()
    data = [alice.message(room, os.urandom(1000)) for _ in range(60)]
    for each in data:
        await alice.submit(each)
    for _ in range(60):
        await alice.submit(alice.message(other, os.urandom(1000)))
    assert process.end()[0] == 0
    damage(path, data[20])
    process.start()
    with pytest.raises(StorageDamaged):
        await first_page(alice, room)
    status, text = process.outcome("status")
    assert status == 1 and "damaged" in text and "telex-node verify" in text
    # What does not need that page goes on.
    receipt = await alice.submit(alice.message(other))
    page = await first_page(alice, other)
    assert receipt.seq == page.head == 62
    async with alice.session() as socket:
        await socket.ack(**{room.id: 0, other.id: 0})
        assert len(await socket.entries(other.id, 62)) == 62
        assert (await socket.submit(alice.message(room))).seq == 64
    status, text = process.outcome("verify")
    assert status == 1 and room.id in text


def damage(path: Path, marker: bytes) -> None:
    """Overwrite the page in which the marker begins."""
    data = bytearray(path.read_bytes())
    page = data.index(marker[-900:-100]) // 4096 * 4096
    assert data[page] == 0x0D, "a leaf of a table"
    data[page : page + 64] = b"\xff" * 64
    path.write_bytes(data)


def spoilt(path: Path) -> None:
    """Make a database with a table `spoilt`, whose only page is overwritten."""
    migrate(path)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE spoilt (a)")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = other.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'spoilt'"
        ).fetchone()
    other.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(data)


def put(key: str) -> Callable[[Transaction], None]:
    """Work that writes a row of its own."""

    def work(transaction: Transaction) -> None:
        row = "INSERT INTO setting VALUES (?, 'v')"
        transaction.connection.exec_driver_sql(row, (key,))

    return work


def touch(transaction: Transaction) -> None:
    """Work that writes a row and then meets the overwritten page."""
    put("never")(transaction)
    transaction.connection.exec_driver_sql("INSERT INTO spoilt VALUES (1)")


class Many:
    """`Batched`, of keys and those who wait for them."""

    def write(
        self, transaction: Transaction, items: Sequence[tuple[str, Future[str]]]
    ) -> list[str]:
        for key, _ in items:
            (touch if key == "touch" else put(key))(transaction)
        return [key for key, _ in items]

    def done(
        self,
        items: Sequence[tuple[str, Future[str]]],
        outcomes: Sequence[str | Refused],
    ) -> None:
        for (_, future), outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Refused):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def batched(store: Store, many: Many, key: str) -> Future[str]:
    future: Future[str] = asyncio.get_running_loop().create_future()
    store.put(many, (key, future), 1)
    return future


async def test_a_damaged_page_spoils_no_neighbour_s_write(tmp_path: Path) -> None:
    """In one batch: what touches the page is refused, what does not is on disk."""
    path = tmp_path / "node.db"
    spoilt(path)
    many = Many()
    store = Store(path, on_events=lambda _: None)
    await store.start()
    try:
        results = await asyncio.gather(
            store.write(put("one")),
            store.write(touch),
            *(batched(store, many, key) for key in ("three", "touch", "four")),
            store.write(put("two")),
            return_exceptions=True,
        )
        assert isinstance(results.pop(3), StorageDamaged)
        assert isinstance(results.pop(1), StorageDamaged)
        assert results == [None, "three", "four", None]
        assert store.health.state == "damaged"
        with pytest.raises(StorageDamaged):
            await store.read(lambda c: c.exec_driver_sql("SELECT * FROM spoilt").all())
        await store.write(put("five"))
        assert store.health.state == "damaged", "until somebody has restored it"
        keys = await store.read(
            lambda c: c.exec_driver_sql("SELECT key FROM setting").scalars().all()
        )
        assert sorted(keys) == ["five", "four", "one", "three", "two"]
    finally:
        await store.stop()


def failure(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("some words")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (OSError(errno.ENOSPC, ""), "full"),
        (OSError(errno.EDQUOT, ""), "full"),
        (OSError(errno.EROFS, ""), "read_only"),
        (OSError(errno.EIO, ""), "failed"),
        (OSError(errno.EMFILE, ""), "crowded"),
        (failure(sqlite3.SQLITE_FULL), "full"),
        (failure(sqlite3.SQLITE_READONLY_DBMOVED), "read_only"),
        (failure(sqlite3.SQLITE_BUSY_SNAPSHOT), "locked"),
        (failure(sqlite3.SQLITE_CORRUPT_INDEX), "damaged"),
        (failure(sqlite3.SQLITE_NOTADB), "damaged"),
        (failure(sqlite3.SQLITE_IOERR_WRITE), "failed"),
        (failure(sqlite3.SQLITE_CONSTRAINT), None),
        (ValueError("no"), None),
    ],
)
def test_what_an_error_says(
    tmp_path: Path, error: Exception, state: str | None
) -> None:
    path = tmp_path / "node.db"
    path.touch()
    found = diagnose(error, path)
    assert (found.state if found is not None else None) == state
    assert [entry.name for entry in tmp_path.iterdir()] == ["node.db"]
    told = refusal(error, found)
    if found is None:
        assert isinstance(told, NodeFault)
    else:
        assert told.retry_after and told.status in (503, 507)
        assert found.sentence().endswith((".", "order."))


def test_a_node_without_room_for_open_files_does_not_blame_its_disk(
    tmp_path: Path,
) -> None:
    """SQLite says "unable to open database file"; the file that is tried knows why."""
    path = tmp_path / "node.db"
    path.touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        with pytest.raises(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        error = failure(sqlite3.SQLITE_CANTOPEN)
        found = diagnose(error, path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)
    assert found is not None and "LimitNOFILE" in found.sentence()
    assert isinstance(refusal(error, found), NodeBusy)


def test_every_refusal_of_the_storage_is_temporary() -> None:
    """Clients keep what they send for as long as a status of 500 or more comes."""
    kinds = [
        code
        for code, kind in CODES.items()
        if issubclass(kind, StorageFailed | StorageFull)
    ]
    assert len(kinds) == 5
    assert all(says_later(CODES[code]()) for code in kinds)
