"""Verification between people of two real nodes, with everything that these check."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from client import Client
from client.model import Trust
from tests.client.people import online, room_of, texts, until
from tests.client.real_node import RealNode
from tests.client.test_real_node import Enter, enter
from tests.client.test_sas import ended, live

pytestmark = pytest.mark.system

__all__ = ["enter"]


async def test_two_people_of_two_nodes_verify_each_other(
    nodes: list[RealNode], enter: Enter, tmp_path: Path
) -> None:
    alice = await enter(nodes[0], "alice")
    bob = await enter(nodes[1], "bob")
    room = await alice.start_direct(bob.account)
    garden = await alice.create_group("Garden", [bob.account])
    for each in (room, garden):
        await until(partial(room_of, bob, each.id))
    shown = await bob.verification.fingerprint(alice.account)
    assert await alice.verification.check_uri(bob.account, shown.uri)
    # A rule that a real hub checks, before anybody is verified.
    await alice.set_refuse_unverified(garden.id, True)
    await until(partial(room_of, bob, garden.id), lambda r: r and r.refuse_unverified)
    await bob.send_text(garden.id, "once I know you")
    id = await alice.verification.start_sas(bob.account)
    await bob.verification.accept((await live(bob, "asked")).id)
    left, right = await live(alice, "compare"), await live(bob, "compare")
    assert left.emoji == right.emoji and left.digits == right.digits
    await alice.verification.agree(id)
    await bob.verification.agree(right.id)
    for client, one in ((alice, id), (bob, right.id)):
        assert (await ended(client, one)).stage == "done"
    await until(partial(texts, alice, garden.id), lambda t: t == ["once I know you"])
    for client in (alice, bob):
        for each in (room, garden):
            found = await room_of(client, each.id)
            assert found is not None and found.trust is Trust.VERIFIED
        await _nothing_to_say(client)


async def _nothing_to_say(client: Client) -> None:
    """Both nodes answer everything that is asked of them, and it fits."""
    await online(client)
    await client._audit.settle()
    assert await client.alarms() == []
    rows = await client._store.run(
        lambda tx: tx.all("SELECT kind, tries FROM audit ORDER BY kind")
    )
    assert {kind for kind, _ in rows} == {"account", "roster"}
    assert {tries for _, tries in rows} == {0}
