"""The headless engine of Telex: everything a client does but for the screen.

    async with await Client.open(profile, password=...) as client:
        async for event in client.events(): ...

Inside: `engine` is the class and puts the parts together; `model` is what it shows,
`errors` what can go wrong, `content` and `text` what people write; `storage`,
`account`, `network` and `rooms` are the parts.

It is a library: `examples/echo_bot.py` is a whole bot. Importing it costs little;
network, database and cryptography are loaded when a `Client` is first touched.
"""

from typing import TYPE_CHECKING

from client.calls.model import Call, CallChanged, CallLeg
from client.event import Event
from client.model import (
    Alarm,
    Connection,
    ConnectionChanged,
    Fingerprint,
    KeyChange,
    MemberDevice,
    Message,
    MessageChanged,
    MessageId,
    MessageRemoved,
    OwnPresenceChanged,
    PeopleChanged,
    PersonPresence,
    Position,
    Profile,
    Quote,
    Room,
    RoomChanged,
    RoomMember,
    Sas,
    SasChanged,
    State,
    Trust,
    TypingChanged,
)

if TYPE_CHECKING:
    from client.engine import Client

__all__ = [
    "Alarm",
    "Call",
    "CallChanged",
    "CallLeg",
    "Client",
    "Connection",
    "ConnectionChanged",
    "Event",
    "Fingerprint",
    "KeyChange",
    "MemberDevice",
    "Message",
    "MessageChanged",
    "MessageId",
    "MessageRemoved",
    "OwnPresenceChanged",
    "PeopleChanged",
    "PersonPresence",
    "Position",
    "Profile",
    "Quote",
    "Room",
    "RoomChanged",
    "RoomMember",
    "Sas",
    "SasChanged",
    "State",
    "Trust",
    "TypingChanged",
]


def __getattr__(name: str) -> object:
    if name == "Client":
        from client.engine import Client

        return Client
    raise AttributeError(f"module 'client' has no attribute {name!r}")
