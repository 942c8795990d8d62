"""Events: newest wins, order of messages stays, memory stays bounded."""

import asyncio
import weakref

from client.broadcast import QUEUE_MAX, Broadcast
from client.model import (
    Alarm,
    Connection,
    ConnectionChanged,
    Message,
    MessageChanged,
    MessageId,
    Position,
    Room,
    RoomChanged,
    State,
)
from protocol.log import LogId

ROOM = LogId("r" * 52)


def message(n: int, text: str = "") -> MessageChanged:
    return MessageChanged(
        Message(
            id=MessageId(f"{n:032x}"),
            room=ROOM,
            position=Position(n),
            sender="a@b",
            device="a@b/d",
            time=n,
            kind="text",
            text=text,
            state=State.RECEIVED,
            own=False,
        )
    )


def room(unread: int) -> RoomChanged:
    return RoomChanged(Room(ROOM, "t", False, unread, None, 2, True, "", "b", 0))


async def test_a_newer_event_about_the_same_thing_replaces_the_older() -> None:
    broadcast = Broadcast()
    events = broadcast.subscribe()
    broadcast.publish([message(1, "old"), room(1), message(2), room(2)])
    broadcast.publish([message(1, "new")])
    broadcast.close()
    assert [event async for event in events] == [message(1, "new"), message(2), room(2)]


async def test_a_reader_that_never_reads_costs_a_bounded_queue() -> None:
    broadcast = Broadcast()
    events = broadcast.subscribe()
    for n in range(5 * QUEUE_MAX):
        broadcast.publish([message(n), room(n)])
        assert len(events._waiting) <= QUEUE_MAX
    alarm = Alarm(ROOM, "look")
    broadcast.publish([alarm, ConnectionChanged(Connection.ONLINE, "")])
    broadcast.close()
    seen = [event async for event in events]
    assert alarm in seen and room(5 * QUEUE_MAX - 1) in seen


async def test_each_subscriber_gets_everything_from_then_on() -> None:
    broadcast = Broadcast()
    first = broadcast.subscribe()
    broadcast.publish([message(1)])
    second = broadcast.subscribe()
    broadcast.publish([message(2)])
    broadcast.close()
    assert [e async for e in first] == [message(1), message(2)]
    assert [e async for e in second] == [message(2)]


async def test_a_waiting_reader_wakes_up() -> None:
    broadcast = Broadcast()
    events = broadcast.subscribe()
    waiting = asyncio.create_task(anext(events))
    await asyncio.sleep(0)
    broadcast.publish([message(1)])
    assert await asyncio.wait_for(waiting, 1) == message(1)


async def test_who_stops_reading_costs_nothing() -> None:
    broadcast = Broadcast()
    kept, dropped = broadcast.subscribe(), broadcast.subscribe()
    gone = weakref.ref(dropped)
    del dropped
    assert gone() is None
    broadcast.publish([room(1)])
    assert await anext(kept) == room(1)
