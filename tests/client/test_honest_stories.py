"""And no alarm where nobody lies: long honest stories raise nothing at all."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import Client
from client.errors import ClientError
from client.storage.store import Tx
from protocol.errors import Refused
from protocol.log import LogId
from tests.client.fake_node import NAME, FakeNode, running
from tests.client.lies import at_once, log_in, looked
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    PASSWORD,
    online,
    opened,
    profile,
    room_of,
    until,
)
from tests.helpers.fuzz import LONG

__all__ = ["at_once"]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 2)),
        st.tuples(st.just("rename"), st.integers(0, 2)),
        st.tuples(st.just("verify"), st.integers(0, 2)),
        st.tuples(st.just("device"), st.just(1)),
        st.tuples(st.just("remove"), st.just(2)),
        st.tuples(st.just("add"), st.just(2)),
        st.tuples(st.just("leave"), st.just(2)),
        st.tuples(st.just("restart"), st.integers(0, 2)),
        st.tuples(st.just("rules"), st.integers(0, 1)),
        st.tuples(st.just("look"), st.integers(0, 2)),
        st.tuples(st.just("compare"), st.integers(1, 2)),
    ),
    min_size=4,
    max_size=14,
)


@settings(
    max_examples=60 if LONG else 5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(story=steps)
def test_honest_stories_raise_no_alarm(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, int]]
) -> None:
    asyncio.run(live_through(tmp_path_factory.mktemp("story"), story))


async def live_through(folder: Path, story: list[tuple[str, int]]) -> None:
    """Live a story with three people, then let everybody look at everything."""
    async with running() as fake, AsyncExitStack() as stack:
        people: list[Client] = []
        words: list[str] = []
        for name in ("alice", "bob", "carol"):
            client, phrase = await Client.register(
                profile(folder, name, fake.url),
                f"{name}@{NAME}",
                invite="",
                password=PASSWORD,
            )
            await stack.enter_async_context(client)
            people.append(await online(client))
            words.append(" ".join(phrase))
        room = (await people[0].create_group("Garden", [BOB, CAROL])).id
        for client in people[1:]:
            await until(partial(room_of, client, room))
        more: list[Client] = []
        for what, who in story:
            try:
                await act(fake, folder, people, words, more, stack, room, what, who)
            except (ClientError, Refused):
                continue  # refused to their faces, as it should be
        await asyncio.gather(*(until(partial(quiet, c)) for c in [*people, *more]))
        for client in [*people, *more]:
            # Who logs in with the words is told to the other device: no alarm more.
            told = [a.code for a in await looked(client)]
            bob = more and client is people[1]
            assert told == ["recovered"] * bool(bob), story
            # And everything could be looked at.
            assert await client._store.run(_failed) == [], story


def _failed(tx: Tx) -> list[object]:
    return list(tx.all("SELECT kind, subject FROM audit WHERE tries > 0"))


async def act(
    fake: FakeNode,
    folder: Path,
    people: list[Client],
    words: list[str],
    more: list[Client],
    stack: AsyncExitStack,
    room: LogId,
    what: str,
    who: int,
) -> None:
    """One step of a story."""
    client = people[who]
    other = people[(who + 1) % 3].account
    match what:
        case "say":
            await client.send_text(room, "words")
        case "rename":
            await client.rename(room, "Orchard")
        case "verify":
            await client.verification.confirm(other)
        case "device" if not more:
            phone = await log_in(fake, folder, "bob", words[1])
            more.append(await stack.enter_async_context(phone))
        case "remove":
            await people[0].remove_member(room, client.account)
        case "add":
            await people[0].add_members(room, [client.account])
        case "leave":
            await client.leave(room)
        case "rules":
            await people[0].set_refuse_unverified(room, bool(who))
        case "compare":
            await client.verification.start_sas(ALICE)
        case "look":
            await client._audit.settle()
        case "restart":
            await client.close()
            name = client.account.partition("@")[0]
            people[who] = await stack.enter_async_context(
                opened(folder, name, fake.url)
            )


async def quiet(client: Client) -> bool:
    """Whether nothing is on its way from a client (what is held may stay)."""
    await online(client)
    rows = await client._store.run(
        lambda tx: tx.all("SELECT 1 FROM staged UNION SELECT 1 FROM welcome")
    )
    return not rows
