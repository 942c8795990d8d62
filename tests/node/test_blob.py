"""Blobs on one node: in parts, whole, checked, counted, and read in ranges."""

import asyncio
import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.app import Node
from node.blobs.keeper import UPLOADS_MAX
from protocol.blob import parse_blob_id, read_content_range, read_range
from protocol.errors import (
    BadRequest,
    BlobMismatch,
    BlobQuotaExceeded,
    Malformed,
    RangeUnsatisfiable,
    StorageFull,
    TooLarge,
    UnknownBlob,
    UploadConflict,
)
from tests.helpers.fuzz import fuzzing
from tests.node.blobs import (
    OCTETS,
    append,
    begin,
    blob_id,
    drop,
    files,
    get,
    listed,
    state,
    upload,
)
from tests.node.phone import Phone, further_phone, phone
from tests.node.server import make_settings, running

BIG = os.urandom(2_500_000)


def kept(node: Node) -> list[Path]:
    return files(node.settings.data_dir / "blobs")


async def test_a_blob_comes_back_as_it_went(
    node: Node, alice: Phone, bob: Phone
) -> None:
    blob = await upload(alice, BIG)
    status, fields, body = await get(bob, blob)
    assert (status, body) == (200, BIG)
    assert fields["ETag"] == f'"{blob}"' and fields["Accept-Ranges"] == "bytes"
    assert fields["Content-Length"] == str(len(BIG))
    status, fields, body = await get(bob, blob, method="HEAD")
    assert (status, fields["Content-Length"], body) == (200, str(len(BIG)), b"")
    (file,) = kept(node)
    assert file.stat().st_mode & 0o777 == 0o600 and blob not in str(file)
    found = await listed(alice)
    assert [(b.blob, b.size) for b in found.blobs] == [(blob, len(BIG))]
    assert (found.used, found.more) == (len(BIG), False)
    assert found.quota == node.settings.limits.blob_quota
    assert (await listed(bob)).blobs == []
    unsigned = await alice.send("GET", f"/telex/v1/blobs/{blob}", headers={})
    assert unsigned[0] == 401


async def test_an_upload_goes_on_where_it_was(node: Node, alice: Phone) -> None:
    blob = blob_id(BIG)
    assert (await begin(alice, blob, len(BIG))).offset == 0
    half = await append(alice, blob, 0, BIG[:1_000_000])
    assert (half.offset, half.done) == (1_000_000, False)
    assert await begin(alice, blob, len(BIG)) == half == await state(alice, blob)
    with pytest.raises(UnknownBlob):
        await get(alice, blob)
    for offset in (0, 999_999, 1_000_001):
        with pytest.raises(UploadConflict, match="1000000 of 2500000"):
            await append(alice, blob, offset, b"x")
    with pytest.raises(UploadConflict, match="announced"):
        await begin(alice, blob, 5)
    async with further_phone(node, alice) as second:  # of the same account
        assert (await state(second, blob)).offset == 1_000_000
        assert await upload(second, BIG) == blob
    assert (await get(alice, blob))[2] == BIG
    # The answer to the last part was lost.
    assert (await append(alice, blob, 2_000_000, BIG[2_000_000:])).done
    assert (await state(alice, blob)).done


async def test_what_breaks_off_in_a_part_changes_nothing(alice: Phone) -> None:
    blob = blob_id(BIG)
    await begin(alice, blob, len(BIG))
    await append(alice, blob, 0, BIG[:1000])
    path, query, part = f"/telex/v1/blobs/{blob}", "offset=1000", BIG[1000:500_000]
    headers = alice.headers("PATCH", path, query, part, content_type=OCTETS)
    lines = [f"PATCH {path}?{query} HTTP/1.1", f"Content-Length: {len(part)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    port = int(alice.base.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([*lines, "", ""]).encode() + part[:-1])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await state(alice, blob)).offset == 1000
    await upload(alice, BIG)


async def test_other_bytes_than_announced_are_never_seen(
    node: Node, alice: Phone
) -> None:
    blob = blob_id(b"this")
    await begin(alice, blob, 4)
    with pytest.raises(BlobMismatch):
        await append(alice, blob, 0, b"that")
    assert kept(node) == []
    with pytest.raises(UnknownBlob):
        await state(alice, blob)
    with pytest.raises(UnknownBlob):
        await get(alice, blob)
    assert (await listed(alice)).used == 0
    await upload(alice, b"this")


async def test_what_is_no_upload_is_refused(node: Node, alice: Phone) -> None:
    blob = blob_id(b"x")
    with pytest.raises(UnknownBlob):
        await append(alice, blob, 0, b"x")
    for wrong in (blob[1:], blob.upper(), "g" * 64, blob + "0"):
        with pytest.raises(BadRequest):
            await begin(alice, wrong, 1)
        with pytest.raises(BadRequest):
            await get(alice, wrong)
    for size in (0, -1):
        with pytest.raises(BadRequest):
            await begin(alice, blob, size)
    with pytest.raises(TooLarge):
        await begin(alice, blob, node.settings.limits.blob_max + 1)
    await begin(alice, blob, 1)
    with pytest.raises(TooLarge):
        await append(alice, blob, 0, bytes(1024 * 1024 + 1))
    with pytest.raises(UploadConflict):
        await append(alice, blob, 0, b"xy")
    with pytest.raises(BadRequest):
        await append(alice, blob, 0, b"")
    assert kept(node) == []


async def test_one_blob_is_stored_once_and_counts_for_each(
    node: Node, alice: Phone, bob: Phone
) -> None:
    blobs = await asyncio.gather(
        *(upload(each, BIG, part=400_000) for each in (alice, bob))
    )
    assert blobs[0] == blobs[1] and len(kept(node)) == 1
    for each in (alice, bob):
        assert (await listed(each)).used == len(BIG)
    await drop(alice, blobs[0])
    await drop(alice, blobs[0])
    assert (await listed(alice)).used == 0
    assert (await get(alice, blobs[0]))[2] == BIG
    await drop(bob, blobs[0])
    assert kept(node) == []
    with pytest.raises(UnknownBlob):
        await get(bob, blobs[0])


async def test_two_devices_meet_in_one_upload(node: Node, alice: Phone) -> None:
    async def stubborn(device: Phone) -> None:
        found = await begin(device, blob, len(BIG))
        while not found.done:
            end = found.offset + 100_000
            try:
                found = await append(
                    device, blob, found.offset, BIG[found.offset : end]
                )
            except UploadConflict:
                found = await state(device, blob)

    blob = blob_id(BIG)
    async with further_phone(node, alice) as second:
        await asyncio.gather(stubborn(alice), stubborn(second))
    assert (await get(alice, blob))[2] == BIG and len(kept(node)) == 1
    assert (await listed(alice)).used == len(BIG)


async def test_the_quota_holds(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    settings = replace(
        settings, limits=replace(settings.limits, blob_quota=1000, blob_max=800)
    )
    async with running(settings) as node, phone(node, "alice") as alice:
        await alice.register()
        first = await upload(alice, bytes(800))
        await begin(alice, blob_id(b"y" * 150), 150)  # counts from here on
        with pytest.raises(BlobQuotaExceeded, match="950 of 1000"):
            await begin(alice, blob_id(b"z" * 51), 51)
        await drop(alice, blob_id(b"y" * 150))
        await drop(alice, first)
        ends = await asyncio.gather(
            *(upload(alice, os.urandom(300)) for _ in range(8)),
            return_exceptions=True,
        )
        assert sum(isinstance(end, str) for end in ends) == 3
        assert (await listed(alice)).used == 900 and len(kept(node)) == 3
        async with phone(node, "bob") as bob:
            await bob.register()
            blob = await upload(bob, b"w" * 200)
            with pytest.raises(BlobQuotaExceeded):  # also for what is here already
                await begin(alice, blob, 200)


async def test_so_many_uploads_at_once(alice: Phone) -> None:
    for n in range(UPLOADS_MAX):
        await begin(alice, f"{n:064x}", 1)
    with pytest.raises(BlobQuotaExceeded, match="under way"):
        await begin(alice, "f" * 64, 1)
    await drop(alice, f"{0:064x}")
    await begin(alice, "f" * 64, 1)


# --- ranges -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 200_000),
        ("bytes=100-150000", 100, 150_001),
        ("bytes=65535-65536", 65535, 65537),
        ("bytes=199999-", 199_999, 200_000),
        ("bytes=150000-999999999", 150_000, 200_000),
        ("bytes=-1", 199_999, 200_000),
        ("bytes=-999999", 0, 200_000),
        ("BYTES=5-9", 5, 10),
    ],
)
async def test_a_range_is_that_part(
    alice: Phone, header: str, first: int, end: int
) -> None:
    data = os.urandom(200_000)
    blob = await upload(alice, data)
    status, fields, body = await get(alice, blob, Range=header)
    assert (status, body) == (206, data[first:end])
    assert fields["Content-Range"] == f"bytes {first}-{end - 1}/200000"
    assert fields["Content-Length"] == str(end - first)


async def test_ranges_that_are_passed_by_or_refused(alice: Phone) -> None:
    blob = await upload(alice, b"0123456789")
    for header in ("bytes=0-1,4-5", "items=0-1", "bytes=5-1", "bytes=x-", "bytes"):
        assert (await get(alice, blob, Range=header))[::2] == (200, b"0123456789")
    for header in ("bytes=10-", "bytes=-0", "bytes=99-100"):
        with pytest.raises(RangeUnsatisfiable) as caught:
            await get(alice, blob, Range=header)
        assert caught.value.__notes__ == ["bytes */10"]
    tag = f'"{blob}"'
    some: dict[str, str] = {"Range": "bytes=2-3"}
    assert (await get(alice, blob, If_Range=tag, **some))[::2] == (206, b"23")
    for other in ('"other"', f"W/{tag}", "Mon, 23 Nov 2026 00:00:00 GMT"):
        assert (await get(alice, blob, If_Range=other, **some))[0] == 200
    assert (await get(alice, blob, If_None_Match=f'"a", W/{tag}'))[0] == 304
    status, fields, _ = await get(alice, blob, method="HEAD", **some)
    assert (status, fields["Content-Length"]) == (200, "10")


@pytest.mark.fuzz
@fuzzing
@given(
    st.one_of(
        st.text(max_size=40),
        st.from_regex(r"bytes=[0-9]{0,18}-[0-9]{0,18}", fullmatch=True),
    ),
    st.integers(1, 1 << 40),
)
def test_a_range_lies_in_the_blob_whatever_is_asked(header: str, size: int) -> None:
    try:
        found = read_range(header, size)
    except RangeUnsatisfiable:
        return
    if found is not None:
        assert 0 <= found[0] < found[1] <= size


@pytest.mark.fuzz
@fuzzing
@given(
    st.one_of(
        st.text(max_size=60),
        st.from_regex(r"bytes [0-9]{1,17}-[0-9]{1,17}/[0-9]{1,17}", fullmatch=True),
    )
)
def test_a_content_range_makes_sense_or_is_refused(header: str) -> None:
    try:
        first, end, size = read_content_range(header)
    except Malformed:
        return
    assert 0 <= first < end <= size


@pytest.mark.fuzz
@fuzzing
@given(st.one_of(st.text(), st.from_regex(r"[0-9a-fA-F]{62,66}", fullmatch=True)))
def test_only_hashes_in_hex_are_ids(text: str) -> None:
    try:
        parse_blob_id(text)
    except BadRequest:
        return
    assert len(text) == 64 and set(text) <= set("0123456789abcdef")


# --- trouble ----------------------------------------------------------------------


async def test_a_full_disk_keeps_what_was_there(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = blob_id(BIG)
    await begin(alice, blob, len(BIG))
    await append(alice, blob, 0, BIG[:1_000_000])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, _, content = await alice.send(
            "PATCH",
            f"/telex/v1/blobs/{blob}",
            BIG[1_000_000:2_000_000],
            query="offset=1000000",
            headers=alice.headers(
                "PATCH",
                f"/telex/v1/blobs/{blob}",
                "offset=1000000",
                BIG[1_000_000:2_000_000],
                content_type=OCTETS,
            ),
        )
        assert status == 507 and b"storage_full" in content
    assert (await state(alice, blob)).offset == 1_000_000
    with pytest.raises(UnknownBlob):
        await get(alice, blob)
    await upload(alice, BIG)
    assert (await get(alice, blob))[2] == BIG


async def test_room_is_left_to_the_database(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(node.settings.data_dir)

    class Full:
        f_bavail, f_frsize = 1000, real.f_frsize

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    with pytest.raises(StorageFull):
        await begin(alice, blob_id(b"x"), 1)
    assert (await listed(alice)).used == 0


async def test_a_lost_file_can_be_uploaded_again(node: Node, alice: Phone) -> None:
    blob = await upload(alice, b"data")
    kept(node)[0].unlink()
    with pytest.raises(UnknownBlob):
        await get(alice, blob)
    await upload(alice, b"data")
    assert (await get(alice, blob))[2] == b"data"
