"""A plain aiortc peer with our ICE under it, for tests of the ways alone."""

import asyncio

from aioice import Connection
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

from media.port import Ice
from media.rtc.ice import Gatherer

CONNECT = 20.0
"""Seconds after which a call that does not connect is a failure of the test."""


class Caller:
    """A peer connection with a data channel, and its candidates."""

    def __init__(self, ice: Ice = Ice()) -> None:  # noqa: B008 - frozen
        self.lines: list[str] = []
        self.more = asyncio.Event()
        self.heard = asyncio.Event()
        self.gatherer = Gatherer(ice, self.found)
        self.pc = RTCPeerConnection(self.gatherer.configure())
        self.channel = self.pc.createDataChannel("t", negotiated=True, id=0)
        self.channel.on("message", lambda _: self.heard.set())
        self.channel.on("open", lambda: self.channel.send("hello"))

    def found(self, lines: list[str]) -> None:
        self.lines += lines
        self.more.set()

    async def found_one(self, kind: str) -> str:
        """The first line about a candidate of a kind."""
        async with asyncio.timeout(CONNECT):
            while True:
                for line in self.lines:
                    if f" typ {kind} " in line:
                        return line
                self.more.clear()
                await self.more.wait()

    @property
    def connection(self) -> Connection:
        connection: Connection = self.gatherer._connection
        return connection

    async def offer(self) -> str:
        self.gatherer.attach(self.pc)
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return str(self.pc.localDescription.sdp)

    async def answer(self, offer: str) -> str:
        await self.pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        self.gatherer.attach(self.pc)
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        return str(self.pc.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def add(self, line: str) -> None:
        candidate = candidate_from_sdp(line.removeprefix("candidate:"))
        candidate.sdpMid = "0"
        await self.pc.addIceCandidate(candidate)
