"""One side of a call in a namespace: `python -m tests.media.nat_peer ICE`.

Reads commands as lines of JSON, answers each with one. `tests.media.nat` drives it.
"""

import asyncio
import json
import sys
from typing import Any

import av
import msgspec

from media.port import Candidates, Event, Ice, MediaError, PeerSays
from media.rtc.leg import Leg

TICK = 0.05
"""Seconds that `wait` waits for something new."""


class NoPictures:
    """A camera that is off."""

    def want(self, width: int, height: int, fps: float) -> None:
        """Nothing changes by it."""

    async def next(self) -> av.VideoFrame:
        """Never."""
        await asyncio.Event().wait()
        raise AssertionError


class Side:
    """A leg and what it has not told yet."""

    def __init__(self, ice: Ice) -> None:
        self.lines: list[str] = []
        self.heard = asyncio.Event()
        self.leg = Leg("leg", ice, self._event, NoPictures(), lambda _: None)
        self.leg.tell(muted=True, held=False, camera=False, screen=False)

    def _event(self, event: Event) -> None:
        if isinstance(event, Candidates):
            self.lines += event.lines
        if isinstance(event, PeerSays) and event.muted:
            self.heard.set()

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command."""
        match command["do"]:
            case "offer":
                return {"sdp": await self.leg.offer()}
            case "answer":
                answer = await self.leg.answer(command["sdp"])
                self.leg.open()
                return {"sdp": answer}
            case "accept":
                await self.leg.accept(command["sdp"])
            case "add":
                self.leg.add_candidates(command["lines"])
            case "wait":
                return await self._wait()
        return {}

    async def _wait(self) -> dict[str, Any]:
        """What is new: candidates; whether and by which way the other is heard."""
        try:
            async with asyncio.timeout(TICK):
                await self.heard.wait()
        except TimeoutError:
            pass
        lines, self.lines = self.lines, []
        connection = self.leg._gatherer._connection
        return {
            "lines": lines,
            "heard": self.heard.is_set(),
            "path": self.leg._gatherer.path,
            "seen": sorted({c.host for c in connection._remote_candidates}),
        }


async def main() -> None:
    """Serve standard input."""
    side = Side(msgspec.json.decode(sys.argv[1], type=Ice))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = await side.do(json.loads(line))
        except MediaError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
