"""Invitations: from the mailbox to a room that this device can read and write.

A Welcome comes by mail and names the entry of the room's log whose commit added us.
Its tree is fetched by hash; then it waits until the room's log was read up to that
entry, because what came before needs the keys from before. A room that was not read
so far begins there.
"""

import logging
from collections.abc import Callable

from client.account.contacts import check_root
from client.account.me import Me
from client.account.packages import find_bundle, spend
from client.clock import Clock
from client.doctor.ailment import heal_handshakes
from client.errors import KeyPackageLost
from client.rooms.changes import Want, expect_room, want
from client.rooms.groups import Groups, accounts_of, policy_of
from client.rooms.notices import Lines, code_of
from client.rooms.presence import note_present
from client.rooms.trail import (
    GHOST,
    Before,
    GroupRefused,
    before_joining,
    check_people,
    check_welcome,
    has_trail,
    unasked,
)
from client.storage.alarms import raise_alarm
from client.storage.heads import check_link, fail_log, has_gap, have, start_log
from client.storage.store import Tx
from client.storage.timeline import LINES, Status, set_note
from e2ee import Group
from e2ee.errors import E2eeError
from protocol.address import parse_node
from protocol.codec import decode
from protocol.credential import credential_root
from protocol.errors import AddressError, Malformed, TelexError
from protocol.log import Entry, Kind, LogId, Submission, parse_log_id
from protocol.policy import account_of
from protocol.wire import WelcomeMail

__all__ = ["Welcomes", "pin_members"]

WAITING_MAX = 1000
"""Welcomes that wait: far more than one is invited to while a node is away."""

logger = logging.getLogger(__name__)


class Welcomes:
    """Receives and uses Welcomes; all state is in the database."""

    def __init__(self, me: Me, groups: Groups, clock: Clock) -> None:
        self._me = me
        self._groups = groups
        self._clock = clock
        self.entered: Callable[[Tx, LogId, Group], None] = lambda tx, room, group: None
        """Told of each room that this device came into."""

    def receive(
        self, tx: Tx, log: LogId, entry: Entry, submission: Submission, data: bytes
    ) -> bool:
        """Take in an entry of the mailbox; whether it is a Welcome for us."""
        if submission.kind != Kind.WELCOME:
            tx.execute(
                "INSERT OR REPLACE INTO unknown_entry VALUES (?, ?, ?)",
                log,
                entry.seq,
                data,
            )
            return False
        try:
            mail = decode(submission.body, WelcomeMail)
            parse_log_id(mail.room)
            parse_node(mail.hub)
        except (Malformed, AddressError):
            logger.warning("mail %d is no Welcome", entry.seq)
            return False
        if mail.device != str(self._me.device):
            return False
        waiting = tx.one("SELECT count(*) FROM welcome")
        if waiting is None or waiting[0] >= WAITING_MAX:
            logger.warning("too many Welcomes wait; one was passed by")
            return False
        tx.execute(
            "INSERT OR REPLACE INTO welcome VALUES (?, ?, ?, ?, NULL)",
            mail.room,
            mail.seq,
            submission.body,
            submission.sender,
        )
        return True

    def without_tree(self, tx: Tx) -> list[WelcomeMail]:
        """Welcomes whose tree is still to be fetched."""
        return [
            decode(bytes(row[0]), WelcomeMail)
            for row in tx.all("SELECT mail FROM welcome WHERE tree IS NULL")
        ]

    def put_tree(self, tx: Tx, mail: WelcomeMail, tree: bytes) -> None:
        """Keep the tree that was fetched (the join checks its hash)."""
        tx.execute(
            "UPDATE welcome SET tree = ? WHERE room = ? AND seq = ?",
            tree,
            mail.room,
            mail.seq,
        )

    def discard(self, tx: Tx, mail: WelcomeMail, why: str) -> None:
        """Give a Welcome up; its room says why, and is joined without one."""
        tx.execute(
            "DELETE FROM welcome WHERE room = ? AND seq = ?", mail.room, mail.seq
        )
        if not expect_room(tx, self._clock, mail.room, mail.hub):
            # Somebody has just added us: whatever we knew before is over.
            tx.execute(
                "UPDATE room SET status = ? WHERE id = ? AND status IN (?, ?)",
                Status.ASKED,
                mail.room,
                Status.REMOVED,
                Status.LEFT,
            )
        set_note(tx, mail.room, why)

    def ready(self, tx: Tx) -> list[WelcomeMail]:
        """Welcomes that have their tree."""
        return [
            decode(bytes(row[0]), WelcomeMail)
            for row in tx.all("SELECT mail FROM welcome WHERE tree IS NOT NULL")
        ]

    def at(self, tx: Tx, room: LogId, seq: int) -> WelcomeMail | None:
        """The Welcome for one entry of a room, if it is here with its tree."""
        row = tx.one(
            "SELECT mail FROM welcome WHERE room = ? AND seq = ? AND tree IS NOT NULL",
            room,
            seq,
        )
        return None if row is None else decode(bytes(row[0]), WelcomeMail)

    def join(self, tx: Tx, mail: WelcomeMail) -> bool:
        """Join by a Welcome whose place in the log was reached (or is jumped to).

        Returns:
            Whether this device is in the room now. If not, the Welcome is gone and
            the room, if it is known, says why.
        """
        row = tx.one(
            "SELECT tree FROM welcome WHERE room = ? AND seq = ?", mail.room, mail.seq
        )
        if row is None or row[0] is None or not self._is_next(tx, mail):
            return False
        if (have(tx, mail.room) or 0) >= mail.seq and not check_link(
            tx, mail.room, mail.seq, mail.hash
        ):
            fail_log(tx, mail.room, f"an invitation shows entry {mail.seq} otherwise")
            self.discard(tx, mail, "")
            return False
        try:
            with tx.attempt():
                before = before_joining(tx, mail.room)
                group = self._join_group(tx, mail, bytes(row[0]))
                self._enter(tx, mail, group, before)
        except GroupRefused as error:
            self._refuse(tx, mail, error)
            return False
        except (E2eeError, TelexError) as error:
            logger.warning("a Welcome cannot be used: %s", code_of(error))
            self.discard(
                tx, mail, f"An invitation could not be used ({code_of(error)})."
            )
            if isinstance(error, KeyPackageLost):
                entry = Entry(mail.seq, 1, self._clock.now_ms(), b"")
                me = str(self._me.account)
                lines = Lines(tx, mail.room, entry, first=LINES - 2)
                lines.say(me, error.code, str(error))
            return False
        tx.execute(
            "DELETE FROM welcome WHERE room = ? AND seq <= ?", mail.room, mail.seq
        )
        return True

    def _is_next(self, tx: Tx, mail: WelcomeMail) -> bool:
        """Whether a Welcome's place is reached; one that is passed by goes."""
        room = mail.room
        group = self._groups.get(tx, room)
        live = group is not None and group.active
        if not live and not has_trail(tx, room):
            return True
        row = tx.one("SELECT joined FROM room WHERE id = ?", room)
        if live and row is not None and mail.seq <= row[0]:
            # We came in by ourselves before it was here.
            self._drop(tx, mail)
            return False
        if (have(tx, room) or 0) < mail.seq and not has_gap(tx, room):
            return False  # it is used when its commit was read
        if live:
            # The commit, if there is one, left us where we are.
            self._refuse(tx, mail, unasked(tx, room))
            return False
        return True

    def _refuse(self, tx: Tx, mail: WelcomeMail, why: GroupRefused) -> None:
        """Somebody lies: alarm, and nothing of it is used."""
        logger.warning("a Welcome is refused: %s", why.code)
        self._drop(tx, mail)
        why.alarm(tx, mail.room)
        if tx.one("SELECT 1 FROM room WHERE id = ?", mail.room) is not None:
            entry = Entry(mail.seq, 1, self._clock.now_ms(), b"")
            me = str(self._me.account)
            Lines(tx, mail.room, entry, first=LINES - 2).say(me, why.code, str(why))

    def _drop(self, tx: Tx, mail: WelcomeMail) -> None:
        tx.execute(
            "DELETE FROM welcome WHERE room = ? AND seq = ?", mail.room, mail.seq
        )

    def _join_group(self, tx: Tx, mail: WelcomeMail, tree: bytes) -> Group:
        bundle = find_bundle(tx, mail.key_package_ref)
        if bundle is None:
            raise KeyPackageLost

        def check(group: Group) -> None:
            check_people(tx, mail.room, group, str(self._me.account))
            check_welcome(tx, mail.room, mail.seq, group)

        group = self._groups.join(tx, mail.room, mail.welcome, bundle, tree, check)
        spend(tx, mail.key_package_ref)
        if bundle.last_resort:
            # Others were added by the same keys: have our own here, at once.
            want(tx, mail.room, Want.UPDATE, due=self._clock.now_ms())
        return group

    def _enter(self, tx: Tx, mail: WelcomeMail, group: Group, before: Before) -> None:
        start_log(tx, mail.room, mail.seq, mail.hash)
        known, title = self.enter(tx, mail.room, mail.hub, mail.seq, group, before)
        entry = Entry(mail.seq, 1, self._clock.now_ms(), b"")
        text = "This device is back in the room." if known else _greeting(title)
        # Below what the commit itself said, if this device read it.
        me = str(self._me.account)
        Lines(tx, mail.room, entry, first=LINES - 1).say(me, "joined", text)

    def enter(
        self, tx: Tx, room: LogId, hub: str, seq: int, group: Group, before: Before
    ) -> tuple[bool, str]:
        """Write down that this device is in a room from an entry on.

        Args:
            before: who was in it, as far as this device knew.

        Returns:
            Whether it knew the room before, and the title of a direct chat.
        """
        policy = policy_of(group)
        me = str(self._me.account)
        accounts = accounts_of(group.members())
        others = sorted(set(accounts) - {me})
        title = others[0] if policy.direct and others else ""
        known = tx.one("SELECT title FROM room WHERE id = ?", room) is not None
        tx.execute(
            "INSERT INTO room (id, hub, direct, title, status, members, joined, read,"
            " activity, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET hub = excluded.hub,"
            " direct = excluded.direct, status = excluded.status, note = '',"
            " title = CASE excluded.title WHEN '' THEN title ELSE excluded.title END,"
            " members = excluded.members, joined = excluded.joined, rewound = 0,"
            " updated = excluded.updated",
            room,
            hub,
            policy.direct,
            title,
            Status.ACTIVE,
            len(accounts),
            seq,
            seq,
            self._clock.now_ms(),
            self._clock.now_ms(),
        )
        heal_handshakes(tx, room)
        note_present(tx, room, accounts, seq)
        tx.rooms.add(room)
        pin_members(tx, room, group)
        self._say_newcomers(tx, room, seq, set(accounts), before)
        self.entered(tx, room, group)
        return known, title

    def _say_newcomers(
        self, tx: Tx, room: LogId, seq: int, accounts: set[str], before: Before
    ) -> None:
        """Name who is in a room and was not, when this device was last in it."""
        me = str(self._me.account)
        new = sorted(accounts - before.accounts - {me})
        if not new or not before.accounts - {me}:
            return
        names = ", ".join(new)
        text = f"In this room now, and not when you were last in it: {names}."
        entry = Entry(seq, 1, self._clock.now_ms(), b"")
        Lines(tx, room, entry, first=LINES - 3).say(me, "new_here", text)
        if before.followed:
            raise_alarm(
                tx,
                GHOST,
                f"{room} {seq} {names}",
                room,
                f"{text} This device could not check who let them in: ask the others "
                "another way whether that is right.",
                evidence=f"room: {room}\nat entry: {seq}\n"
                f"known: {' '.join(sorted(before.accounts))}\nnew: {' '.join(new)}",
            )


def pin_members(tx: Tx, room: LogId, group: Group) -> None:
    """Hold the roots that a group's members show against those that are known."""
    # Expired or not: who is in stays in, and its root counts.
    shown = {
        (account_of(member.identity), credential_root(member.identity))
        for member in group.members()
    }
    for account, root in sorted(shown):
        check_root(tx, account, root, room)


def _greeting(other: str) -> str:
    if other:
        return f"Your chat with {other} begins here, encrypted end to end."
    return "You were added; what was said before stays with those who were here."
