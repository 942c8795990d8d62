"""Events from the engine, put together so that the screen is drawn once for many.

A thousand messages may arrive in a second (the first sync after a holiday); people
see twenty changes a second at most. Of several events about one thing the last one
counts.
"""

from dataclasses import dataclass, field

from client.calls.model import Call, CallChanged
from client.event import Event
from client.model import (
    Alarm,
    ConnectionChanged,
    DevicesChanged,
    LinkChanged,
    LinkProgress,
    Message,
    MessageChanged,
    MessageId,
    MessageRemoved,
    OwnPresenceChanged,
    PeopleChanged,
    RestoreProgress,
    Room,
    RoomChanged,
    Sas,
    SasChanged,
    TypingChanged,
)
from protocol.log import LogId

__all__ = ["FLUSH_SECONDS", "Batch", "Feed"]

FLUSH_SECONDS = 0.05
"""Twenty times a second: faster than anybody reads, slow enough to stay cheap."""

ALARMS_MAX = 20
"""Warnings kept for one drawing; more of them say nothing new."""


@dataclass
class Batch:
    """What changed since the screen was drawn last."""

    rooms: dict[LogId, Room] = field(default_factory=dict)
    messages: dict[MessageId, Message] = field(default_factory=dict)
    removed: set[MessageId] = field(default_factory=set)
    connection: ConnectionChanged | None = None
    alarms: list[Alarm] = field(default_factory=list)
    devices: bool = False
    link: LinkProgress | None = None
    restore: RestoreProgress | None = None
    comparisons: dict[str, Sas] = field(default_factory=dict)
    people: bool = False
    """Whether somebody came, went or is another way."""
    own: bool = False
    """Whether others see us otherwise."""
    typing: set[LogId] = field(default_factory=set)
    """Rooms in which others type than before."""
    calls: dict[str, Call] = field(default_factory=dict)


class Feed:
    """Collects events until they are taken."""

    def __init__(self) -> None:
        self._batch = Batch()
        self._empty = True

    def add(self, event: Event) -> bool:
        """Take an event; true if it is the first since the last `take`."""
        batch = self._batch
        match event:
            case RoomChanged(room):
                batch.rooms[room.id] = room
            case MessageChanged(message):
                batch.messages[message.id] = message
            case MessageRemoved(id=gone):
                batch.messages.pop(gone, None)
                batch.removed.add(gone)
            case ConnectionChanged():
                batch.connection = event
            case Alarm():
                if len(batch.alarms) < ALARMS_MAX:
                    batch.alarms.append(event)
            case DevicesChanged():
                batch.devices = True
            case LinkChanged(progress):
                batch.link = progress
            case RestoreProgress():
                batch.restore = event
            case SasChanged(sas):
                batch.comparisons[sas.id] = sas
            case PeopleChanged():
                batch.people = True
            case OwnPresenceChanged():
                batch.own = True
            case TypingChanged(room=room_id):
                batch.typing.add(room_id)
            case CallChanged(call):
                batch.calls[call.id] = call
        first, self._empty = self._empty, False
        return first

    def take(self) -> Batch:
        """Everything so far; begins anew."""
        batch, self._batch, self._empty = self._batch, Batch(), True
        return batch
