"""What each entry of a room does: messages, changes of members, requests.

A reader for each kind of submission. The failure of one entry stays with that entry:
what it had changed is taken back, and a notice with a stable code stands in its
place. While a room's keys are missing its entries are kept, and read once the keys
are there.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Collection

import sqlcipher3

from client.account.me import Me
from client.clock import Clock
from client.doctor.ailment import heal_handshakes
from client.rooms.changes import (
    Want,
    ask_soon,
    doubt_keys,
    forget_satisfied,
    want,
)
from client.rooms.groups import Groups, accounts_of, leaf_of, policy_of
from client.rooms.letters import Due, Letters
from client.rooms.notices import Lines, code_of, describe_commit
from client.rooms.ranking import delay_for
from client.rooms.resending import ASK_DELAY
from client.rooms.talk import Talk
from client.rooms.trail import before_joining, follow, has_trail, public_of
from client.rooms.unread import Unread, note_change
from client.rooms.welcomes import Welcomes, pin_members
from client.storage.store import Tx
from client.storage.timeline import LOST_NOTE, Status, bound_activity, set_status
from e2ee import CommitEffects, Group, StagedCommit, key_package_info, peek
from e2ee.errors import E2eeError, FutureEpoch, InvalidMessage
from protocol.codec import decode
from protocol.credential import read_credential
from protocol.errors import IdentityError, Malformed, TelexError
from protocol.log import (
    Entry,
    Kind,
    LogId,
    RoomSeed,
    Submission,
    read_entry,
    read_submission,
    room_id,
)
from protocol.policy import device_of
from protocol.wire import CreateRoom, WelcomeMail

__all__ = ["RoomReader"]

Changed = Callable[[Tx, LogId, str, Collection[str], Collection[str]], None]

NEEDS_KEYS = frozenset((Kind.MESSAGE, Kind.PROPOSAL, Kind.COMMIT, Kind.JOIN_REQUEST))

logger = logging.getLogger(__name__)


class RoomReader:
    """Reads the entries of rooms; all state is in the database and the groups."""

    def __init__(
        self,
        me: Me,
        groups: Groups,
        clock: Clock,
        welcomes: Welcomes,
        letters: Letters,
        talk: Talk,
    ) -> None:
        self._me = me
        self._device = str(me.device)
        self._groups = groups
        self._clock = clock
        self._welcomes = welcomes
        self._letters = letters
        self._talk = talk
        self._unread = Unread(groups, clock)
        self.changed: list[Changed] = []
        """Told of each commit: room, its sender, the devices added and removed."""

    def read(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        submission: Submission,
        data: bytes,
        due: Due,
    ) -> None:
        """Act on the next entry of a room; whatever it is, the next one can follow."""
        if submission.kind != Kind.COMMIT or not self._rejoin(
            tx, room, entry, submission, due
        ):
            self._next(tx, room, entry, submission, data, due)
        # However far ahead its hub dates: it is above others by when it came.
        bound_activity(tx, room, self._clock.now_ms())

    def _next(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        submission: Submission,
        data: bytes,
        due: Due,
    ) -> None:
        mail = self._welcomes.at(tx, room, entry.seq)
        known = mail is not None and public_of(tx, self._groups, room) is not None
        if mail is not None and not known and self.join(tx, mail, due):
            return
        self._read(tx, room, entry, submission, data, due)
        if mail is not None and known:
            # Only now is it known whether the commit before it leads there.
            self.join(tx, mail, due)

    def _read(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        submission: Submission,
        data: bytes,
        due: Due,
    ) -> None:
        try:
            with tx.attempt():
                self._dispatch(tx, room, entry, submission, data, due)
            return
        except (E2eeError, TelexError) as error:
            code = code_of(error)
            stuck = submission.kind == Kind.COMMIT or (
                isinstance(error, FutureEpoch) and self._unread.may_be_behind(tx, room)
            )
        except sqlcipher3.Error:
            raise
        except Exception as error:
            # A mistake of ours must not stop the room, nor pass unseen.
            logger.error("entry %d of %s: %s", entry.seq, room, type(error).__name__)
            code, stuck = "internal", submission.kind == Kind.COMMIT
        if submission.kind == Kind.COMMIT and self._unread.pass_over(
            tx, room, entry, submission, code
        ):
            return
        self._unread.note(tx, room, entry, submission, code)
        due[room] = min(due.get(room, 60.0), ASK_DELAY / 1000)
        if self._unread.is_doubtful(tx, room, code):
            # Our keys are the ones that do not fit, or no longer safe to use.
            doubt_keys(tx, room)
        proposed = self._unread.after_proposal(tx, room, submission)
        if stuck or proposed is not None:
            self._lose(tx, room, due)
            if submission.kind == Kind.COMMIT:
                self._unread.follow(tx, room, entry, submission)
            elif proposed is not None:
                self._groups.keep_trail(tx, room, proposed)
            else:
                self._hold(tx, room, entry, submission, data)

    def join(self, tx: Tx, mail: WelcomeMail, due: Due) -> bool:
        """Join by a Welcome, then read what came since and was kept."""
        room = mail.room
        if not self._welcomes.join(tx, mail):
            due[room] = 0.0
            return False
        rows = tx.all(
            "SELECT seq, entry FROM held_entry WHERE log = ? ORDER BY seq", room
        )
        tx.execute("DELETE FROM held_entry WHERE log = ?", room)
        for seq, data in rows:
            if seq > mail.seq:
                entry = read_entry(bytes(data))
                submission = read_submission(entry.submission)
                self.read(tx, room, entry, submission, bytes(data), due)
        due[room] = 0.0
        return True

    def _rejoin(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission, due: Due
    ) -> bool:
        """Take up our external commit if this is it; drop it if this came before."""
        row = tx.one(
            "SELECT hash, epoch, state, mls_epoch, mls_ratchet FROM staged_join"
            " WHERE room = ?",
            room,
        )
        if row is None:
            return False
        if hashlib.sha256(submission.body).digest() != bytes(row[0]):
            with contextlib.suppress(E2eeError):
                if peek(submission.body).epoch == row[1]:
                    tx.execute("DELETE FROM staged_join WHERE room = ?", room)
            return False
        heal_handshakes(tx, room)
        tx.execute("DELETE FROM staged_join WHERE room = ?", room)
        tx.execute("DELETE FROM staged WHERE room = ?", room)
        tx.execute("DELETE FROM welcome WHERE room = ? AND seq <= ?", room, entry.seq)
        effects = StagedCommit.decode(bytes(row[2])).effects
        before = before_joining(tx, room)
        group = self._groups.take_up(tx, room, bytes(row[3]), bytes(row[4]))
        hub = tx.one("SELECT hub FROM room WHERE id = ?", room)
        name = "" if hub is None else str(hub[0])
        self._welcomes.enter(tx, room, name, entry.seq, group, before)
        tx.execute("DELETE FROM held_entry WHERE log = ? AND seq <= ?", room, entry.seq)
        present = set(accounts_of(group.members()))
        describe_commit(Lines(tx, room, entry), effects, set(present), present)
        added = {device_of(member.identity) for member in effects.added}
        forget_satisfied(tx, room, group, added, own=True)
        gone = {device_of(member.identity) for member in effects.removed}
        for hear in self.changed:
            hear(tx, room, self._device, added, gone)
        due[room] = 0.0
        return True

    def _dispatch(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        submission: Submission,
        data: bytes,
        due: Due,
    ) -> None:
        own = submission.sender == self._device
        if own and self._letters.arrived(tx, room, entry, submission):
            due[room] = 0.0
            if submission.kind != Kind.PROPOSAL:
                return
        kind = submission.kind
        if kind == Kind.CREATE:
            self._created(tx, room, entry, submission, due)
            return
        if kind not in NEEDS_KEYS:
            self._unknown(tx, room, entry, submission, data)
            return
        group = self._groups.get(tx, room)
        if group is None or not group.active:
            status = _status(tx, room)
            if status == Status.ACTIVE:
                self._lose(tx, room, due)
            self._follow(tx, room, entry, submission, due)
            self._hold(tx, room, entry, submission, data)
            return
        match kind:
            case Kind.MESSAGE:
                self._letters.read(tx, room, entry, submission, group, due)
            case Kind.PROPOSAL:
                self._proposal(tx, room, entry, submission, group, due)
            case Kind.COMMIT:
                self._commit(tx, room, entry, submission, group, due)
            case Kind.JOIN_REQUEST:
                self._join_request(tx, room, submission, group, due)

    def _follow(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission, due: Due
    ) -> None:
        """Follow an entry without keys: it may take our account out."""
        me = str(self._me.account)
        sure = submission.kind == Kind.COMMIT and has_trail(tx, room)
        after = self._unread.follow(tx, room, entry, submission)
        if submission.kind != Kind.COMMIT:
            return
        # Without a trail there is the hub's word alone; it could keep the room from
        # us anyway.
        if me in entry.removed if not sure else after is not None and me not in after:
            if _status(tx, room) in (Status.ACTIVE, Status.ASKED):
                self._removed(tx, room, due, back=False, sure=sure)
            elif sure:
                self._groups.forget_trail(tx, room)

    # --- kinds ----------------------------------------------------------------

    def _created(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission, due: Due
    ) -> None:
        body = decode(submission.body, CreateRoom)
        creator = submission.sender.partition("/")[0]
        if entry.seq != 1 or room_id(body.seed) != room:
            raise Malformed("A room begins with its own seed.")
        if decode(body.seed, RoomSeed).creator != creator:
            raise Malformed("A room is created by whom its seed names.")
        Lines(tx, room, entry).say(
            submission.sender, "created", f"{creator} made this room."
        )
        row = tx.one("SELECT status FROM room WHERE id = ?", room)
        if row is not None and row[0] == Status.CREATING:
            set_status(tx, room, Status.ACTIVE)
            due[room] = 0.0

    def _unknown(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission, data: bytes
    ) -> None:
        tx.execute(
            "INSERT OR REPLACE INTO unknown_entry VALUES (?, ?, ?)",
            room,
            entry.seq,
            data,
        )
        Lines(tx, room, entry).say(
            submission.sender,
            "unknown_kind",
            "Something came that this Telex is too old to show: update it.",
        )

    def _proposal(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        submission: Submission,
        group: Group,
        due: Due,
    ) -> None:
        received = group.receive_proposal(submission.body)
        if device_of(received.sender.identity) != submission.sender:
            raise InvalidMessage("somebody else's proposal was sent")
        self._groups.save_epoch(tx, room, group)
        leaving = {p.subject.leaf for p in group.pending_proposals if p.subject}
        if group.own_leaf in leaving:
            return
        delay = delay_for(group, without=leaving)
        want(tx, room, Want.COMMIT, due=self._clock.now_ms() + int(delay * 1000))
        due[room] = min(delay, due.get(room, delay))

    def _commit(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        submission: Submission,
        group: Group,
        due: Due,
    ) -> None:
        before, public = set(accounts_of(group.members())), group.public()
        effects, removed_self = self._apply(tx, room, submission, group)
        if device_of(effects.sender.identity) != submission.sender:
            raise InvalidMessage("somebody else's commit was sent")
        added = {device_of(member.identity) for member in effects.added}
        gone = {device_of(member.identity) for member in effects.removed}
        if removed_self:
            after = (before - {d.partition("/")[0] for d in gone}) | {
                d.partition("/")[0] for d in added
            }
            describe_commit(Lines(tx, room, entry), effects, set(before), after)
            note_change(tx, room, entry.seq, before, after)
            back = self._device in added
            self._removed(tx, room, due, back=back)
            if back:
                # What the Welcome has to lead to.
                self._groups.keep_trail(tx, room, public)
                follow(tx, self._groups, room, entry.seq, submission)
            return
        after = set(accounts_of(group.members()))
        describe_commit(Lines(tx, room, entry), effects, set(before), after)
        note_change(tx, room, entry.seq, before, after)
        heal_handshakes(tx, room)
        self._groups.save_epoch(tx, room, group)
        own = submission.sender == self._device
        forget_satisfied(tx, room, group, added, own=own)
        tx.execute(
            "UPDATE room SET members = ?, updated = CASE ? WHEN 1 THEN ? ELSE updated"
            " END WHERE id = ?",
            len(after),
            own,
            self._clock.now_ms(),
            room,
        )
        tx.rooms.add(room)
        if added:
            pin_members(tx, room, group)
        alone = effects.external and not delay_for(group, without=_leaves(effects))
        if added and (own or alone):
            # Who came in by itself may be a new device: one of us tells it.
            self._talk.repeat_name(tx, room)
        for hear in self.changed:
            hear(tx, room, submission.sender, added, gone)
        if _status(tx, room) == Status.LEFT:
            self.propose_leaving(tx, room, group)
        elif policy_of(group).direct and len(after) == 1 < len(before):
            self._left_alone(tx, room, *(before - after))
        due[room] = 0.0

    def _apply(
        self, tx: Tx, room: LogId, submission: Submission, group: Group
    ) -> tuple[CommitEffects, bool]:
        """Take a commit, ours or another's: what it did, and whether we are out."""
        row = tx.one("SELECT hash, state FROM staged WHERE room = ?", room)
        hashed = hashlib.sha256(submission.body).digest()
        if row is not None and bytes(row[0]) == hashed:
            return group.apply_own(StagedCommit.decode(bytes(row[1]))), False
        result = group.process_commit(submission.body, now=self._clock.now())
        return result.effects, result.removed_self

    def _join_request(
        self, tx: Tx, room: LogId, submission: Submission, group: Group, due: Due
    ) -> None:
        if submission.sender == self._device:
            return
        info = key_package_info(submission.body)
        credential = read_credential(info.identity, self._clock.now())
        account = str(credential.account)
        if (
            str(credential.device) != submission.sender
            or credential.mls_key != info.signature_key
            or account not in accounts_of(group.members())
        ):
            raise IdentityError("Somebody asked to be let in for somebody else.")
        leaf = leaf_of(group, submission.sender)
        delay = delay_for(group, without=() if leaf is None else (leaf,))
        want(
            tx,
            room,
            Want.READD,
            submission.sender,
            due=self._clock.now_ms() + int(delay * 1000),
            package=submission.body,
        )
        due[room] = min(delay, due.get(room, delay))

    # --- leaving and losing ---------------------------------------------------

    def propose_leaving(self, tx: Tx, room: LogId, group: Group) -> None:
        """Ask the others to take all devices of this account out."""
        mine = str(self._me.account)
        waiting = {p.subject.leaf for p in group.pending_proposals if p.subject}
        for member in group.members():
            device = device_of(member.identity)
            if device.partition("/")[0] != mine or member.leaf in waiting:
                continue
            message = group.propose_remove(member.leaf)
            self._letters.post(tx, room, Kind.PROPOSAL, message)
        self._groups.save_epoch(tx, room, group)

    def _removed(
        self, tx: Tx, room: LogId, due: Due, *, back: bool, sure: bool = True
    ) -> None:
        """Our leaf is gone; if it came back in the same commit, mail is on its way.

        Args:
            sure: whether a commit said it, and not the hub alone.
        """
        self._groups.drop(tx, room, forget=sure and not back)
        tx.execute("DELETE FROM staged WHERE room = ?", room)
        if back:
            ask_soon(tx, room, self._clock.now_ms())
            set_status(tx, room, Status.ASKED, "Waiting for this device's new keys.")
            return
        tx.execute("DELETE FROM intent WHERE room = ?", room)
        if _status(tx, room) != Status.LEFT:
            set_status(tx, room, Status.REMOVED, "You were removed from this room.")
        self._letters.give_up(tx, room, "You are not in this room any more.")

    def _left_alone(self, tx: Tx, room: LogId, other: str) -> None:
        """The other one of a direct chat is gone for good."""
        text = f"{other} left this chat; start a new one to write to them again."
        self._groups.drop(tx, room, forget=True)
        set_status(tx, room, Status.LEFT, text)
        self._letters.give_up(tx, room, text)

    def _lose(self, tx: Tx, room: LogId, due: Due) -> None:
        """The group's state is of no use any more: join again."""
        if _status(tx, room) not in (Status.ACTIVE, Status.ASKED):
            return
        self._groups.drop(tx, room)
        set_status(tx, room, Status.ASKED, LOST_NOTE)
        due[room] = 0.0

    # --- what cannot be read --------------------------------------------------

    def _hold(
        self, tx: Tx, room: LogId, entry: Entry, submission: Submission, data: bytes
    ) -> None:
        # Who is out gets nothing: what comes all the same is from after a Welcome that
        # is on its way, up to the entry that may take us out again.
        tx.execute(
            "INSERT OR REPLACE INTO held_entry VALUES (?, ?, ?)", room, entry.seq, data
        )
        if _status(tx, room) != Status.ASKED:
            return
        if submission.kind == Kind.MESSAGE and submission.sender != self._device:
            self._unread.note(tx, room, entry, submission, "no_keys")


def _leaves(effects: CommitEffects) -> set[int]:
    return {member.leaf for member in effects.added}


def _status(tx: Tx, room: LogId) -> str:
    row = tx.one("SELECT status FROM room WHERE id = ?", room)
    return "" if row is None else str(row[0])
