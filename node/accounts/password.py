"""Hashing of log-in secrets with Argon2id, off the event loop and a few at a time.

A hash takes 64 MiB and a tenth of a second: that is the point, and also why only two
run at once and only a few may wait.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from nacl import pwhash
from nacl.exceptions import InvalidkeyError

from protocol.errors import NodeBusy

__all__ = ["Hasher"]

T = TypeVar("T")

THREADS = 2
"""Hashes at one time: 128 MiB, and libsodium gives up the interpreter meanwhile."""

WAITING_MAX = 32
"""Log-ins that wait for one: two seconds of work."""

PASSES, MEMORY = 2, 64 * 1024 * 1024
"""Argon2id's cost. What is hashed is itself an Argon2id hash of the password with
three passes (`identity.login_secret`), so an attacker pays for both."""


class Hasher:
    """Makes and checks hashes; `close` it at the end."""

    def __init__(self, memory: int = MEMORY) -> None:
        """`memory` in bytes is a part of the cost; hashes made with another one are
        checked with theirs."""
        self._memory = memory
        self._threads = ThreadPoolExecutor(THREADS, "telex-hash")
        self._waiting = 0
        self._nobody: bytes | None = None

    async def make(self, secret: bytes) -> bytes:
        """The hash to store, in libsodium's text form.

        Raises:
            NodeBusy: too many wait.
        """
        return await self._run(partial(_make, secret, self._memory))

    async def check(self, stored: bytes | None, secret: bytes) -> bool:
        """Whether the secret is the one that was hashed.

        Without a hash (there is no such account) one is checked all the same, so
        that the answer takes as long, and is no.

        Raises:
            NodeBusy: too many wait.
        """
        if stored is not None:
            return await self._run(partial(_check, stored, secret))
        if self._nobody is None:
            self._nobody = await self.make(bytes(32))
        await self._run(partial(_check, self._nobody, secret))
        return False

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise NodeBusy("Too many people log in.", retry_after=2)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _make(secret: bytes, memory: int) -> bytes:
    hashed: bytes = pwhash.argon2id.str(secret, opslimit=PASSES, memlimit=memory)
    return hashed


def _check(stored: bytes, secret: bytes) -> bool:
    try:
        return bool(pwhash.verify(stored, secret))
    except InvalidkeyError:
        return False
