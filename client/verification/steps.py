"""The steps of a comparison that all ways through it share."""

from collections.abc import Callable
from typing import Any

from client.account.me import Me
from client.clock import Clock
from client.content import Body
from client.content.verifying import (
    SasEnd,
)
from client.errors import SasRefused
from client.model import Sas, SasStage
from client.rooms.groups import Groups
from client.rooms.letters import Arrival, Letters
from client.storage.alarms import raise_alarm
from client.storage.heads import link_at
from client.storage.store import Tx
from client.verification.comparison import (
    Role,
    Row,
    failures,
    select,
    shown,
    update,
)
from client.verification.rules import SAS_WORD
from client.verification.trust import known, set_verified
from protocol.errors import IdentityError
from protocol.fingerprint import (
    SasContext,
    sas_digits,
    sas_emoji,
    sas_public,
    sas_secret,
)
from protocol.log import Entry, LogId

__all__ = ["KEPT", "PAUSE", "TIMEOUT", "TRIES", "Steps", "private_of"]

TIMEOUT = 10 * 60 * 1000
"""Milliseconds from the request to the end: both are there, or they are not."""

TRIES = 3
"""Tries that may fail: each gives somebody in between one chance in 2^42."""

PAUSE = 60 * 60 * 1000
"""Milliseconds in which those tries are counted, and after which one may try again."""

KEPT = 24 * 60 * 60 * 1000
"""Milliseconds that ended comparisons are kept, to be looked at and counted."""


class Steps:
    """Makes, ends and fails comparisons; `sas` says when."""

    def __init__(
        self,
        me: Me,
        groups: Groups,
        letters: Letters,
        clock: Clock,
        poke: Callable[[LogId], None],
        trusted: Callable[[Tx, str], None],
    ) -> None:
        """`trusted` is told whose trust changed by a comparison."""
        self._trusted = trusted
        self._me = str(me.account)
        self._device = str(me.device)
        self._groups = groups
        self._letters = letters
        self._clock = clock
        self._poke = poke

    def expire(self, tx: Tx) -> int | None:
        """End what took too long; milliseconds until the next one may."""
        now = self._clock.now_ms()
        # No clock that was put back makes any of it longer.
        tx.execute(
            "UPDATE sas SET began = min(began, ?), ended = min(ended, ?)"
            " WHERE began > ? OR ended > ?",
            *(now, now, now, now),
        )
        tx.execute("DELETE FROM sas WHERE ended AND ended < ?", now - KEPT)
        waits = []
        for row in select(tx, "NOT ended"):
            left = row.began + TIMEOUT - now
            if left > 0:
                waits.append(left)
                continue
            self._withdraw(tx, row)
            self._end(
                tx,
                row,
                "failed",
                "timeout",
                "Ten minutes have passed; start again when both of you have time.",
            )
        return min(waits, default=None)

    def _compare(self, tx: Tx, row: Row) -> None:
        """Both keys are here: make the strings, and forget what made them."""
        try:
            secret = sas_secret(private_of(row), row.key or b"", self._context(tx, row))
        except IdentityError:
            self._say(tx, row, SasEnd(row.session, "tampered"))
            self._fail(tx, row, "tampered")
            return
        update(
            tx,
            row,
            stage="compare",
            private=None,
            emoji="".join(emoji.symbol for emoji in sas_emoji(secret)),
            digits=sas_digits(secret),
            detail=f"Does {row.account} see the same? Ask by voice, not in writing.",
        )

    def _context(self, tx: Tx, row: Row) -> SasContext:
        if row.seq is None or row.log_hash is None or row.authenticator is None:
            raise IdentityError("A comparison goes on that has not begun.")
        own = known(tx, self._me)
        me = (
            self._device,
            b"" if own is None else own.root,
            sas_public(private_of(row)),
        )
        them = (row.device, row.root, row.key or b"")
        first, second = (me, them) if row.role == Role.INITIATOR else (them, me)
        return SasContext(
            row.session,
            row.room,
            row.seq,
            row.log_hash,
            row.authenticator,
            *first,
            *second,
        )

    def _finish(self, tx: Tx, row: Row) -> Sas:
        state = known(tx, row.account)
        if state is None or state.other is not None or state.root != row.root:
            return self._fail(tx, row, "tampered")
        set_verified(tx, row.account, True)
        self._trusted(tx, row.account)
        return self._end(tx, row, "done", "", f"{row.account} is verified.")

    def _fail(self, tx: Tx, row: Row, code: str) -> Sas:
        """Loud: somebody may stand between the two."""
        how = (
            "did not show the key that it had promised"
            if code == "tampered"
            else "and this one showed different strings"
        )
        text = (
            f"Comparing with {row.account} failed: the device {row.device or 'there'} "
            f"{how}. Somebody may be reading along between you: say nothing here that "
            "they must not know, and compare the sixty digits in person."
        )
        set_verified(tx, row.account, False)
        self._trusted(tx, row.account)
        raise_alarm(
            tx,
            "sas_mismatch",
            row.session.hex(),
            row.room,
            text,
            evidence=f"account: {row.account}\ndevice: {row.device}\nreason: {code}",
        )
        return self._end(tx, row, "failed", code, text)

    def _elsewhere(self, tx: Tx, row: Row) -> None:
        text = "Another device of yours took this; go on there."
        self._end(tx, row, "refused", "elsewhere", text)

    def _end(self, tx: Tx, row: Row, stage: SasStage, code: str, detail: str) -> Sas:
        row = update(
            tx,
            row,
            stage=stage,
            code=code,
            detail=detail,
            private=None,
            commitment=None,
            ended=max(1, self._clock.now_ms()),
        )
        return shown(row)

    def _withdraw(self, tx: Tx, row: Row) -> bool:
        """Take back what waits unsent; whether anything may have been sent."""
        tx.execute(
            "DELETE FROM outbox WHERE room = ? AND state = 'waiting' AND message = ?",
            row.room,
            SAS_WORD + row.session.hex(),
        )
        return row.role != Role.INITIATOR or row.seq is not None or self._sent(tx, row)

    def _sent(self, tx: Tx, row: Row) -> bool:
        found = tx.one(
            "SELECT 1 FROM outbox WHERE room = ? AND message = ?",
            row.room,
            SAS_WORD + row.session.hex(),
        )
        return found is not None

    def _check_pause(self, tx: Tx, account: str) -> None:
        if failures(tx, account, self._clock.now_ms() - PAUSE) >= TRIES:
            raise SasRefused(
                f"{TRIES} tries with {account} did not end well: wait an hour, or "
                "compare the sixty digits in person."
            )

    # --- the table -----------------------------------------------------------------

    def _other(self, tx: Tx, arrival: Arrival) -> str | None:
        """The other person of a direct room, if what came belongs there."""
        row = tx.one("SELECT direct, title FROM room WHERE id = ?", arrival.room)
        if row is None or not row[0] or arrival.account not in (self._me, row[1]):
            return None
        return str(row[1])

    def _said(self, entry: Entry) -> int:
        """When an entry was said: now, if its hub dates it ahead of our clock."""
        return min(entry.time, self._clock.now_ms())

    def _place(self, tx: Tx, room: LogId, entry: Entry) -> dict[str, Any]:
        """What both sides see at the entry of the request."""
        group = self._groups.get(tx, room)
        return {
            "seq": entry.seq,
            "log_hash": link_at(tx, room, entry.seq),
            "authenticator": None if group is None else group.epoch_authenticator,
        }

    def _say(self, tx: Tx, row: Row, body: Body) -> None:
        self._letters.queue(tx, row.room, body, SAS_WORD + row.session.hex())
        self._poke_later(tx, row.room)

    def _poke_later(self, tx: Tx, room: LogId) -> None:
        tx.after.append(lambda: self._poke(room))

    def _live(self, tx: Tx, room: LogId) -> Row | None:
        self.expire(tx)
        rows = select(tx, "room = ? AND NOT ended", room)
        return rows[0] if rows else None

    def _get(self, tx: Tx, id: str, *stages: str) -> Row:
        self.expire(tx)
        rows = select(tx, "id = ? AND NOT ended AND role != 'sibling'", id)
        if not rows or rows[0].stage not in stages:
            raise SasRefused("This comparison is over or not that far: start again.")
        return rows[0]


def private_of(row: Row) -> bytes:
    """Our ephemeral key, while it is kept."""
    if row.private is None:
        raise IdentityError("A comparison goes on whose key is gone.")
    return row.private
