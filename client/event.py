"""What an application is told of: each event brings a value as it is now."""

from client.calls.model import CallChanged
from client.model import (
    Alarm,
    ConnectionChanged,
    DevicesChanged,
    LinkChanged,
    MessageChanged,
    MessageRemoved,
    OwnPresenceChanged,
    PeopleChanged,
    RestoreProgress,
    RoomChanged,
    SasChanged,
    TypingChanged,
)

__all__ = ["Event"]

Event = (
    RoomChanged
    | MessageChanged
    | MessageRemoved
    | ConnectionChanged
    | Alarm
    | DevicesChanged
    | LinkChanged
    | RestoreProgress
    | SasChanged
    | PeopleChanged
    | OwnPresenceChanged
    | TypingChanged
    | CallChanged
)
