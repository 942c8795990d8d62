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

Everybody can make a room that says of itself that it is one, and invite us. It is ours
only while all who are in it are devices of this account under its own root key: looked
at when we come in, after each change, and before anything is told there. One that is
not is left at once, for everybody to see.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial

from client.account.contacts import known_log
from client.account.me import Me
from client.clock import Clock
from client.content.own import (
    ENTRIES_MAX,
    KEY_MAX,
    VALUE_MAX,
    Entry,
    Registers,
    latest,
)
from client.rooms.founding import found
from client.rooms.groups import Groups, policy_of
from client.rooms.letters import Arrival, Letters
from client.storage.alarms import raise_alarm
from client.storage.store import Tx
from client.storage.timeline import LINES, Purpose, Status, add_notice, set_status
from e2ee import Group
from protocol.account_log import read_account_log
from protocol.credential import credential_root
from protocol.errors import IdentityError, TelexError
from protocol.log import LogId
from protocol.policy import Role, account_of, device_of

__all__ = ["DELAY", "FALSE", "SelfGroup", "is_self"]

DELAY = 2.0
"""Seconds in which what is set is gathered: a draft changes with each key."""

BATCH_BYTES = 24 * 1024
"""Bytes of values in one message: half of what a content may hold, so that one more
of the largest fits behind them."""

KEYS_MAX = 5000
"""Values of one register; the oldest make way. More people than anybody knows."""

FALSE = "false_self_group"
"""The alarm and the line: a room that says it binds our devices holds others."""

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

    def set(self, tx: Tx, register: str, key: str, value: bytes) -> int:
        """Set a value here and, soon, on the account's other devices.

        Args:
            register: a word that the feature owns.
            key: at most `KEY_MAX` bytes.
            value: at most `VALUE_MAX` bytes; empty: there is none any more.

        Returns:
            When it was set, in milliseconds: above whatever stood there before.
        """
        if len(value) > VALUE_MAX or len(key.encode()) > KEY_MAX:
            raise ValueError("a register's key or value is too long")
        row = tx.one(
            "SELECT value, time FROM own_register WHERE register = ? AND key = ?",
            register,
            key,
        )
        if (b"" if row is None else bytes(row[0])) == value:
            return 0 if row is None else int(row[1])
        # Above the one before, whatever the clocks of the two devices say; but never
        # so late that the others would not have it.
        now = self._clock.now_ms()
        time = min(max(now, 0 if row is None else int(row[1]) + 1), latest(now))
        self._keep(tx, Entry(register, key, value, time), dirty=True)
        _prune(tx, register)
        room = self.room(tx)
        if room is not None:
            tx.after.append(partial(self._wake, room))
        return time

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
        if not policy_of(group).self_group:
            tx.execute("UPDATE room SET purpose = ? WHERE id = ?", Purpose.TALK, room)
        elif not self._is_ours(group):
            self._refuse(tx, room, group)
        else:
            tx.execute("UPDATE room SET purpose = ? WHERE id = ?", Purpose.SELF, room)
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
        if not is_self(tx, room):
            return
        group = self._groups.get(tx, room)
        if group is not None and not self._is_ours(group):
            self._refuse(tx, room, group)
            return
        own = sender == str(self._me.device)
        if added and (own or sender in added):
            self._mark_all(tx)

    def flush(self, tx: Tx, room: LogId) -> None:
        """Queue what the other devices do not have yet, if this is where it goes."""
        if room != self.room(tx):
            return
        group = self._groups.get(tx, room)
        if group is None or not group.active or len(group.members()) < 2:
            return
        if not self._is_ours(group):
            self._refuse(tx, room, group)
            return
        if self._holds_revoked(tx, group):
            return  # until it is put out: its commit brings us here again
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
        """Take in values that another device set, from the group or an archive.

        A value that is outside a bound, or that its feature does not take, is passed
        by; the others count.
        """
        now = self._clock.now_ms()
        taken: set[str] = set()
        for entry in entries:
            try:
                entry.check(now)
                with tx.attempt():
                    self._take(tx, entry)
            except (TelexError, ValueError) as error:
                logger.warning("a register is passed by: %s", type(error).__name__)
            else:
                taken.add(entry.register)
        for register in taken:
            _prune(tx, register)

    # --- how ----------------------------------------------------------------------

    def _take(self, tx: Tx, entry: Entry) -> None:
        row = tx.one(
            "SELECT time, value FROM own_register WHERE register = ? AND key = ?",
            entry.register,
            entry.key,
        )
        # One order for all devices, also of two that wrote in the same moment. What
        # was believed while our clock was ahead would win for as long as it was.
        if (
            row is not None
            and row[0] <= latest(self._clock.now_ms())
            and (row[0], bytes(row[1])) >= (entry.time, entry.value)
        ):
            return
        self._keep(tx, entry, dirty=False)
        handler = self._handlers.get(entry.register)
        if handler is not None:
            handler(tx, entry.key, entry.value)

    def _received(self, tx: Tx, body: Registers, arrival: Arrival) -> None:
        if arrival.account != self._account or not is_self(tx, arrival.room):
            raise IdentityError("Only our own devices say what our devices share.")
        self.adopt(tx, body.entries)

    def _is_ours(self, group: Group) -> bool:
        """Whether a group that says it is a self group holds our devices alone.

        The room's seed names a creator too, but anybody can write any name there: the
        leaves are what cannot be forged.
        """
        policy, root = policy_of(group), credential_root(self._me.credential)
        return (
            policy.self_group
            and policy.role(self._account) == Role.OWNER
            and all(
                account_of(member.identity) == self._account
                and credential_root(member.identity) == root
                for member in group.members()
            )
        )

    def _holds_revoked(self, tx: Tx, group: Group) -> bool:
        """Whether a device is in it that our account's log says is none any more."""
        try:
            log = known_log(tx, self._account)
            revoked = read_account_log(self._me.account, log).revoked
        except IdentityError:
            return False  # not read yet
        return any(
            device_of(member.identity).partition("/")[2] in revoked
            for member in group.members()
        )

    def _refuse(self, tx: Tx, room: LogId, group: Group) -> None:
        """Leave a room that passes itself off as our self group, and say so."""
        others = sorted({account_of(m.identity) for m in group.members()})
        who = ", ".join(name for name in others if name != self._account)
        text = (
            f"{who or 'Somebody with other keys than yours'} made a room that "
            "passes itself off as the one that binds your own devices. It was not "
            "believed: nothing was sent there, and this device left it."
        )
        self._groups.drop(tx, room)
        self._groups.forget_trail(tx, room)
        self._letters.give_up(tx, room, "You are not in this room any more.")
        tx.execute("DELETE FROM intent WHERE room = ?", room)
        tx.execute("DELETE FROM staged WHERE room = ?", room)
        tx.execute("UPDATE room SET purpose = ? WHERE id = ?", Purpose.TALK, room)
        set_status(tx, room, Status.REMOVED, text)
        row = tx.one("SELECT joined FROM room WHERE id = ?", room)
        add_notice(
            tx,
            room,
            seq=1 if row is None else max(1, int(row[0])),
            line=LINES - 2,
            device=self._account,
            time=self._clock.now_ms(),
            code=FALSE,
            text=text,
        )
        raise_alarm(tx, FALSE, room, room, text, evidence=f"room: {room}")
        # What was to go there goes to the true one.
        self._mark_all(tx)
        true = self.room(tx)
        if true is not None:
            tx.after.append(partial(self._wake, true))

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
