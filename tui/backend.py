"""What the screens need of the engine: a port, so that tests can stand in for it.

`client.Client` fits it; mypy checks that where `engine` hands it out. The engine
is imported only when a profile is opened: keys, SQLCipher and MLS take a moment to
load, and the first screen should not wait for them.
"""

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from client.model import (
    Connection,
    Event,
    Message,
    MessageId,
    Position,
    Profile,
    Room,
    RoomMember,
)
from protocol.log import LogId

__all__ = ["Backend", "ChatClient", "engine"]


class ChatClient(Protocol):
    """An account that is open on this device."""

    @property
    def account(self) -> str:
        """`alice@example.org`."""

    @property
    def connection(self) -> Connection:
        """How things stand with the node."""

    @property
    def connection_detail(self) -> str:
        """One sentence why."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    async def close(self) -> None: ...
    def reconnect(self) -> None: ...
    def events(self) -> AsyncIterator[Event]: ...
    async def rooms(self) -> list[Room]: ...
    async def messages(
        self, room: LogId, *, before: Position | None = None, limit: int = 50
    ) -> list[Message]: ...
    async def members(self, room: LogId) -> list[RoomMember]: ...
    async def send_text(
        self, room: LogId, text: str, *, reply_to: MessageId | None = None
    ) -> Message: ...
    async def start_direct(self, account: str) -> Room: ...
    async def create_group(self, name: str, accounts: Sequence[str]) -> Room: ...
    async def add_members(self, room: LogId, accounts: Sequence[str]) -> None: ...
    async def remove_member(self, room: LogId, account: str) -> None: ...
    async def leave(self, room: LogId) -> None: ...
    async def rename(self, room: LogId, name: str) -> None: ...
    async def mark_read(self, room: LogId) -> None: ...
    async def retry(self, message: MessageId) -> None: ...
    async def discard(self, message: MessageId) -> None: ...


class Backend(Protocol):
    """How an account comes to be open; `client.Client` itself."""

    async def register(
        self,
        profile: Profile,
        account: str,
        *,
        invite: str,
        password: str,
        device_name: str = "",
    ) -> tuple[ChatClient, list[str]]: ...
    async def login(
        self, profile: Profile, account: str, *, password: str, phrase: str
    ) -> ChatClient: ...
    async def open(self, profile: Profile, *, password: str) -> ChatClient: ...


def engine() -> Backend:
    """The real one."""
    from client.engine import Client

    return Client
