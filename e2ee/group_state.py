"""What a member keeps of a group, and looking at it.

The half of `group.Group` without messages: fields, views, saving and loading. Kept
apart so that what is state and what changes it can be read by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import NoReturn, Self

from e2ee.codepoint import (
    PSK_EXTERNAL,
)
from e2ee.commit_builder import make_group_info
from e2ee.crypto import Rng, random_bytes
from e2ee.epoch import (
    Epoch,
    PastEpoch,
)
from e2ee.errors import (
    FutureEpoch,
    GroupInactive,
    Misuse,
    StaleEpoch,
    WrongGroup,
)
from e2ee.group_context import GroupContext
from e2ee.group_storage import PastEpochs, SavedGroup, load_group
from e2ee.key_schedule import (
    EpochSecrets,
    export_secret,
)
from e2ee.leaf import LeafNode
from e2ee.member import Member, ProposalReceived, Validator
from e2ee.proposal import ReInit
from e2ee.proposal_store import (
    StoredProposal,
)
from e2ee.proposal_validation import member_of
from e2ee.psk import PreSharedKeyId
from e2ee.secret_tree import Found, SecretTree
from e2ee.suite import SUITE_3, CipherSuite

MAX_PAST_EPOCHS = 3
"""Epochs kept for messages that come late; the hub refuses older ones."""


MAX_SKIPPED_GROUP = 5_000
"""Unused keys kept in all epochs together, 76 bytes each: 380 kB at the most."""


class GroupState:
    """Fields and views of a `Group`."""

    def __init__(
        self,
        epoch: Epoch,
        ratchets: SecretTree,
        *,
        signature_private: bytes,
        validator: Validator,
        psks: Mapping[bytes, bytes] | None = None,
        rng: Rng = random_bytes,
        joined_with: bytes | None = None,
    ) -> None:
        """Put a group together; use `create`, `join` or `load` instead."""
        self._epoch = epoch
        self._ratchets = ratchets
        self._past: PastEpochs = ()
        self._pending: dict[bytes, StoredProposal] = {}
        self._signature_private = epoch.tree.suite.signature.prepare(signature_private)
        self._validator = validator
        self._psks = dict(psks or {})
        self._rng = rng
        self._removed = False
        self._reinit: ReInit | None = None
        self.encrypt_handshakes = False
        """Whether our proposals and commits are sent encrypted. No hub can check them
        then; our handshake keys are consumed as we build, so save `dump_ratchets()`
        before sending. Not kept in the dumps."""
        self.joined_with = joined_with
        """KeyPackageRef that the Welcome was for; None of a group that we created."""

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: secrets leave by `dump_epoch` alone."""
        raise TypeError("a group is not pickled; dump it")

    def __repr__(self) -> str:
        """Name the group and show no secret."""
        return (
            f"Group({self.group_id.hex()}, epoch={self.epoch}, leaf={self.own_leaf}, "
            f"active={self.active})"
        )

    # --- looking at it

    @property
    def group_id(self) -> bytes:
        """The group's id."""
        return self._epoch.context.group_id

    @property
    def epoch(self) -> int:
        """Number of the current epoch."""
        return self._epoch.context.epoch

    @property
    def own_leaf(self) -> int:
        """Our leaf index."""
        return self._epoch.own_leaf

    @property
    def active(self) -> bool:
        """Whether we are still a member (and the group was not ended by ReInit)."""
        return not self._removed and self._reinit is None

    @property
    def reinit(self) -> ReInit | None:
        """The ReInit that ended the group; its successor is of this description."""
        return self._reinit

    @property
    def suite(self) -> CipherSuite:
        """The group's cipher suite."""
        return self._epoch.tree.suite

    @property
    def context(self) -> GroupContext:
        """What all members agree on."""
        return self._epoch.context

    @property
    def epoch_authenticator(self) -> bytes:
        """Equal for all who are in the same state (section 8.7)."""
        return self._epoch.secrets.epoch_authenticator

    @property
    def confirmed_transcript_hash(self) -> bytes:
        """Hash over all commits up to the current epoch."""
        return self._epoch.context.confirmed_transcript_hash

    @property
    def pending_proposals(self) -> tuple[ProposalReceived, ...]:
        """Proposals of this epoch; commit them before you send (section 12.4)."""
        return tuple(stored.received for stored in self._pending.values())

    def members(self) -> list[Member]:
        """Give all members, in the order of their leaves."""
        return [member_of(at, leaf) for at, leaf in self._epoch.tree.leaves()]

    def members_at(self, epoch: int) -> list[Member]:
        """Give the members of this epoch or of a past one that is still kept.

        Raises:
            StaleEpoch: It is not kept (any more).
        """
        if epoch == self.epoch:
            return self.members()
        for past, _ in self._past:
            if past.epoch == epoch:
                leaves = enumerate(past.leaves)
                return [member_of(at, leaf) for at, leaf in leaves if leaf is not None]
        raise StaleEpoch("the epoch is not kept")

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """Derive a secret of this epoch for something else (section 8.5)."""
        self._require_active()
        secret = self._epoch.secrets.exporter_secret
        return export_secret(self.suite, secret, label, context, length)

    def ratchet_tree(self) -> bytes:
        """Encode the current tree, for the hub or a new member."""
        return self._epoch.tree.encode()

    def group_info(self) -> bytes:
        """Make a signed MLSMessage(GroupInfo) of this epoch, without the tree."""
        self._require_active()
        epoch = self._epoch
        return make_group_info(
            self.suite,
            self._signature_private,
            epoch.context,
            epoch.secrets,
            epoch.confirmation_tag,
            epoch.own_leaf,
            self._rng,
        ).message()

    def add_psk(self, psk_id: bytes, psk: bytes) -> None:
        """Learn an external PSK; it is not part of the dumps."""
        self._psks[psk_id] = psk

    # --- changing epochs

    def _psk(self, id_: PreSharedKeyId) -> bytes | None:
        if id_.type == PSK_EXTERNAL:
            return self._psks.get(id_.psk_id)
        return self.resumption_psk(id_)

    def resumption_psk(self, id_: PreSharedKeyId) -> bytes | None:
        """Give a resumption PSK of this group, if its epoch is kept (section 8.6)."""
        if id_.group_id != self.group_id:
            return None
        if id_.epoch == self.epoch and not self._removed:
            return self._epoch.secrets.resumption_psk
        return next(
            (past.resumption_psk for past, _ in self._past if past.epoch == id_.epoch),
            None,
        )

    def _retire(self, found: Found | None) -> None:
        """Move the current epoch to the past ones."""
        if found is not None:
            self._consume(self._ratchets, found)
        current = (PastEpoch.of(self._epoch), self._ratchets)
        self._past = (current, *self._past)[:MAX_PAST_EPOCHS]
        self._pending = {}

    def _end(self, found: Found | None) -> None:
        """We are out: keep what reads late messages, and nothing that leads on."""
        self._retire(found)
        self._removed = True
        gone = EpochSecrets(*[b""] * len(fields(EpochSecrets)))
        self._epoch = replace(self._epoch, secrets=gone, private_keys={})
        self._ratchets = SecretTree(self.suite, b"", 1)

    # --- keeping it

    def dump_epoch(self) -> bytes:
        """Encode what changes with an epoch alone: the tree and the epoch's secrets.

        The bytes hold secrets, but not the signature key.
        """
        return self._saved().encode_epoch()

    def dump_ratchets(self) -> bytes:
        """Encode what changes with each message and proposal. Holds secrets."""
        return self._saved().encode_ratchets()

    def _saved(self) -> SavedGroup:
        return SavedGroup(
            self._epoch,
            self._ratchets,
            self._past,
            self._pending,
            self._removed,
            self._reinit,
            self.joined_with,
        )

    @classmethod
    def load(
        cls,
        epoch: bytes,
        ratchets: bytes,
        *,
        signature_private: bytes,
        validator: Validator,
        psks: Mapping[bytes, bytes] | None = None,
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> Self:
        """Take up a group that was dumped; both parts must be of the same state.

        Raises:
            Malformed, UnsupportedSuite: They are not.
        """
        saved = load_group(epoch, ratchets, suite)
        group = cls(
            saved.epoch,
            saved.ratchets,
            signature_private=signature_private,
            validator=validator,
            psks=psks,
            rng=rng,
            joined_with=saved.joined_with,
        )
        group._past = saved.past
        group._pending = saved.pending
        group._removed = saved.removed
        group._reinit = saved.reinit
        return group

    def _consume(self, ratchets: SecretTree, found: Found) -> None:
        """Delete the key of a message, and the oldest kept keys if they are many."""
        ratchets.consume(found)
        trees = [past for _, past in reversed(self._past)] + [self._ratchets]
        excess = sum(tree.skipped for tree in trees) - MAX_SKIPPED_GROUP
        for tree in trees:
            if excess <= 0:
                return
            excess -= tree.drop_skipped(excess)

    # --- checks

    def _require_active(self) -> None:
        if not self.active:
            raise GroupInactive("we are not a member of this group any more")

    def _check_group(self, group_id: bytes) -> None:
        if group_id != self.group_id:
            raise WrongGroup("the message is for another group")

    def _own_leaf_node(self) -> LeafNode:
        leaf = self._epoch.tree.leaf(self._epoch.own_leaf)
        if leaf is None:  # pragma: no cover - an active member has a leaf
            raise Misuse("our own leaf is blank")
        return leaf

    def _check_current(self, number: int) -> None:
        if number < self.epoch:
            raise StaleEpoch("the message is for an epoch that is over")
        if number > self.epoch:
            raise FutureEpoch("the message is for an epoch that has not come yet")
