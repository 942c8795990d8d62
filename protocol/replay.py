"""Replays: each (key, nonce) is accepted once.

A signature is good for at most 360 seconds (`signature`: 300 of lifetime, 60 of a
clock ahead of ours), and a nonce is remembered for 600, so it is forgotten only when
its signature no longer verifies. Requests of ours are idempotent; this is a second
line.

What this does not protect: another process (a cluster shares nonces elsewhere), a
node that was restarted within the six minutes, a clock that jumps ahead by more than
ten minutes and back.
"""

from collections import OrderedDict
from typing import Final

from protocol.errors import NodeBusy, Replayed

__all__ = ["NONCES_MAX", "REMEMBERED", "NonceCache"]

REMEMBERED: Final = 600
"""Seconds that a nonce is remembered."""

NONCES_MAX: Final = 500_000
"""Nonces remembered: 830 signed requests a second for ten minutes, a quarter of what
one core can verify, in 125 MB when full. (A WebSocket is signed once.)"""

KEY_SHARE: Final = 4
"""One key may fill a quarter of it, so one peer cannot shut out all others."""

_FORGET_AT_ONCE: Final = 16
"""Most old nonces dropped in one call, so that none takes long after a quiet time;
more than one, so that the old ones run out."""


class NonceCache:
    """Remembers (keyid, nonce) for ten minutes; when it is full it refuses."""

    def __init__(self, limit: int = NONCES_MAX) -> None:
        self._limit = limit
        self._limit_per_key = max(1, limit // KEY_SHARE)
        self._until: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._held: dict[str, int] = {}

    def __len__(self) -> int:
        """How many nonces are held, those about to be forgotten included."""
        return len(self._until)

    def check(self, keyid: str, nonce: str, now: int) -> None:
        """Accept this nonce now and never again.

        Call it last, with the claim that `verify_request` returned: who cannot sign
        must not be able to fill it, nor to use up the nonce of somebody else.

        Raises:
            Replayed: the nonce was accepted before.
            NodeBusy: there is no room to remember it, so it cannot be accepted.
        """
        self._forget(now)
        entry = (keyid, nonce)
        if entry in self._until:
            raise Replayed("Sign it again to send it again.")
        held = self._held.get(keyid, 0)
        if len(self._until) >= self._limit or held >= self._limit_per_key:
            raise NodeBusy(
                "Too many requests to remember.", retry_after=self._wait(now)
            )
        self._until[entry] = now + REMEMBERED
        self._held[keyid] = held + 1

    def _forget(self, now: int) -> None:
        for _ in range(_FORGET_AT_ONCE):
            if not self._until:
                return
            entry, until = next(iter(self._until.items()))
            if until > now:
                return
            del self._until[entry]
            keyid = entry[0]
            if self._held[keyid] == 1:
                del self._held[keyid]
            else:
                self._held[keyid] -= 1

    def _wait(self, now: int) -> int:
        """Seconds until the oldest nonce is forgotten."""
        oldest = next(iter(self._until.values()), now)
        return max(1, oldest - now)
