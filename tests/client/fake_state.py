"""What the parts of the fake node share: its name, its state, how it answers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web

from e2ee import PublicGroup
from protocol.codec import MSGPACK, decode, encode, encode_json
from protocol.errors import Refused
from protocol.log import GENESIS, LogId

NAME = "fake.test"
T = TypeVar("T")


@dataclass
class Log:
    """One log: its entries and hashes."""

    entries: list[bytes] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=lambda: [GENESIS])
    seen: dict[bytes, int] = field(default_factory=dict)
    epoch: int = 0
    members: set[str] = field(default_factory=set)
    trees: dict[str, bytes] = field(default_factory=dict)
    group: PublicGroup | None = None
    group_info: bytes = b""

    @property
    def head(self) -> int:
        return len(self.entries)


@dataclass
class FakeState:
    """What more than one part reads; `url` is set while the node runs."""

    url: str = ""
    offset: int = 0
    """Seconds by which its clock is ahead."""
    logs: dict[LogId, Log] = field(default_factory=lambda: defaultdict(Log))
    cursors: dict[tuple[str, LogId], int] = field(default_factory=dict)
    fail: dict[str, Refused] = field(default_factory=dict)
    """Answer the next submissions of a kind with this."""

    def time(self) -> int:
        """Unix seconds, by the node's clock."""
        return int(time.time()) + self.offset


@web.middleware
async def problems(
    request: web.Request,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as error:
        return web.Response(
            status=error.status,
            body=encode_json(error.problem()),
            content_type="application/problem+json",
        )


async def body_of(request: web.Request, kind: type[T]) -> T:
    return decode(await request.read(), kind)


def answer(value: object) -> web.Response:
    return web.Response(body=encode(value), content_type=MSGPACK)


def account_in(request: web.Request) -> str:
    return device_in(request).partition("/")[0]


def device_in(request: web.Request) -> str:
    """The device that says that it signed; nothing is checked."""
    return request.headers["Signature-Input"].partition('keyid="')[2].partition('"')[0]
