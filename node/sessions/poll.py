"""Sessions over long polls: what a WebSocket would send, fetched answer by answer.

The session is the same as any other and lives on between two polls; only its line is
another one. Frames wait in the line for the next poll: those of one round of `pump`,
which the session's window bounds, and no more entries until they were taken.

An answer can be lost on its way, and then the device asks again as it asked before.
Each answer therefore names the session and counts: whoever does not come with the
newest count has not got the newest answer, and begins a new session, which reads from
what was acked. So nothing that was sent has to be kept.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence

from node.accounts.device import Device
from node.sessions.delivery import Delivery
from node.sessions.line import SharedEntries
from node.sessions.session import Session
from protocol.limits import POLL_GAP
from protocol.sync import Polled
from protocol.wire import (
    FromNode,
)

__all__ = ["PollLine", "Polls"]

LINGER = 0.05
"""Seconds in which what follows the first frame is gathered: a busy room costs twenty
answers a second, not hundreds."""


FRAMES_MAX = 256
"""Frames that wait for a poll, beyond which nothing is sent that can wait."""


class PollLine:
    """`node.sessions.line.Line` that is emptied by polls."""

    def __init__(self, remote: str, over: Callable[["PollLine"], None]) -> None:
        """`over` is called once, when the session has ended or nobody polls."""
        self.remote = remote
        self.session: Session | None = None
        self._name = secrets.token_hex(8)
        self._count = 0
        self._over: Callable[[PollLine], None] | None = over
        self._frames: list[FromNode] = []
        self._full = False
        """Whether entries wait."""
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        """Of the one poll that is answered next."""
        self._gap: asyncio.TimerHandle | None = None

    @property
    def token(self) -> str:
        """What the next poll has to come with."""
        return f"{self._name}.{self._count}"

    @property
    def waited_for(self) -> bool:
        """Whether a poll is here."""
        return self._waiter is not None

    # --- the session's side -------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether entries may be sent: those before were taken."""
        return not self._full and len(self._frames) < FRAMES_MAX

    def send(self, frames: Sequence[FromNode | SharedEntries]) -> None:
        """Keep frames for the next answer."""
        for frame in frames:
            if isinstance(frame, SharedEntries):
                self._full = True
                self._frames.append(frame.frame)
            else:
                self._frames.append(frame)
        self._wake()

    def end(self) -> None:
        """The session is over; who waits is still told what it said last."""
        self._ended = True
        if self._waiter is None:
            self._finish()
        self._wake()

    # --- the device's side --------------------------------------------------------

    async def take(self, seconds: float, gone: Callable[[], bool]) -> Polled:
        """The frames that there are, or those that come in the next seconds.

        A poll ends the one before it, which is answered with nothing.

        Args:
            seconds: to wait at most, if there are none.
            gone: whether the asker has left, so that the frames wait for the next.
        """
        self._stop_gap()
        self._wake()
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            if not self._frames and not self._ended:
                await _wait(waiter, seconds)
            if waiter is not self._waiter or gone():
                return Polled(self.token, [])
            frames, self._frames = self._frames, []
            self._full = False
            self._count += 1
            if self.session is not None:
                self.session.touch()
            return Polled(self.token, frames)
        finally:
            if waiter is self._waiter:
                self._waiter = None
                self._rest()

    def drop(self) -> None:
        """The device begins anew: who waits is answered with nothing."""
        self._ended = True
        self._stop_gap()
        self._wake()
        self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _rest(self) -> None:
        if self._ended:
            self._finish()
        else:
            loop = asyncio.get_running_loop()
            self._gap = loop.call_later(POLL_GAP, self._finish)

    def _stop_gap(self) -> None:
        if self._gap is not None:
            self._gap.cancel()
            self._gap = None

    def _finish(self) -> None:
        self._stop_gap()
        over, self._over = self._over, None
        if over is not None:
            over(self)


async def _wait(waiter: asyncio.Future[None], seconds: float) -> None:
    """Until something comes, and then for what comes right behind it."""
    try:
        async with asyncio.timeout(seconds):
            await waiter
            await asyncio.sleep(LINGER)
    except TimeoutError:
        return


class Polls:
    """The sessions over long polls, by device."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._lines: dict[str, PollLine] = {}

    async def poll(
        self,
        device: Device,
        token: str,
        seconds: float,
        remote: str,
        gone: Callable[[], bool],
    ) -> Polled:
        """Answer one poll.

        Args:
            device: who asks.
            token: `session` of the answer before; anything else begins a session.
            seconds: to wait if there is nothing.
            remote: where it asks from, for the limits of sessions.
            gone: whether it has left meanwhile.

        Raises:
            TooMany, NodeBusy: there is no room for a session.
            Refused: the database failed.
        """
        line = self._lines.get(device.address)
        if line is None or line.token != token:
            line = await self._open(device, remote)
            await asyncio.sleep(LINGER)  # for the first entries
            seconds = 0.0
        return await line.take(seconds, gone)

    @property
    def waiting(self) -> int:
        """How many polls wait for something to happen."""
        return sum(line.waited_for for line in self._lines.values())

    async def _open(self, device: Device, remote: str) -> PollLine:
        before = self._lines.pop(device.address, None)
        if before is not None:  # it makes room for the new one
            self._delivery.release(before.remote)
        line = PollLine(remote, lambda line: self._close(device.address, line))
        try:
            self._delivery.admit(remote)
            self._lines[device.address] = line
            line.session = session = self._delivery.open(device, line)
        finally:
            if before is not None:
                before.drop()
                self._end(before)
        try:
            await self._delivery.load(session)
        except BaseException:
            line.drop()
            self._close(device.address, line)
            raise
        return line

    def _close(self, address: str, line: PollLine) -> None:
        if self._lines.get(address) is line:
            del self._lines[address]
            self._delivery.release(line.remote)
            self._end(line)

    def _end(self, line: PollLine) -> None:
        session, line.session = line.session, None
        if session is not None:
            self._delivery.end(session)
