"""Events from the engine to whoever listens: bounded, newest wins.

Each subscriber has its own queue. An event about the same thing replaces the one
that waits there, and when too many messages wait they are folded into one event
about their room: a reader that is slow, or never reads, costs a fixed amount of
memory and sees the newest state when it comes back.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable
from typing import TypeVar
from weakref import WeakSet

from client.calls.model import CallChanged
from client.event import Event
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

__all__ = ["Broadcast", "Subscription"]

QUEUE_MAX = 1000
"""Events that wait for one subscriber: some screens of messages in some rooms."""

T = TypeVar("T")


class Subscription(AsyncIterator[Event]):
    """The events since this was made; iterate over it from one task."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, Event] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        key = next(iter(self._waiting))
        return self._waiting.pop(key)

    def put(self, event: Event) -> None:
        """Take an event in; never blocks, never grows beyond `QUEUE_MAX`."""
        key = _key(event)
        if key in self._waiting and isinstance(event, MessageChanged):
            # Keep its place: a message is announced before what answers it.
            self._waiting[key] = event
        else:
            self._waiting.pop(key, None)
            self._waiting[key] = event
        if len(self._waiting) > QUEUE_MAX:
            self._shrink()
        self._wake.set()

    def close(self) -> None:
        """End the iteration once what waits has been read."""
        self._closed = True
        self._wake.set()

    def _shrink(self) -> None:
        # A RoomChanged follows every message, so dropping messages loses nothing
        # that a reader does not find by asking for the room's messages again.
        for key, event in list(self._waiting.items()):
            if isinstance(event, MessageChanged | MessageRemoved):
                del self._waiting[key]
        while len(self._waiting) > QUEUE_MAX:
            del self._waiting[next(iter(self._waiting))]


class Broadcast:
    """Hands each event to all subscribers; lives on the event loop's thread."""

    def __init__(self) -> None:
        # Weak: who stops reading only drops its subscription, and it is gone.
        self._subscriptions: WeakSet[Subscription] = WeakSet()
        self._closed = False

    def subscribe(self) -> Subscription:
        """A queue of what is published from now on."""
        subscription = Subscription()
        if self._closed:
            subscription.close()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def publish(self, events: Iterable[Event]) -> None:
        """Give events to everybody who listens."""
        for event in events:
            for subscription in self._subscriptions:
                subscription.put(event)

    def close(self) -> None:
        """End all iterations."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()


def _key(event: Event) -> Hashable:
    match event:
        case RoomChanged(room):
            return ("room", room.id)
        case MessageChanged(message):
            return ("message", message.id)
        case MessageRemoved(_, id):
            return ("message", id)
        case ConnectionChanged():
            return "connection"
        case Alarm(room_id, text):
            return ("alarm", room_id, text)
        case SasChanged(sas):
            return ("sas", sas.id)
        case CallChanged(call):
            return ("call", call.id)
        case TypingChanged(room):
            return ("typing", room)
        case (
            DevicesChanged()
            | LinkChanged()
            | RestoreProgress()
            | PeopleChanged()
            | OwnPresenceChanged()
        ):
            return type(event).__name__
