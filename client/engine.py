"""The client: an account on this device, its rooms and messages. (Skeleton.)"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

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


class Client:
    """An account on this device. `async with` runs it in the background."""

    account: str
    """`alice@example.org`."""
    device: str
    """The address of this device."""
    profile: Profile
    connection: Connection
    connection_detail: str
    """One sentence why it is offline, if it is."""

    @classmethod
    async def register(
        cls,
        profile: Profile,
        account: str,
        *,
        invite: str,
        password: str,
        device_name: str = "",
    ) -> tuple[Client, list[str]]:
        """Make an account; returns the client and the 24 words, shown this once."""
        raise NotImplementedError

    @classmethod
    async def login(
        cls, profile: Profile, account: str, *, password: str, phrase: str
    ) -> Client:
        """Make this machine a new device of an account that exists."""
        raise NotImplementedError

    @classmethod
    async def open(cls, profile: Profile, *, password: str) -> Client:
        """Open what was set up here; works without network."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """Connect, read, send, and again, until `close`."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop everything and close the database."""
        raise NotImplementedError

    def reconnect(self) -> None:
        """Try to connect now, without waiting for the next attempt."""
        raise NotImplementedError

    def events(self) -> AsyncIterator[Event]:
        """What changes from now on; a slow reader gets newer, fewer events."""
        raise NotImplementedError

    async def rooms(self) -> list[Room]:
        """All rooms, the one with the newest message first."""
        raise NotImplementedError

    async def messages(
        self, room: LogId, *, before: Position | None = None, limit: int = 50
    ) -> list[Message]:
        """The last messages (before a position), oldest first."""
        raise NotImplementedError

    async def members(self, room: LogId) -> list[RoomMember]:
        """The accounts in a room."""
        raise NotImplementedError

    async def send_text(
        self, room: LogId, text: str, *, reply_to: MessageId | None = None
    ) -> Message:
        """Store a message and send it as soon as that is possible."""
        raise NotImplementedError

    async def start_direct(self, account: str) -> Room:
        """The direct chat with somebody; makes it if there is none."""
        raise NotImplementedError

    async def create_group(self, name: str, accounts: Sequence[str]) -> Room:
        """Make a group."""
        raise NotImplementedError

    async def add_members(self, room: LogId, accounts: Sequence[str]) -> None:
        """Bring people into a group."""
        raise NotImplementedError

    async def remove_member(self, room: LogId, account: str) -> None:
        """Take somebody out of a group."""
        raise NotImplementedError

    async def leave(self, room: LogId) -> None:
        """Leave a room; it stays readable."""
        raise NotImplementedError

    async def rename(self, room: LogId, name: str) -> None:
        """Give a group another name."""
        raise NotImplementedError

    async def mark_read(self, room: LogId) -> None:
        """Everything in this room was seen."""
        raise NotImplementedError

    async def retry(self, message: MessageId) -> None:
        """Send a message that failed once more."""
        raise NotImplementedError

    async def discard(self, message: MessageId) -> None:
        """Drop a message that failed or was not sent yet."""
        raise NotImplementedError
