"""Registers that one of our own devices poisoned, or an archive that it wrote."""

from __future__ import annotations

from functools import partial

from client import Client
from client.archive.record import read_records
from client.content import Body
from client.content.own import AHEAD, Entry, Registers, latest
from client.storage.store import Tx
from protocol.codec import encode
from protocol.log import LogId
from tests.client.conftest import Join
from tests.client.home import Home, at_once, home, running
from tests.client.own_devices import hidden, register_of
from tests.client.people import (
    until,
)
from tests.client.test_segment import records

__all__ = ["at_once", "home"]


async def queue(client: Client, room: LogId, body: Body) -> None:
    """Write a content that the program itself would not."""
    await client._store.run(lambda tx: client._letters.queue(tx, room, body))
    client._workers.poke(room)


async def test_a_time_that_has_not_come_wins_over_nothing(home: Home) -> None:
    laptop = home.laptop
    async with running(await home.link("phone")) as phone:
        ((own, _),) = await until(
            partial(hidden, phone), lambda h: h and h[0][1] == "active"
        )
        now = phone._clock.now_ms()
        bad = [
            Entry("mute", "x", b"poison", 1 << 62),
            Entry("mute", "y", b"poison", now + 2 * AHEAD),
            Entry("", "z", b"poison", now),
            Entry("mute", "fine", b"1", now),
        ]
        await queue(phone, own, Registers(bad))
        await until(partial(register_of, laptop, "mute", "fine"))
        for register, key in (("mute", "x"), ("mute", "y"), ("", "z")):
            assert await register_of(laptop, register, key) == b""

        def both(tx: Tx) -> None:
            laptop.self_group.set(tx, "mute", "x", b"2")
            laptop.self_group.set(tx, "mute", "important", b"yes")

        await laptop._store.run(both)
        await until(partial(register_of, phone, "mute", "important"))
        assert await register_of(phone, "mute", "x") == b"2"


async def test_what_we_set_is_never_later_than_the_others_believe(join: Join) -> None:
    """A poisoned value that was kept by an older version can be changed again."""
    alice = await join("alice")

    def change(tx: Tx) -> int:
        tx.execute(
            "INSERT INTO own_register VALUES ('mute', 'x', x'31', ?, 0)", (1 << 53) - 1
        )
        alice.self_group.set(tx, "mute", "x", b"2")
        row = tx.one("SELECT time FROM own_register WHERE key = 'x'")
        assert row is not None
        return int(row[0])

    assert await alice._store.run(change) <= latest(alice._clock.now_ms())


async def test_a_value_that_its_feature_refuses_takes_no_other_with_it(
    join: Join,
) -> None:
    alice = await join("alice")

    def refuse(tx: Tx, key: str, value: bytes) -> None:
        raise ValueError(key)

    alice.self_group.on("bad", refuse)
    entries = [Entry("bad", "x", b"1", 5), Entry("mute", "x", b"1", 5)]
    await alice._store.run(lambda tx: alice.self_group.adopt(tx, entries))
    assert await register_of(alice, "bad", "x") == b""
    assert await register_of(alice, "mute", "x") == b"1"


async def test_an_archive_with_a_poisoned_value_is_read_without_it(
    join: Join,
) -> None:
    alice = await join("alice")
    entries = [("mute", "x", b"poison", (1 << 53) - 1), ("mute", "y", b"1", 5)]
    found = read_records(encode(records(registers=entries))).registers
    await alice._store.run(lambda tx: alice.self_group.adopt(tx, found))
    assert await register_of(alice, "mute", "x") == b""
    assert await register_of(alice, "mute", "y") == b"1"
