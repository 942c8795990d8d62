"""Answers are compressed where it pays and where the asker takes it, and only there."""

import gzip
import zlib
from collections.abc import Mapping

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from node.api.compression import choose_coding
from protocol.codec import JSON, MSGPACK, decode, decode_json
from protocol.wire import AccountLog, Page, Rooms
from tests.helpers.fuzz import fuzzing
from tests.node.blobs import upload
from tests.node.phone import Phone


async def ask(
    device: Phone, path: str, accept: str, coding: str | None, query: str = ""
) -> tuple[Mapping[str, str], bytes]:
    """The fields and the body as it is on the wire."""
    headers = device.headers("GET", path, query) | {"Accept": accept}
    headers |= {} if coding is None else {"Accept-Encoding": coding}
    skip = ["Accept-Encoding"] if coding is None else []
    async with (
        ClientSession(auto_decompress=False, skip_auto_headers=skip) as http,
        http.get(
            f"{device.base}{path}" + (f"?{query}" if query else ""), headers=headers
        ) as answer,
    ):
        return answer.headers, await answer.read()


async def test_lists_of_rooms_shrink(alice: Phone) -> None:
    for _ in range(40):
        await alice.create_room()
    path = "/telex/v1/rooms"
    fields, plain = await ask(alice, path, MSGPACK, None)
    assert "Content-Encoding" not in fields and fields["Vary"] == "Accept-Encoding"
    assert len(decode(plain, Rooms).rooms) == 40
    fields, small = await ask(alice, path, MSGPACK, "gzip, deflate")
    assert fields["Content-Encoding"] == "gzip"
    assert gzip.decompress(small) == plain and len(small) < 0.7 * len(plain)
    fields, small = await ask(alice, path, JSON, "deflate")
    assert fields["Content-Encoding"] == "deflate"
    assert len(decode_json(zlib.decompress(small), Rooms).rooms) == 40
    for refused in ("gzip;q=0", "br", "identity", "gzip;q=0, deflate;q=0"):
        fields, found = await ask(alice, path, MSGPACK, refused)
        assert "Content-Encoding" not in fields and found == plain


async def test_account_logs_shrink(alice: Phone) -> None:
    path = f"/telex/v1/accounts/{alice.account}/log"
    fields, _ = await ask(alice, path, MSGPACK, "gzip")
    assert "Content-Encoding" not in fields  # less than a kilobyte
    for _ in range(8):
        alice.person.device()
        await alice.append_log(alice.person.log[-1])
    fields, found = await ask(alice, path, MSGPACK, "gzip")
    assert fields["Content-Encoding"] == "gzip"
    assert decode(gzip.decompress(found), AccountLog).entries == alice.person.log


async def test_ciphertext_goes_as_it_is(alice: Phone) -> None:
    room = await alice.create_room()
    for _ in range(8):
        await alice.submit(alice.message(room, bytes(200)))
    path = f"/telex/v1/logs/{room.id}/entries"
    fields, found = await ask(alice, path, MSGPACK, "gzip", "after=0")
    assert "Content-Encoding" not in fields
    page = decode(found, Page)
    fields, found = await ask(alice, path, JSON, "gzip", "after=0")
    assert fields["Content-Encoding"] == "gzip"
    assert decode_json(gzip.decompress(found), Page) == page


async def test_names_that_are_secrets_are_not_compressed(alice: Phone) -> None:
    for n in range(16):
        await upload(alice, bytes([n]))
    for accept in (JSON, MSGPACK):
        fields, found = await ask(alice, "/telex/v1/blobs", accept, "gzip")
        assert "Content-Encoding" not in fields and len(found) > 1024


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("GZIP", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("deflate;q=0.5, gzip;q=0.5", "deflate"),
        ("gzip; q = 0", None),
        ("gzip;q=x", None),
        ("gzip;q=2", None),
        ("gzip;q=nan", None),
        ("gzipped", None),
        ("*", None),
    ],
)
def test_the_coding_is_what_the_asker_likes(header: str, coding: str | None) -> None:
    found = choose_coding(header)
    assert (None if found is None else found.value) == coding


@pytest.mark.fuzz
@fuzzing
@given(st.one_of(st.text(), st.text(alphabet="gzipdeflate;q=,. 019*-+")))
def test_every_header_is_read(header: str) -> None:
    found = choose_coding(header)
    assert found is None or found.value in header.lower()
