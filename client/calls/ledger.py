"""Calls in the database: what their rooms' logs say, and what this device says.

A call is a row until a week after it was over, so that what comes late finds it, and a
client that starts anew finds the calls that it was in. What is said of a call waits in
the outbox under a word that names it, and is taken back by that word.
"""

from collections.abc import Mapping

from client.account.me import Me
from client.calls.lines import line_of
from client.calls.record import RING, Fact, Heard, follow, presume
from client.calls.values import Leave, Say
from client.clock import Clock
from client.content.calling import CallAnswer, CallEnd, CallInvite, CallOffer
from client.model import MessageRemoved
from client.rooms.letters import Letters
from client.storage.store import Tx
from client.storage.timeline import add_notice
from protocol.codec import decode, encode
from protocol.log import LogId

__all__ = ["LATE", "Ledger"]

LATE = 10_000
"""Milliseconds that an answer to a call may be under way once it has rung out."""

KEPT = 7 * 24 * 3600 * 1000
"""Milliseconds for which a call that is over is remembered."""

LIVE_KEPT = 30 * 24 * 3600 * 1000
"""Milliseconds after which nobody ends a call any more."""

WORD = "call "
"""How the outbox words of calls begin."""


class Ledger:
    """Writes and reads these rows; each method is part of a transaction."""

    def __init__(self, me: Me, letters: Letters, clock: Clock) -> None:
        self._me = str(me.device)
        self._account = str(me.account)
        self._letters = letters
        self._clock = clock

    # --- reading ----------------------------------------------------------------

    def take(self, tx: Tx, heard: Heard) -> Mapping[str, Fact] | None:
        """Note what a content does to its room's calls.

        Returns:
            The calls that changed; None: it is from a room in which nobody calls.
        """
        row = tx.one("SELECT title, direct FROM room WHERE id = ?", heard.room)
        if row is None or not row[1] or heard.account not in (self._account, row[0]):
            return None
        rows = tx.all(
            "SELECT data FROM call WHERE room = ? AND (live OR id = ?)",
            heard.room,
            heard.call,
        )
        known = {fact.id: fact for fact in map(_fact, rows)}
        changed = follow(known.values(), heard, (self._account, row[0]))
        for fact in changed.values():
            before = known.get(fact.id)
            self._keep(tx, fact)
            if fact.over:
                self._write_line(tx, fact)
            elif before is not None and before.over:
                self._remove_line(tx, fact)
        if isinstance(heard.body, CallInvite):
            self._prune(tx)
        return changed

    def overdue(self, tx: Tx) -> tuple[list[Fact], int | None]:
        """Take calls for over that nobody answered, and whose caller is silent.

        Only once everything was read that came meanwhile.

        Returns:
            These, and in how many milliseconds the next one is due.
        """
        now = self._clock.now_ms()
        done, next_one = [], None
        for data, began in tx.all("SELECT data, began FROM call WHERE live"):
            fact = _fact((data,))
            if not fact.rings or fact.over:
                continue
            left = began + RING + LATE - now
            if left > 0:
                next_one = left if next_one is None else min(left, next_one)
            else:
                done.append(self._presume(tx, fact))
        return done, next_one

    def begin(self, tx: Tx) -> list[Fact]:
        """This device starts: it is in no call. End those in which it was.

        Returns:
            The calls whose end is said now.
        """
        tx.execute(
            "DELETE FROM outbox WHERE state = 'waiting' AND message LIKE 'call %'"
            " AND message NOT LIKE 'call % end'"
        )
        ended = []
        for fact in map(_fact, tx.all("SELECT data FROM call WHERE live")):
            if self._me not in fact.inside:
                continue
            if not self._letters.waits(tx, fact.room, _word(fact.id, "end")):
                code = "lost" if fact.answered else "cancelled"
                body = CallEnd(bytes.fromhex(fact.id), code)
                self.say(tx, Say(fact.room, fact.id, body))
            ended.append(fact if fact.over else self._presume(tx, fact))
        return ended

    # --- writing ------------------------------------------------------------------

    def say(self, tx: Tx, say: Say) -> None:
        """Queue a content."""
        body, part = say.body, ""
        if isinstance(body, CallOffer):
            # Of offers that wait for the node only the newest is of use.
            self._letters.supersede(tx, say.room, body, _word(say.call, "offer"))
            return
        if isinstance(body, CallInvite) or (
            isinstance(body, CallAnswer) and body.generation == 0
        ):
            part = "join"
        elif isinstance(body, CallEnd):
            part = "end"
        self._letters.queue(tx, say.room, body, _word(say.call, part))

    def leave(self, tx: Tx, leave: Leave) -> None:
        """Take back what waits, and say that we left if anybody can know of us."""
        unsaid = self._drop(tx, leave.room, _word(leave.call, "join"))
        for part in ("", "offer"):
            self._drop(tx, leave.room, _word(leave.call, part))
        if leave.body is not None and not unsaid:
            self.say(tx, Say(leave.room, leave.call, leave.body))

    def waits(self, tx: Tx) -> bool:
        """Whether something that was said has not left."""
        row = tx.one(
            "SELECT 1 FROM outbox WHERE state IN ('waiting', 'ready')"
            " AND message LIKE 'call %'"
        )
        return row is not None

    # --- how ------------------------------------------------------------------------

    def _drop(self, tx: Tx, room: LogId, word: str) -> bool:
        return bool(
            tx.execute(
                "DELETE FROM outbox WHERE room = ? AND state = 'waiting'"
                " AND message = ?",
                room,
                word,
            )
        )

    def _presume(self, tx: Tx, fact: Fact) -> Fact:
        if fact.answered:
            over = presume(fact, "lost")
        elif fact.caller == self._me:
            over = presume(fact, "cancelled")
        else:
            over = presume(fact, "unanswered")
        self._keep(tx, over)
        self._write_line(tx, over)
        return over

    def _keep(self, tx: Tx, fact: Fact) -> None:
        # Not later than now: a hub that dates ahead would have it wait, and be kept.
        tx.execute(
            "INSERT INTO call VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " live = excluded.live, data = excluded.data",
            fact.room,
            fact.id,
            min(fact.began, self._clock.now_ms()),
            fact.live,
            encode(fact),
        )

    def _prune(self, tx: Tx) -> None:
        now = self._clock.now_ms()
        tx.execute("DELETE FROM call WHERE NOT live AND began < ?", now - KEPT)
        tx.execute("DELETE FROM call WHERE began < ?", now - LIVE_KEPT)

    def _write_line(self, tx: Tx, fact: Fact) -> None:
        code, text = line_of(fact, self._account)
        add_notice(
            tx,
            fact.room,
            seq=fact.seq,
            line=0,
            device=fact.caller,
            time=fact.began,
            code=code,
            text=text,
            id=fact.line,
        )

    def _remove_line(self, tx: Tx, fact: Fact) -> None:
        """It was taken for over, and an answer was under way after all."""
        tx.execute("DELETE FROM message WHERE id = ?", fact.line)
        tx.rooms.add(fact.room)
        tx.events.append(MessageRemoved(fact.room, fact.line))


def _word(call: str, part: str) -> str:
    return f"{WORD}{call} {part}".rstrip()


def _fact(row: tuple[object, ...]) -> Fact:
    data = row[0]
    assert isinstance(data, bytes)
    return decode(data, Fact)
