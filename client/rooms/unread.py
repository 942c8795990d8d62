"""Entries that this device cannot read: said, followed as far as they are public.

A line stands for each. A commit that no honest hub can have put into the log is the
hub's lie, and our keys stay what they are; one that is right and does not open here
shows that it is our keys which are of no use.
"""

from client.clock import Clock
from client.doctor.ailment import note as note_ailment
from client.rooms.changes import may_join_after
from client.rooms.groups import Groups, accounts_of
from client.rooms.notices import Lines, code_of, describe_commit
from client.rooms.presence import note_presence
from client.rooms.resending import ASK_DELAY
from client.rooms.trail import follow, public_of, step, step_proposal
from client.storage.alarms import raise_alarm
from client.storage.heads import has_gap
from client.storage.store import Tx
from client.storage.timeline import (
    add_notice,
    get_message,
    is_removed,
    message_id,
)
from e2ee import PublicGroup
from e2ee.errors import E2eeError, FutureEpoch
from protocol.errors import TelexError
from protocol.log import Entry, Kind, LogId, Submission

__all__ = ["FORGED", "Unread", "note_change"]

FORGED = "forged_commit"
"""The alarm, and the line: a commit that no honest hub has put in the log."""

DOUBT = 2
"""Messages that do not open since we came in, from which on our own keys are the ones
in doubt: one alone may be anybody's noise."""


class Unread:
    """What is done about entries that cannot be read."""

    def __init__(self, groups: Groups, clock: Clock) -> None:
        self._groups = groups
        self._clock = clock

    def is_doubtful(self, tx: Tx, room: LogId, code: str) -> bool:
        """Whether what cannot be read speaks against our own keys."""
        if code == "own_lost":
            return True
        if code != "decryption_failed" or may_join_after(tx, self._clock, room):
            return False  # at most once an hour: anybody here can write noise
        row = tx.one(
            "SELECT count(*) FROM ailment a JOIN room r ON r.id = a.room"
            " WHERE a.room = ? AND a.code = ? AND a.seq > r.joined",
            room,
            code,
        )
        return row is not None and row[0] >= DOUBT

    def note(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission, code: str
    ) -> None:
        """Put a line where it would stand, and keep what repairs it."""
        if submission.kind == Kind.MESSAGE:
            # It stands where the message would, and makes way if that turns up.
            id = message_id(room, submission.sender, submission.txn)
            if get_message(tx, id) is not None or is_removed(tx, id):
                return
        else:
            id = message_id(room, "", f"notice {entry.seq} 0".encode())
        due = self._clock.now_ms() + ASK_DELAY
        note_ailment(tx, room, entry, submission, code, id, due)
        texts: dict[str, str] = {
            Kind.MESSAGE: "A message from {} could not be read ({}).",
            Kind.COMMIT: "A change of the room's keys by {} could not be read ({}).",
        }
        what = texts.get(submission.kind, "Something from {} could not be read ({}).")
        if code == FORGED:
            what = (
                "The hub put a change of this room's keys into the log, as if by {}, "
                "that no member has made: it was passed over."
            )
        add_notice(
            tx,
            room,
            seq=entry.seq,
            line=0,
            device=submission.sender,
            time=entry.time,
            code=code,
            text=what.format(submission.sender.partition("/")[0], code),
            id=id,
        )

    def may_be_behind(self, tx: Tx, room: LogId) -> bool:
        """Whether the others may have newer keys than this device has read of.

        The log names each change of keys, so a message from an epoch to which it did
        not lead is noise; unless a part of the log is missing, or was passed over.
        """
        row = tx.one(
            "SELECT 1 FROM ailment a JOIN room r ON r.id = a.room"
            " WHERE a.room = ? AND a.code = ? AND a.seq > r.joined",
            room,
            FORGED,
        )
        return row is not None or _is_rewound(tx, room) or has_gap(tx, room)

    def pass_over(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission, code: str
    ) -> bool:
        """Pass a commit over that no honest hub has put in the log; with an alarm.

        Whatever a hub can check of a commit we can: one that fails in that was never
        made by who may, and our keys stay what they are.
        """
        public = public_of(tx, self._groups, room)
        if public is None:
            return False
        try:
            step(public, submission)
        except FutureEpoch:
            if has_gap(tx, room) or _is_rewound(tx, room):
                return False
        except (E2eeError, TelexError):
            pass
        else:
            return False  # it is right, and our keys do not open it
        self._forged(tx, room, entry, submission, code)
        return True

    def _forged(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission, code: str
    ) -> None:
        self.note(tx, room, entry, submission, FORGED)
        raise_alarm(
            tx,
            FORGED,
            room,
            room,
            "The hub of this room put a change of its keys into the log that nobody "
            f"who may has made ({code}). It was passed over. The hub lies, or is "
            "damaged: tell its admin, and go on in a room at another node if it "
            "happens again.",
            evidence=f"room: {room}\nentry: {entry.seq}\nsaid to be by: "
            f"{submission.sender}\nwhy: {code}",
        )

    def after_proposal(
        self, tx: Tx, room: LogId, submission: Submission
    ) -> PublicGroup | None:
        """The group with a proposal that the hub took and our keys do not open.

        Only its membership tag, which no hub can check, can be wrong then; a commit
        may name it all the same, and that could not be read here.
        """
        group = self._groups.get(tx, room)
        if submission.kind != Kind.PROPOSAL or group is None or not group.active:
            return None
        return step_proposal(group.public(), submission)

    def follow(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission
    ) -> set[str] | None:
        """Follow the log without keys, and say what it did.

        Returns:
            Who is in the room after a commit; None if it was none.
        """
        try:
            effects = follow(tx, self._groups, room, entry.seq, submission)
        except (E2eeError, TelexError) as error:
            if not isinstance(error, FutureEpoch) or not has_gap(tx, room):
                self._forged(tx, room, entry, submission, code_of(error))
            return None
        if effects is None:
            return None
        before = set(accounts_of(list(effects.before)))
        gone = {member.leaf for member in effects.removed}
        stays = [m for m in effects.before if m.leaf not in gone]
        after = set(accounts_of([*stays, *effects.added]))
        describe_commit(Lines(tx, room, entry, first=1), effects, set(before), after)
        note_change(tx, room, entry.seq, before, after)
        return after


def note_change(
    tx: Tx, room: LogId, seq: int, before: set[str], after: set[str]
) -> None:
    """A commit made these accounts of those."""
    for account in before | after:
        note_presence(tx, room, account, seq - 1, inside=account in before)
        note_presence(tx, room, account, seq, inside=account in after)


def _is_rewound(tx: Tx, room: LogId) -> bool:
    return tx.one("SELECT 1 FROM room WHERE id = ? AND rewound", room) is not None
