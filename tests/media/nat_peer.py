"""One side of a call in a namespace: `python -m tests.media.nat_peer ICE`.

Reads commands as lines of JSON, answers each with one. `tests.media.nat` drives it.
"""

import asyncio
import json
import sys
from typing import Any

import msgspec

from media.port import Ice, MediaError
from tests.media.caller import Caller

TICK = 0.05
"""Seconds that `wait` waits for something new."""


class Side:
    """A caller and what it has not told yet."""

    def __init__(self, ice: Ice) -> None:
        self.caller = Caller(ice)

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command."""
        match command["do"]:
            case "offer":
                return {"sdp": await self.caller.offer()}
            case "answer":
                return {"sdp": await self.caller.answer(command["sdp"])}
            case "accept":
                await self.caller.accept(command["sdp"])
            case "add":
                for line in command["lines"]:
                    await self.caller.add(line)
            case "wait":
                return await self._wait()
        return {}

    async def _wait(self) -> dict[str, Any]:
        caller = self.caller
        try:
            async with asyncio.timeout(TICK):
                await caller.heard.wait()
        except TimeoutError:
            pass
        lines, caller.lines[:] = list(caller.lines), []
        return {
            "lines": lines,
            "heard": caller.heard.is_set(),
            "path": caller.gatherer.path,
            "seen": sorted({c.host for c in caller.connection._remote_candidates}),
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
