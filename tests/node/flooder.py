"""A device in a hurry, as a process of its own: `python -m tests.node.flooder`.

It gets a node's name and port as arguments, and floods until its standard input ends:
with messages on a session, with signed requests and with requests that are not
signed, each as fast as its socket takes them. Then it prints what it was told.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from contextlib import suppress
from typing import Any, cast

from node.bench.line import Line, connect, frame, signed_get
from node.bench.plan import (
    Place,
    RoomPlan,
    Terminal,
    ciphertext,
    private_message,
)
from protocol.codec import decode, encode
from protocol.log import Kind, event_id, make_submission
from protocol.wire import FromNode, ResultFrame, SubmitFrame

TAPS = 8
"""Connections of each kind of request."""

AHEAD = 256 * 1024
"""Bytes that wait to be sent, so that the socket never is the one to wait."""


def flooded_room(node: str) -> RoomPlan:
    """Where it writes to."""
    members = (Terminal("flooder", node), Terminal("flooded", node))
    return RoomPlan("flood", members)


class Flood(Line):
    """A session on which messages are sent without end."""

    def __init__(self, room: RoomPlan, place: Place) -> None:
        super().__init__(room.members[0], place)
        self.room = room
        self.sent: dict[int, bytes] = {}
        self.acked: dict[str, int] = {}
        self.codes: Counter[str] = Counter()
        self.hasty = 0
        """Refusals that did not say when to try again."""

    def frame(self, payload: bytes) -> None:
        """Note what became of a message."""
        told = decode(payload, cast("type[FromNode]", FromNode))
        if not isinstance(told, ResultFrame):
            return
        event = self.sent.pop(told.id)
        if told.receipt is not None and told.receipt.seq is not None:
            self.acked[event.hex()] = told.receipt.seq
        elif told.problem is not None:
            self.codes[told.problem.code] += 1
            self.hasty += not told.problem.retry_after

    async def flood(self) -> None:
        """Send until the connection breaks."""
        number, room = 0, self.room.id
        while not self.ended.done():
            if self._transport is None or self._waiting() > AHEAD:
                await asyncio.sleep(0.001)
                continue
            for _ in range(50):
                number += 1
                body = private_message(room, ciphertext(number))
                data = make_submission(
                    room, self.terminal.address, os.urandom(16), Kind.MESSAGE, body
                )
                self.sent[number] = event_id(data)
                self.write(frame(encode(SubmitFrame(number, data))))
            await asyncio.sleep(0)

    def _waiting(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()


async def ask(place: Place, terminal: Terminal | None, codes: Counter[str]) -> None:
    """Requests one behind the other, over one connection and then the next."""
    path = "/telex/v1/rooms"
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
            while True:
                if terminal is None:
                    request = f"GET {path} HTTP/1.1\r\nHost: {place.name}\r\n\r\n"
                    writer.write(request.encode())
                else:
                    writer.write(signed_get(terminal, place, path))
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = head.partition("content-length: ")[2].split()[0]
                await reader.readexactly(int(size))
                code = head.split()[1]
                if code == "429" and "retry-after: " not in head:
                    code = "429 without Retry-After"
                codes[code] += 1


async def main(name: str, port: int) -> dict[str, Any]:
    """Flood until standard input ends."""
    os.nice(10)  # what is measured is the node, not who gets the machine
    place = Place(name, port, 0)
    room = flooded_room(name)
    line = Flood(room, place)
    await connect(line)
    signed: Counter[str] = Counter()
    unsigned: Counter[str] = Counter()
    work = [line.flood()]
    work += [ask(place, room.members[0], signed) for _ in range(TAPS)]
    work += [ask(place, None, unsigned) for _ in range(TAPS)]
    tasks = [asyncio.create_task(each) for each in work]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "acked": line.acked,
        "refused": line.codes,
        "hasty": line.hasty,
        "signed": signed,
        "unsigned": unsigned,
        "dropped": line.ended.result() if line.ended.done() else "",
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
