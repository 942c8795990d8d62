"""People who call each other, for tests: clients on two real nodes, and their media."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from client import Call, CallChanged, Client, Message
from protocol.log import LogId
from tests.client.fake_media import Air, FakeMedia
from tests.client.people import PASSWORD, online, room_of, until
from tests.client.real_node import RealNode

__all__ = ["Caller", "Town"]


@dataclass
class Caller:
    """A device of somebody, its media, and every state its calls went through."""

    client: Client
    media: FakeMedia
    seen: list[Call] = field(default_factory=list)
    words: str = ""

    @classmethod
    async def of(cls, client: Client, air: Air, words: str = "") -> Caller:
        """Equip a client that runs."""
        media = FakeMedia(air)
        client.calls.make_media = lambda: media
        caller = cls(client, media, words=words)
        watching = asyncio.create_task(caller._watch())
        watching.add_done_callback(lambda _: None)
        caller._task = watching
        return caller

    _task: asyncio.Task[None] | None = None

    @property
    def account(self) -> str:
        """Whose device it is."""
        return self.client.account

    @property
    def now(self) -> Call | None:
        """The call that rings or runs."""
        calls = self.client.calls.calls
        return calls[0] if calls else None

    @property
    def states(self) -> list[str]:
        """What its calls went through, each state once."""
        found: list[str] = []
        for call in self.seen:
            state = call.end or call.state
            if not found or found[-1] != state:
                found.append(state)
        return found

    async def sees(self, state: str) -> Call:
        """Wait for a call in this state, or that ended like this."""
        good: Callable[[Call], bool] = lambda c: (c.end or c.state) == state  # noqa: E731

        async def look() -> list[Call]:
            return [call for call in self.seen[-1:] if good(call)]

        try:
            return (await until(look))[0]
        except AssertionError:
            raise AssertionError(f"no {state} after {self.states}") from None

    async def answers(self) -> None:
        """Take what rings."""
        await self.client.calls.answer((await self.sees("incoming")).id)

    async def hangs_up(self) -> None:
        """End the call."""
        assert self.now is not None
        await self.client.calls.hang_up(self.now.id)

    async def sent(self) -> None:
        """Wait until its call stands in the log."""
        (call,) = self.client.calls._machine.calls.values()
        await until(lambda: asyncio.sleep(0, call.read))

    async def lines(self, room: LogId) -> list[Message]:
        """What the timeline says of calls."""
        messages = await self.client.messages(room)
        return [m for m in messages if m.code.startswith("call_")]

    async def line(self, room: LogId) -> Message:
        """The one line about a call, once it is there."""
        found = await until(partial(self.lines, room))
        assert len(found) == 1, [m.text for m in found]
        return found[0]

    async def _watch(self) -> None:
        async for event in self.client.events():
            if isinstance(event, CallChanged):
                self.seen.append(event.call)


@dataclass
class Town:
    """Two nodes, and who lives there."""

    nodes: list[RealNode]
    folder: Path
    stack: AsyncExitStack
    air: Air = field(default_factory=Air)

    async def settle(self, name: str, node: int) -> Caller:
        """Somebody new."""
        unique = f"{name}-{self.folder.name.replace('_', '-')[-20:]}".strip("-")
        client, words = await Client.register(
            self.nodes[node].profile(self.folder / name),
            f"{unique}@{self.nodes[node].name}",
            invite="",
            password=PASSWORD,
        )
        await self.stack.enter_async_context(client)
        return await Caller.of(await online(client), self.air, " ".join(words))

    async def second(self, first: Caller, node: int, room: LogId) -> Caller:
        """Another device of somebody, in the room already."""
        client = await Client.login(
            self.nodes[node].profile(self.folder / "second"),
            first.account,
            password=PASSWORD,
            phrase=first.words,
        )
        await self.stack.enter_async_context(client)
        await online(client)
        await until(
            partial(room_of, client, room), lambda r: r is not None and r.active
        )
        return await Caller.of(client, self.air)

    async def reopen(self, caller: Caller) -> Caller:
        """The same device, started again."""
        profile = caller.client.profile
        client = await Client.open(profile, password=PASSWORD)
        media = FakeMedia(self.air)
        client.calls.make_media = lambda: media
        await self.stack.enter_async_context(client)
        return await Caller.of(await online(client), self.air)

    async def pair(self) -> tuple[Caller, Caller, LogId]:
        """Alice on the first node, Bob on the second, and their chat."""
        alice, bob = await asyncio.gather(
            self.settle("alice", 0), self.settle("bob", 1)
        )
        room = (await alice.client.start_direct(bob.account)).id
        await until(partial(room_of, bob.client, room))
        return alice, bob, room
