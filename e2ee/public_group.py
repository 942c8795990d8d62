"""Skeleton: filled in within the hour."""

from __future__ import annotations

from collections.abc import Sequence

from e2ee.errors import (
    BadSignature,
    CredentialRefused,
    E2eeError,
    FutureEpoch,
    InvalidMessage,
    Malformed,
    NotAllowed,
    StaleEpoch,
    Unsupported,
    WrongEpoch,
)
from e2ee.extension import Extension
from e2ee.framing import Peek, peek
from e2ee.group import ProposalReceived
from e2ee.group_context import GroupContext
from e2ee.key_package import KeyPackageInfo, key_package_info
from e2ee.member import Action, CommitEffects, Member, Validator
from e2ee.suite import SUITE_3, CipherSuite

__all__ = [
    "Action",
    "BadSignature",
    "CommitEffects",
    "CredentialRefused",
    "E2eeError",
    "Extension",
    "FutureEpoch",
    "GroupContext",
    "InvalidMessage",
    "KeyPackageInfo",
    "Malformed",
    "Member",
    "NotAllowed",
    "Peek",
    "ProposalReceived",
    "PublicGroup",
    "StaleEpoch",
    "Unsupported",
    "Validator",
    "WrongEpoch",
    "key_package_info",
    "peek",
]


class PublicGroup:
    """The hub's view of a group: everything but the secrets."""

    group_id: bytes
    epoch: int
    context: GroupContext
    tree_hash: bytes

    @classmethod
    def create(
        cls,
        group_info: bytes,
        ratchet_tree: bytes,
        *,
        now: int,
        validator: Validator,
        suite: CipherSuite = SUITE_3,
    ) -> PublicGroup:
        raise NotImplementedError

    def members(self) -> list[Member]:
        raise NotImplementedError

    def process_commit(
        self,
        commit: bytes,
        group_info: bytes,
        *,
        now: int,
        welcome_refs: Sequence[bytes] | None = None,
    ) -> tuple[PublicGroup, CommitEffects]:
        raise NotImplementedError

    def receive_proposal(self, message: bytes) -> tuple[PublicGroup, ProposalReceived]:
        raise NotImplementedError

    def ratchet_tree(self) -> bytes:
        raise NotImplementedError

    def encode(self) -> bytes:
        raise NotImplementedError

    @classmethod
    def decode(
        cls, data: bytes, *, validator: Validator, suite: CipherSuite = SUITE_3
    ) -> PublicGroup:
        raise NotImplementedError
