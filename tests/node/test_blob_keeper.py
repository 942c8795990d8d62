"""What becomes of blobs in time, and how they are fetched: without a node."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node.blobs.fetch import FETCHES_EACH, FETCHES_PER_NODE, TRIES, BlobFetcher
from node.blobs.keeper import DAY, BlobKeeper
from node.blobs.source import Source
from node.storage.schema import migrate
from node.storage.store import Store
from protocol.errors import (
    NodeBusy,
    PeerRefused,
    PeerUnreachable,
    Refused,
    StorageFull,
    TooLarge,
    TooMany,
    UnknownBlob,
)
from tests.node.blobs import blob_id, files

DATA = bytes(range(256)) * 1000
BLOB = blob_id(DATA)
PIECE = 64 * 1024


class House:
    """A keeper on a database and a directory, that can fall over."""

    def __init__(self, directory: Path) -> None:
        self.now: float = time.time()
        self.directory = directory / "blobs"
        self.path = directory / "node.db"
        migrate(self.path)

    async def open(self) -> BlobKeeper:
        self.store = Store(self.path, on_events=lambda _: None)
        await self.store.start()
        self.keeper = BlobKeeper(
            self.store,
            self.directory,
            lambda: self.now,
            quota=10**9,
            largest=10**6,
            days=90,
            copies=len(DATA) + 10,
        )
        return self.keeper

    async def close(self) -> None:
        self.keeper.close()
        await self.store.stop()

    async def store_blob(self, name: str, data: bytes) -> str:
        blob = blob_id(data)
        await self.keeper.begin(name, blob, len(data))
        await self.keeper.append(name, blob, 0, data)
        return blob

    async def has(self, blob: str) -> bool:
        try:
            (await self.keeper.open(blob)).close()
        except UnknownBlob:
            return False
        return True


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    await found.open()
    yield found
    await found.close()


async def test_a_blob_lives_as_long_as_it_is_asked_for(house: House) -> None:
    read, unread = [await house.store_blob("alice", each) for each in (b"a", b"b")]
    for _ in range(3):
        house.now += 60 * DAY
        assert await house.has(read)
        await house.keeper.prune()
    assert await house.has(read) and not await house.has(unread)
    assert len(files(house.directory)) == 1
    found = await house.keeper.list("alice")
    assert [each.blob for each in found.blobs] == [read] and found.used == 1


async def test_an_upload_that_nobody_continues_ends_after_a_day(house: House) -> None:
    await house.keeper.begin("alice", BLOB, len(DATA))
    await house.keeper.append("alice", BLOB, 0, DATA[:1000])
    house.now += DAY - 10
    await house.keeper.append("alice", BLOB, 1000, DATA[1000:2000])
    house.now += 100
    await house.keeper.prune()
    assert (await house.keeper.upload("alice", BLOB)).offset == 2000
    house.now += DAY
    await house.keeper.prune()
    with pytest.raises(UnknownBlob):
        await house.keeper.upload("alice", BLOB)
    assert files(house.directory) == []
    assert (await house.keeper.list("alice")).used == 0


async def test_a_crash_leaves_no_file_for_ever(house: House) -> None:
    blob = await house.store_blob("alice", b"whole")
    await house.keeper.begin("bob", BLOB, len(DATA))
    await house.keeper.append("bob", BLOB, 0, DATA[:1000])
    kept = set(files(house.directory))
    (house.directory / "ff").mkdir(exist_ok=True)
    (house.directory / "ff" / ("f" * 32)).write_bytes(b"orphan")
    # A part that was written and never told of: what counts is the row.
    for file in kept:
        if file.stat().st_size == 1000:
            file.write_bytes(DATA[:1000] + b"half a part")
    await house.close()
    await house.open()
    assert await house.keeper.sweep() == 1
    assert set(files(house.directory)) == kept
    assert await house.has(blob)
    assert (await house.keeper.upload("bob", BLOB)).offset == 1000
    assert (await house.keeper.append("bob", BLOB, 1000, DATA[1000:])).done


@pytest.fixture
def small_disk(house: House) -> Iterator[Path]:
    """Three megabytes for the files, on a file system of their own."""
    house.directory.mkdir()
    size = ["-o", "size=3m", "none", str(house.directory)]
    if subprocess.run(["mount", "-t", "tmpfs", *size], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield house.directory
    subprocess.run(["umount", "-l", str(house.directory)], check=True)


async def test_a_disk_that_is_full_keeps_what_it_had(
    house: House, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageFull):  # the database needs what is left
        await house.keeper.begin("alice", BLOB, len(DATA))
    monkeypatch.setattr("node.storage.files.RESERVE", 0)
    data = bytes(900_000)
    blob = blob_id(data)
    await house.keeper.begin("alice", blob, len(data))
    await house.keeper.append("alice", blob, 0, data[:500_000])
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(3_000_000))
    for _ in range(2):
        with pytest.raises(StorageFull) as caught:
            await house.keeper.append("alice", blob, 500_000, data[500_000:])
        assert caught.value.status == 507
    assert (await house.keeper.upload("alice", blob)).offset == 500_000
    assert not await house.has(blob)
    filler.unlink()
    assert (await house.keeper.append("alice", blob, 500_000, data[500_000:])).done
    assert await house.has(blob)


# --- fetching ---------------------------------------------------------------------


class Peer:
    """Another node that sends a blob, in a way that a test chooses."""

    def __init__(self, data: bytes = DATA) -> None:
        self.size = len(data)
        self.data = data
        self.asked: list[int] = []
        self.breaks: list[int] = []
        """Bytes after which the line breaks, at each request."""
        self.more = asyncio.Event()
        self.more.set()

    @asynccontextmanager
    async def ask(
        self, node: str, blob: str, offset: int
    ) -> AsyncIterator["Peer.Sent"]:
        self.asked.append(offset)
        upto = self.breaks.pop(0) if self.breaks else None
        yield self.Sent(self.size, self._pieces(offset, upto))

    async def _pieces(self, offset: int, upto: int | None) -> AsyncIterator[bytes]:
        for at in range(offset, len(self.data), 10_000):
            if upto is not None and at + 10_000 - offset > upto:
                raise PeerUnreachable()
            if at + 10_000 >= len(self.data):
                await self.more.wait()
            yield self.data[at : at + 10_000]

    class Sent:
        def __init__(self, size: int, pieces: AsyncIterator[bytes]) -> None:
            self.size, self.pieces = size, pieces


@asynccontextmanager
async def fetching(house: House, peer: Peer) -> AsyncIterator[BlobFetcher]:
    fetcher = BlobFetcher(house.keeper, peer.ask)
    yield fetcher
    await fetcher.stop()


async def whole(source: Source) -> bytes:
    found = b""
    while len(found) < source.size:
        count = min(PIECE, source.size - len(found))
        found += await source.read(len(found), count)
    source.close()
    return found


async def test_a_blob_is_fetched_once_for_all_who_ask(house: House) -> None:
    peer = Peer()
    async with fetching(house, peer) as fetcher:
        sources = await asyncio.gather(
            *(fetcher.open(BLOB, "b.org", "alice") for _ in "12345")
        )
        assert await asyncio.gather(*map(whole, sources)) == [DATA] * 5
        assert peer.asked == [0]
        assert await whole(await fetcher.open(BLOB, None, "alice")) == DATA
    assert len(files(house.directory)) == 1
    with pytest.raises(UnknownBlob):  # a copy, which is not passed on
        await house.keeper.open(BLOB, held=True)


async def test_a_blob_is_read_while_it_comes_but_for_its_end(house: House) -> None:
    peer = Peer()
    peer.more.clear()
    async with fetching(house, peer) as fetcher:
        source = await fetcher.open(BLOB, "b.org", "alice")
        assert await source.read(0, PIECE) == DATA[:PIECE]
        end = asyncio.create_task(source.read(len(DATA) - 10, 10))
        first = asyncio.create_task(source.read(PIECE, PIECE))
        assert await first == DATA[PIECE : 2 * PIECE] and not end.done()
        assert not await house.has(BLOB)
        peer.more.set()
        assert await end == DATA[-10:]
        source.close()


@pytest.mark.parametrize("size", [10, 100_000])
async def test_wrong_bytes_are_never_whole(house: House, size: int) -> None:
    peer = Peer(DATA[:size])
    blob = blob_id(b"something else")
    async with fetching(house, peer) as fetcher:
        with pytest.raises(PeerRefused, match="not the file"):
            await whole(await fetcher.open(blob, "b.org", "alice"))
    assert files(house.directory) == [] and not await house.has(blob)


async def test_a_line_that_breaks_is_taken_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.blobs.fetch.PAUSE", 0.0)
    peer = Peer()
    peer.breaks = [100_000, 0, 50_000]
    async with fetching(house, peer) as fetcher:
        assert await whole(await fetcher.open(BLOB, "b.org", "alice")) == DATA
    assert peer.asked == [0, 100_000, 100_000, 150_000]


async def test_a_line_that_only_breaks_is_given_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.blobs.fetch.PAUSE", 0.0)
    peer = Peer()
    peer.breaks = [100_000] + [0] * (TRIES - 1)
    async with fetching(house, peer) as fetcher:
        with pytest.raises(PeerUnreachable):
            await whole(await fetcher.open(BLOB, "b.org", "alice"))
        assert len(peer.asked) == TRIES
        assert files(house.directory) == []
        assert await whole(await fetcher.open(BLOB, "b.org", "alice")) == DATA


@pytest.mark.parametrize(
    ("size", "error"),
    [(10**6 + 1, TooLarge), (0, TooLarge), (200_000, PeerRefused), (300_000, Refused)],
)
async def test_a_size_that_is_too_large_or_a_lie(
    house: House, size: int, error: type[Refused]
) -> None:
    peer = Peer()
    peer.size = size
    async with fetching(house, peer) as fetcher:
        with pytest.raises(error):
            await whole(await fetcher.open(BLOB, "b.org", "alice"))
    assert files(house.directory) == []


async def test_one_node_holds_up_its_own_files_alone(house: House) -> None:
    slow, quick = Peer(), Peer(b"quick")
    slow.more.clear()

    def ask(node: str, blob: str, offset: int) -> object:
        return (slow if node == "slow.org" else quick).ask(node, blob, offset)

    fetcher = BlobFetcher(house.keeper, ask)  # type: ignore[arg-type]
    for n in range(FETCHES_PER_NODE - 1):
        await fetcher.open(f"{n:064x}", "slow.org", "alice")
    await fetcher.open(blob_id(b"quick"), "slow.org", "alice")
    with pytest.raises(NodeBusy):
        await fetcher.open("f" * 64, "slow.org", "bob")
    assert (
        await whole(await fetcher.open(blob_id(b"quick"), "b.org", "bob")) == b"quick"
    )
    await fetcher.stop()


async def test_one_account_holds_up_its_own_files_alone(house: House) -> None:
    slow = Peer()
    slow.more.clear()
    async with fetching(house, slow) as fetcher:
        blobs = [f"{n:064x}" for n in range(FETCHES_EACH)]
        for n, blob in enumerate(blobs):
            await fetcher.open(blob, f"slow{n}.org", "alice")
        with pytest.raises(TooMany) as caught:
            await fetcher.open("f" * 64, "slow9.org", "alice")
        assert caught.value.retry_after
        await fetcher.open("f" * 64, "slow9.org", "bob")
        # What is on its way already is there for all who ask.
        await fetcher.open("f" * 64, "slow9.org", "alice")


async def test_what_nobody_reads_is_fetched_no_further(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.blobs.fetch.ALONE", 0.0)
    slow = Peer()
    slow.more.clear()
    async with fetching(house, slow) as fetcher:
        first, second = [await fetcher.open(BLOB, "b.org", "alice") for _ in "12"]
        first.close()
        await second.read(0, PIECE)
        assert len(files(house.directory)) == 1
        second.close()
        async with asyncio.timeout(5):
            while True:
                if not files(house.directory):
                    break
                await asyncio.sleep(0.01)
        slow.more.set()
        assert await whole(await fetcher.open(BLOB, "b.org", "alice")) == DATA
        assert slow.asked == [0, 0]


async def test_who_comes_back_soon_finds_it_going_on(house: House) -> None:
    slow = Peer()
    slow.more.clear()
    async with fetching(house, slow) as fetcher:
        (await fetcher.open(BLOB, "b.org", "alice")).close()
        source = await fetcher.open(BLOB, "b.org", "alice")
        slow.more.set()
        assert await whole(source) == DATA
        assert slow.asked == [0]


@pytest.mark.parametrize("size", [30_000, 200_000])
async def test_a_node_that_sends_too_slowly_is_asked_no_more(
    house: House, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("node.blobs.fetch.SLOW_SECONDS", 0.2)
    slow = Peer(DATA[:size])
    slow.more.clear()
    async with fetching(house, slow) as fetcher:
        with pytest.raises(PeerUnreachable, match="too slowly"):
            await whole(await fetcher.open(BLOB, "b.org", "alice"))
    assert files(house.directory) == []


async def test_copies_go_when_they_are_too_many(house: House) -> None:
    mine = await house.store_blob("alice", b"mine")
    async with fetching(house, Peer()) as fetcher:
        await whole(await fetcher.open(BLOB, "b.org", "alice"))
    house.now += 2 * DAY
    other = bytes(100)
    async with fetching(house, Peer(other)) as fetcher:
        await whole(await fetcher.open(blob_id(other), "b.org", "alice"))
    await house.keeper.prune()
    assert not await house.has(BLOB)
    assert await house.has(blob_id(other)) and await house.has(mine)
    # What an account uploads is no copy any more.
    await house.keeper.begin("alice", blob_id(other), len(other))
    async with fetching(house, Peer()) as fetcher:
        await whole(await fetcher.open(BLOB, "b.org", "alice"))
    await house.keeper.prune()
    assert await house.has(blob_id(other)) and await house.has(BLOB)
