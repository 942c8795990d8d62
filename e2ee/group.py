"""Skeleton: filled in within the hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from e2ee.crypto import Rng, random_bytes
from e2ee.extension import Extension
from e2ee.group_context import GroupContext
from e2ee.key_package import KeyPackageBundle
from e2ee.member import CommitEffects, Member, Validator
from e2ee.suite import SUITE_3, CipherSuite


@dataclass(frozen=True, slots=True)
class Decrypted:
    """An application message that verified."""

    content: bytes = field(repr=False)
    authenticated_data: bytes
    sender: Member
    epoch: int
    generation: int


@dataclass(frozen=True, slots=True)
class ProposalReceived:
    """A standalone proposal that verified and is kept for a commit of this epoch."""

    ref: bytes
    sender: Member
    kind: str
    subject: Member | None


@dataclass(frozen=True, slots=True)
class CommitResult:
    """A commit of somebody else was applied."""

    effects: CommitEffects
    sender: Member
    removed_self: bool


@dataclass(frozen=True, slots=True)
class StagedCommit:
    """A commit that we made and have not seen in the log yet. Holds secrets."""

    commit: bytes
    hash: bytes
    welcomes: tuple[tuple[bytes, bytes], ...]
    group_info: bytes
    effects: CommitEffects
    epoch: int
    secret: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Encode with its secrets, to be saved before sending."""
        raise NotImplementedError

    @classmethod
    def decode(cls, data: bytes) -> StagedCommit:
        """Decode what `encode` gave."""
        raise NotImplementedError


class Group:
    """A member's view of a group."""

    group_id: bytes
    epoch: int
    own_leaf: int
    active: bool
    context: GroupContext
    epoch_authenticator: bytes
    confirmed_transcript_hash: bytes
    joined_with: bytes | None
    pending_proposals: tuple[ProposalReceived, ...]

    @classmethod
    def create(
        cls,
        *,
        group_id: bytes,
        signature_private: bytes,
        identity: bytes,
        extensions: Sequence[Extension] = (),
        now: int,
        validator: Validator,
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> Group:
        raise NotImplementedError

    @classmethod
    def join(
        cls,
        welcome: bytes,
        bundles: Sequence[KeyPackageBundle],
        *,
        signature_private: bytes,
        ratchet_tree: bytes | None,
        now: int,
        validator: Validator,
        psks: Mapping[bytes, bytes] | None = None,
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> Group:
        raise NotImplementedError

    def members(self) -> list[Member]:
        raise NotImplementedError

    def encrypt(self, content: bytes, *, authenticated_data: bytes = b"") -> bytes:
        raise NotImplementedError

    def decrypt(self, message: bytes) -> Decrypted:
        raise NotImplementedError

    def propose_remove(self, leaf: int) -> bytes:
        raise NotImplementedError

    def propose_update(self) -> bytes:
        raise NotImplementedError

    def propose_add(self, key_package: bytes) -> bytes:
        raise NotImplementedError

    def receive_proposal(self, message: bytes) -> ProposalReceived:
        raise NotImplementedError

    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        update: bool = True,
        include_pending: bool = True,
        now: int,
    ) -> StagedCommit:
        raise NotImplementedError

    def apply_own(self, staged: StagedCommit) -> CommitEffects:
        raise NotImplementedError

    def process_commit(self, message: bytes, *, now: int) -> CommitResult:
        raise NotImplementedError

    def export(self, label: str, context: bytes, length: int) -> bytes:
        raise NotImplementedError

    def ratchet_tree(self) -> bytes:
        raise NotImplementedError

    def group_info(self) -> bytes:
        raise NotImplementedError

    def dump_epoch(self) -> bytes:
        raise NotImplementedError

    def dump_ratchets(self) -> bytes:
        raise NotImplementedError

    @classmethod
    def load(
        cls,
        epoch: bytes,
        ratchets: bytes,
        *,
        signature_private: bytes,
        validator: Validator,
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> Group:
        raise NotImplementedError


_: Any = None
