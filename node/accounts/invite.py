"""Invites: codes that let somebody make an account.

A code has 80 random bits in four groups that can be read aloud. The database holds
its hash only, so who reads a backup cannot register.
"""

import secrets
from base64 import b32encode
from hashlib import blake2b

from sqlalchemy import Connection, delete, insert, or_, select, update

from node.storage.tables import InviteRow, core
from protocol.errors import BadInvite

__all__ = ["create_invite", "new_code", "use_invite"]

_invite = core(InviteRow)


def new_code() -> str:
    """A fresh code, such as `k5mq-7xwd-2hrt-ab3z`."""
    text = b32encode(secrets.token_bytes(10)).decode().lower()
    return "-".join(text[i : i + 4] for i in range(0, 16, 4))


def create_invite(
    connection: Connection, code: str, *, uses: int, now: int, expires: int
) -> None:
    """Store an invite and drop those that are used up or expired.

    Args:
        connection: one that may write.
        code: what the person will type.
        uses: how many accounts it is good for.
        now: unix seconds.
        expires: unix seconds.
    """
    connection.execute(
        delete(_invite).where(or_(_invite.c.expires <= now, _invite.c.uses_left < 1))
    )
    connection.execute(
        insert(_invite).values(
            code_hash=_hash(code), uses_left=uses, created=now, expires=expires
        )
    )


def use_invite(connection: Connection, code: str, now: int) -> None:
    """Take one use of an invite.

    Raises:
        BadInvite: there is none of this code, or it is used up or expired.
    """
    found = connection.execute(
        select(_invite.c.uses_left).where(
            _invite.c.code_hash == _hash(code),
            _invite.c.expires > now,
            _invite.c.uses_left > 0,
        )
    ).first()
    if found is None:
        raise BadInvite()
    connection.execute(
        update(_invite)
        .where(_invite.c.code_hash == _hash(code))
        .values(uses_left=_invite.c.uses_left - 1)
    )


def _hash(code: str) -> bytes:
    # However it was typed: capitals, spaces and dashes do not count.
    plain = "".join(c for c in code.lower() if c.isascii() and c.isalnum())
    return blake2b(plain.encode(), digest_size=32, person=b"telex invite 1").digest()
