"""Reading without a WebSocket: long polls, and the rooms that people see first."""

import msgspec

from protocol.whole import Whole
from protocol.wire import FromNode, Page, RoomState

__all__ = ["NewestRooms", "Polled", "RoomNews"]


class RoomNews(msgspec.Struct):
    """A room with its newest entries."""

    state: RoomState
    time: Whole
    """Milliseconds since 1970 of its newest entry, as its hub has it."""
    page: Page
    """The newest entries, oldest of them first."""


class NewestRooms(msgspec.Struct):
    """`GET /telex/v1/rooms?newest=N&limit=M&from=F`: rooms by their latest entry.

    The newest room first, each with at most N entries; all pages together stay below
    `limits.BATCH_BYTES`, so an answer may hold fewer rooms than were asked for.
    """

    rooms: list[RoomNews]
    more: str = ""
    """`from` of the next request; empty: these were all."""


class Polled(msgspec.Struct):
    """`GET /telex/v1/sync?timeout=S&session=T`: the frames of a WebSocket.

    A session begins with a poll without `session`, or with one that the node does not
    know (any more): then `ready` is the first frame, and entries follow from the
    cursors that the device has acked. Frames of the device are bodies of
    `POST /telex/v1/acks` (`AckFrame`) and `POST /telex/v1/frames` (presence, typing);
    submissions go to `POST /telex/v1/logs/{log}/entries`.
    """

    session: str
    """`session` of the next poll: it says that this answer came."""
    frames: list[FromNode]
