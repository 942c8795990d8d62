"""Credentials for the TURN server, as coturn takes them from a REST service.

    username = expiry (unix seconds) ":" name
    password = base64(HMAC-SHA1(secret, username))

(draft-uberti-behave-turn-rest-00). The server needs to know nothing but the secret.

coturn holds the expiry against its clock at Allocate alone: measured with 4.6.1, an
allocation was refreshed, and bound a channel, after its credentials had expired and
under a new nonce. So they need to live as long as a device keeps them for the next
call, and not as long as the longest call.

The name is a pseudonym of the account, so that the server can bound what one person
relays and its log still names nobody: a keyed hash under a key that only this process
has, another one each day.
"""

import hashlib
import hmac
import os
import stat
from base64 import b64encode
from pathlib import Path

from node.accounts.device import Device
from node.clock import Clock
from node.config import Calls, ConfigProblem
from node.limit import Buckets
from protocol.wire import IceServer, IceServers

__all__ = ["IceAccess", "password", "read_secret"]

SECRET_MIN, SECRET_MAX = 16, 256
"""Characters of a secret: shorter ones are guessed from one credential, offline."""

ASK_RATE, ASK_BURST = 0.2, 20
"""Requests of one device, a second and at once. It asks once an hour while it keeps
them, and anew for a call that has to find another way."""

DAY = 86400
"""Seconds for which an account has the same pseudonym."""


class IceAccess:
    """Tells devices which servers their calls may use."""

    def __init__(self, calls: Calls, clock: Clock) -> None:
        """Read the secret.

        Raises:
            ConfigProblem: it is missing, too short, or others may read it.
        """
        self._calls = calls
        self._clock = clock
        file = calls.turn_secret_file
        self._secret = b"" if file is None else read_secret(file)
        self._pseudonyms = os.urandom(32)
        self._asked = Buckets(
            ASK_RATE, ASK_BURST, "This device asks for TURN credentials too often."
        )

    def servers(self, device: Device) -> IceServers:
        """The servers for a device, with fresh credentials; none if there are none.

        Raises:
            TooMany: it asks too often.
        """
        now = self._clock()
        self._asked.take(device.address, now)
        servers = []
        if self._calls.stun:
            servers.append(IceServer(list(self._calls.stun)))
        if self._calls.turn:
            name = self._pseudonym(str(device.account), now)
            username = f"{int(now) + self._calls.turn_seconds}:{name}"
            credential = password(self._secret, username)
            servers.append(IceServer(list(self._calls.turn), username, credential))
        return IceServers(servers, self._calls.turn_seconds)

    def _pseudonym(self, account: str, now: float) -> str:
        text = f"{int(now) // DAY} {account}".encode()
        return hmac.digest(self._pseudonyms, text, hashlib.sha256)[:10].hex()


def password(secret: bytes, username: str) -> str:
    """What the TURN server accepts for a user name."""
    return b64encode(hmac.digest(secret, username.encode(), hashlib.sha1)).decode()


def read_secret(path: Path) -> bytes:
    """The secret in a file.

    Raises:
        ConfigProblem: it cannot be read, is too short, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigProblem(
            f"The TURN secret {path} cannot be read: {error.strerror or error}; "
            "`telex-node turn HOST` makes one."
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigProblem(
            f"The TURN secret {path} may be read by others: chmod 600 {path}."
        )
    if not SECRET_MIN <= len(secret) <= SECRET_MAX or not _plain(secret):
        raise ConfigProblem(
            f"The TURN secret in {path} must be one line of {SECRET_MIN} to "
            f"{SECRET_MAX} letters, digits and punctuation."
        )
    return secret


def _plain(secret: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in secret)
