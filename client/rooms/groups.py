"""MLS groups: loaded when needed, kept in memory, saved with what changed them.

A group lives on the store's thread and is only touched inside a transaction. When
that is rolled back the group is forgotten and read again, so memory is never ahead
of the disk. An epoch is written when it changed, ratchets with each message.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable

from client.account.me import Me
from client.clock import Clock
from client.storage.store import Tx
from e2ee import (
    SUITE_3,
    Extension,
    Group,
    KeyPackageBundle,
    Member,
    PublicGroup,
    StagedCommit,
)
from e2ee.errors import E2eeError
from e2ee.ratchet_tree import RatchetTree
from protocol.errors import IdentityError, Malformed
from protocol.log import LogId
from protocol.policy import (
    TELEX_ROOM,
    RoomPolicy,
    RoomValidator,
    account_of,
    device_of,
    read_policy,
)
from protocol.whole import WHOLE_MAX

__all__ = ["Groups", "accounts_of", "group_id", "leaf_of", "policy_of"]

logger = logging.getLogger(__name__)

CACHED = 64
"""Groups kept in memory: a large one is 1.3 MB per thousand leaves."""


def group_id(room: LogId) -> bytes:
    """The MLS group id of a room: its id in ASCII."""
    return room.encode()


class Groups:
    """The groups of this device."""

    def __init__(self, me: Me, clock: Clock) -> None:
        self._me = me
        self._clock = clock
        self._validator = RoomValidator(clock.now)
        self._cache: OrderedDict[LogId, Group] = OrderedDict()
        self.on_epoch: Callable[[Tx, LogId, Group], None] = lambda tx, room, group: None
        """Told of each group as it is saved: who is in it may have changed."""

    def get(self, tx: Tx, room: LogId) -> Group | None:
        """A room's group, if this device has its keys."""
        group = self._cache.get(room)
        if group is None:
            row = tx.one(
                "SELECT e.data, r.data FROM mls_epoch e JOIN mls_ratchet r USING (room)"
                " WHERE room = ?",
                room,
            )
            if row is None:
                return None
            try:
                group = self._load(bytes(row[0]), bytes(row[1]))
            except E2eeError as error:
                # As if it were lost: the room is joined again.
                logger.error("the keys of %s are damaged: %s", room, error.code)
                return None
        self._remember(tx, room, group)
        return group

    def create(self, tx: Tx, room: LogId, policy: RoomPolicy) -> Group:
        """Make the group of a new room, with this device alone in it."""
        group = Group.create(
            group_id=group_id(room),
            signature_private=self._me.mls.seed,
            identity=self._me.credential,
            extensions=[Extension(TELEX_ROOM, policy.encode())],
            now=self._clock.now(),
            validator=self._validator,
        )
        self.save_epoch(tx, room, group)
        return group

    def join(
        self,
        tx: Tx,
        room: LogId,
        welcome: bytes,
        bundle: KeyPackageBundle,
        tree: bytes,
        check: Callable[[Group], None],
    ) -> Group:
        """Join a group by a Welcome; replaces what this device had of it.

        Args:
            check: whether it may; raises if not.

        Raises:
            E2eeError: the Welcome does not hold.
            IdentityError, NotAllowed, Malformed: the group is not the room's.
        """
        group = Group.join(
            welcome,
            [bundle],
            signature_private=self._me.mls.seed,
            ratchet_tree=tree,
            now=self._clock.now(),
            validator=self._validator,
        )
        if group.group_id != group_id(room) or policy_of(group).room != room:
            raise IdentityError("This invitation is for another room than it says.")
        check(group)
        if group.epoch > WHOLE_MAX:  # 64 bits (RFC 9420, section 8.1); no group is
            raise Malformed("A group in an epoch that none can have come to.")
        self.save_epoch(tx, room, group)
        return group

    def join_external(
        self, tx: Tx, room: LogId, group_info: bytes, tree: bytes
    ) -> tuple[Group, StagedCommit]:
        """Build an external commit; the group is not kept until it is in the log.

        Raises:
            E2eeError: the group does not hold, or lets nobody in like this.
            IdentityError, NotAllowed, Malformed: the group is not the room's.
        """
        group, staged = Group.join_external(
            group_info,
            ratchet_tree=tree,
            signature_private=self._me.mls.seed,
            identity=self._me.credential,
            remove=_leaf_in(tree, str(self._me.device)),
            validator=self._validator,
        )
        policy = policy_of(group)
        if group.group_id != group_id(room) or policy.room != room:
            raise IdentityError("The hub shows the group of another room.")
        return group, staged

    def take_up(self, tx: Tx, room: LogId, epoch: bytes, ratchets: bytes) -> Group:
        """Use the group that `join_external` made, now that its commit counts."""
        group = self._load(epoch, ratchets)
        self.save_epoch(tx, room, group)
        return group

    def _load(self, epoch: bytes, ratchets: bytes) -> Group:
        return Group.load(
            epoch,
            ratchets,
            signature_private=self._me.mls.seed,
            validator=self._validator,
        )

    def save_epoch(self, tx: Tx, room: LogId, group: Group) -> None:
        """Write a group whose epoch is new."""
        tx.execute(
            "INSERT OR REPLACE INTO mls_epoch VALUES (?, ?)", room, group.dump_epoch()
        )
        self.save_ratchets(tx, room, group)
        tx.execute(
            "INSERT OR REPLACE INTO trail VALUES (?, ?, NULL)", room, group.epoch
        )
        tx.execute("DELETE FROM trail_point WHERE room = ?", room)
        self._remember(tx, room, group)
        self.on_epoch(tx, room, group)

    def save_ratchets(self, tx: Tx, room: LogId, group: Group) -> None:
        """Write what a message changed."""
        tx.execute(
            "INSERT OR REPLACE INTO mls_ratchet VALUES (?, ?)",
            room,
            group.dump_ratchets(),
        )

    def drop(self, tx: Tx, room: LogId, *, forget: bool = False) -> None:
        """Delete a room's keys: this device was removed, or they are of no use.

        Args:
            forget: also what this device comes back by; else the public half stays.
        """
        group = None if forget else self.get(tx, room)
        if group is not None and group.active:
            self.keep_trail(tx, room, group.public())
        tx.execute("DELETE FROM mls_epoch WHERE room = ?", room)
        tx.execute("DELETE FROM mls_ratchet WHERE room = ?", room)
        # Who comes back looks at the roster again.
        tx.execute("DELETE FROM audit WHERE kind = 'roster' AND subject = ?", room)
        self._cache.pop(room, None)
        if forget:
            self.forget_trail(tx, room)

    def keep_trail(self, tx: Tx, room: LogId, public: PublicGroup) -> None:
        """Keep the newest state that was verified of a room without keys."""
        tx.execute(
            "INSERT OR REPLACE INTO trail VALUES (?, ?, ?)",
            room,
            public.epoch,
            public.encode(),
        )

    def trail(self, tx: Tx, room: LogId) -> PublicGroup | None:
        """What `keep_trail` kept, while there are no keys."""
        row = tx.one("SELECT data FROM trail WHERE room = ?", room)
        if row is None or not row[0]:
            return None
        try:
            return PublicGroup.decode(bytes(row[0]), validator=self._validator)
        except E2eeError as error:
            logger.error("what followed %s is damaged: %s", room, error.code)
            return None

    def forget_trail(self, tx: Tx, room: LogId) -> None:
        """This device is out of a room for good: who is in it then is news."""
        tx.execute("DELETE FROM trail WHERE room = ?", room)
        tx.execute("DELETE FROM trail_point WHERE room = ?", room)

    def _remember(self, tx: Tx, room: LogId, group: Group) -> None:
        self._cache[room] = group
        self._cache.move_to_end(room)
        tx.undo.append(lambda: self._cache.pop(room, None))
        while len(self._cache) > CACHED:
            self._cache.popitem(last=False)


def _leaf_in(tree: bytes, device: str) -> int | None:
    """The leaf of a device in a tree that nobody has checked yet."""
    decoded = RatchetTree.decode(SUITE_3, tree)
    for index, leaf in enumerate(decoded.all_leaves()):
        if leaf is not None and device_of(leaf.credential.identity) == device:
            return index
    return None


def policy_of(group: Group) -> RoomPolicy:
    """The room's policy, as the group agreed on it."""
    return read_policy(group.context.extensions)


def accounts_of(members: list[Member]) -> dict[str, int]:
    """The accounts of some leaves, with how many devices each has there."""
    found: dict[str, int] = {}
    for member in members:
        account = account_of(member.identity)
        found[account] = found.get(account, 0) + 1
    return found


def leaf_of(group: Group, device: str) -> int | None:
    """The leaf of a device, if it is in the group."""
    for member in group.members():
        if device_of(member.identity) == device:
            return member.leaf
    return None
