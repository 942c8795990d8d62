"""How a running node is, told on a socket in its data directory.

Whoever may read the data directory may ask: the socket is the owner's alone (0600,
in a directory of 0700). It is no network endpoint, which a proxy in front of the node
might pass on to strangers, and no file, which a full disk would leave stale. A node
whose event loop stands still does not answer, and that is an answer too.

Whoever connects gets one JSON object and the end of the stream.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from node.descriptors import Doorway
from node.storage.health import WELL, Health
from node.watchdog import Stalls
from protocol.codec import decode_json, encode_json
from protocol.errors import Malformed, TelexError

__all__ = ["LocalStatus", "NoStatus", "NodeState", "ask"]

log = logging.getLogger(__name__)

_FILE = "node.sock"

TIMEOUT = 5.0
"""Seconds: it is on this machine."""

STATE_MAX = 64 * 1024
"""Bytes of a state."""

_PATH_MAX = 100
"""Bytes of a socket's path that every system takes (Linux: 107)."""


class NoStatus(TelexError):
    """The running node does not tell how it is."""


class NodeState(msgspec.Struct):
    """What a running node says of itself."""

    time: float = 0.0
    """Unix seconds."""
    sessions: int = 0
    """Devices that are connected."""
    waiting: int = 0
    """Writes in the queue."""
    waiting_bytes: int = 0
    waiting_max: int = 1
    """Writes that the queue takes; beyond, clients are refused."""
    wal_bytes: int = 0
    """Of the database's write-ahead log."""
    storage: Health = WELL
    stalls: Stalls = msgspec.field(default_factory=Stalls)
    door: Doorway = msgspec.field(default_factory=Doorway)
    files: int = 0
    """That the process has open, connections among them; 0: unknown."""
    files_max: int = 0
    """That it may have; 0: unknown."""


class LocalStatus:
    """Answers on the socket; `start` it when the data directory is ours."""

    def __init__(self, directory: Path, state: Callable[[], NodeState]) -> None:
        self._directory = directory
        self._state = state
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; where that cannot be, the node runs without."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.setblocking(False)
        try:
            self._remove()
            with _short(self._directory) as path:
                listening.bind(path)
                # Nobody can connect before it listens.
                os.chmod(path, 0o600)
            self._server = await asyncio.start_unix_server(self._answer, sock=listening)
        except OSError as error:
            listening.close()
            log.warning("`telex-node status` cannot ask this node: %s", error)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
            self._remove()

    async def _answer(
        self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            writer.write(encode_json(self._state()))
            async with asyncio.timeout(TIMEOUT):
                await writer.drain()
        except (OSError, TimeoutError):
            log.debug("whoever asked how we are went away")
        finally:
            writer.close()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            (self._directory / _FILE).unlink(missing_ok=True)


def ask(directory: Path) -> NodeState:
    """Ask the node that runs on this data; waits for `TIMEOUT` at most.

    Raises:
        NoStatus: it does not answer.
    """
    received, end = b"", time.monotonic() + TIMEOUT
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT)
            with _short(directory) as path:
                connection.connect(path)
            while part := connection.recv(STATE_MAX):
                received += part
                if len(received) > STATE_MAX or time.monotonic() > end:
                    raise NoStatus("The node does not come to an end of its answer.")
        return decode_json(received, NodeState)
    except TimeoutError as error:
        raise NoStatus(
            f"The node has not answered for {TIMEOUT:.0f} seconds: it stands still, "
            "and its log may say where."
        ) from error
    except (OSError, Malformed) as error:
        raise NoStatus(f"The node cannot be asked how it is: {error}.") from error


@contextlib.contextmanager
def _short(directory: Path) -> Iterator[str]:
    """The socket's path; a long one by way of the open directory (Linux)."""
    path = str(directory / _FILE)
    if len(os.fsencode(path)) <= _PATH_MAX:
        yield path
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_FILE}"
    finally:
        os.close(descriptor)
