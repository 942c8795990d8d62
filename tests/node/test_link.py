"""Links: two devices meet under a secret name, once, for ten minutes."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.accounts import link as links
from node.accounts.link import Links, parse_link
from node.app import Node
from node.storage.schema import migrate
from node.storage.store import Store
from protocol.codec import MSGPACK, decode, decode_json, encode
from protocol.errors import (
    BadRequest,
    DeviceRevoked,
    LinkPending,
    LinkTaken,
    NodeBusy,
    Problem,
    TooLarge,
    TooMany,
    UnknownLink,
    refusal,
)
from protocol.limits import LINK_MAX, LINK_SECONDS
from protocol.wire import Empty, LinkSlot
from tests.helpers.fuzz import fuzzing
from tests.node.phone import Phone, further_phone, revocation

LINK = "ab" * 16
OFFER, ANSWER = f"/telex/v1/links/{LINK}/offer", f"/telex/v1/links/{LINK}/answer"


async def unsigned(
    device: Phone, method: str, path: str, data: bytes | None = None, query: str = ""
) -> LinkSlot:
    """A request without a signature."""
    body = b"" if data is None else encode(LinkSlot(data))
    headers = {"Content-Type": MSGPACK} if body else {}
    status, _, content = await device.send(
        method, path, body, query=query, headers=headers
    )
    if status != 200:
        raise refusal(decode_json(content, Problem))
    return decode(content, LinkSlot) if method == "GET" else LinkSlot(b"")


async def test_two_devices_meet(alice: Phone, bob: Phone) -> None:
    await unsigned(bob, "PUT", OFFER, b"offer")
    waiting = asyncio.create_task(unsigned(bob, "GET", ANSWER, query="timeout=25"))
    found = await alice.call("GET", OFFER, None, LinkSlot)
    assert found.data == b"offer"
    for _ in range(2):  # the answer to the answer was lost
        await alice.call("PUT", ANSWER, LinkSlot(b"answer"), Empty)
    assert (await waiting).data == b"answer"
    assert (await unsigned(bob, "GET", ANSWER)).data == b"answer"


async def test_nothing_is_written_twice(alice: Phone) -> None:
    for _ in range(2):
        await unsigned(alice, "PUT", OFFER, b"offer")
    with pytest.raises(LinkTaken):
        await unsigned(alice, "PUT", OFFER, b"other")
    await alice.call("PUT", ANSWER, LinkSlot(b"answer"), Empty)
    with pytest.raises(LinkTaken):
        await alice.call("PUT", ANSWER, LinkSlot(b"other"), Empty)
    assert (await alice.call("GET", OFFER, None, LinkSlot)).data == b"offer"
    assert (await unsigned(alice, "GET", ANSWER)).data == b"answer"


async def test_what_is_not_there(alice: Phone) -> None:
    with pytest.raises(UnknownLink):
        await alice.call("GET", OFFER, None, LinkSlot)
    with pytest.raises(UnknownLink):
        await alice.call("PUT", ANSWER, LinkSlot(b"x"), Empty)
    with pytest.raises(UnknownLink):
        await unsigned(alice, "GET", ANSWER, query="timeout=25")
    await unsigned(alice, "PUT", OFFER, b"offer")
    with pytest.raises(LinkPending):
        await unsigned(alice, "GET", ANSWER)
    for data in (b"", bytes(LINK_MAX + 1)):
        with pytest.raises((BadRequest, TooLarge)):
            await unsigned(alice, "PUT", OFFER.replace("ab", "cd"), data)
        with pytest.raises((BadRequest, TooLarge)):
            await alice.call("PUT", ANSWER, LinkSlot(data), Empty)
    for name in ("AB" * 16, "ab" * 15, "ab" * 17, "zz" * 16, "a%2Fb" * 4):
        with pytest.raises(BadRequest):
            await unsigned(alice, "PUT", f"/telex/v1/links/{name}/offer", b"x")


async def test_only_devices_of_the_node_see_offers_and_answer(
    node: Node, alice: Phone
) -> None:
    await unsigned(alice, "PUT", OFFER, b"offer")
    for method, path, data in (("GET", OFFER, None), ("PUT", ANSWER, b"false")):
        with pytest.raises(Exception) as caught:
            await unsigned(alice, method, path, data)
        assert getattr(caught.value, "code", "") == "signature_missing"
    async with further_phone(node, alice) as second:
        await alice.append_log(revocation(alice, second))
        with pytest.raises(DeviceRevoked):
            await second.call("GET", OFFER, None, LinkSlot)
        with pytest.raises(DeviceRevoked):
            await second.call("PUT", ANSWER, LinkSlot(b"x"), Empty)
    with pytest.raises(LinkPending):
        await unsigned(alice, "GET", ANSWER)


# --- the service alone ---------------------------------------------------------------


class Meeting:
    """Links on a database that can be closed and opened."""

    def __init__(self, path: Path) -> None:
        self.now = time.time()
        self.path = path
        migrate(path)

    async def open(self) -> Links:
        self.store = Store(self.path, on_events=lambda _: None)
        await self.store.start()
        self.links = Links(self.store, lambda: self.now)
        return self.links

    async def close(self) -> None:
        self.links.stop()
        await self.store.stop()


@pytest.fixture
async def meeting(tmp_path: Path) -> AsyncIterator[Meeting]:
    found = Meeting(tmp_path / "node.db")
    await found.open()
    yield found
    await found.close()


async def test_a_link_survives_a_restart(meeting: Meeting) -> None:
    await meeting.links.offer(LINK, b"offer", "here")
    await meeting.close()
    again = await meeting.open()
    assert await again.get_offer(LINK) == b"offer"
    await again.answer(LINK, b"answer")
    await meeting.close()
    assert await (await meeting.open()).wait_answer(LINK, 0) == b"answer"


async def test_a_link_ends_after_ten_minutes(meeting: Meeting) -> None:
    links = meeting.links
    await links.offer(LINK, b"offer", "here")
    meeting.now += LINK_SECONDS - 1
    assert await links.get_offer(LINK) == b"offer"
    meeting.now += 2
    with pytest.raises(UnknownLink):
        await links.get_offer(LINK)
    with pytest.raises(UnknownLink):
        await links.answer(LINK, b"answer")
    with pytest.raises(UnknownLink):
        await links.wait_answer(LINK, 25)
    # Its name may be used again, and what has expired is forgotten.
    await links.offer(LINK, b"another", "here")
    meeting.now += LINK_SECONDS + 1
    await links.prune()
    rows = await meeting.store.read(
        lambda c: c.exec_driver_sql("SELECT count(*) FROM link").scalar()
    )
    assert rows == 0


async def test_offers_are_limited_by_address_and_in_all(
    meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(int(links.OFFERS_BURST)):
        await meeting.links.offer(f"{n:032x}", b"x", "one address")
    with pytest.raises(TooMany) as caught:
        await meeting.links.offer(LINK, b"x", "one address")
    assert caught.value.retry_after
    monkeypatch.setattr(links, "LINKS_MAX", int(links.OFFERS_BURST))
    with pytest.raises(NodeBusy):
        await meeting.links.offer(LINK, b"x", "another address")
    meeting.now += LINK_SECONDS + 1  # the others expire: there is room again
    await meeting.links.offer(LINK, b"x", "another address")


async def test_who_waits_holds_neither_thread_nor_transaction(
    meeting: Meeting,
) -> None:
    names = [f"{n:032x}" for n in range(15)]
    for name in names:
        await meeting.links.offer(name, b"offer", name)
    waiting = [
        asyncio.create_task(meeting.links.wait_answer(name, 25)) for name in names
    ]
    # More wait than there are threads, and others read and write all the same.
    for name in reversed(names):
        await meeting.links.answer(name, name.encode())
    assert await asyncio.gather(*waiting) == [name.encode() for name in names]


async def test_few_wait_for_one_answer(meeting: Meeting) -> None:
    await meeting.links.offer(LINK, b"offer", "here")
    waiting = [
        asyncio.create_task(meeting.links.wait_answer(LINK, 25))
        for _ in range(links.WAITING_PER_LINK)
    ]
    await asyncio.sleep(0)
    with pytest.raises(TooMany):
        await meeting.links.wait_answer(LINK, 25)
    await meeting.links.answer(LINK, b"answer")
    assert await asyncio.gather(*waiting) == [b"answer"] * len(waiting)


async def test_who_waits_is_let_go_when_the_node_stops(meeting: Meeting) -> None:
    await meeting.links.offer(LINK, b"offer", "here")
    waiting = asyncio.create_task(meeting.links.wait_answer(LINK, 25))
    await asyncio.sleep(0)
    meeting.links.stop()
    with pytest.raises(LinkPending):
        await waiting


async def test_one_ipv6_site_does_not_fill_the_node(meeting: Meeting) -> None:
    taken = 0
    for net in range(400):
        for n in range(5):
            try:
                await meeting.links.offer(
                    f"{net:016x}{n:016x}", b"x", f"2001:db8:1:{net:x}::/64"
                )
                taken += 1
            except TooMany:
                break
    assert taken == links.SITE * links.OFFERS_BURST < links.LINKS_MAX / 10
    await meeting.links.offer(LINK, b"x", "2001:db8:2:1::/64")
    await meeting.links.offer("cd" * 16, b"x", "192.0.2.7")


@pytest.mark.fuzz
@fuzzing
@given(st.text(max_size=64))
def test_only_ids_of_hex_digits_pass(text: str) -> None:
    try:
        parse_link(text)
    except BadRequest:
        return
    assert len(text) == 32 and set(text) <= set("0123456789abcdef")
