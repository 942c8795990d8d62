"""Two people compare short strings: steps, races, lies, several devices."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Client, Room
from client.content import Body, verifying
from client.content.envelope import read_content, write_content
from client.errors import SasRefused
from client.model import Sas, Trust
from client.rooms.letters import Arrival
from client.rooms.notices import Lines
from client.storage.store import Tx
from client.verification import comparison, steps
from client.verification import sas as sas_module
from client.verification.trust import Known, known, trust_of
from protocol.errors import Malformed
from protocol.fingerprint import EMOJI, sas_public
from protocol.log import Entry, Kind, Submission
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.people import ALICE, BOB, chat, opened, room_of, until
from tests.helpers.fuzz import fuzzing


async def live(client: Client, stage: str) -> Sas:
    """Wait for the one comparison of a client to be at a stage."""
    found = await until(
        client.verification.comparisons, lambda s: [c.stage for c in s] == [stage]
    )
    return found[0]


async def ended(client: Client, id: str) -> Sas:
    """Wait for a comparison to end."""

    def over(sas: Sas | None) -> bool:
        return sas is not None and sas.stage in ("done", "refused", "failed")

    sas = await until(lambda: client.verification.sas(id), over)
    assert sas is not None
    return sas


async def trust(client: Client, room: Room) -> Trust:
    """How a client's list shows a room."""
    found = await room_of(client, room.id)
    assert found is not None
    return found.trust


async def compared(alice: Client, bob: Client) -> tuple[Sas, Sas]:
    """Alice asks, Bob takes part, both see strings."""
    await alice.verification.start_sas(BOB)
    await bob.verification.accept((await live(bob, "asked")).id)
    return await live(alice, "compare"), await live(bob, "compare")


async def test_two_who_agree_are_verified_to_each_other(join: Join) -> None:
    alice, bob, room = await chat(join)
    left, right = await compared(alice, bob)
    assert (left.emoji, left.digits) == (right.emoji, right.digits)
    assert len(left.emoji) == 7
    assert set(left.emoji) <= {(e.symbol, e.english) for e in EMOJI}
    assert [len(group) for group in left.digits.split()] == [4, 4, 4]
    await alice.verification.agree(left.id)
    assert (await live(alice, "agreed")).id == left.id
    # One of the two alone verifies nobody.
    assert await trust(alice, room) is await trust(bob, room) is Trust.UNVERIFIED
    await bob.verification.agree(right.id)
    for client, id in ((alice, left.id), (bob, right.id)):
        assert (await ended(client, id)).stage == "done"
        assert await trust(client, room) is Trust.VERIFIED
        (member,) = [m for m in await client.members(room.id) if not m.own]
        assert member.trust is Trust.VERIFIED
        assert await client.alarms() == []
    kept = await alice._store.run(lambda tx: tx.all("SELECT private FROM sas"))
    assert [bytes(row[0] or b"") for row in kept] == [b""]


async def test_strings_that_differ_are_loud_on_both_sides(join: Join) -> None:
    alice, bob, room = await chat(join)
    await alice.verification.confirm(BOB)
    left, right = await compared(alice, bob)
    await alice.verification.agree(left.id)
    await bob.verification.refuse(right.id)
    for client, id in ((alice, left.id), (bob, right.id)):
        sas = await ended(client, id)
        assert (sas.stage, sas.code) == ("failed", "mismatch")
        (alarm,) = await client.alarms()
        assert alarm.code == "sas_mismatch" and alarm.room == room.id
        assert await trust(client, room) is Trust.UNVERIFIED


async def test_who_declines_ends_it_quietly(join: Join) -> None:
    alice, bob, _ = await chat(join)
    id = await alice.verification.start_sas(BOB)
    await bob.verification.refuse((await live(bob, "asked")).id)
    sas = await ended(alice, id)
    assert (sas.stage, sas.code) == ("refused", "declined")
    assert await alice.alarms() == await bob.alarms() == []
    with pytest.raises(SasRefused):
        await alice.verification.agree(id)


async def test_a_reveal_that_was_not_promised_is_caught(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stands between saw Bob's key and now shows another one than committed to."""
    alice, bob, room = await chat(join)
    id = await alice.verification.start_sas(BOB)
    asked = await live(bob, "asked")
    reveal = verifying.SasReveal

    def forged(session: bytes, key: bytes) -> verifying.SasReveal:
        return reveal(session, sas_public(os.urandom(32)))

    monkeypatch.setattr(sas_module, "SasReveal", forged)
    await bob.verification.accept(asked.id)
    sas = await ended(bob, asked.id)
    assert (sas.stage, sas.code) == ("failed", "tampered") and sas.emoji == []
    (alarm,) = await bob.alarms()
    assert alarm.code == "sas_mismatch" and ALICE in alarm.text
    assert alarm.room == room.id
    assert (await ended(alice, id)).stage == "failed"


async def test_somebody_between_two_people_shows_in_the_strings(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alice believes in another root of Bob than he has: the strings differ."""
    alice, bob, _ = await chat(join)
    other = os.urandom(32)

    # Not in her database: her look at his account log would find the true one.
    def believed(tx: Tx, account: str) -> Known | None:
        found = known(tx, account)
        return found._replace(root=other) if found and account == BOB else found

    monkeypatch.setattr(sas_module, "known", believed)
    left, right = await compared(alice, bob)
    assert left.emoji != right.emoji and left.digits != right.digits


async def test_both_who_begin_at_once_share_one(join: Join) -> None:
    alice, bob, room = await chat(join)
    first, second = await asyncio.gather(
        alice.verification.start_sas(BOB), bob.verification.start_sas(ALICE)
    )
    left, right = await live(alice, "compare"), await live(bob, "compare")
    assert (left.id, right.id) == (first, second)
    assert left.emoji == right.emoji
    await asyncio.gather(
        alice.verification.agree(first), bob.verification.agree(second)
    )
    assert (await ended(alice, first)).stage == "done"
    assert (await ended(bob, second)).stage == "done"
    assert await trust(alice, room) is Trust.VERIFIED


async def test_starting_where_the_other_has_asked_takes_part(join: Join) -> None:
    alice, bob, _ = await chat(join)
    await alice.verification.start_sas(BOB)
    asked = await live(bob, "asked")
    assert await bob.verification.start_sas(ALICE) == asked.id
    assert (await live(alice, "compare")).emoji == (await live(bob, "compare")).emoji


async def test_a_comparison_survives_a_restart(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice, bob, room = await chat(join)
    await alice.verification.start_sas(BOB)
    asked = await live(bob, "asked")
    await bob.close()
    async with opened(tmp_path, "bob", fake.url) as again:
        assert (await live(again, "asked")).id == asked.id
        await again.verification.accept(asked.id)
        left, right = await live(alice, "compare"), await live(again, "compare")
        assert left.emoji == right.emoji
        await alice.verification.agree(left.id)
        await again.verification.agree(right.id)
        assert (await ended(again, asked.id)).stage == "done"
        assert await trust(again, room) is Trust.VERIFIED


async def test_what_takes_too_long_ends(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, _ = await chat(join)
    id = await alice.verification.start_sas(BOB)
    asked = await live(bob, "asked")
    for client in (alice, bob):
        client._clock.offset += 601
        await client._store.run(client.verification._comparisons.expire)
    for client, one in ((alice, id), (bob, asked.id)):
        sas = await ended(client, one)
        assert (sas.stage, sas.code) == ("failed", "timeout")
        assert await client.alarms() == []
    with pytest.raises(SasRefused):
        await bob.verification.accept(asked.id)


async def test_three_failed_tries_are_followed_by_a_pause(join: Join) -> None:
    alice, bob, _ = await chat(join)
    for _ in range(steps.TRIES):
        left, right = await compared(alice, bob)
        await alice.verification.refuse(left.id)
        await ended(bob, right.id)
    for client, other in ((alice, BOB), (bob, ALICE)):
        with pytest.raises(SasRefused, match="wait an hour"):
            await client.verification.start_sas(other)
    # Whoever asks all the same is told so by the other one's device.
    await alice._store.run(lambda tx: tx.execute("DELETE FROM sas"))
    id = await alice.verification.start_sas(BOB)
    assert (await ended(alice, id)).code == "paused"
    # The hour passes.
    for client in (alice, bob):
        client._clock.offset += 3601
        since = client._clock.now_ms() - steps.PAUSE
        for other in (ALICE, BOB):
            tries = partial(comparison.failures, account=other, since=since)
            assert await client._store.run(tries) == 0


@pytest.mark.fuzz
async def test_no_order_of_steps_verifies_without_the_person(join: Join) -> None:
    """Whatever a hostile device sends, in whatever order: Alice decides."""
    alice, bob, room = await chat(join)
    id = await alice.verification.start_sas(BOB)
    await until(partial(_begun, alice))
    row = await alice._store.run(lambda tx: comparison.select(tx, "id = ?", id)[0])
    comparisons = alice.verification._comparisons
    store = alice._store
    await alice._stop()
    sessions = st.sampled_from([row.session, bytes(16)])
    keys = st.sampled_from([sas_public(b"x" * 32), bytes(32), b"\xff" * 32])
    codes = st.sampled_from([*verifying.END_CODES, "other"])
    bodies = st.lists(
        st.one_of(
            st.builds(verifying.SasAsk, sessions, keys),
            st.builds(verifying.SasAccept, sessions, keys),
            st.builds(verifying.SasReveal, sessions, keys),
            st.builds(verifying.SasAgree, sessions),
            st.builds(verifying.SasEnd, sessions, codes),
        ),
        max_size=8,
    )
    handlers: dict[object, Callable[[Tx, Any, Arrival], None]] = {
        verifying.SasAsk: comparisons._asked,
        verifying.SasAccept: comparisons._accepted,
        verifying.SasReveal: comparisons._revealed,
        verifying.SasAgree: comparisons._agreed,
        verifying.SasEnd: comparisons._ended,
    }
    devices = st.sampled_from([bob.device, f"{BOB}/{'a' * 16}", f"{ALICE}/{'b' * 16}"])

    @fuzzing
    @given(bodies, devices)
    def hostile(sent: list[Body], device: str) -> None:
        def play(tx: Tx) -> None:
            for n, body in enumerate(sent, 100):
                entry = Entry(n, 1, alice._clock.now_ms(), b"")
                submission = Submission(
                    1, room.id, device, bytes(16), Kind.MESSAGE, b""
                )
                lines = Lines(tx, room.id, entry, first=1)
                arrival = Arrival(room.id, entry, submission, lines, {})
                handlers[type(body)](tx, body, arrival)
            assert trust_of(tx, BOB) is Trust.UNVERIFIED
            assert all(s.stage != "done" for s in comparisons.live(tx))
            raise ZeroDivisionError  # taken back, so that each example is alone

        with pytest.raises(ZeroDivisionError):
            store._transact(play)

    await asyncio.to_thread(hostile)


async def _begun(client: Client) -> bool:
    rows = await client._store.run(
        lambda tx: tx.all("SELECT 1 FROM sas WHERE seq IS NOT NULL")
    )
    return bool(rows)


async def test_contents_of_comparisons_keep_their_bounds() -> None:
    for body in (
        verifying.SasAsk(bytes(15), bytes(32)),
        verifying.SasAsk(bytes(16), bytes(31)),
        verifying.SasAccept(bytes(16), bytes(33)),
        verifying.SasReveal(b"", bytes(32)),
        verifying.SasAgree(bytes(17)),
        verifying.SasEnd(bytes(16), ""),
        verifying.SasEnd(bytes(16), "x" * 17),
        verifying.SasEnd(bytes(16), "ü"),
    ):
        with pytest.raises(Malformed):
            read_content(write_content(bytes(16), 0, bytes(32), body))
    good = verifying.SasEnd(bytes(16), "later")
    assert read_content(write_content(bytes(16), 0, bytes(32), good)).body == good
