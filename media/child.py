"""The media process: `python -m media.child FD`, where FD is the socket to the engine.

It answers requests until the engine says `Stop` or is gone. The engine's end is seen
by a thread too, as the event loop may be busy: nobody's microphone stays open behind a
program that has died.
"""

import asyncio
import contextlib
import faulthandler
import logging
import os
import select
import signal
import socket
import sys
import threading

from media import ipc
from media.desk import Desk
from media.port import Devices, Event, MediaError

__all__ = ["main"]

log = logging.getLogger(__name__)

GRACE = 1.5
"""Seconds to say goodbye after the engine is gone; then the process ends anyhow."""


def main() -> None:
    """Serve the engine at the other end of the socket."""
    faulthandler.enable()
    # The terminal's Ctrl+C is for the engine, which tells us what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if os.environ.get("TELEX_DEBUG") else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    threading.Thread(target=_outlive_nobody, args=(sock.fileno(),), daemon=True).start()
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(sock))
        # Threads of drivers that hang must not keep us.
        os._exit(0)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _outlive_nobody(fd: int) -> None:
    """End the process soon after the engine's end of the socket is closed."""
    poll = select.poll()
    poll.register(fd, 0)  # hanging up is told always
    poll.poll()
    threading.Event().wait(GRACE)
    os._exit(1)


async def _serve(sock: socket.socket) -> None:
    server = _Server()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, server.ended.set)
    await loop.create_unix_connection(lambda: server.pipe, sock=sock)
    await server.ended.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            await server.close()


class _Server:
    """Requests to the desk, its answers back."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.pipe = ipc.Pipe(ipc.from_engine, self._heard, self.ended.set)
        self._desk = Desk(self._tell, self.pipe.show, self.pipe.has_room)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End all legs, then the pipe."""
        try:
            await self._desk.close()
        except Exception:
            log.exception("the process did not end well")
        self.pipe.close()

    def _tell(self, event: Event) -> None:
        """Tell the engine; devices do so in their threads."""
        if threading.get_ident() == self._thread:
            self.pipe.send(event)
        else:
            self._loop.call_soon_threadsafe(self.pipe.send, event)

    def _heard(self, message: ipc.FromEngine) -> None:
        match message:
            case ipc.Seen(leg):
                self.pipe.seen(leg)
            case ipc.Request(number, ipc.Ping()):
                self.pipe.send(ipc.Done(number))
            case ipc.Request(number, ipc.Stop()):
                self.ended.set()
            case ipc.Request(number, command):
                task = asyncio.create_task(self._answer(number, command))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, command: ipc.Command) -> None:
        """Do it, and say how it went: a failure is an answer, never the end."""
        value: str | Devices | None = None
        try:
            value = await self._desk.do(command)
        except MediaError as error:
            self.pipe.send(ipc.Failed(number, error.code, str(error)))
        except Exception:
            log.exception("%s failed", type(command).__name__)
            text = (
                "Sound and picture failed by an error of Telex: try again;"
                " the log says more."
            )
            self.pipe.send(ipc.Failed(number, "internal", text))
        else:
            self.pipe.send(ipc.Done(number, value))


if __name__ == "__main__":
    main()
