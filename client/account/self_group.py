"""The self group: an MLS room of this account's own devices, that nobody sees.

What a person's devices have in common lives in registers (`content.own`): the roots
that were verified, how far rooms were read, drafts, names of devices, what is muted.
A feature sets values and hears of those that another device set:

    self_group.on("draft", handler)               handler(tx, key, value)
    self_group.set(tx, "draft", room, b"hel")     empty value: deleted

A value that was set lies in the database, marked, until it is in the group; marked
values of a moment go in one message, and none while this device is alone. Whoever adds
a device, or comes into the group, marks all that it has.

Two devices that start at the same time make two groups. Each adds the other, so both
are in both: all of them are read, and the one with the smallest id is written to.
Whoever gets into a smaller one than before repeats there what it has, so no value is
left behind in the other.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial

from client.account.me import Me
from client.clock import Clock
from client.content.own import (
    ENTRIES_MAX,
    KEY_MAX,
    VALUE_MAX,
    Entry,
    Registers,
)
from client.rooms.founding import found
from client.rooms.groups import Groups, policy_of
from client.rooms.letters import Arrival, Letters
from client.storage.store import Tx
from client.storage.timeline import Purpose, Status
from e2ee import Group
from protocol.errors import IdentityError
from protocol.log import LogId

__all__ = ["DELAY", "SelfGroup", "is_self"]

DELAY = 2.0
"""Seconds in which what is set is gathered: a draft changes with each key."""

BATCH_BYTES = 24 * 1024
"""Bytes of values in one message: half of what a content may hold, so that one more
of the largest fits behind them."""

KEYS_MAX = 5000
"""Values of one register; the oldest make way. More people than anybody knows."""

STRANGER_WAIT = 3600 * 1000
"""Milliseconds in which a room that is not known here may turn out to be our self
group, before another one is made."""

Handler = Callable[[Tx, str, bytes], None]

logger = logging.getLogger(__name__)


class SelfGroup:
    """Reads and writes the registers; all state is in the database."""

    def __init__(self, me: Me, groups: Groups, letters: Letters, clock: Clock) -> None:
        self._me = me
        self._account = str(me.account)
        self._groups = groups
        self._letters = letters
        self._clock = clock
        self._handlers: dict[str, Handler] = {}
        self._poke: Callable[[LogId, float], None] = lambda room, delay: None
        letters.on(Registers, self._received)

    def wire(self, poke: Callable[[LogId, float], None]) -> None:
        """Give it the function that wakes a room's worker."""
        self._poke = poke

    # --- for features -------------------------------------------------------------

    def on(self, register: str, handler: Handler) -> None:
        """Let a function act on values of a register that another device set.

        It runs in the transaction that brings them, after they are stored.
        """
        self._handlers[register] = handler

    def set(self, tx: Tx, register: str, key: str, value: bytes) -> None:
        """Set a value here and, soon, on the account's other devices.

        Args:
            register: a word that the feature owns.
            key: at most `KEY_MAX` bytes.
            value: at most `VALUE_MAX` bytes; empty: there is none any more.
        """
        if len(value) > VALUE_MAX or len(key.encode()) > KEY_MAX:
            raise ValueError("a register's key or value is too long")
        row = tx.one(
            "SELECT value, time FROM own_register WHERE register = ? AND key = ?",
            register,
            key,
        )
        if (b"" if row is None else bytes(row[0])) == value:
            return
        # Above the one before, whatever the clocks of the two devices say.
        time = max(self._clock.now_ms(), 0 if row is None else int(row[1]) + 1)
        self._keep(tx, Entry(register, key, value, time), dirty=True)
        _prune(tx, register)
        room = self.room(tx)
        if room is not None:
            tx.after.append(partial(self._wake, room))

    def get(self, tx: Tx, register: str, key: str) -> bytes:
        """A value; empty if there is none."""
        row = tx.one(
            "SELECT value FROM own_register WHERE register = ? AND key = ?",
            register,
            key,
        )
        return b"" if row is None else bytes(row[0])

    def items(self, tx: Tx, register: str) -> dict[str, bytes]:
        """All values of a register, by key."""
        rows = tx.all(
            "SELECT key, value FROM own_register WHERE register = ? AND value != x''",
            register,
        )
        return {key: bytes(value) for key, value in rows}

    def room(self, tx: Tx) -> LogId | None:
        """The self group that is written to, if this device is in one."""
        row = tx.one(
            "SELECT id FROM room WHERE purpose = ? AND status = ? ORDER BY id LIMIT 1",
            Purpose.SELF,
            Status.ACTIVE,
        )
        return None if row is None else LogId(row[0])

    # --- for the engine -----------------------------------------------------------

    def ensure(self, tx: Tx, *, strangers: bool) -> LogId | None:
        """Make a self group if there is none.

        Args:
            strangers: whether the node has rooms of ours that are not known here;
                then one of them may be it.

        Returns:
            The room to be sent to the node, if one was made.
        """
        if strangers or tx.one(
            "SELECT 1 FROM room WHERE (purpose = ? AND status IN (?, ?, ?))"
            " OR (status = ? AND joined = 0 AND activity > ?)",
            Purpose.SELF,
            Status.CREATING,
            Status.ACTIVE,
            Status.ASKED,
            Status.ASKED,
            self._clock.now_ms() - STRANGER_WAIT,
        ):
            return None
        self._show_the_unsure(tx)
        return found(
            tx,
            self._groups,
            self._letters,
            self._me,
            self._clock,
            title="",
            purpose=Purpose.SELF,
        )

    def entered(self, tx: Tx, room: LogId, group: Group) -> None:
        """This device joined a room; if it is a self group, bring what we have."""
        own = policy_of(group).self_group
        purpose = Purpose.SELF if own else Purpose.TALK
        tx.execute("UPDATE room SET purpose = ? WHERE id = ?", purpose, room)
        if own:
            self._show_the_unsure(tx)
            self._mark_all(tx)

    def committed(
        self,
        tx: Tx,
        room: LogId,
        sender: str,
        added: Collection[str],
        removed: Collection[str],
    ) -> None:
        """A commit changed a room's devices; whoever is new gets all that we have.

        Who added them tells them; who came in by itself is told by everybody.
        """
        own = sender == str(self._me.device)
        if added and (own or sender in added) and is_self(tx, room):
            self._mark_all(tx)

    def flush(self, tx: Tx, room: LogId) -> None:
        """Queue what the other devices do not have yet, if this is where it goes."""
        if room != self.room(tx):
            return
        group = self._groups.get(tx, room)
        if group is None or not group.active or len(group.members()) < 2:
            return
        batch: list[Entry] = []
        size = 0
        for register, key, value, time in tx.all(
            "SELECT register, key, value, time FROM own_register WHERE dirty"
            " ORDER BY time"
        ):
            entry = Entry(register, key, bytes(value), time)
            size += len(entry.value) + len(entry.key) + 40
            if batch and (size > BATCH_BYTES or len(batch) == ENTRIES_MAX):
                self._letters.queue(tx, room, Registers(batch))
                batch, size = [], len(entry.value) + len(entry.key) + 40
            batch.append(entry)
        if batch:
            self._letters.queue(tx, room, Registers(batch))
            tx.execute("UPDATE own_register SET dirty = 0 WHERE dirty")

    def adopt(self, tx: Tx, entries: Sequence[Entry]) -> None:
        """Take in values that another device set, from the group or an archive."""
        for entry in entries:
            row = tx.one(
                "SELECT time, value FROM own_register WHERE register = ? AND key = ?",
                entry.register,
                entry.key,
            )
            # One order for all devices, also of two that wrote in the same moment.
            if row is not None and (row[0], bytes(row[1])) >= (entry.time, entry.value):
                continue
            self._keep(tx, entry, dirty=False)
            handler = self._handlers.get(entry.register)
            if handler is not None:
                handler(tx, entry.key, entry.value)
        for register in {entry.register for entry in entries}:
            _prune(tx, register)

    # --- how ----------------------------------------------------------------------

    def _received(self, tx: Tx, body: Registers, arrival: Arrival) -> None:
        if arrival.account != self._account or not is_self(tx, arrival.room):
            raise IdentityError("Only our own devices say what our devices share.")
        self.adopt(tx, body.entries)

    def _keep(self, tx: Tx, entry: Entry, *, dirty: bool) -> None:
        tx.execute(
            "INSERT OR REPLACE INTO own_register VALUES (?, ?, ?, ?, ?)",
            entry.register,
            entry.key,
            entry.value,
            entry.time,
            dirty,
        )

    def _show_the_unsure(self, tx: Tx) -> None:
        rows = tx.all("SELECT id FROM room WHERE purpose = ?", Purpose.UNSURE)
        tx.rooms.update(LogId(row[0]) for row in rows)
        tx.execute("UPDATE room SET purpose = '' WHERE purpose = ?", Purpose.UNSURE)

    def _mark_all(self, tx: Tx) -> None:
        tx.execute("UPDATE own_register SET dirty = 1")

    def _wake(self, room: LogId) -> None:
        self._poke(room, DELAY)


def _prune(tx: Tx, register: str) -> None:
    count = tx.one("SELECT count(*) FROM own_register WHERE register = ?", register)
    if count is not None and count[0] > KEYS_MAX:
        tx.execute(
            "DELETE FROM own_register WHERE register = ? AND key IN (SELECT key FROM"
            " own_register WHERE register = ? ORDER BY value = x'', time DESC"
            " LIMIT -1 OFFSET ?)",
            register,
            register,
            KEYS_MAX,
        )


def is_self(tx: Tx, room: LogId) -> bool:
    """Whether a room is a self group."""
    row = tx.one("SELECT purpose FROM room WHERE id = ?", room)
    return row is not None and row[0] == Purpose.SELF
