"""Waiting for an event or for a time, on a clock that may be a test's."""

import asyncio

from federation.ports import Clock

__all__ = ["wait_for"]


async def wait_for(clock: Clock, event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set, at most so many seconds; says whether it is.

    Args:
        clock: measures the seconds.
        event: not cleared here.
        seconds: None waits without an end.
    """
    if seconds is None:
        await event.wait()
        return True
    if event.is_set() or seconds <= 0:
        return event.is_set()
    waiter = asyncio.ensure_future(event.wait())
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({waiter, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (waiter, timer):
            task.cancel()
        await asyncio.gather(waiter, timer, return_exceptions=True)
    return event.is_set()
